"""The folds of a cross-validation, joined into one result. Each patient is tested once, by a network that never saw it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from attnunet.config import fingerprints
from attnunet.config.targets import is_within
from attnunet.evaluation.patients import Rows, Scores, volume_of
from attnunet.metrics import catalog
from attnunet.metrics.calibration import BINS, Calibration
from attnunet.metrics.decision import Decision
from attnunet.metrics.strata import group_patients
from attnunet.metrics.summary import summarize_patients
from attnunet.tracking.records import Record, RunError

FREE = {*fingerprints.FREE, "split.fold"} - {"split"}
"""The settings that may differ among the folds of a cross-validation."""
COUNTS = ("tp", "fp", "fn", "tn")
BY_SLICE = {"slice_lesion": "lesion_slices", "slice_empty_one": "slices", "all_background": "slices"}
"""Each mean over slices, with the column of patients.csv that holds the number of slices in the mean."""


@dataclass(frozen=True)
class CrossValidation:
    """The finished runs of a cross-validation. They differ only in settings that FREE lists, such as split.fold."""

    folds: tuple[Record, ...]

    @property
    def name(self) -> str:
        """The name of the joined result, which contains the name that all folds share."""
        return f"cross-validated {self.folds[0].name}"

    @property
    def params(self) -> dict[str, str]:
        """The parameters that have the same value in all folds."""
        return {n: v for n, v in self.folds[0].params.items() if all(fold.params.get(n) == v for fold in self.folds)}

    def problems(self) -> list[str]:
        """Return a line for each reason why the folds cannot be joined.

        The folds cannot be joined if a fold is missing, if a patient is tested more than once or never, or if the data differ.
        """
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

    def choose_decision(self) -> Decision | None:
        """Return the decision with the highest mean Dice over the validation patients of all folds.

        A run that trains on all these patients has none left to choose a decision; it can be given this one. Each fold's mean
        is weighted by its number of patients. As in `decide`, the threshold comes first. The post-processing was tried by
        each fold at the fold's own threshold. Return None if a fold did not log what it tried.
        """
        if not all(fold.has("decision.csv") for fold in self.folds):
            return None
        rows = [row for fold in self.folds for row in fold.rows("decision.csv")]
        first, second = ([row for row in rows if row["step"] == step and int(row["patients"])] for step in "12")
        threshold = float(best_key(first, "threshold")[0])
        size, fill = best_key(second, "smallest_lesion", "fill_holes")
        return Decision(threshold, int(size), fill == "1")

    def join_scores(self) -> Scores:
        """Return the scores of all patients, from the test rows in the patients.csv of each fold.

        Each row also has the columns `fold` and `run`.
        """
        rows: Rows = [
            {"fold": fold.params["split.fold"], "run": fold.id, **row, **{name: int(row[name]) for name in COUNTS}}
            for fold in self.folds
            for row in fold.patients("test")
        ]
        rows.sort(key=volume_of)
        resamples = self.folds[0].config.evaluation.resamples
        none = np.zeros(BINS)
        summary = summarize_patients(rows, resamples) | self.by_slice()
        strata: Rows = [{"part": "test", **row} for row in group_patients(rows, resamples)]
        return Scores(summary, rows, Calibration(none, none, none), strata)

    def by_slice(self) -> dict[str, float]:
        """Return the means over all slices. The mean of each fold is weighted by its number of slices."""
        tables = [fold.patients("test") for fold in self.folds]
        summaries = [fold.summary("test") for fold in self.folds]
        values = {}
        for convention, column in BY_SLICE.items():
            weights = np.array([sum(int(row[column]) for row in table) for table in tables])
            some = weights > 0
            for name in (f"{metric.name}_{convention}" for metric in catalog.METRICS if metric.overlap):
                means = np.array([summary[name] for summary in summaries])
                values[name] = float(np.average(means[some], weights=weights[some])) if some.any() else float("nan")
        return values


def best_key(rows: Iterable[Mapping[str, str]], *names: str) -> tuple[str, ...]:
    """Return the values in the columns `names` whose rows have the highest mean Dice, weighted by `patients`.

    Ties go to the values that come first.
    """
    tried: dict[tuple[str, ...], list[tuple[float, int]]] = {}
    for row in rows:
        tried.setdefault(tuple(row[name] for name in names), []).append((float(row["dice"]), int(row["patients"])))
    means = {key: np.average([dice for dice, _ in found], weights=[n for _, n in found]) for key, found in tried.items()}
    return max(means, key=lambda key: means[key])


def find_cross_validations(records: Iterable[Record]) -> list[CrossValidation]:
    """Return the cross-validations among the runs of a study.

    Runs belong to the same cross-validation if they are of the same code, and differ only in the settings of FREE.

    Raises:
        RunError: the study has no finished run of a split into folds.
    """
    recipes: dict[tuple, list[Record]] = {}
    for record in records:
        if {"split.folds", "split.fold"} <= record.params.keys() and record.is_current:
            recipe = record.tags.get(fingerprints.CODE, ""), recipe_of(record.params)
            recipes.setdefault(recipe, []).append(record)
    if not recipes:
        raise RunError("no finished runs of a split into folds (split=kfold) in this study")
    return [CrossValidation(tuple(sorted(runs, key=lambda r: int(r.params["split.fold"])))) for runs in recipes.values()]


def recipe_of(params: Mapping[str, str]) -> tuple:
    """Return the settings of a run, without the settings that may differ among folds."""
    return tuple(sorted((name, value) for name, value in params.items() if not is_within(name, FREE)))
