"""The rows of a leaderboard. A row has runs, a label, and the scores of patients."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from attnunet.config.fingerprints import CODE
from attnunet.config.targets import is_within
from attnunet.errors import UserError
from attnunet.metrics.scores import nan_mean

Scores = Mapping[str, float]
Slices = Mapping[str, Sequence[int]]

SEED, FOLD, FOLDS = "seed", "split.fold", "split.folds"
RUN = "run"  # the entry of a label that tells rows with equal parameters apart


class Unpaired(UserError):
    """The error for rows that cannot be compared patient by patient. The message names the difference."""


@dataclass(frozen=True)
class ScoredRun:
    """A finished run with the scores of its patients.

    Attributes:
        params: the parameters in MLflow. The choice of a configuration group has the name of the group.
        overrides: the overrides from the command line.
        minutes: the time of all epochs, including validation.
        leaking: whether the run trained on patients who are scored.
        content: a hash of the images and masks.
        slices: the slice numbers of each patient, by part ("val", "test").
        scores: the score of each patient, by part; NaN if it is undefined.
        worst: the patients whose undefined distance counts as the worst, by part.
        tags: the tags in MLflow.
        page: the address of MLflow's page of the run; "" if it is not known.
        folder: the address of the folder with its artifacts; "" if it is not on this machine.
        parameters, macs: the parameters of the network, and its multiplications for an image; NaN if they are not known.
        settings: the settings on which the scores depend in addition to the masks; see `Metric.needs`. Where the files tell
            the spacing, there is no data.spacing.
    """

    id: str
    name: str
    params: Mapping[str, str]
    overrides: str
    minutes: float
    leaking: bool
    content: str
    slices: Mapping[str, Slices]
    scores: Mapping[str, Scores]
    worst: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    page: str = ""
    folder: str = ""
    parameters: float = math.nan
    macs: float = math.nan
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Row:
    """A row of the leaderboard: runs of the same code that differ only in the seed and, in a cross-validation, in the fold.

    The score of a patient is the mean over the seeds. If several folds with the same seed scored the patient, the score for
    that seed is the mean over these folds.

    Attributes:
        runs: the runs, in the order in which they were given.
        label: the parameters that differ among the rows, with the values of this row.
    """

    runs: tuple[ScoredRun, ...]
    label: Mapping[str, str]

    @property
    def name(self) -> str:
        text = " ".join(f"{key}={value}" for key, value in self.label.items()) or self.runs[0].name.removeprefix("LEAKING ")
        return f"LEAKING {text}" if self.leaking else text

    @property
    def leaking(self) -> bool:
        return any(run.leaking for run in self.runs)

    @property
    def validated(self) -> bool:
        """Whether every run has validation patients."""
        return all(run.slices["val"] for run in self.runs)

    @property
    def code(self) -> str:
        """The identity of the code that the runs executed; "" for runs of an earlier version and masks of another tool."""
        return self.runs[0].tags.get(CODE, "")

    @property
    def minutes(self) -> float:
        """The mean time of a run, in minutes."""
        return float(np.mean([run.minutes for run in self.runs]))

    @property
    def parameters(self) -> float:
        """The number of parameters of the network; NaN if it is not known."""
        return nan_mean(np.array([run.parameters for run in self.runs]))

    @property
    def macs(self) -> float:
        """The number of multiplications for an image; NaN if it is not known."""
        return nan_mean(np.array([run.macs for run in self.runs]))

    @cached_property
    def seeds(self) -> dict[str, tuple[ScoredRun, ...]]:
        """The runs by seed. For each seed, they are a single run or the folds of a cross-validation."""
        found: dict[str, list[ScoredRun]] = {}
        for run in self.runs:
            found.setdefault(run.params.get(SEED, ""), []).append(run)
        return {seed: tuple(runs) for seed, runs in found.items()}

    def by_seed(self, part: str) -> dict[str, Scores]:
        """Return the scores of the patients, by seed."""
        return {seed: join_runs([run.scores[part] for run in runs]) for seed, runs in self.seeds.items()}

    def scores(self, part: str) -> Scores:
        """Return the score of each patient of a part, in alphabetical order of the patients."""
        return join_runs(list(self.by_seed(part).values()))

    def worst(self, part: str) -> frozenset[str]:
        """Return the patients whose undefined distance counts as the worst in at least one run."""
        return frozenset().union(*(run.worst.get(part, ()) for run in self.runs))

    def incomplete(self, part: str) -> list[str]:
        """Return the patients whose score is defined in at least one run and undefined in another."""
        undefined: dict[str, list[bool]] = {}
        for run in self.runs:
            for patient, score in run.scores[part].items():
                undefined.setdefault(patient, []).append(math.isnan(score))
        return [patient for patient, runs in undefined.items() if any(runs) and not all(runs)]

    def mean(self, part: str) -> float:
        """Return the mean score over the patients of a part."""
        return nan_mean(np.array([*self.scores(part).values()]))

    def spread(self, part: str) -> float:
        """Return the standard deviation (n - 1) of the seeds' means; NaN for a single seed."""
        means = [nan_mean(np.array([*scores.values()])) for scores in self.by_seed(part).values()]
        return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def join_runs(tables: Sequence[Scores]) -> Scores:
    """Return the mean score of each patient over the tables that contain the patient. NaN scores are left out."""
    patients = sorted({patient for table in tables for patient in table})
    return {patient: nan_mean(np.array([table[patient] for table in tables if patient in table])) for patient in patients}


