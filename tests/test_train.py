"""A run as a user starts it, on a small data set of the LGG layout: what it prints, logs and leaves behind."""

import csv
import itertools
import json
import os
import re
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mlflow import MlflowClient
from mlflow.entities import Run

from attnunet.inference.predictor import load_network
from attnunet.training import runtime
from tests.conftest import command

SMOKE = ("trainer=smoke", "data=lgg", "data.root={root}", "evaluation.batch_size=8")


@dataclass(frozen=True)
class Started:
    """A command that has ended, and the store that it wrote to."""

    folder: Path
    result: subprocess.CompletedProcess[str]

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(f"sqlite:///{self.folder / 'mlruns' / 'mlflow.db'}")

    @property
    def runs(self) -> list[Run]:
        client = self.client
        return [run for study in client.search_experiments() for run in client.search_runs([study.experiment_id])]

    @property
    def jobs(self) -> list[Run]:
        """The children of a sweep."""
        return [run for run in self.runs if "mlflow.parentRunId" in run.data.tags]

    @property
    def run(self) -> Run:
        (run,) = self.runs
        return run

    def artifact(self, path: str) -> Path:
        return Path(self.run.info.artifact_uri.removeprefix("file://")) / path

    def summary(self, part: str) -> dict[str, float]:
        rows = csv.DictReader(self.artifact("summary.csv").read_text().splitlines())
        return {row["score"]: float(row["value"]) for row in rows if row["part"] == part}

    def steps(self, metric: str) -> list[int]:
        return [m.step for m in self.client.get_metric_history(self.run.info.run_id, metric)]


def start(folder: Path, root: Path, *overrides: str) -> Started:
    folder.mkdir(exist_ok=True)
    flags, keys = [a for a in overrides if a.startswith("-")], [a for a in overrides if not a.startswith("-")]
    return Started(folder, command(*flags, *(a.format(root=root) for a in SMOKE), *keys, cwd=folder))


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory, lgg_root: Path) -> Started:
    return start(tmp_path_factory.mktemp("smoke"), lgg_root, "study=tried", "trainer.keep=all")


def weights(path: Path) -> list[np.ndarray]:
    return load_network(path).get_weights()


def test_a_run_ends_well_and_says_what_it_reached(smoke: Started) -> None:
    assert smoke.result.returncode == 0, smoke.result.stderr
    assert "Dice, mean over patients" in smoke.result.stdout
    assert "epoch 2/2" in smoke.result.stdout
    assert "s left" in smoke.result.stdout
    assert str(smoke.artifact("figures")) in smoke.result.stdout
    assert f"-m attnunet.store ui {smoke.folder}/mlruns\n" in smoke.result.stdout
    table = f"http://127.0.0.1:5000/#/experiments/{smoke.run.info.experiment_id}/runs"
    assert f"          {table}?workflowType=machine_learning&viewStateShareKey=attnunet\n" in smoke.result.stdout
    assert f"page      {table}/{smoke.run.info.run_id}\n" in smoke.result.stdout
    assert "LEAKING" not in smoke.result.stdout


def test_a_run_begins_with_its_patients_and_its_machine(smoke: Started) -> None:
    lines = smoke.result.stdout.splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("train "))
    split = json.loads(smoke.artifact("split.json").read_text())
    for part, line in zip(("train", "val", "test"), lines[first:], strict=False):
        patients, slices = len(split[part]), slices_of(split, part)
        # A third of the slices of each patient show the bright square.
        expected = f"{part} {patients} patients, {slices} slices, {slices // 3} with a lesion"
        assert " ".join(line.split()) == expected
    assert lines[first + 3] == f"device  {smoke.run.data.tags['machine']}; no NVIDIA GPU found"
    assert re.search(rf", {runtime.available_threads(None)} threads?$", smoke.run.data.tags["machine"])
    steps = slices_of(split, "train") // 8
    assert lines[first + 4].endswith(f" parameters, 2 epochs of {steps} steps, {2 * steps * 8} images")


def slices_of(split: dict, part: str) -> int:
    return sum(map(len, split["slices"][part].values()))


