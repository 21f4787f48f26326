"""An audit finds copies that were changed, and labels and sequences that cannot be right; on phantoms it finds nothing."""

import csv
import re
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from rich.console import Console

from attnunet import audit, config
from attnunet.data.audit import Finding, check_sequences, describe, normalize
from attnunet.data.audit import audit as find
from attnunet.data.cache import prepare
from attnunet.data.lgg import lgg
from attnunet.data.slices import DataError
from attnunet.tracking import records
from attnunet.tracking.store import Store
from tests import scans
from tests.conftest import write_slice


def draw() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Three phantoms with a lesion and all sequences, four slices of 64 pixels each."""
    return {name: drawn for name, drawn in scans.draw(slices=4, size=64).items() if name != "PHANTOM_AA_0002"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Phantoms of which no two are alike."""
    root = tmp_path_factory.mktemp("audit") / "in"
    scans.write_lgg(root, draw())
    return root


def findings(root: Path, folder: Path) -> list[Finding]:
    dataset = lgg(str(root))
    return find(dataset, prepare(dataset, None, folder / "cache"))


def half_the_size(image: np.ndarray) -> np.ndarray:
    return cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)


def darker(image: np.ndarray) -> np.ndarray:
    return (image * 0.6 + 15).astype(np.uint8)


def recompressed(image: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1], cv2.IMREAD_COLOR)


def test_phantoms_have_nothing_wrong(root: Path, tmp_path: Path) -> None:
    assert findings(root, tmp_path) == []


@pytest.mark.parametrize("change", [half_the_size, darker, recompressed])
def test_a_changed_copy_under_another_patients_name_is_found(change, root: Path, tmp_path: Path) -> None:  # noqa: ANN001
    patients = draw()
    scans.write_lgg(tmp_path / "in", patients)
    images, masks = patients["PHANTOM_AA_0001"]
    for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
        changed = change(np.ascontiguousarray(image))
        label = cv2.resize(mask, changed.shape[1::-1], interpolation=cv2.INTER_NEAREST)
        write_slice(tmp_path / "in" / "COPY_BB_1", number, changed, label * np.uint8(255))
    found = findings(tmp_path / "in", tmp_path)
    assert [(item.check, item.patients) for item in found] == [("near copy", "COPY_BB_1 and PHANTOM_AA_0001")]
    assert re.match(r"[34] pair\(s\) of images are nearly the same, correlation up to ", found[0].found)


def test_equal_images_are_a_doubt_and_no_near_copy(tmp_path: Path) -> None:
    patients = draw()
    scans.write_lgg(tmp_path / "in", {**patients, "COPY_BB_1": patients["PHANTOM_AA_0001"]})
    (found,) = findings(tmp_path / "in", tmp_path)
    assert found.check == "doubt"
    assert "4 image(s) are there twice, pixel for pixel: COPY_BB_1 and PHANTOM_AA_0001" in found.found


def test_empty_and_full_labels_are_found(tmp_path: Path) -> None:
    (images, masks), (others, _), _ = draw().values()
    full = np.stack([masks[0], np.ones_like(masks[0]), *masks[2:]])
    scans.write_lgg(tmp_path / "in", {"EMPTY_A_1": (images, masks * 0), "FULL_A_2": (others, full)})
    found = {item.check: item for item in findings(tmp_path / "in", tmp_path) if item.check != "doubt"}
    assert set(found) == {"empty label", "full label"}
    assert (found["empty label"].patients, found["empty label"].found) == ("EMPTY_A_1", "no lesion in 4 slice(s)")
    assert (found["full label"].patients, found["full label"].found) == ("FULL_A_2", "1 slice(s) are lesion all over")
    assert found["full label"].file.endswith("FULL_A_2_2_mask.tif")


def test_sequences_that_are_constant_saturated_or_copies_are_found() -> None:
    grey = np.arange(1, 101, dtype=np.uint16).reshape(1, 10, 10)
    five, six = np.minimum(grey, 96), np.minimum(grey, 95)
    found = list(check_sequences({"t1": grey, "t2": grey.copy(), "blank": grey * 0 + 7, "five": five, "six": six}))
    assert found == [
        ("constant sequence", "blank is 7 everywhere"),
        ("saturated sequence", "six has its largest value, 95, in 6% of the pixels above 0"),
        ("copied sequence", "t1 and t2 are the same"),
    ]


def test_the_product_of_two_descriptions_is_the_mean_correlation_of_their_sequences() -> None:
    rng = np.random.default_rng(0)
    one, other = rng.normal(size=(2, 1, 32, 32)).astype(np.float32)
    both = np.concatenate([describe(np.concatenate([one, one])), describe(np.concatenate([one * 3 + 9, other]))], axis=1)
    drawn = normalize(both)
    expected = (1 + np.corrcoef(describe(one)[0], describe(other)[0])[0, 1]) / 2
    assert drawn[0] @ drawn[0] == pytest.approx(1)
    assert drawn[0] @ drawn[1] == pytest.approx(expected, abs=1e-5)
    # A constant sequence has no part in it, and a blank slice is like nothing.
    drawn = normalize(np.concatenate([describe(one), describe(one * 0)], axis=1))
    assert drawn[0] @ drawn[0] == pytest.approx(1)
    assert not normalize(describe(np.full((1, 8, 8), 5))).any()


def run(folder: Path, root: Path, *overrides: str) -> str:
    """`attnunet.audit data=lgg OVERRIDES` in this process; -> what it prints."""
    out = StringIO()
    with initialize_config_dir(config.CONF, version_base="1.3"):
        cfg = compose("audit", ["data=lgg", f"data.root={root}", f"tracking.root={folder / 'mlruns'}", *overrides])
    audit.audit(cfg, "lgg", Console(file=out, width=200, soft_wrap=True))
    return out.getvalue()


def test_files_that_cannot_be_used_are_in_the_table_and_the_command_fails(tmp_path: Path) -> None:
    scans.write_lgg(tmp_path / "in", draw())
    wrong = tmp_path / "in" / "PHANTOM_AA_0001" / "PHANTOM_AA_0001_2_mask.tif"
    cv2.imwrite(str(wrong), np.zeros((9, 9), np.uint8))
    with pytest.raises(DataError, match="they cannot be used before that is mended"):
        run(tmp_path, tmp_path / "in", "study=audits")
    store = Store(tmp_path / "mlruns", None, 0)
    (logged,) = records.search_runs(store, [store.study("audits")])
    (row,) = csv.DictReader(StringIO(records.Record(store, logged).text("audit.csv")))
    assert row["check"] == "unusable"
    assert row["found"].startswith(f"{wrong}: (9, 9) pixels, but its image")


def test_a_study_has_the_table_as_a_run_that_comparisons_leave_alone(root: Path, tmp_path: Path) -> None:
    said = run(tmp_path, root, "study=audits")
    assert "audit: 3 patients, 12 slices, 0 finding(s)" in said
    store = Store(tmp_path / "mlruns", None, 0)
    assert records.runs_of_study(store, "audits") == []
    (logged,) = records.search_runs(store, [store.study("audits")])
    assert logged.data.metrics == {"audit/findings": 0}
    assert logged.data.params["data.root"] == str(root)


@pytest.mark.slow
def test_no_two_patients_of_the_real_sample_are_nearly_the_same(sample: Path, tmp_path: Path) -> None:
    dataset = lgg(str(sample), exclude=str(sample / "locked.txt"))
    found = find(dataset, prepare(dataset, None, tmp_path / "cache"))
    assert {item.check for item in found} == {"copied sequence"}
