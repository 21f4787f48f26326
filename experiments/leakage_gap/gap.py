"""How much a split by slice flatters: runs of experiment=leakage, scored on their test slices and paired by seed.

python experiments/leakage_gap/gap.py [STUDY] [MLRUNS]     writes scores.csv and patients.csv beside this file
"""

import sys
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from attnunet import report, scoring
from attnunet.tracking import records, uses
from attnunet.tracking.records import Record
from attnunet.tracking.store import Store

HERE = Path(__file__).parent
SCORES = ("dice_slice_lesion", "dice_slice_empty_one", "dice_all_background", "dice_pooled", "iou_pooled")
"""By slice and by pixel alone, since a leaking split leaves no patient whole."""


def tested(store: Store, study: str, console: Console) -> list[Record]:
    """The finished runs of the study, scored on their test slices where they were not yet."""
    runs = [run for run in records.of_study(store, study) if run.status == "FINISHED"]
    for run in runs:
        if not run.tested:
            console.print(f"{run.name}: {uses.sentence(scoring.score_test(run, store.root / 'cache'))}")
    return records.by_id(store, [run.id for run in runs])


def row(run: Record) -> dict[str, float | str]:
    numbers = {part: sum(map(len, run.split["slices"][part].values())) for part in ("train", "test")}
    return {
        "split": run.params["split"],
        "seed": int(run.params["seed"]),
        "run": run.id,
        "train_slices": numbers["train"],
        "train_patients": len(run.split["train"]),
        "test_slices": numbers["test"],
        "test_patients": len(run.split["test"]),
        "val_dice": run.metrics["final/val/dice"],
        **{name: run.metrics[f"final/test/{name}"] for name in SCORES},
    }


def show(console: Console, rows: report.Rows) -> None:
    """For each score its mean under either split, and the mean of the differences with its 95 % t interval over seeds."""
    found = {(r["split"], r["seed"]): r for r in rows}
    seeds = sorted({seed for _, seed in found if {("patient", seed), ("slice", seed)} <= set(found)})
    if len(seeds) < 2 or len({r["train_slices"] for r in rows}) > 1:
        raise SystemExit(f"needs pairs of two seeds at least, on one number of training slices; found {list(found)}")
    table = Table("score", "split=patient", "split=slice", "the leak flatters by", title=f"mean over {len(seeds)} seeds")
    for name in SCORES:
        apart, mixed = (np.array([float(found[split, s][name]) for s in seeds]) for split in ("patient", "slice"))
        interval = stats.ttest_1samp(mixed - apart, 0).confidence_interval()
        gap = f"{np.mean(mixed - apart):+.3f} ({interval.low:+.3f} to {interval.high:+.3f})"
        table.add_row(name, f"{apart.mean():.3f}", f"{mixed.mean():.3f}", gap)
    console.print(table)


if __name__ == "__main__":
    study, root = [*sys.argv[1:], *("leakage", "mlruns")[len(sys.argv) - 1 :]]
    terminal = Console()
    runs = tested(Store(Path(root), None, 0), study, terminal)
    rows = sorted((row(run) for run in runs), key=lambda r: (r["split"], r["seed"]))
    (HERE / "scores.csv").write_text(report.as_csv(rows))
    patients = [
        {"split": run.params["split"], "seed": run.params["seed"], **line} for run in runs for line in run.patients("test")
    ]
    (HERE / "patients.csv").write_text(report.as_csv(patients))
    show(terminal, rows)
