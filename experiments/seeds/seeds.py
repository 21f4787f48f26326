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
from attnunet.comparison.rows import group_rows
from attnunet.comparison.runs import keep_scored, read_scores
from attnunet.config.fingerprints import NO_EFFECT
from attnunet.data.files import write_csv
from attnunet.figures.comparison import PAPER
from attnunet.figures.style import PREDICTION, WIDTH
from attnunet.tracking import records
from attnunet.tracking.store import Store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from attnunet.comparison.rows import Row
    from attnunet.evaluation.patients import Rows

HERE = Path(__file__).parent


def read_row(root: str) -> Row:
    """Return the tested runs of the study, which differ in nothing but seed and fold."""
    found, _ = keep_scored(records.runs_of_study(Store(Path(root), None, 0), "seeds"), "dice", test=True)
    if untested := [run.name for run in found if not run.tested]:
        raise SystemExit(f"{untested[0]}: its test has no scores; run experiments/report.py seeds first")
    table = group_rows([read_scores(run, Question(), ["test"]) for run in found], NO_EFFECT)
    if len(table) > 1:
        raise SystemExit(
            f"the runs of study=seeds differ in more than seed and fold, or in their code: {table[0].name}, {table[1].name}"
        )
    return table[0]


def dice_of_seeds(row: Row) -> dict[str, np.ndarray]:
    """Return the test Dice of each seed, over the patients of all folds in alphabetical order."""
    found, patients = row.by_seed("test"), row.scores("test")
    for seed, scores in found.items():
        if scores.keys() != patients.keys():
            raise SystemExit(f"seed {seed} tests {len(scores)} of {len(patients)} patients; run the folds that it lacks")
    return {seed: np.array([*found[seed].values()]) for seed in sorted(found, key=int)}


def rows_of_seeds(dice: Mapping[str, np.ndarray]) -> Rows:
    return [
        {"seed": seed, "patients": len(scores), "mean": float(scores.mean()), "median": float(np.median(scores))}
        for seed, scores in dice.items()
    ]


@dataclass(frozen=True)
class Floor:
    """What the seeds say together. A seed trains a network for each fold, and these test each patient once.

    Attributes:
        seeds, patients: their numbers.
        mean: the mean Dice over both.
        sd: the standard deviation s of the means over patients, with n - 1 in the denominator.
        range: the largest of these means less the smallest.
        floor: t sqrt(2) s, where t is the 0.975 quantile of Student's distribution with n - 1 degrees of freedom. The means of
            two new seeds differ by less in 95 %, if means are independent and normal (Hahn and Meeker, Statistical Intervals,
            on the prediction of a new observation, here of a difference).
        patient_sd: the standard deviation of one patient's Dice over seeds, the root of the mean variance.
        independent_sd: patient_sd / sqrt(patients), the `sd` to expect if a seed moved each patient independently.
        different, equivalent, undecided: the verdicts on each two seeds, at 5 % for each pair alone. The recipe is the same,
            so `different` counts pairs in which a paired test takes the seed's part for the recipe's.
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
        raise SystemExit(f"needs two seeds at least; found seed {', '.join(dice)} alone")
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
    """Draw the mean of each seed as a point, and above them a bar as long as the floor."""
    figure = Figure(figsize=(WIDTH, 1.4), layout="constrained")
    axes = figure.subplots()
    low, high = found.mean - found.floor / 2, found.mean + found.floor / 2
    axes.plot([low, high], [1, 1], color="#888888", linewidth=2.5, solid_capstyle="butt")
    told = f" {found.floor:.3f}: 95 % of differences are smaller"
    axes.text(high, 1, told, verticalalignment="center", fontsize="small")
    for scores in dice.values():
        axes.plot(scores.mean(), 0, "o", color=PREDICTION, markersize=7, alpha=0.6, markeredgecolor="black")
    axes.set_ylim(-0.5, 1.5)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_xlabel("mean Dice over patients; a point for each seed")
    return figure


def main(root: str = "mlruns", output: Path = HERE) -> None:
    dice, folder = dice_of_seeds(read_row(root)), Path(output)
    found = find_floor(dice)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "seeds.csv").write_text(write_csv(rows_of_seeds(dice)))
    (folder / "floor.csv").write_text(write_csv([asdict(found)]))
    with mpl.rc_context(PAPER):
        draw_seeds(dice, found).savefig(folder / "seeds.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
