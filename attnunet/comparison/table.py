"""A whole comparison: the place of each row in the leaderboard, all pairs of rows, and CSV tables of the results."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from attnunet.comparison.pairs import (
    Pair,
    Question,
    compare_pairs,
    describe,
    explain_powerless,
    explain_sentences,
    list_remarks,
    plural,
    warn_of_few,
)
from attnunet.comparison.rows import RUN, Row, pair_patients
from attnunet.data.files import write_csv
from attnunet.metrics.scores import nan_mean
from attnunet.metrics.statistics import compact_letters, mean_intervals, rank_intervals, smallest_p

PATIENTS = {"val": "validation patient", "test": "test patient"}
"""The names of the patients of a part."""
SEEDS_OF_DICE = (
    "In 95 % of cases, two seeds differ by less than 0.028 of Dice for the recipe of experiments/seeds, and by less than "
    "0.076 over the ten recipes of experiments/recipe."
)
"""How much two seeds differ, measured on this project's studies."""
APART = 2  # most parameters that name the rows of a pair; with more, the rows have numbers only


@dataclass(frozen=True)
class Place:
    """The place of a row in the leaderboard.

    Attributes:
        rank: the rank of the row, from 1.
        row: the row.
        patients: the number of patients with a defined score.
        mean, median: the mean and the median score over these patients.
        low, high: the ends of the interval of the mean.
        rank_low, rank_high: the ends of the interval of the rank on the patients of the comparison; NaN without a score.
        group: letters. Two rows that share a letter cannot be told apart: their pair is undecided or equivalent.
        worst: the number of these patients whose undefined distance counts as the worst.
        mean_defined: the mean score without the patients that `worst` counts.
        validation: the mean score over the validation patients. The rows are ranked by it.
        spread: the standard deviation of the means of the seeds; NaN if there is a single seed.
        minutes: the mean time of a run's epochs, in minutes.
    """

    rank: int
    row: Row
    patients: int
    mean: float
    low: float
    high: float
    rank_low: float
    rank_high: float
    group: str
    median: float
    worst: int
    mean_defined: float
    validation: float
    spread: float
    minutes: float

    @property
    def ranks(self) -> str:
        """The interval of the rank as text; "" without a score."""
        if math.isnan(self.rank_low):
            return ""
        return f"{self.rank_low:.0f}" + (f" to {self.rank_high:.0f}" if self.rank_high > self.rank_low else "")


