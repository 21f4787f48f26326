"""attnunet in a notebook or script: train, list the runs, load a predictor, segment a scan and draw the result.

TensorFlow reads its settings when it is imported. So set `OMP_NUM_THREADS` if TensorFlow shall not use all cores, and call
`train` or `load_predictor` before you import TensorFlow or Keras yourself.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from attnunet import config
from attnunet import train as training
from attnunet.errors import UserError
from attnunet.sweeps import commands
from attnunet.sweeps.composition import open_loader
from attnunet.training import runtime

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from matplotlib.figure import Figure

    from attnunet.inference.ensemble import Ensemble
    from attnunet.inference.predictor import Predictor
    from attnunet.inference.stream import Segmenter
    from attnunet.tracking.store import Store
    from attnunet.tracking.sweep import Outcome


def train(*overrides: str, test: bool = True) -> Outcome:
    """Train a network, score it and log the run; return how the run ended, its id and the best value of `monitor`.

    A finished run with the same settings is reused, and an interrupted run goes on, as with the command `attnunet.train`.

    Args:
        overrides: settings as on the command line, such as "model=separable" and "optimizer.learning_rate=0.003".
        test: whether to score the test patients. Use False while you try variants, as a sweep does; the command
            `attnunet.compare ... test=true` scores the chosen ones later.

    Raises:
        UserError: a setting, the data or the store cannot be used, or TensorFlow has other settings than the run needs.
    """
    from attnunet.config.objects import check_run

    cfg, choices = compose(overrides)
    check_run(config.settle(cfg, overrides))
    check_process(runtime.available_threads(cfg.trainer.threads))
    typed = shlex.join(["python", "-m", "attnunet.train", *overrides])
    return training.train(cfg, choices, overrides, score_test=test, command=typed)


def compose(overrides: Sequence[str]) -> tuple[DictConfig, dict[str, str]]:
    """Return the configuration of a run and the choice of each group.

    Raises:
        ConfigError: the message has a line for each wrong override.
    """
    if wrong := [item for item in overrides if not isinstance(item, str) or item.lstrip("+~").startswith("hydra")]:
        raise config.ConfigError(f"{wrong[0]!r}: allowed: texts such as 'seed=1', except for keys that begin with hydra")
    loader = open_loader(None)
    try:
        composed = loader.load_configuration("train", list(overrides), RunMode.RUN)
    except Exception as error:
        lines = commands.explain_arguments(error, loader, "train", overrides, sweep=False)
        raise config.ConfigError("\n".join(lines)) from error
    return config.without_hydra(composed), config.group_choices(composed.hydra.runtime.choices)


def check_process(threads: int) -> None:
    """Raise UserError if TensorFlow was imported with other settings than a run with this number of threads needs."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow and (found := tensorflow.config.threading.get_intra_op_parallelism_threads()) != threads:
        settings = f"with {found} threads" if found else "before attnunet could set it up"
        raise UserError(
            f"TensorFlow was started in this process {settings}, and the run needs {threads}: restart the kernel, and call "
            "attnunet.notebook before you import TensorFlow or Keras, or train with the same trainer.threads"
        )


def open_store(root: str | Path = "mlruns", uri: str | None = None) -> Store:
    """Return the store of the runs: the folder `root`, or the MLflow server with the address `uri`.

    Raises:
        UserError: the folder has no store, or the server does not answer.
    """
    database = Path(root).absolute() / "mlflow.db"
    if uri is None and not database.exists():
        raise UserError(f"root={root}: no runs there ({database} does not exist); allowed: the mlruns of earlier runs")

    from attnunet.tracking import store

    opened = store.open_store(Path(root).resolve(), uri, patience=0)
    opened.reap()
    return opened


def list_runs(store: Store, study: str | None = None) -> pd.DataFrame:
    """Return the runs of a study, or of all studies, oldest first: one row for each run, with its id as the index.

    The columns are `name`, `status`, `started`, `leaking`, each setting as on the command line, such as `loss` (as text), and
    each metric, such as `final/val/dice` (as a number).

    Raises:
        UserError: the store does not have the study.
    """
    import pandas as pd

    from attnunet.tracking import records

    found = records.runs_of_store(store) if study is None else records.runs_of_study(store, study)
    rows = [
        {
            "name": record.name,
            "status": record.state,
            "started": pd.Timestamp(record.run.info.start_time, unit="ms", tz="UTC"),
            "leaking": record.leaking,
            **record.params,
            **record.metrics,
        }
        for record in found
    ]
    return pd.DataFrame(rows, index=pd.Index([record.id for record in found], name="run"))


