"""The patients that a run has seen: by the runs from whose weights it started, and by images among other sequences."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra import compose, initialize_config_dir

from attnunet import config
from attnunet.data.cache import prepare
from attnunet.data.nifti import nifti
from attnunet.evaluation import known
from attnunet.evaluation.scoring import prepare_as_trained
from attnunet.inference.predictor import Preparation
from attnunet.tracking.records import NotFound
from tests import scans


def record(name: str, origin: str | None) -> Any:
    config, split = {"init": origin}, {"train": [f"trained {name}"], "val": [f"validated {name}"]}
    return SimpleNamespace(id=name, name=f"run-{name}", config=config, split=split, content="absent", store=None)


def test_a_run_knows_the_patients_of_the_runs_from_whose_weights_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """c started from b, and b from a."""
    runs = {name: record(name, origin) for name, origin in (("a", None), ("b", "a"), ("c", "b"))}
    names = ["Trained A", "validated a", "trained b", "trained c", "nobody"]
    slices = [SimpleNamespace(patient=name, number=1) for name in names]
    prepared: Any = SimpleNamespace(folder=tmp_path / "data", slices=slices, facts={"pixels": [""] * len(slices)})

    def find_runs(_: object, ids: list[str]) -> list[Any]:
        if ids[0] not in runs:
            raise NotFound("none")
        return [runs[ids[0]]]

    monkeypatch.setattr(known, "find_runs", find_runs)
    assert known.known_patients(runs["c"], "train", prepared, range(5)) == ("Trained A", "trained b", "trained c")
    assert known.known_patients(runs["b"], "train", prepared, range(5)) == ("Trained A", "trained b")
    assert known.known_patients(runs["c"], "val", prepared, range(5)) == ("validated a",)
    assert known.known_patients(runs["c"], "train", prepared, [4]) == ()
    del runs["a"]
    found, gone = known.find_ancestors(runs["c"])
    assert [run.id for run in found] == ["b"]
    assert gone.startswith("run b (run-b) started from the weights of run a, which is gone, so the patients that")
    assert known.known_patients(runs["c"], "train", prepared, range(5)) == ("trained b", "trained c")


def test_images_of_one_sequence_are_known_again_among_others(tmp_path: Path) -> None:
    patients = scans.draw(2)
    scans.write_nifti(tmp_path / "all", patients)
    for number, name in enumerate(patients):
        for kind in ("flair", "seg"):
            alone = tmp_path / "flair" / f"s{number}" / f"s{number}_{kind}.nii.gz"
            alone.parent.mkdir(parents=True, exist_ok=True)
            alone.write_bytes((tmp_path / "all" / name / f"{name}_{kind}.nii.gz").read_bytes())
    trained = prepare(nifti(str(tmp_path / "flair"), channels=["flair"]), 16, tmp_path / "cache")
    with initialize_config_dir(config.CONF, version_base="1.3"):
        data = compose("train", ["data=nifti", f"data.root={tmp_path / 'all'}"]).data
    again = prepare_as_trained(data, Preparation(16, ("flair",), ("flair",), "zscore"), tmp_path / "cache")
    assert {item.patient for item in again.slices} == set(patients)
    assert any(trained.facts["pixels"])
    assert again.facts["pixels"] == trained.facts["pixels"]
    order = ("pre", "post", "flair")
    all_of_them = prepare(nifti(str(tmp_path / "all"), channels=list(order)), 16, tmp_path / "cache")
    again = prepare_as_trained(data, Preparation(16, order, order, "zscore"), tmp_path / "cache")
    assert again.facts["pixels"] == all_of_them.facts["pixels"] != trained.facts["pixels"]