@dataclass(frozen=True)
class Comparison:
    """A comparison of rows on the same patients. The best row comes first.

    Attributes:
        part: the part of the split, "val" or "test".
        question: the score, and the settings of the verdicts.
        patients: the names of the patients, in alphabetical order.
        scores: the scores (rows, patients); NaN where a score is undefined.
        worst: whether an undefined distance counts as the worst, bool (rows, patients).
        standings: the places of the rows.
        pairs: the comparison of each pair of rows.
    """

    part: str
    question: Question
    patients: tuple[str, ...]
    scores: np.ndarray
    worst: np.ndarray
    standings: tuple[Place, ...]
    pairs: tuple[Pair, ...]

    @cached_property
    def names(self) -> list[str]:
        """The names of the rows, best row first."""
        return [standing.row.name for standing in self.standings]

    @property
    def reading(self) -> str:
        """How to read the columns "ranks" and "group" of the leaderboard."""
        return (
            f"The column ranks has the {self.question.level} interval of a row's rank over bootstrap resamples of the "
            f"{PATIENTS[self.part]}s; rows that share a letter in the column group cannot be told apart."
        )

    @property
    def legend(self) -> str:
        """How to read `sentences`."""
        return explain_sentences(self.pairs, len(self.patients), self.question)

    @property
    def partial(self) -> bool:
        """Whether at least one row lacks a defined score for at least one patient."""
        return any(standing.patients < len(self.patients) for standing in self.standings)

    @property
    def parameters(self) -> list[str]:
        """The names of the parameters that differ among the rows."""
        return list(dict.fromkeys(key for standing in self.standings for key in standing.row.label))

    @property
    def sized(self) -> bool:
        """Whether the size of at least one row's network is known. Earlier versions did not log it."""
        return any(not math.isnan(standing.row.parameters) for standing in self.standings)

    @property
    def swept(self) -> dict[str, list[str]]:
        """The parameters that differ among the rows, each with its value in every row."""
        return {key: [s.row.label.get(key, "") for s in self.standings] for key in self.parameters if key != RUN}

    @cached_property
    def sentences(self) -> list[str]:
        """The verdict on each pair, in words, with short names of the rows."""
        return [describe(pair, *self.name_pair(pair), list(self.remarks(pair))) for pair in self.pairs]

    def name_pair(self, pair: Pair) -> tuple[str, str]:
        """Return a short name of each row of a pair, such as "Row 1 (loss=dice)".

        It has only the parameters in which the two rows differ, and none if they differ in more than APART.
        """
        first, second = (self.standings[place] for place in (pair.first, pair.second))
        keys = [key for key in self.parameters if first.row.label.get(key) != second.row.label.get(key)]

        def name(word: str, s: Place) -> str:
            told = ["LEAKING"] if s.row.leaking else []
            told += [f"{key}={s.row.label[key]}" for key in keys if key in s.row.label and len(keys) <= APART]
            return f"{word} {s.rank}" + (f" ({' '.join(told)})" if told else "")

        return name("Row", first), name("row", second)

    def remarks(self, pair: Pair) -> Iterator[str]:
        """Yield the remarks on the verdict on a pair."""
        yield from list_remarks(pair, self.question)
        if worst := self.worst_of(pair):
            yield f"for {worst} an undefined distance counts as the worst"
        if self.seeds_of(pair) == 1 and pair.verdict != "undecided":
            seeds = {place + 1: len(self.standings[place].row.seeds) for place in (pair.first, pair.second)}
            single = [rank for rank, count in seeds.items() if count == 1]
            yield "one seed each" if len(single) == 2 else f"one seed of row {single[0]}"

    def seeds_of(self, pair: Pair) -> int:
        """Return the number of seeds of the row that has fewer."""
        return min(len(self.standings[place].row.seeds) for place in (pair.first, pair.second))

    def worst_of(self, pair: Pair) -> int:
        """Return the number of patients whose distance is undefined in at least one row; the worst case stands for it."""
        return int(np.sum(self.worst[pair.first] | self.worst[pair.second]))

    def notes(self) -> Iterator[str]:
        """Yield the notes that a reader needs before the numbers."""
        if leaking := [standing.rank for standing in self.standings if standing.row.leaking]:
            yield f"LEAKING: {list_rows(leaking)} trained on patients who are scored here, so the scores are too high."
        if self.part == "val":
            told = "The validation patients chose the checkpoint and the decision, so these scores are too high"
            yield f"{told}; test=true scores the test."
        if unvalidated := [standing.rank for standing in self.standings if not standing.row.validated]:
            told = f"Nobody validated {list_rows(unvalidated)}, so no rank is a merit"
            yield f"{told}: the rows stand in the order in which their runs started."
        if self.pairs and smallest_p(len(self.patients)) * len(self.pairs) >= self.question.alpha:
            yield explain_powerless(len(self.patients), len(self.pairs), self.question.alpha)
        settings: dict[tuple, list[Place]] = {}
        for standing in self.standings:
            settings.setdefault(tuple(item for item in standing.row.label.items() if item[0] != RUN), []).append(standing)
        for places in settings.values():
            if len({standing.row.code for standing in places}) > 1:
                yield (
                    f"Code: {list_rows([standing.rank for standing in places])} have the same settings, and were trained by "
                    "different versions of the code or of its packages. To leave rows out, name the others: runs=[ID,ID,...]."
                )
        if any(pair.verdict != "undecided" and self.seeds_of(pair) == 1 for pair in self.pairs):
            told = f" {SEEDS_OF_DICE}" if self.question.score == "dice" else ""
            yield (
                f"One seed: where a row has a single seed, a difference may be the seed's.{told} Train these rows with more "
                "seeds, such as seed=0,1,2."
            )
        if self.worst.any():
            yield (
                f"An undefined {self.question.score} counts as the worst, the diagonal of the volume (of the slice where the "
                "spacing is not known), so that missing or inventing a lesion never pays: see the column undefined."
            )
        if lines := [f"row {s.rank}: {', '.join(found)}" for s in self.standings if (found := s.row.incomplete(self.part))]:
            which = "; ".join(lines)
            yield f"The score of these patients is the mean over some of a row's runs, not defined in the others: {which}."
        if self.partial:
            yield "Rows are means over those of their patients who have a defined score, not all over the same: see patients."
        if self.part == "test" and any(math.isnan(v) for s in self.standings for v in s.row.scores("val").values()):
            yield "Ranks are by means over those validation patients who have a defined score, not all over the same."
        if few := warn_of_few(len(self.patients)):
            yield few


