"""The tables and the figures of a study, made from its runs in MLflow.

python experiments/report.py STUDY [MLRUNS [FOLDER]]     writes to experiments/STUDY, or to FOLDER/STUDY

`attnunet.compare` scores each run on its test patients, unless that was done before. `results.csv` has a row for each recipe,
`patients.csv` a row for each patient, `pairs.csv` a row for each pair of recipes. They depend on the scores alone: a run that
was deleted and trained again on the same machine gives the same bytes. `costs.csv` and `curves.svg` also have measured times.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure

from attnunet.data.files import read_csv, write_csv
from attnunet.figures.comparison import PAPER
from attnunet.figures.style import WIDTH
from attnunet.tracking.records import find_runs
from attnunet.tracking.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnunet.tracking.records import Record

HERE = Path(__file__).parent
SCORES = ("mean", "low", "high", "median", "validation", "spread", "seeds", "patients", "parameters", "macs")
"""The columns of `attnunet.compare` that results.csv keeps. Times are in costs.csv, and ids change with each training."""
PLACES = ("rank", "rank_low", "rank_high", "group", "minutes", "worst", "mean_defined", "leaking", "runs")
"""The other columns. What is in neither tuple is a parameter in which the rows differ."""
TAGS = {"threads": "threads", "machine": "machine", "commit": "git.commit"}
"""The columns of costs.csv that are tags of the runs. A column names each value that the runs of a row have."""
COLORS = ("#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7", "#F0E442")  # Okabe and Ito 2008
LINES = ("-", "--", ":")


def history(run: Record, metric: str) -> list[float]:
    """Return a metric of each epoch."""
    return [epoch.value for epoch in run.store.client.get_metric_history(run.id, metric)]


def images_of_epoch(run: Record) -> int:
    """Return the number of training images in an epoch: as many as there are slices, in whole batches."""
    batch = int(run.params["batch_size"])
    return len(run.slices("train")) // batch * batch


def varied(row: dict[str, str]) -> dict[str, str]:
    """Return the parameters in which the rows differ, with the values of a row of the leaderboard."""
    return {key: value for key, value in row.items() if key not in (*SCORES, *PLACES)}


def name(row: dict[str, str]) -> str:
    """Return the recipe of a row; without recipes, the parameters in which the rows differ, as on the command line."""
    return row.get("experiment") or " ".join(f"{key}={value}" for key, value in varied(row).items())


def result(row: dict[str, str], runs: Sequence[Record]) -> dict[str, object]:
    """Return the row of results.csv for a row of the leaderboard."""
    iou = [float(patient["iou"]) for run in runs for patient in run.patients("test")]
    return {
        **varied(row),
        "images": sum(images_of_epoch(run) * len(history(run, "train/loss")) for run in runs) // len(runs),
        **{key: row[key] for key in SCORES},
        "iou": round(fmean(iou), 12),  # the same digits in whatever order the runs stand in the store
    }


def cost(row: dict[str, str], runs: Sequence[Record]) -> dict[str, object]:
    """Return the row of costs.csv for a row of the leaderboard. `minutes` is the mean of a run with its validation."""
    return {
        **varied(row),
        "runs": len(runs),
        "minutes": row["minutes"],
        "images_per_second": median(speed for run in runs for speed in history(run, "train/images_per_second")),
        **{column: "; ".join(sorted({run.tags[tag] for run in runs})) for column, tag in TAGS.items()},
    }


def mean_curve(curves: Sequence[tuple[np.ndarray, Sequence[float]]]) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean of curves, each a pair of images so far and scores, at the images that all of them have reached.

    The runs of a row may have epochs of different lengths, since the folds have different numbers of slices.
    """
    points = np.unique(np.concatenate([images for images, _ in curves]))
    start, end = max(images[0] for images, _ in curves), min(images[-1] for images, _ in curves)
    points = points[(points >= start) & (points <= end)]
    return points, np.mean([np.interp(points, images, scores) for images, scores in curves], axis=0)


def draw_curves(rows: Sequence[tuple[str, Sequence[Record]]]) -> Figure:
    """Draw the Dice on validation patients, the mean over the runs of a row, against the minutes of training.

    The minutes are the images so far, divided by the row's median speed, so that a pause of the machine does not bend a curve.
    """
    figure = Figure(figsize=(WIDTH, WIDTH * 0.45), layout="constrained")
    axes = figure.subplots()
    for place, (label, runs) in enumerate(rows):
        scores = [history(run, "val/dice") for run in runs]
        lengths = [images_of_epoch(run) for run in runs]
        images, curve = mean_curve([(n * np.arange(1, len(own) + 1), own) for n, own in zip(lengths, scores, strict=True)])
        speed = median(speed for run in runs for speed in history(run, "train/images_per_second"))
        look = {"color": COLORS[place % len(COLORS)], "linestyle": LINES[place // len(COLORS) % len(LINES)]}
        axes.plot(images / speed / 60, curve, linewidth=1.2, label=label, **look)
    axes.set_xlim(left=0)
    bottom, top = axes.dataLim.intervaly
    axes.set_ylim(low := np.floor(bottom * 10) / 10, max(np.ceil(top * 10) / 10, low + 0.1))
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("Dice on validation patients")
    axes.spines[["top", "right"]].set_visible(False)
    if len(rows) > 1:
        figure.legend(loc="outside right center")
    return figure


def main(study: str, root: str = "mlruns", output: Path = HERE) -> None:
    compared, folder = Path(root, "report", study), Path(output, study)
    question = [f"study={study}", "test=true", f"tracking.root={root}", f"output={compared}"]
    subprocess.run([sys.executable, "-m", "attnunet.compare", *question], check=True)
    leaderboard, store = read_csv((compared / "leaderboard.csv").read_text()), Store(Path(root), None, 0)
    if "run" in leaderboard[0]:
        raise SystemExit(
            f"study={study}: some runs have the same settings, and other code; delete the older ones in MLflow's page"
        )
    rows = [(row, find_runs(store, row["runs"].split())) for row in leaderboard]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.csv").write_text(write_csv([result(row, runs) for row, runs in rows]))
    (folder / "costs.csv").write_text(write_csv([cost(row, runs) for row, runs in rows]))
    copied = ["patients.csv", "figures/intervals.svg"]
    if len(rows) > 1:
        copied += ["pairs.csv", "figures/pairs.svg"]
    for file in copied:
        shutil.copy(compared / file, folder)
    with mpl.rc_context(PAPER):
        labelled = [(name(row), runs) for row, runs in rows]
        draw_curves(labelled).savefig(folder / "curves.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
