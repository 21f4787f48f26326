"""How much a split by slice flatters: runs of experiment=leak, scored on test slices and paired by seed.

python experiments/leak/leak.py [MLRUNS [FOLDER]]     writes to experiments/leak, or to FOLDER

`results.csv` has two rows for each run, `gaps.csv` a row for each score, and `gaps.svg` draws the latter. They depend on the
scores alone: runs that were deleted and trained again on the same machine give the same bytes. `costs.csv` has times.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from scipy import stats

from attnunet.data.files import write_csv
from attnunet.figures.comparison import PAPER, rank_axis
from attnunet.figures.style import PREDICTION, TRUTH, WIDTH
from attnunet.tracking import records
from attnunet.tracking.store import Store
from attnunet.training import runtime

if TYPE_CHECKING:
    from collections.abc import Sequence

    from attnunet.evaluation.patients import Rows
    from attnunet.tracking.records import Record

HERE = Path(__file__).parent
SCORES = ("dice_pooled", "dice_slice_lesion", "dice_slice_empty_one")
"""By slice and by pixel alone, since a leaking split leaves no patient whole."""
SPEED = "train/images_per_second"
TAGS = {"threads": "threads", "machine": "machine", "commit": "git.commit"}
SETS = {"own": "the test slices of each split", "shared": "slices that both splits of a seed test"}


def tested(store: Store) -> list[Record]:
    """Return the finished runs of the study that none replaced, scored on their test slices where they were not yet."""
    from attnunet.evaluation.scoring import score_test
    from attnunet.tracking.uses import describe_uses

    runs = [run for run in records.runs_of_study(store, "leak") if run.is_current]
    for run in runs:
        if not run.tested:
            print(f"{run.name}: {describe_uses(score_test(run))}")
    runs = records.find_runs(store, [run.id for run in runs])
    return sorted(runs, key=lambda run: (run.params["split"], int(run.params["seed"])))


def test_slices(run: Record) -> set[tuple[str, int]]:
    return set(run.slices("test"))


def results(runs: Sequence[Record]) -> Rows:
    """Return two rows for each run: its scores on all its test slices, and on those that the other run of its seed tests too.

    Neither network has seen a shared slice; the leaking one has seen others of its patient.
    """
    from attnunet.evaluation import scoring
    from attnunet.evaluation.patients import score_patients

    table: Rows = []
    for run in runs:
        shared = set.intersection(*(test_slices(other) for other in runs if other.params["seed"] == run.params["seed"]))
        predictor = scoring.load_predictor(run)
        chosen = scoring.select_slices(run, predictor.preparation, None, None, "test")
        slices = chosen.prepared.slices
        for where, wanted in (("own", test_slices(run)), ("shared", shared)):
            indices = [i for i in chosen.indices if (slices[i].patient, slices[i].number) in wanted]
            found = score_patients(predictor, chosen.prepared, indices, "test", **scoring.scoring_rules(run)).summary
            table.append(
                {
                    "test": where,
                    "split": run.params["split"],
                    "seed": int(run.params["seed"]),
                    "train_slices": sum(map(len, run.split["slices"]["train"].values())),
                    "train_patients": len(run.split["train"]),
                    "test_slices": len(indices),
                    "test_patients": len({slices[i].patient for i in indices}),
                    **{name: found[name] for name in SCORES},
                }
            )
    return table


def gaps(table: Rows) -> Rows:
    """Return for each score its mean under either split, and the mean difference with its 95 % t interval over seeds."""
    found = {(row["test"], row["split"], row["seed"]): row for row in table}
    seeds = sorted({seed for _, _, seed in found})
    if len(seeds) < 2 or len(found) < 4 * len(seeds) or len({row["train_slices"] for row in table}) > 1:
        raise SystemExit(f"needs pairs of two seeds at least, on one number of training slices; found {list(found)}")
    if len(found) < len(table):
        raise SystemExit("needs one run of each split and seed, and a seed has two, of different code; delete the older ones")
    rows: Rows = []
    for where in SETS:
        for name in SCORES:
            apart, mixed = (np.array([found[where, split, s][name] for s in seeds], float) for split in ("patient", "slice"))
            interval = stats.ttest_1samp(mixed - apart, 0).confidence_interval()
            means = {"apart": float(apart.mean()), "mixed": float(mixed.mean()), "gap": float(np.mean(mixed - apart))}
            limits = {"low": float(interval.low), "high": float(interval.high)}
            rows.append({"test": where, "score": name, "seeds": len(seeds), **means, **limits})
    return rows


def costs(runs: Sequence[Record]) -> Rows:
    """Return a row for each split. `minutes` is the mean of a run with its validation."""
    rows: Rows = []
    for split in ("patient", "slice"):
        own = [run for run in runs if run.params["split"] == split]
        speeds = [epoch.value for run in own for epoch in run.store.client.get_metric_history(run.id, SPEED)]
        rows.append(
            {
                "split": split,
                "runs": len(own),
                "minutes": float(np.mean([run.minutes for run in own])),
                "images_per_second": median(speeds),
                **{column: "; ".join(sorted({run.tags[tag] for run in own})) for column, tag in TAGS.items()},
            }
        )
    return rows


def draw_gaps(table: Rows, means: Rows) -> Figure:
    """Draw the difference of each seed as a point, and their mean with its interval."""
    figure = Figure(figsize=(WIDTH, 0.5 + 0.25 * len(means)), layout="constrained")
    axes = figure.subplots()
    axes.axvline(0, color="black", linewidth=0.8)
    for place, row in enumerate(means):
        score = str(row["score"])
        apart, mixed = (
            np.array([r[score] for r in table if (r["test"], r["split"]) == (row["test"], split)], float)
            for split in ("patient", "slice")
        )
        axes.plot(mixed - apart, [place] * len(apart), "|", color="#888888", markersize=7)
        axes.plot([row["low"], row["high"]], [place, place], color=PREDICTION, linewidth=2.5, solid_capstyle="butt")
        axes.plot(row["gap"], place, "o", color=TRUTH, markersize=5)
    rank_axis(axes, [f"{row['score']}, {SETS[str(row['test'])]}" for row in means])
    axes.set_xlabel("score with slices mixed less score with patients apart; a stroke for each seed")
    return figure


def main(root: str = "mlruns", output: Path = HERE) -> None:
    runtime.configure(0, runtime.available_threads(None), "float32")
    runs, folder = tested(Store(Path(root), None, 0)), Path(output)
    table = results(runs)
    means = gaps(table)
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in {"results": table, "gaps": means, "costs": costs(runs)}.items():
        (folder / f"{name}.csv").write_text(write_csv(rows))
    with mpl.rc_context(PAPER):
        draw_gaps(table, means).savefig(folder / "gaps.svg", metadata={"Date": None})


if __name__ == "__main__":
    main(*sys.argv[1:])
