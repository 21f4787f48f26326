"""The train command as a user types it: what it refuses, how it refuses, and what it costs to ask for help."""

import resource
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.conftest import command, every, write_patient

HEAVY = ("tensorflow", "mlflow", "albumentations")


def imported(stderr: str) -> set[str]:
    """The modules in the output of python -X importtime."""
    return {line.rpartition("|")[2].strip() for line in stderr.splitlines() if line.startswith("import time:")}


LGG = ("data=lgg", "data.root={root}")
REFUSED = [
    (("foo=1",), "foo: unknown key; allowed: augment, batch_size,"),
    (("trainer.foo=1",), "trainer.foo: unknown key; allowed: early_stopping"),
    (("loss=foo",), "loss=foo: no such choice; allowed: bce_dice, dice"),
    (("epochs=ten",), "epochs=ten: Input should be a valid integer"),
    (("batch_size=0",), "batch_size=0: Input should be greater than 0"),
    (("image_size=100",), "image_size=100: 5 model.filters halve the image 4 times"),
    (("+model.extra=1",), "model.extra: unknown key"),
    (("model.filters=[]",), "model.filters=[]"),
    (("optimizer.learning_rate=-1",), "optimizer.learning_rate=-1: Input should be greater than 0"),
    (("data=lgg",), "data=lgg needs data.root"),
    (("data=lgg", "data.root={empty}"), "no patients in this folder"),
    (("data=table", "data.file=none.csv"), "data=table needs data.file"),
    ((*LGG, "split=site"), "split.site=None: choose one of ['CS', 'DU', 'HT']"),
    ((*LGG, "batch_size=1000"), "batch_size=1000: the split has only"),
    ((*LGG, "data.exclude=[nobody]"), "data.exclude names patients that are not in the data: nobody"),
    ((*LGG, "split.seed=-1"), "split.seed=-1: Input should be greater than or equal to 0"),
    ((*LGG, "+model.image_size=64"), "model.image_size: unknown key"),
    ((*LGG, "batch_size=1"), "trainer.lesion_share=0.5: gives 0 slices with a lesion in a batch of batch_size=1"),
    (("data.root=/a(b",), "data.root=/a(b: cannot be read; write key=value; quote a value that holds brackets"),
    (("data.root=~/x",), "quote a value that holds brackets"),
    (("experiment=-0.5",), "experiment=-0.5: no such choice; allowed: batch_size, best, conv_type"),
    (("~model",), "~model: the group is needed; allowed: conv, separable"),
    (("=5",), "=5: cannot be read; write key=value"),
    (
        ("--config-path", "conf"),
        "--config-path=conf: takes away attnunet's configuration and its checks; allowed: --config-dir FOLDER",
    ),
    (("--config-dir", "none"), "--config-dir=none: no such folder; allowed: a folder with groups of your own"),
    (("--cfg", "job", "foo=1"), "foo: unknown key; allowed: augment, batch_size,"),
    (("--resolve",), "The --resolve flag can only be used in conjunction with --cfg or --help"),
    (("model.filters.foo=1",), "model.filters.foo=1: model.filters is a list; allowed: model.filters.N"),
    (("hydra.run.dir=/dev/null/x",), "hydra.run.dir=/dev/null/x: /dev/null is not a folder; allowed"),
    ((*LGG, "batch_size=4", "augment.transforms.0._target_=albumentations.Flip"), "_target_=albumentations.Flip: there is"),
    # The last job of a grid.
    (("-m", "data=lgg", "data.root={root},null"), "data=lgg needs data.root"),
    (
        ("-m", *LGG, "batch_size=4", "trainer.threads=1,2"),
        "trainer.threads=['1', '2']: the jobs share a process, which sets it once",
    ),
    (("-m", *LGG, "seed=0,1", "batch_size=4,0"), "job data=lgg"),
    (("-m", *LGG, "loss=dice,foo"), "loss=foo: no such choice; allowed: bce_dice, dice"),
    (("-m", *LGG, "epochs=1,ten"), "epochs=ten: Input should be a valid integer"),
    (("-m", *LGG, "image_size=32,100"), "image_size=100"),
    (("-m", *LGG, "+model.extra=1,2"), "model.extra: unknown key"),
    (("-m", *LGG, "model.filters=[8,16],[]"), "model.filters=[]"),
    (("-m", *LGG, "optimizer.learning_rate=0.1,-1"), "optimizer.learning_rate=-1"),
    (("-m", *LGG, "seed=0,1", "foo=1"), "foo: unknown key"),
    (("-m", *LGG, "seed=range(0,3,0)"), "seed=range(0,3,0): range() arg 3 must not be zero"),
    (("-m", *LGG, "hydra/launcher=joblib", "hydra.launcher.n_jobs=0"), "hydra.launcher.n_jobs=0: allowed: 1 or more"),
    (("-m", *LGG, "seed=0,1", "hydra.sweeper.max_batch_size=0"), "hydra.sweeper.max_batch_size=0: allowed: 1 or more"),
    (("-m", *LGG, "seed=0,1", "hydra/sweeper=basic"), "hydra/sweeper=basic: makes no parent run for its jobs; allowed: grid"),
    (("-m", *LGG, "seed=0,1", "hydra.sweep.subdir=same"), "hydra.sweep.subdir=same: jobs would share a folder; allowed"),
    (("-m", "data=lgg", "data.root={root},{empty}"), "no patients in this folder"),
    (("-m", *LGG, "split=kfold", "split.folds=3", "split.fold=0,3"), "split.fold=3: must be below split.folds=3"),
]