def group_rows(runs: Sequence[ScoredRun], no_effect: Sequence[str] = ()) -> list[Row]:
    """Group the runs into rows, and return the rows in the order of their first runs.

    Two runs with equal parameters, including seed and fold, go to two rows, whose labels then contain the run ids. So do runs
    with equal parameters and different code. `no_effect` names parameters and groups of parameters that cannot change a
    result. Runs may differ in them and still share a row.
    """
    alike: dict[tuple, list[dict[tuple, ScoredRun]]] = {}
    for run in runs:
        removed = (SEED, FOLD) if {FOLDS, FOLD} <= run.params.keys() else (SEED,)
        params = {key: value for key, value in run.params.items() if not is_within(key, no_effect)}
        place = tuple(params.pop(key, "") for key in removed)
        copies = alike.setdefault((run.tags.get(CODE, ""), tuple(sorted(params.items()))), [])
        copy = next((copy for copy in copies if place not in copy), None)
        if copy is None:
            copies.append(copy := {})
        copy[place] = run
    keys = list(find_differences([dict(common) for _, common in alike], runs[0].overrides if runs else ""))
    labels = [{key: value for key in keys for name, value in common if name == key} for _, common in alike]
    found = []
    for label, copies in zip(labels, alike.values(), strict=True):
        once = len(copies) == 1 and labels.count(label) == 1
        for copy in copies:
            members = tuple(copy.values())
            found.append(Row(members, label if once else {**label, RUN: members[0].id[:8]}))
    return found


def find_differences(tables: Sequence[Mapping[str, str]], overrides: str) -> Iterator[str]:
    """Yield the parameters that differ among the tables. Those that the command line sets come first, in its order.

    A parameter that follows from the choice of its group is left out: for example, loss.weights.dice follows from loss=dice.
    A parameter is compared only among the tables that have it: for example, the run of another tool has no batch size.
    """
    keys = {key for table in tables for key in table}
    varied = {key for key in keys if len({table[key] for table in tables if key in table}) > 1}
    typed = {override.split("=", 1)[0].lstrip("+"): place for place, override in enumerate(overrides.split())}
    for key in sorted(varied, key=lambda key: (typed.get(key, len(typed)), "." in key, key)):
        group = key.split(".", 1)[0]
        if (
            group == key
            or group not in varied
            or len({(t.get(group), t.get(key)) for t in tables}) > len({t.get(group) for t in tables})
        ):
            yield key