def test_a_run_is_quiet_where_there_is_nothing_to_say(smoke: Started) -> None:
    assert smoke.result.stderr == ""


def test_a_run_is_finished_under_its_study_with_columns_that_read_like_the_command(smoke: Started) -> None:
    run = smoke.run
    assert run.info.status == "FINISHED"
    assert smoke.client.get_experiment(run.info.experiment_id).name == "tried"
    wanted = {"model": "separable", "loss": "focal_dice", "data": "lgg", "trainer": "smoke", "image_size": "32"}
    wanted |= {"loss.weights.dice": "1.0", "optimizer.learning_rate": "0.001", "model.filters": "[4, 8, 16]"}
    assert wanted.items() <= run.data.params.items()
    assert not [name for name in run.data.params if "_target_" in name or name.startswith("hydra")]


def test_a_run_logs_each_epoch_once_and_its_summaries(smoke: Started) -> None:
    for metric in ("train/loss", "train/learning_rate", "val/loss", "val/dice", "val/iou", "val/threshold", "val/dice_at_0.5"):
        assert smoke.steps(metric) == [1, 2], metric
    names = ("dice", "dice_median", "dice_ci_low", "dice_ci_high", "dice_pooled", "dice_slice_lesion", "dice_all_background")
    names += ("dice_slice_empty_one", "iou", "sensitivity", "threshold", "hd95", "surface_dice", "lesion_f1")
    rest = ("iou_pooled", "dice_at_0.5", "dice_patients", "hd95_patients", "assd", "lesion_f1_patients", "ece", "fill_holes")
    for part in ("val", "test"):
        summary = smoke.summary(part)
        for name in names:
            assert smoke.run.data.metrics[f"final/{part}/{name}"] == pytest.approx(summary[name], nan_ok=True)
        assert set(rest) <= set(summary)
    assert len([name for name in smoke.run.data.metrics if name.startswith("final/")]) == 2 * 16 + 1


def test_the_threshold_is_chosen_on_validation_patients_and_frozen(smoke: Started) -> None:
    metrics = smoke.run.data.metrics
    assert metrics["final/val/threshold"] == metrics["final/test/threshold"]
    with smoke.artifact("decision.csv").open() as stream:
        tried = list(csv.DictReader(stream))
    best = max(m.value for m in smoke.client.get_metric_history(smoke.run.info.run_id, "val/dice"))
    assert max(float(row["dice"]) for row in tried if row["step"] == "1") == pytest.approx(best, abs=1e-6)
    (chosen,) = [row for row in tried if row["chosen"] == "1"]
    for name in ("threshold", "smallest_lesion", "fill_holes"):
        assert smoke.summary("val")[name] == smoke.summary("test")[name] == float(chosen[name])
    assert metrics["final/val/dice"] == pytest.approx(float(chosen["dice"]))


def test_a_run_says_where_it_comes_from(smoke: Started) -> None:
    tags = smoke.run.data.tags
    assert "-m attnunet.train trainer=smoke" in tags["command"]
    assert tags["leaking"] == "false"
    assert len(tags["fingerprint"]) == 16
    assert tags["version.tensorflow"].startswith("2.")
    assert {"git.commit", "git.dirty", "host"} <= set(tags)


def test_mlflows_page_says_what_a_run_was_on_which_data_and_how_busy_the_machine_was(smoke: Started) -> None:
    metrics = smoke.run.data.metrics
    what, reached, onward = smoke.run.data.tags["mlflow.note.content"].split("\n\n")
    assert what.startswith(
        "Lesions of lgg (train 8 patients, val 2 patients, test 2 patients; split patient): network separable"
    )
    assert f"test Dice {metrics['final/test/dice']:.3f} (95 % interval" in reached
    assert "attnunet.compare study=tried" in onward
    inputs = {each.tags[0].value: each.dataset for each in smoke.run.inputs.dataset_inputs}
    assert set(inputs) == {"train", "val", "test"}
    manifest = json.loads(smoke.artifact("split.json").read_text())
    for part, data in inputs.items():
        profile = json.loads(data.profile)
        assert (data.name, profile["patients"], profile["num_rows"]) == ("lgg", len(manifest[part]), 6 * len(manifest[part]))
        assert profile["slices with lesion"] == 2 * len(manifest[part])  # see write_patient
        assert profile["fingerprint"] == manifest["fingerprint"]
    assert len({data.digest for data in inputs.values()}) == 3
    assert 0 < metrics["system/system_memory_usage_percentage"] < 100
    study = smoke.client.get_experiment(smoke.run.info.experiment_id).tags
    assert "viewStateShareKey=attnunet" in study["mlflow.note.content"]
    assert "params.`evaluation.batch_size`" in json.loads(study["mlflow.sharedViewState.attnunet"])["selectedColumns"]