SWEPT = ("-m", "data=lgg", "data.root={root}", "batch_size=4", "seed=0,1")


@pytest.mark.slow
def test_a_sweep_that_cannot_start_leaves_no_parent_run(tmp_path: Path, lgg_root: Path) -> None:
    """A fault that only the launcher finds, when the parent run has begun."""
    result = command(*(a.format(root=lgg_root) for a in SWEPT), "hydra/launcher=submitit_slurm", cwd=tmp_path)
    assert result.returncode == 1
    assert "hydra/launcher=submitit_slurm: RuntimeError: Could not detect" in result.stderr
    assert "Traceback" not in result.stderr
    with closing(sqlite3.connect(tmp_path / "mlruns" / "mlflow.db")) as database:
        assert database.execute("SELECT lifecycle_stage FROM runs").fetchall() == [("deleted",)]


@pytest.mark.parametrize(("arguments", "message"), every(5, REFUSED))
def test_what_cannot_run_is_refused_before_tensorflow_and_leaves_no_run(
    arguments: tuple[str, ...], message: str, tmp_path: Path, lgg_root: Path
) -> None:
    (tmp_path / "empty").mkdir()
    filled = [a.format(root=lgg_root, empty=tmp_path / "empty") for a in arguments]
    result = command(*filled, cwd=tmp_path, python=("-X", "importtime"))
    said = "\n".join(line for line in result.stderr.splitlines() if not line.startswith("import time:"))
    assert result.returncode == 1, said
    assert message in said
    assert "Traceback" not in said
    assert not imported(result.stderr) & {"tensorflow", "mlflow"}
    left = {path.name for path in tmp_path.glob("mlruns/*")}
    assert left <= {"cache"}  # no store, no folder of Hydra's


def truncate(folder: Path) -> str:
    path = folder / f"{folder.name}_2.tif"
    path.write_bytes(path.read_bytes()[:-200])
    return path.name


def drop_mask(folder: Path) -> str:
    (folder / f"{folder.name}_2_mask.tif").unlink()
    return f"{folder.name}_2.tif"


@pytest.mark.parametrize("damage", [truncate, drop_mask])
def test_a_broken_file_is_named_before_tensorflow_and_leaves_no_run(damage: Callable[[Path], str], tmp_path: Path) -> None:
    folders = [write_patient(tmp_path / "data", f"TCGA_CS_{4000 + index}_20000101", seed=index) for index in range(3)]
    name = damage(folders[1])
    result = command("data=lgg", "data.root=data", cwd=tmp_path, python=("-X", "importtime"))
    assert result.returncode == 1
    assert name in result.stderr
    assert "Traceback" not in result.stderr
    assert not imported(result.stderr) & {"tensorflow", "mlflow"}
    assert {path.name for path in tmp_path.glob("mlruns/*")} <= {"cache"}


def test_a_key_that_the_chosen_group_has_is_not_called_unknown(tmp_path: Path) -> None:
    result = command("split=kfold", "split.folds=3", "foo=1", cwd=tmp_path)
    assert result.returncode == 1
    assert "foo: unknown key" in result.stderr
    assert "split.folds" not in result.stderr


def test_a_misspelt_augmentation_is_refused_before_tensorflow(tmp_path: Path, lgg_root: Path) -> None:
    data = [a.format(root=lgg_root) for a in LGG]
    result = command(*data, "batch_size=4", "+augment.transforms.0.hue=1", cwd=tmp_path, python=("-X", "importtime"))
    assert result.returncode == 1
    assert "augment.transforms:" in result.stderr
    assert "hue" in result.stderr
    assert not imported(result.stderr) & {"tensorflow", "mlflow"}


