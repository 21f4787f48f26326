"""The folds of a cross-validation joined into one result: every patient tested once, by a network that never saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from attnunet.config import fingerprints
from attnunet.evaluation.report import Rows, Scores, volume_of
from attnunet.metrics import scores
from attnunet.metrics.calibration import BINS, Calibration
from attnunet.metrics.counts import Counts
from attnunet.metrics.strata import group_patients
from attnunet.tracking.records import Record, RunError

FREE = {*fingerprints.FREE, "split.fold"} - {"split"}
"""Settings in which the folds of one recipe may differ."""
COUNTS = ("tp", "fp", "fn", "tn")
LESIONS = ("lesions", "lesions_found", "lesions_false", "lesion_recall", "lesion_precision", "lesion_f1")
VOLUMES = ("hd95", "assd", "hd95_worst", "assd_worst", "surface_dice", "unmatched_slices", *LESIONS)
BY_SLICE = {"slice_lesion": "lesion_slices", "slice_empty_one": "slices", "all_background": "slices"}
"""The means over slices, and the column that says over how many of a patient's."""


@dataclass(frozen=True)
class CrossValidation:
    """The runs of one recipe, which differ in split.fold alone."""

    folds: tuple[Record, ...]

    @property
    def name(self) -> str:
        """As a fold's, which does not tell the fold."""
        return f"cross-validated {self.folds[0].name}"

    @property
    def params(self) -> dict[str, str]:
        """What the folds share."""
        return {n: v for n, v in self.folds[0].params.items() if all(fold.params.get(n) == v for fold in self.folds)}

    def problems(self) -> list[str]:
        """What keeps the folds from being one result, a line each: each fold is there, each patient tested once, all with
        the same data."""
        wanted = int(self.params["split.folds"])
        there = {int(fold.params["split.fold"]) for fold in self.folds}
        lines = [f"{self.name}: no finished run of fold {fold} of {wanted}" for fold in range(wanted) if fold not in there]
        tested = Counter(patient for fold in self.folds for patient in fold.split["test"])
        for patient in sorted(patient for patient, times in tested.items() if times > 1):
            runs = [f"{fold.id} (fold {fold.params['split.fold']})" for fold in self.folds if patient in fold.split["test"]]
            lines.append(f"{self.name}: {patient} is tested by more than one run: {', '.join(runs)}")
        if len({fold.content for fold in self.folds}) > 1:
            data = ", ".join(f"fold {fold.params['split.fold']} with {fold.content} ({fold.id})" for fold in self.folds)
            lines.append(f"{self.name}: the folds were made with different data: {data}")
        everyone = {p for fold in self.folds for part in ("train", "val", "test") for p in fold.split[part]}
        if not lines and (untested := sorted(everyone - set(tested))):
            lines.append(f"{self.name}: no fold tests {', '.join(untested)}; the folds were made with different data")
        return lines

    def join_scores(self) -> Scores:
        """The scores of all patients, from the test rows of the folds' patients.csv, with fold and run before them."""
        rows: Rows = [
            {"fold": fold.params["split.fold"], "run": fold.id, **row, **{name: int(row[name]) for name in COUNTS}}
            for fold in self.folds
            for row in fold.patients("test")
        ]
        rows.sort(key=lambda row: str(row["patient"]))
        resamples = self.folds[0].config.evaluation.resamples
        none = np.zeros(BINS)
        return Scores(
            summarize(rows, resamples) | self.by_slice(), rows, Calibration(none, none, none), group_patients(rows, resamples)
        )

    def by_slice(self) -> dict[str, float]:
        """The means over all slices: of the folds' means, each with the number of its slices as its weight."""
        tables = [fold.patients("test") for fold in self.folds]
        values = {}
        for convention, column in BY_SLICE.items():
            weights = np.array([sum(int(row[column]) for row in table) for table in tables])
            some = weights > 0
            for name in (f"{overlap}_{convention}" for overlap in scores.OVERLAPS):
                means = np.array([fold.metrics[f"final/test/{name}"] for fold in self.folds])
                values[name] = float(np.average(means[some], weights=weights[some])) if some.any() else float("nan")
        return values


def find_cross_validations(records: Iterable[Record]) -> list[CrossValidation]:
    """The cross-validations among the runs of a study; what differs in more than the fold, in `seed` say, stays apart.

    Raises:
        Refused: there are no finished runs with split=kfold.
    """
    recipes: dict[tuple, list[Record]] = {}
    for record in records:
        if record.params.get("split") == "kfold" and record.is_current:
            recipes.setdefault(recipe_of(record.params), []).append(record)
    if not recipes:
        raise RunError("no finished runs with split=kfold in this study")
    return [CrossValidation(tuple(sorted(runs, key=lambda r: int(r.params["split.fold"])))) for runs in recipes.values()]


def recipe_of(params: Mapping[str, str]) -> tuple:
    """A run's settings less those that are free."""
    return tuple(sorted(item for item in params.items() if not any(f"{item[0]}.".startswith(f"{key}.") for key in FREE)))


def summarize(rows: Rows, resamples: int) -> dict[str, float]:
    """The scores over all patients, under their names in patients.csv and `attnunet.metrics.scores.summary`.

    Those by slice are left out, which the rows of patients do not tell: see `CrossValidation.by_slice`. So are those that a
    fold lacks, since an earlier version scored it.
    """
    counts = (np.array([[int(row[name])] for row in rows]) for name in COUNTS)
    owners = {volume_of(row): str(row["patient"]) for row in rows}
    volumes = tuple(volume_of(row) for row in rows)
    values = scores.summarize(Counts(volumes, (float("nan"),), *counts), resamples, owners)
    overlaps = {name: value for name, value in values.items() if "_slice_" not in name and "_all_" not in name}
    there = [name for name in VOLUMES if all(row.get(name, "") != "" for row in rows)]
    return overlaps | scores.mean_columns({name: np.array([float(row[name]) for row in rows]) for name in there})