def test_a_run_keeps_its_configuration_and_its_split(smoke: Started) -> None:
    assert yaml.safe_load(smoke.artifact("config.yaml").read_text())["trainer"]["keep"] == "all"
    manifest = json.loads(smoke.artifact("split.json").read_text())
    parts = [set(manifest[part]) for part in ("train", "val", "test")]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 12
    assert set(manifest["slices"]["test"]) == parts[2]


def test_a_run_keeps_a_row_a_patient(smoke: Started) -> None:
    with smoke.artifact("patients.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    manifest = json.loads(smoke.artifact("split.json").read_text())
    for part in ("val", "test"):
        assert [row["patient"] for row in rows if row["part"] == part] == manifest[part]
    mean = np.mean([float(row["dice"]) for row in rows if row["part"] == "test"])
    assert smoke.run.data.metrics["final/test/dice"] == pytest.approx(mean)


@pytest.mark.parametrize("name", ["predictions", "curves", "gates", "decision", "patients", "reliability"])
def test_a_run_keeps_its_pictures(smoke: Started, name: str) -> None:
    picture = cv2.imread(str(smoke.artifact(f"figures/{name}.png")))
    assert picture is not None
    assert picture.std() > 5
    assert smoke.artifact(f"figures/{name}.pdf").read_bytes().startswith(b"%PDF")


# mlflow.types: importing its own chat schemas, MLflow warns of the type hints in them.
@pytest.mark.filterwarnings("ignore:.*type hint is inferred as AnyType:UserWarning")
def test_the_logged_model_segments_a_volume(smoke: Started, lgg_root: Path) -> None:
    import mlflow

    from attnunet.data.images import read_image
    from attnunet.inference.predictor import Predictor

    mlflow.set_tracking_uri(f"sqlite:///{smoke.folder / 'mlruns' / 'mlflow.db'}")
    (model,) = smoke.client.search_logged_models([smoke.run.info.experiment_id])
    loaded = mlflow.pyfunc.load_model(model.model_uri)
    assert [param.default for param in loaded.metadata.signature.params] == [[], ["pre", "flair", "post"]]
    assert loaded.predict(loaded.input_example).shape == (1, 32, 32)

    folder = sorted(lgg_root.iterdir())[0]
    volume = np.stack([read_image(str(folder / f"{folder.name}_{n}.tif"), 3) for n in range(1, 7)])
    mask = loaded.predict(volume)
    assert mask.shape == volume.shape[:3]
    assert mask.dtype == np.uint8
    assert set(np.unique(mask)) <= {0, 1}
    np.testing.assert_array_equal(loaded.predict(volume.astype(np.uint16)), mask)
    assert loaded.predict(volume[2:3]).shape == (1, 32, 32)

    (saved,) = Path(model.artifact_location.removeprefix("file://")).rglob("predictor.json")
    predictor = Predictor.load(saved.parent)
    assert predictor.decision.threshold == smoke.run.data.metrics["final/test/threshold"]
    np.testing.assert_array_equal(predictor.segment(volume), mask)


def test_the_best_checkpoint_is_the_logged_models_network(smoke: Started) -> None:
    (model,) = smoke.client.search_logged_models([smoke.run.info.experiment_id])
    (network,) = Path(model.artifact_location.removeprefix("file://")).rglob("best.keras")
    for kept, served in zip(weights(smoke.artifact("checkpoints/best.keras")), weights(network), strict=True):
        np.testing.assert_array_equal(kept, served)
    assert smoke.artifact("checkpoints/last.keras").is_file()


def test_the_predictor_can_be_had_from_the_checkpoints(smoke: Started, lgg_root: Path) -> None:
    from attnunet.inference.predictor import Predictor

    predictor = Predictor.load(smoke.artifact("checkpoints"))
    for name, value in asdict(predictor.decision).items():
        assert smoke.summary("test")[name] == value
    assert predictor.preparation.image_size == 32


def test_a_run_keeps_a_row_a_group_of_patients(smoke: Started) -> None:
    with smoke.artifact("strata.csv").open() as stream:
        rows = [row for row in csv.DictReader(stream) if row["part"] == "test"]
    by_site = {row["stratum"]: row for row in rows if row["by"] == "site"}
    patients = json.loads(smoke.artifact("split.json").read_text())["test"]
    assert {site: int(row["patients"]) for site, row in by_site.items()} == Counter(p.split("_")[1] for p in patients)
    for site, row in by_site.items():
        assert f"Dice, site: {site}" in smoke.result.stdout
        assert f"{float(row['dice']):.3f} ({row['dice_patients']})" in smoke.result.stdout


def test_nothing_is_left_beside_the_store(smoke: Started) -> None:
    assert {path.name for path in smoke.folder.iterdir()} == {"mlruns"}
    assert not list((smoke.folder / "mlruns" / "unfinished").iterdir())


@pytest.mark.slow
def test_the_same_seed_gives_the_same_bits_whoever_draws_the_batches(smoke: Started, lgg_root: Path, tmp_path: Path) -> None:
    reference = weights(smoke.artifact("checkpoints/best.keras"))
    other = start(tmp_path, lgg_root, "trainer.workers=2", "trainer.figures=false")
    assert other.result.returncode == 0, other.result.stderr
    assert other.run.data.tags["fingerprint"] == smoke.run.data.tags["fingerprint"]
    assert_same(reference, weights(other.artifact("checkpoints/best.keras")))


def find_table(started: Started) -> list[str]:
    """Return the lines of the table of scores."""
    return [line for line in started.result.stdout.splitlines() if line[:1] in "┏┃┡│└"]


@pytest.mark.slow
def test_a_finished_run_is_not_run_again_and_prints_its_scores(smoke: Started, lgg_root: Path) -> None:
    again = start(smoke.folder, lgg_root, "study=tried", "trainer.keep=all")
    assert again.result.returncode == 0, again.result.stderr
    assert f"reused run {smoke.run.info.run_id}" in again.result.stdout
    assert "epoch" not in again.result.stdout
    assert "lacks" not in again.result.stdout
    assert find_table(again) == find_table(smoke)
    assert len(find_table(smoke)) > 20
    assert len(smoke.runs) == 1


@pytest.mark.slow
def test_a_finished_run_says_which_checkpoint_it_lacks(lgg_root: Path, tmp_path: Path) -> None:
    first = start(tmp_path, lgg_root, "trainer.figures=false", "trainer.keep=none", "split=slice")
    assert first.result.returncode == 0, first.result.stderr
    again = start(tmp_path, lgg_root, "trainer.figures=false", "trainer.keep=all", "split=slice")
    assert again.result.returncode == 0, again.result.stderr
    assert (
        f"trainer.keep=all: run {first.run.info.run_id} lacks checkpoints/best.keras and checkpoints/last.keras, "
        "because its trainer.keep was none; resume=never trains it again"
    ) in again.result.stdout
    assert "LEAKING split" in again.result.stdout
    assert find_table(again) == find_table(first)


def assert_same(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.slow
def test_another_seed_gives_other_bits_on_the_same_split(smoke: Started, lgg_root: Path, tmp_path: Path) -> None:
    other = start(tmp_path / "other", lgg_root, "seed=1", "epochs=null", "budget_images=20", "trainer.keep=best")
    assert other.result.returncode == 0, other.result.stderr
    ours = weights(smoke.artifact("checkpoints/best.keras"))
    assert any((a != b).any() for a, b in zip(ours, weights(other.artifact("checkpoints/best.keras")), strict=True))
    assert other.artifact("split.json").read_text() == smoke.artifact("split.json").read_text()
    assert other.steps("train/loss") == [1]  # 20 images of 48: one epoch, the least
    assert not other.artifact("checkpoints/last.keras").exists()


@pytest.mark.slow
def test_a_leaking_split_is_marked_everywhere(lgg_root: Path, tmp_path: Path) -> None:
    leaking = start(tmp_path, lgg_root, "split=slice", "epochs=1", "trainer.keep=none", "trainer.figures=false")
    assert leaking.result.returncode == 0, leaking.result.stderr
    assert "LEAKING" in leaking.result.stdout
    assert "LEAKING" in leaking.run.info.run_name
    assert leaking.run.data.tags["leaking"] == "true"
    assert json.loads(leaking.artifact("split.json").read_text())["leaking"] is True
    assert not leaking.artifact("figures").exists()
    assert not leaking.artifact("checkpoints").exists()
    assert not leaking.client.search_logged_models([leaking.run.info.experiment_id])


DIVERGING = """
from attnunet.losses import BinaryFocal

class Diverging(BinaryFocal):
    def call(self, y_true, y_pred):  # times what overflows, where the weight is at its upper end
        return super().call(y_true, y_pred) * self.arguments["pos_weight"] ** 8
"""
DIVERGES = ("modules=[diverging]", "loss=focal", "loss._target_=diverging.Diverging")


@pytest.mark.slow
def test_a_run_that_fails_says_so_in_the_store(lgg_root: Path, tmp_path: Path) -> None:
    (tmp_path / "diverging.py").write_text(DIVERGING)
    failed = start(tmp_path, lgg_root, *DIVERGES, "loss.pos_weight=1000000.0")
    assert failed.result.returncode == 1
    assert failed.run.info.status == "FAILED"
    assert "lower optimizer.learning_rate" in failed.run.data.tags["error"]
    assert "FloatingPointError" in failed.artifact("traceback.txt").read_text()


@pytest.mark.slow
def test_a_sweep_is_a_run_a_job_with_the_bits_of_runs_alone(smoke: Started, lgg_root: Path, tmp_path: Path) -> None:
    """The sweep of the README; its last job is the run that `smoke` is."""
    sweep = start(tmp_path, lgg_root, "-m", "model=conv,separable", "loss=focal,dice,focal_dice")
    assert sweep.result.returncode == 0, sweep.result.stderr
    runs = {(run.data.params["model"], run.data.params["loss"]): run for run in sweep.jobs}
    assert set(runs) == {(m, loss) for m in ("conv", "separable") for loss in ("focal", "dice", "focal_dice")}
    for run in runs.values():
        assert run.info.status == "FINISHED"
        assert {"val/dice", "train/loss", "final/val/dice"} <= set(run.data.metrics)
        assert not [name for name in run.data.metrics if name.startswith("final/test")]
    assert len({run.data.metrics["train/loss"] for run in runs.values()}) == 6
    last = Path(runs["separable", "focal_dice"].info.artifact_uri.removeprefix("file://"))
    assert_same(weights(smoke.artifact("checkpoints/best.keras")), weights(last / "checkpoints" / "best.keras"))


@pytest.mark.slow
def test_a_job_that_fails_does_not_stop_the_others(lgg_root: Path, tmp_path: Path) -> None:
    (tmp_path / "diverging.py").write_text(DIVERGING)
    kept = ("trainer.keep=none", "trainer.figures=false")
    sweep = start(tmp_path, lgg_root, "-m", *DIVERGES, "loss.pos_weight=1000000.0,1.0", *kept)
    assert sweep.result.returncode == 1
    by_weight = {float(run.data.params["loss.pos_weight"]): run.info.status for run in sweep.jobs}
    assert by_weight == {1e6: "FAILED", 1.0: "FINISHED"}
    assert "2 jobs: 1 failed, 1 finished" in sweep.result.stdout
    assert "FloatingPointError: the" in sweep.result.stdout
    (log,) = sweep.folder.glob("mlruns/hydra/sweeps/*/0/train.log")
    assert "Traceback" in log.read_text()
    assert "lower optimizer.learning_rate" in log.read_text()  # the loss overflows, or the running statistics before it
    (failed,) = (run for run in sweep.jobs if run.info.status == "FAILED")
    assert "FloatingPointError" in (Path(failed.info.artifact_uri.removeprefix("file://")) / "traceback.txt").read_text()
    (parent,) = (run for run in sweep.runs if run.info.run_id == failed.data.tags["mlflow.parentRunId"])
    assert parent.info.status == "FAILED"


@pytest.mark.slow
@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_ended_from_outside_is_killed_in_the_store(kill: signal.Signals, lgg_root: Path, tmp_path: Path) -> None:
    overrides = [a.format(root=lgg_root) for a in SMOKE]
    arguments = [sys.executable, "-u", "-m", "attnunet.train", *overrides, "epochs=100000"]
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA H100\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, cwd=tmp_path, env=environment, **pipes) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        before = list(itertools.takewhile(lambda line: not line.startswith("epoch"), process.stdout))
        process.send_signal(kill)
        process.stdout.read()
        said = process.stderr.read()
        assert process.wait(60) == 128 + kill
    killed = Started(tmp_path, subprocess.CompletedProcess([], process.returncode))
    assert killed.run.info.status == "KILLED"
    assert killed.steps("train/loss")[:1] == [1]
    assert re.fullmatch(r"attnunet: stopped; the same command goes on after epoch \d+\n", said)
    # What would run on a GPU, if TensorFlow had its libraries.
    advice = "TensorFlow cannot use NVIDIA H100 without its CUDA libraries: pip install 'attnunet[gpu]'"
    assert f"device  {killed.run.data.tags['machine']}; {advice}\n" in before


def grey_table(root: Path, folder: Path) -> Path:
    """The same patients as grey PNGs of two sizes, named by a CSV."""
    rows = ["patient,image,mask"]
    for index, image in enumerate(sorted(root.rglob("*.tif"))):
        if image.stem.endswith("_mask"):
            continue
        mask = cv2.imread(str(image.with_name(f"{image.stem}_mask.tif")), cv2.IMREAD_GRAYSCALE)
        size = (40, 24) if image.parent.name < "TCGA_DU" else (32, 32)
        cv2.imwrite(str(folder / f"{index}.png"), cv2.resize(cv2.imread(str(image), cv2.IMREAD_GRAYSCALE), size))
        cv2.imwrite(str(folder / f"{index}_mask.png"), cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST))
        rows.append(f"{image.parent.name},{index}.png,{index}_mask.png")
    (folder / "own.csv").write_text("\n".join(rows))
    return folder / "own.csv"