def list_rows(ranks: Sequence[int]) -> str:
    """Return the ranks of some rows as words, for example "rows 1, 3"."""
    return f"row{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}"


def compare_rows(table: Sequence[Row], part: str, question: Question) -> Comparison:
    """Return the comparison of the rows on the patients of a part. The rows keep their order.

    Raises:
        Unpaired: the rows cannot be paired; see `check_pairs`.
        UserError: the intervals take more resamples; see `Question.check_resamples`.
    """
    patients, scores = pair_patients(table, part)
    worst = np.array([np.isin(patients, list(row.worst(part))) for row in table])
    chance = question.resamples, question.seed, 1 - question.alpha
    ends, ranks = mean_intervals(scores, *chance), rank_intervals(scores, question.sign, *chance)
    pairs = tuple(compare_pairs(scores, question))
    differ = np.zeros((len(table), len(table)), bool)
    for pair in pairs:
        if pair.verdict in ("better", "worse"):
            differ[pair.first, pair.second] = differ[pair.second, pair.first] = True
    groups = compact_letters(differ)
    standings = [
        Place(
            rank,
            row,
            int(np.sum(~np.isnan(own))),
            nan_mean(own),
            float(low),
            float(high),
            float(ranks[rank - 1, 0]),
            float(ranks[rank - 1, 1]),
            groups[rank - 1],
            float(np.median(own[~np.isnan(own)])) if not np.isnan(own).all() else math.nan,
            int(counted.sum()),
            nan_mean(own[~counted]),
            row.mean("val"),
            row.spread(part),
            row.minutes,
        )
        for rank, (row, own, counted, (low, high)) in enumerate(zip(table, scores, worst, ends, strict=True), 1)
    ]
    return Comparison(part, question, patients, scores, worst, tuple(standings), pairs)


def tables(comparison: Comparison) -> dict[str, str]:
    """Return the CSV files by name: leaderboard.csv, pairs.csv and patients.csv, which has a row for each patient."""
    leaderboard = [
        {
            "rank": s.rank,
            **{key: s.row.label.get(key, "") for key in comparison.parameters},
            **{name: getattr(s, name) for name in ("mean", "low", "high")},
            **{name: getattr(s, name) for name in ("rank_low", "rank_high", "group")},
            **{name: getattr(s, name) for name in ("median", "validation", "spread", "minutes")},
            "parameters": s.row.parameters,
            "macs": s.row.macs,
            "seeds": len(s.row.seeds),
            **{name: getattr(s, name) for name in ("patients", "worst", "mean_defined")},
            "leaking": str(s.row.leaking).lower(),
            "runs": " ".join(run.id for run in s.row.runs),
        }
        for s in comparison.standings
    ]
    words = [
        {
            "first": comparison.names[pair.first],
            "second": comparison.names[pair.second],
            **{name: value for name, value in vars(pair).items() if name not in ("first", "second")},
            "worst": comparison.worst_of(pair),
            "seeds": comparison.seeds_of(pair),
            "words": text,
        }
        for pair, text in zip(comparison.pairs, comparison.sentences, strict=True)
    ]
    patients = [
        {
            "patient": patient,
            **{f"{s.rank} {s.row.name}": score for s, score in zip(comparison.standings, column, strict=True)},
        }
        for patient, column in zip(comparison.patients, comparison.scores.T, strict=True)
    ]
    files = {"leaderboard.csv": leaderboard, "pairs.csv": words, "patients.csv": patients}
    return {name: write_csv(rows) for name, rows in files.items()}


def summary(comparison: Comparison) -> str:
    """Return the numbers of rows, runs, patients, pairs and verdicts, in words."""
    runs = sum(len(standing.row.runs) for standing in comparison.standings)
    counts = {v: sum(p.verdict == v for p in comparison.pairs) for v in ("better", "worse", "equivalent", "undecided")}
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    counted = (
        (len(comparison.standings), "row"),
        (runs, "run"),
        (len(comparison.patients), PATIENTS[comparison.part]),
        (len(comparison.pairs), "pair"),
    )
    text = ", ".join(plural(count, noun) for count, noun in counted)
    return f"{text}: {verdicts}" if verdicts else text
