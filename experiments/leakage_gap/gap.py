"""How much a split by slice flatters: runs of experiment=leakage, scored on test slices and paired by seed.

python experiments/leakage_gap/gap.py [STUDY] [MLRUNS]     writes scores.csv and patients.csv beside this file
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from attnunet.tracking import records
from attnunet.tracking.store import Store
from attnunet.training import runtime

if TYPE_CHECKING:
    from attnunet.evaluation.patients import Rows
    from attnunet.tracking.records import Record

HERE = Path(__file__).parent
SCORES = ("dice_slice_lesion", "dice_slice_empty_one", "dice_all_background", "dice_pooled", "iou_pooled")
"""By slice and by pixel alone, since a leaking split leaves no patient whole."""


def tested(store: Store, study: str, console: Console) -> list[Record]:
    """The finished runs of the study that none replaced, scored on their test slices where they were not yet."""
    from attnunet.evaluation.scoring import score_test
    from attnunet.tracking.uses import describe_uses

    runs = [run for run in records.runs_of_study(store, study) if run.is_current]
    for run in runs:
        if not run.tested:
            console.print(f"{run.name}: {describe_uses(score_test(run))}", soft_wrap=True)
    return records.find_runs(store, [run.id for run in runs])


def test_slices(run: Record) -> set[tuple[str, int]]:
    return set(run.slices("test"))


def rows(store: Store, runs: list[Record]) -> Rows:
    """Two rows a run: its scores on all its test slices, and on those that are also its partner's of the same seed.

    Neither network has seen a shared slice; the leaking one has seen others of its patient.
    """
    from attnunet.evaluation import scoring
    from attnunet.evaluation.patients import score_patients

    table: Rows = []
    for run in sorted(runs, key=lambda run: (run.params["split"], int(run.params["seed"]))):
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
                    "run": run.id,
                    "train_slices": sum(map(len, run.split["slices"]["train"].values())),
                    "train_patients": len(run.split["train"]),
                    "test_slices": len(indices),
                    "test_patients": len({slices[i].patient for i in indices}),
                    **{name: found[name] for name in SCORES},
                }
            )
    return table


def show(console: Console, table: Rows, where: str) -> None:
    """For each score its mean under either split, and the mean of the differences with its 95 % t interval over seeds."""
    found = {(row["split"], row["seed"]): row for row in table if row["test"] == where}
    seeds = sorted({seed for _, seed in found if {("patient", seed), ("slice", seed)} <= set(found)})
    if len(seeds) < 2 or len({row["train_slices"] for row in table}) > 1:
        raise SystemExit(f"needs pairs of two seeds at least, on one number of training slices; found {list(found)}")
    title = f"{where} test slices, mean over {len(seeds)} seeds"
    shown = Table("score", "split=patient", "split=slice", "the leak flatters by", title=title)
    for name in SCORES:
        apart, mixed = (np.array([float(found[split, s][name]) for s in seeds]) for split in ("patient", "slice"))
        interval = stats.ttest_1samp(mixed - apart, 0).confidence_interval()
        gap = f"{np.mean(mixed - apart):+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
        shown.add_row(name, f"{apart.mean():.3f}", f"{mixed.mean():.3f}", gap)
    console.print(shown)


def main(study: str = "leakage", root: str = "mlruns") -> None:
    runtime.configure(0, runtime.available_threads(None), "float32")
    from attnunet.data.files import write_csv

    store, console = Store(Path(root), None, 0), Console(width=100)
    runs = tested(store, study, console)
    table = rows(store, runs)
    (HERE / "scores.csv").write_text(write_csv(table))
    patients = [
        {"split": run.params["split"], "seed": run.params["seed"], **line} for run in runs for line in run.patients("test")
    ]
    (HERE / "patients.csv").write_text(write_csv(patients))
    for where in ("own", "shared"):
        show(console, table, where)


if __name__ == "__main__":
    main(*sys.argv[1:])