@pytest.mark.slow
@pytest.mark.parametrize(
    "overrides",
    [
        (
            "split=site",
            "split.site=DU",
            "model.gate=none",
            "monitor=val/loss",
            "trainer.early_stopping=1",
            "augment=mri",
            "evaluation.flip=true",
        ),
        ("split=kfold", "split.folds=3", "trainer.precision=mixed_bfloat16", "trainer.jit_compile=true"),
        (
            "split=manifest",
            "split.file=own.yaml",
            "data.channels=[flair]",
            "tracking.root=elsewhere runs",
            "data.spacing=[5,1,1]",
        ),
        ("data=table", "data.file=own.csv", "data.file_channels=[grey]", "data.intensity=percentile", "~data.root"),
    ],
)
def test_other_choices_run_to_their_end(overrides: tuple[str, ...], lgg_root: Path, tmp_path: Path) -> None:
    names = sorted(path.name for path in lgg_root.iterdir())
    parts = {"train": names[:6], "val": names[6:9], "test": names[9:]}
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(parts))
    grey_table(lgg_root, tmp_path)
    base = [a.format(root=lgg_root) for a in SMOKE if "data=table" not in overrides or not a.startswith("data")]
    result = command(*base, *(a for a in overrides if a != "~data.root"), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "Dice, mean over patients" in result.stdout


@pytest.mark.slow
def test_the_phantom_recipe_reaches_what_it_promises(tmp_path: Path) -> None:
    """0.80 on validation patients that the network never saw; test_phantom holds simpler methods against this."""
    result = command("experiment=phantom", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert Started(tmp_path, result).run.data.metrics["final/val/dice"] >= 0.80