def all_validated(table: Sequence[Row], top: int | None) -> bool:
    """Return whether every row has validation patients, so that the rows can be ranked by their scores.

    Raises:
        Unpaired: some rows have none, and only the best `top` rows are asked for.
    """
    found = [row for row in table if not row.validated]
    if found and top is not None:
        name = found[0].runs[0].id
        raise Unpaired(f"top={top}: run {name} has no validation patients, so no rows are the best; allowed: top=null")
    return not found


def pair_patients(table: Sequence[Row], part: str) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the patients of a part, in alphabetical order, and the scores of all rows (rows, patients).

    Raises:
        Unpaired: the rows cannot be paired; see `check_pairs`.
    """
    check_pairs(table, part)
    scores = [row.scores(part) for row in table]
    return tuple(scores[0]), np.array([list(own.values()) for own in scores])


def check_pairs(table: Sequence[Row], part: str) -> None:
    """Check that the rows can be compared on the same patients of a part. The patients need no scores for this check.

    Raises:
        Unpaired: two rows, or two seeds of a row, differ in the patients, in the data, in a patient's slices, or in a setting
            on which their scores depend.
    """
    first: tuple[str, ScoredRun, dict[str, Sequence[int]]] | None = None
    for row in table:
        for seed, runs in row.seeds.items():
            name = f"{row.name} (seed {seed}: run {', '.join(run.id[:8] for run in runs)})"
            slices = {patient: numbers for run in runs for patient, numbers in run.slices[part].items()}
            first = first or (name, runs[0], slices)
            if set(slices) != set(first[2]):
                raise Unpaired(describe_difference(part, first[0], sorted(first[2]), name, sorted(slices)))
            if other := next((run for run in runs if run.content != first[1].content), None):
                raise Unpaired(
                    "these runs cannot be paired by patient: their data differ.\n"
                    f"run {first[1].id[:8]} was made with {first[1].content}, run {other.id[:8]} with {other.content}"
                )
            if differ := sorted(patient for patient in slices if list(slices[patient]) != list(first[2][patient])):
                raise Unpaired(
                    f"these runs cannot be paired by patient: their {part} slices of {', '.join(differ)} differ.\n"
                    f"{first[0]} has {first[2][differ[0]]} of {differ[0]}\n{name} has {slices[differ[0]]}"
                )
    check_settings([run for row in table for run in row.runs])


def check_settings(runs: Sequence[ScoredRun]) -> None:
    """Check that no score depends on a setting that differs. With a spacing, distances are in mm, and without it in pixels.

    A setting is compared only among the runs that have it.

    Raises:
        Unpaired: two runs have different values of a setting.
    """
    for key in dict.fromkeys(key for run in runs for key in run.settings):
        first, *others = (run for run in runs if key in run.settings)
        if other := next((run for run in others if run.settings[key] != first.settings[key]), None):
            raise Unpaired(
                f"these runs cannot be paired by patient: their scores depend on {key}, which differs.\n"
                f"run {first.id[:8]} has {key}={first.settings[key]}, run {other.id[:8]} has {key}={other.settings[key]}; "
                "allowed: one value, or a score that does not depend on it, such as score=dice"
            )


def describe_difference(part: str, first: str, ours: Sequence[str], second: str, theirs: Sequence[str]) -> str:
    """Return the error message for two rows with different patients."""
    return "\n".join(
        (
            f"these runs cannot be paired by patient: their {part} patients differ.",
            f"{first}, {len(ours)} patients: {', '.join(ours)}",
            f"{second}, {len(theirs)} patients: {', '.join(theirs)}",
            f"only in the first: {', '.join(sorted(set(ours) - set(theirs))) or 'none'}",
            f"only in the second: {', '.join(sorted(set(theirs) - set(ours))) or 'none'}",
            "Name runs with the same patients: runs=[ID,ID,...], or a study or sweep of one split.",
        )
    )
