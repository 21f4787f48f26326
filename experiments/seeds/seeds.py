"""How much of a difference is the seed's? Runs of experiment=seeds, after `experiments/report.py seeds` scored their tests.

python experiments/seeds/seeds.py [MLRUNS [FOLDER]]     writes to experiments/seeds, or to FOLDER

`seeds.csv` has a row for each seed, `floor.csv` what they say together, and `seeds.svg` draws the means. They depend on the
scores alone: runs that were deleted and trained again on the same machine give the same bytes.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from attnunet.comparison.pairs import Question, compare_pairs
from attnunet.data.files import write_csv
from attnunet.figures.comparison import PAPER
from attnunet.figures.style import PREDICTION, WIDTH
from attnunet.tracking import records
from attnunet.tracking.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from attnunet.evaluation.patients import Rows
    from attnunet.tracking.records import Record

HERE = Path(__file__).parent


def dice_of_seeds(runs: Sequence[Record]) -> dict[str, np.ndarray]:
    """Return the test Dice of each seed, over the patients of all folds in alphabetical order."""
    found: dict[str, dict[str, float]] = {}
    for run in runs:
        found.setdefault(run.params["seed"], {}).update({row["patient"]: float(row["dice"]) for row in run.patients("test")})
    patients = sorted(set().union(*found.values()))
    if lacking := {seed: len(scores) for seed, scores in found.items() if len(scores) < len(patients)}:
        raise SystemExit(f"each seed must test all {len(patients)} patients; of seed {lacking}: run the folds that lack")
    return {seed: np.array([found[seed][patient] for patient in patients]) for seed in sorted(found, key=int)}


def rows_of_seeds(dice: Mapping[str, np.ndarray]) -> Rows:
    return [
        {"seed": seed, "patients": len(scores), "mean": float(scores.mean()), "median": float(np.median(scores))}
        for seed, scores in dice.items()
    ]


@dataclass(frozen=True)
class Floor:
    """What the seeds say together.

    Attributes:
        seeds, patients: their numbers.
        mean: the mean Dice over both.
        sd: the standard deviation s of the means over patients, with n - 1 in the denominator.
        range: the largest of these means less the smallest.
        floor: t sqrt(2) s, where t is the 0.975 quantile of Student's distribution with n - 1 degrees of freedom. Two runs
            that differ only in their seed differ by less in 95 %.
        patient_sd: the standard deviation of one patient's Dice over seeds, the root of the mean variance.
        independent_sd: patient_sd / sqrt(patients); `sd` would be so small if a seed did not favour all patients together.
        different, equivalent, undecided: the verdicts of the paired test at 5 % on each two seeds, without a correction for
            the number of pairs. Each of `different` is wrong, since the recipe is the same.
    """

    seeds: int
    patients: int
    mean: float
    sd: float
    range: float
    floor: float
    patient_sd: float
    independent_sd: float
    different: int
    equivalent: int
    undecided: int


def find_floor(dice: Mapping[str, np.ndarray]) -> Floor:
    scores = np.stack([*dice.values()])
    seeds, patients = scores.shape
    if seeds < 2:
        raise SystemExit(f"needs two seeds at least; found {', '.join(dice)}")
    means = scores.mean(axis=1)
    sd, patient_sd = float(means.std(ddof=1)), math.sqrt(scores.var(axis=0, ddof=1).mean())
    verdicts = Counter(compare_pairs(np.stack(pair), Question())[0].verdict for pair in combinations(scores, 2))
    return Floor(
        seeds=seeds,
        patients=patients,
        mean=float(means.mean()),
        sd=sd,
        range=float(np.ptp(means)),
        floor=float(stats.t.ppf(0.975, seeds - 1)) * math.sqrt(2) * sd,
        patient_sd=patient_sd,
        independent_sd=patient_sd / math.sqrt(patients),
        different=verdicts["better"] + verdicts["worse"],
        equivalent=verdicts["equivalent"],
        undecided=verdicts["undecided"],
    )


def draw_seeds(dice: Mapping[str, np.ndarray], found: Floor) -> Figure:
    """Draw the mean of each seed, and a band as wide as the floor around the mean of all."""
    figure = Figure(figsize=(WIDTH, 1.6), layout="constrained")
    axes = figure.subplots()
    low, high = found.mean - found.floor / 2, found.mean + found.floor / 2
    axes.axvspan(low, high, color="#dddddd", linewidth=0)
    for seed, scores in dice.items():
        axes.plot(scores.mean(), 0, "o", color=PREDICTION, markersize=5)
        axes.annotate(seed, (scores.mean(), 0), xytext=(0, 6), textcoords="offset points", ha="center", fontsize="small")
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("mean Dice over patients; a point for each seed, and the width by which two runs may differ")
    return figure


def main(root: str = "mlruns", output: Path = HERE) -> None:
    runs = [run for run in records.runs_of_study(Store(Path(root), None, 0), "seeds") if run.is_current and run.tested]
    dice, folder = dice_of_seeds(runs), Path(output)
    found = find_floor(dice)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seeds.csv").write_text(write_csv(rows_of_seeds(dice)))
    (folder / "floor.csv").write_text(write_csv([asdict(found)]))
    with mpl.rc_context(PAPER):
        draw_seeds(dice, found).savefig(folder / "seeds.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