KEYS = {
    "train": "image_size",
    "evaluate": "allow_training_patients",
    "predict": "probabilities",
    "export": "format",
    "export_split": "dataset",
    "audit": "study",
}
"""Every command, and one of its keys."""
QUESTIONS = [("--help",), ("--cfg", "job")]


@pytest.mark.parametrize(("name", "question"), every(5, [(name, asked) for name in KEYS for asked in QUESTIONS]))
def test_a_question_is_answered_without_what_a_run_needs(question: tuple[str, ...], name: str, tmp_path: Path) -> None:
    result = command(*question, cwd=tmp_path, python=("-X", "importtime"), name=name)
    assert result.returncode == 0
    assert KEYS[name] in result.stdout
    assert ("Groups, as GROUP=CHOICE:" in result.stdout) == (question == ("--help",))
    assert not imported(result.stderr) & {*HEAVY, "numpy", "pydantic"}
    assert not list(tmp_path.iterdir())


LOOKING_BACK = [
    ("evaluate", ("run=abc",), "tracking.root=mlruns: no runs there"),
    ("evaluate", ("run=abc", "study=s"), "run=abc, study=s: set one of the two"),
    ("predict", ("run=abc",), "Missing mandatory value: input"),
    ("export", ("run=abc", "format=torch"), "format=torch: there is no such format; allowed: keras"),
    ("export_split", ("run=abc",), "tracking.root=mlruns: no runs there"),
    ("export_split", ("data=phantom",), "data given; allowed: run=RUN_ID, or both data=NAME and split=NAME"),
    ("export", ("-m", "run=abc,abd"), "-m: only attnunet.train has sweeps"),
]


@pytest.mark.parametrize(("name", "arguments", "message"), every(3, LOOKING_BACK))
def test_a_command_that_cannot_look_back_is_refused_before_tensorflow_and_leaves_nothing(
    name: str, arguments: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    result = command(*arguments, cwd=tmp_path, python=("-X", "importtime"), name=name)
    assert result.returncode == (2 if name == "predict" else 1)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not imported(result.stderr) & {"tensorflow", "mlflow"}
    assert not list(tmp_path.iterdir())


BARE = """
import hydra
@hydra.main(version_base="1.3", config_path=None)
def main(cfg): pass
main()
"""


def costs(question: tuple[str, ...], tmp_path: Path) -> tuple[float, float]:
    """The processor time in seconds in which we answer a question, and a bare Hydra application."""
    bare = tmp_path / "bare.py"
    bare.write_text(BARE)

    def seconds(*arguments: str) -> float:
        """Processor time, which another process on the machine does not lengthen; one thread is all that runs."""
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([sys.executable, *arguments, *question], cwd=tmp_path, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    pairs = [(seconds("-m", "attnunet.train"), seconds(str(bare))) for _ in range(6)]
    ours, theirs = (min(column) for column in zip(*pairs, strict=True))  # what disturbs a measurement only adds to it
    return ours, theirs


def test_the_configuration_is_shown_within_a_third_of_a_second_of_hydra_itself(tmp_path: Path) -> None:
    ours, theirs = costs(("--cfg", "job"), tmp_path)
    assert ours - theirs <= max(0.3, 1.2 * theirs)  # a bare application takes 0.3 s on an idle machine; a busy one slows both


@pytest.mark.slow
def test_help_costs_less_than_the_help_of_hydra(tmp_path: Path) -> None:
    ours, theirs = costs(("--help",), tmp_path)
    assert ours <= theirs


def test_a_users_own_folder_of_configurations_is_searched(tmp_path: Path) -> None:
    own = tmp_path / "own" / "loss"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text("_target_: attnunet.losses.Dice\nsmooth: 0.5\n")
    result = command("--config-dir", "own", "loss=mine", "--cfg", "job", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "smooth: 0.5" in result.stdout


@pytest.mark.parametrize(
    ("mistake", "message"),
    [("smooth: -1", "loss.smooth=-1: "), ("smoothing: 1", "loss.smoothing: unknown key; did you mean loss.smooth?")],
)
def test_a_users_own_configuration_is_checked_too(mistake: str, message: str, tmp_path: Path) -> None:
    own = tmp_path / "own" / "loss"
    own.mkdir(parents=True)
    (own / "mine.yaml").write_text(f"_target_: attnunet.losses.Dice\n{mistake}\n")
    result = command("--config-dir", "own", "loss=mine", cwd=tmp_path)
    assert result.returncode == 1
    assert message in result.stderr