def load_predictor(
    run: str | Path | Sequence[str], store: Store | None = None, modules: Sequence[str] = ()
) -> Predictor | Ensemble:
    """Return a predictor: a network, or an ensemble of several, with everything else on which its masks depend.

    Args:
        run: the id of a run or its first digits, "models:/NAME@ALIAS", a folder with best.keras and predictor.json,
            "study:NAME", or a list of runs.
        store: the store of the runs; None for the folder mlruns. A folder needs no store.
        modules: your own modules that define parts of the network. Name only modules that you trust, because they are run.

    Raises:
        UserError: there is no such predictor, a run keeps no checkpoint, or a network needs a module that `modules` lacks.
    """
    from attnunet.config import targets
    from attnunet.tracking import models

    targets.allow(modules)
    run = str(run) if isinstance(run, str | Path) else list(run)
    model = models.find_model(store or (None if config.is_folder(run) else open_store()), run)
    if "tensorflow" not in sys.modules:
        runtime.load_tensorflow()

    from attnunet.evaluation.ensembles import load_model

    return load_model(model)


@dataclass(frozen=True)
class Segmentation:
    """A scan and its segmentation.

    Attributes:
        image: the sequence of the scan that `draw` shows, (D, h, w): flair if there is one, else the first sequence.
        probabilities: the lesion's probability, float32 (D, h, w) in [0, 1].
        mask: the lesion, uint8 (D, h, w) of 0 and 1.
    """

    image: np.ndarray
    probabilities: np.ndarray
    mask: np.ndarray


def segment(predictor: Segmenter, scan: np.ndarray | str | Path, spacing: Sequence[float] | None = None) -> Segmentation:
    """Return the segmentation of one scan.

    Args:
        scan: numbers (D, h, w, channels) in the order of `predictor.file_channels`, where a single slice has D = 1; or the
            path of a scan, in any form that `attnunet.predict` reads. Slices from a path lie in the plane of the training.
        spacing: the distances in mm between slices, rows and columns of an array. A network needs them if it was trained
            with `data.pixel_size`. For a path, the files tell them.

    Raises:
        UserError: the path holds no scan or several scans, or the scan does not fit the network.
    """
    from attnunet.data.slices import shown_channel

    channels = predictor.file_channels
    if isinstance(scan, str | Path):
        volume, spacing = read_scan(Path(scan), predictor)
    else:
        volume = check_scan(scan, len(channels), spacing)
    found = predictor.predict_one(volume, spacing)
    image = volume[..., shown_channel(channels)]
    return Segmentation(image, found.probabilities, found.mask)


def check_scan(scan: np.ndarray, channels: int, spacing: Sequence[float] | None) -> np.ndarray:
    """Return the array. Raise DataError if it is no scan with this number of channels, or the spacing is not valid."""
    import numpy as np

    from attnunet.data.slices import DataError
    from attnunet.inference.volumes import check_channels

    if spacing is not None and not (len(spacing) == 3 and all(0 < length < float("inf") for length in spacing)):
        raise DataError(f"spacing={spacing}: allowed: the mm between slices, rows and columns, three positive numbers")
    return check_channels(np.asarray(scan), Path("scan"), channels)


def read_scan(path: Path, predictor: Segmenter) -> tuple[np.ndarray, Sequence[float] | None]:
    """Return the only scan at a path as numbers (D, h, w, file channels), and its spacing in mm if the files tell it."""
    from attnunet.data.slices import DataError
    from attnunet.inference import inputs, segmenting

    if not path.exists():
        raise DataError(f"scan={path}: no such file or folder")
    with inputs.unpacked(path) as root:
        ignore = OmegaConf.load(Path(config.CONF, "predict.yaml")).ignore
        cases, _ = inputs.find(root, ignore).cases(predictor, None)
        if len(cases) != 1 or cases[0].source is None:
            told = cases[0].fault if len(cases) == 1 else f"holds {len(cases)} scans; attnunet.predict segments several"
            raise DataError(f"scan={path}: {told}; allowed: one scan")
        volume, look = segmenting.read_case(cases[0], predictor, segmenting.Work(path))
    return volume, look.spacing


def draw(found: Segmentation, truth: np.ndarray | None = None, title: str = "") -> Figure:
    """Return a figure of up to 12 slices with the outlines of the mask. A notebook shows it after `%matplotlib inline`.

    `truth` is the true mask (D, h, w), to draw its outlines too.

    Raises:
        UserError: `truth` has another shape than the scan.
    """
    from attnunet import figures

    if truth is not None and truth.shape != found.mask.shape:
        raise UserError(f"truth: has the shape {truth.shape}; allowed: the shape of the scan, {found.mask.shape}")
    return figures.outlines(title, found.image, found.mask, None if truth is None else (truth > 0).astype("uint8"))
