"""The rows of a leaderboard: which runs belong together, what tells the rows apart, each patient's score."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

Scores = Mapping[str, float]
Slices = Mapping[str, Sequence[int]]

SEED, FOLD = "seed", "split.fold"


class Unpaired(ValueError):
    """Rows that cannot be compared patient by patient; the message names what differs."""


@dataclass(frozen=True)
class ScoredRun:
    """A finished run.

    Attributes:
        params: as MLflow has them; a group's choice under the group's name.
        overrides: what the command line changed.
        minutes: that its epochs took, their validation included.
        content: a hash of the images and masks.
        slices: the numbers of each patient's slices, by part ("val", "test").
        scores: of each patient, NaN where it is not defined, by the part that was scored.
        worst: the patients whose score is an undefined distance that counts as the worst, by part.
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


@dataclass(frozen=True)
class Row:
    """Runs that differ only in their seed and, of a cross-validation, in their fold.

    A patient's score is the mean over the seeds; of one seed, where several folds scored the patient, the mean over these.

    Attributes:
        label: the parameters that tell the row from the others, with its values.
    """

    runs: tuple[ScoredRun, ...]
    label: Mapping[str, str]

    def with_runs(self, runs: Iterable[ScoredRun]) -> "Row":
        return replace(self, runs=tuple(runs))

    @property
    def name(self) -> str:
        text = " ".join(f"{key}={value}" for key, value in self.label.items()) or self.runs[0].name.removeprefix("LEAKING ")
        return f"LEAKING {text}" if self.leaking else text

    @property
    def leaking(self) -> bool:
        return any(run.leaking for run in self.runs)

    @property
    def minutes(self) -> float:
        """Of one run, on average."""
        return float(np.mean([run.minutes for run in self.runs]))

    @cached_property
    def seeds(self) -> dict[str, tuple[ScoredRun, ...]]:
        """The runs of each seed: one, or a cross-validation's folds."""
        found: dict[str, list[ScoredRun]] = {}
        for run in self.runs:
            found.setdefault(run.params.get(SEED, ""), []).append(run)
        return {seed: tuple(runs) for seed, runs in found.items()}

    def by_seed(self, part: str) -> dict[str, Scores]:
        """Each seed's score of each patient."""
        return {seed: join_runs([run.scores[part] for run in runs]) for seed, runs in self.seeds.items()}

    def scores(self, part: str) -> Scores:
        """Each patient's score, in alphabetical order."""
        return join_runs(list(self.by_seed(part).values()))

    def worst(self, part: str) -> frozenset[str]:
        """The patients for whom an undefined distance counts as the worst in one of the runs at least."""
        return frozenset().union(*(run.worst.get(part, ()) for run in self.runs))

    def incomplete(self, part: str) -> list[str]:
        """The patients whose score is the mean over some of the runs, since it is not defined in the others."""
        undefined: dict[str, list[bool]] = {}
        for run in self.runs:
            for patient, score in run.scores[part].items():
                undefined.setdefault(patient, []).append(math.isnan(score))
        return [patient for patient, runs in undefined.items() if any(runs) and not all(runs)]

    def mean(self, part: str) -> float:
        return mean(list(self.scores(part).values()))

    def spread(self, part: str) -> float:
        """The standard deviation (n - 1) of the seeds' means; NaN for a single seed."""
        means = [mean(list(scores.values())) for scores in self.by_seed(part).values()]
        return float(np.std(means, ddof=1)) if len(means) > 1 else math.nan


def mean(values: Sequence[float]) -> float:
    """Of those that are defined; NaN of none."""
    defined = [value for value in values if not math.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def join_runs(tables: Sequence[Scores]) -> Scores:
    patients = sorted({patient for table in tables for patient in table})
    return {patient: mean([table[patient] for table in tables if patient in table]) for patient in patients}


def group_rows(runs: Sequence[ScoredRun], no_effect: Sequence[str] = ()) -> list[Row]:
    """The rows that the runs make, in the order of their first run.

    Two runs with the same parameters, seed and fold make two rows, told apart by the runs' ids.

    Args:
        no_effect: parameters, or groups of them, that cannot change a result and make no row of their own.
    """
    alike: dict[tuple, list[dict[tuple, ScoredRun]]] = {}
    for run in runs:
        once = (SEED, FOLD) if run.params.get("split") == "kfold" else (SEED,)
        params = {key: value for key, value in run.params.items() if not any(is_within(key, free) for free in no_effect)}
        place = tuple(params.pop(key, "") for key in once)
        copies = alike.setdefault(tuple(sorted(params.items())), [])
        copy = next((copy for copy in copies if place not in copy), None)
        if copy is None:
            copies.append(copy := {})
        copy[place] = run
    keys = list(find_differences([dict(key) for key in alike], runs[0].overrides if runs else ""))
    found = []
    for common, copies in alike.items():
        values = dict(common)
        label = {key: values[key] for key in keys if key in values}
        for copy in copies:
            members = tuple(copy.values())
            found.append(Row(members, {**label, "run": members[0].id[:8]} if len(copies) > 1 else label))
    return found


def is_within(key: str, group: str) -> bool:
    return key == group or key.startswith(f"{group}.")


def find_differences(tables: Sequence[Mapping[str, str]], overrides: str) -> Iterator[str]:
    """The parameters that differ, those of the command line first, as they stand there.

    One that follows from the choice of its group, as loss.weights.dice from loss=dice, is left out.
    """
    keys = {key for table in tables for key in table}
    varied = {key for key in keys if len({table.get(key) for table in tables}) > 1}
    typed = {override.split("=", 1)[0].lstrip("+"): place for place, override in enumerate(overrides.split())}
    for key in sorted(varied, key=lambda key: (typed.get(key, len(typed)), "." in key, key)):
        group = key.split(".", 1)[0]
        if (
            group == key
            or group not in varied
            or len({(t[group], t.get(key)) for t in tables}) > len({t[group] for t in tables})
        ):
            yield key


def pair_patients(table: Sequence[Row], part: str) -> tuple[tuple[str, ...], np.ndarray]:
    """-> the patients, in alphabetical order; their scores (rows, patients).

    Raises:
        Unpaired: see `check_pairs`.
    """
    check_pairs(table, part)
    scores = [row.scores(part) for row in table]
    return tuple(scores[0]), np.array([list(own.values()) for own in scores])


def check_pairs(table: Sequence[Row], part: str) -> None:
    """Whether the rows can be paired by the patients of a part, whether or not these are scored yet.

    Raises:
        Unpaired: two rows, or two seeds of one, have different patients there, other data, or other slices of a patient.
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


def describe_difference(part: str, first: str, ours: Sequence[str], second: str, theirs: Sequence[str]) -> str:
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
