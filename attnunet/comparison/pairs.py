"""Two rows on the same patients: the difference, what it could be, and the verdict in words."""

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from attnunet.metrics import catalog
from attnunet.metrics.statistics import POWER, detectable, holm, mean_intervals, patients_needed, smallest_p, wilcoxon_p

ROUNDING = 12  # decimals of a difference that are kept, so that rounding makes no zero a difference and breaks no tie
FEW = 10
"""Below so many patients the interval is too narrow, and nothing is called equivalent: see experiments/coverage."""


@dataclass(frozen=True)
class Question:
    """What a difference is held against.

    Attributes:
        score: the column that is compared, one of `catalog.rankings`.
        margin: the largest difference that does not matter, in units of the score.
        alpha: of all pairs together; intervals are at 1 - alpha.
        resamples, seed: of the bootstrap.
    """

    score: str = "dice"
    margin: float = 0.02
    alpha: float = 0.05
    resamples: int = 9999
    seed: int = 0

    def inside(self, low: float, high: float) -> bool:
        """Whether an interval lies inside the margin."""
        return -self.margin <= low <= high <= self.margin

    @property
    def sign(self) -> int:
        """Of a difference that is an improvement."""
        return catalog.metric(self.score).better

    @property
    def level(self) -> str:
        """Of the intervals, as one reads it: 95%."""
        return f"{100 * (1 - self.alpha):.10g}%"


@dataclass(frozen=True)
class Pair:
    """Row `first` against row `second`, which are places in the table.

    Attributes:
        patients: over how many; `dropped` have no defined score in one of the two.
        difference: mean of first - second over these patients; `low` and `high` are the ends of its interval.
        p: of the signed rank test; `adjusted` by Holm over all pairs.
        detectable: the smallest mean difference that so many patients could have shown; inf where none, however large.
        verdict: on the first row: "better", "worse", "equivalent" or "undecided".
    """

    first: int
    second: int
    patients: int
    dropped: int
    difference: float
    low: float
    high: float
    p: float
    adjusted: float
    detectable: float
    verdict: str


def compare_pairs(scores: np.ndarray, question: Question) -> list[Pair]:
    """Every pair of the rows of `scores` (rows, patients), NaN where undefined.

    Better or worse: the interval of the mean difference does not hold 0, the signed rank test adjusted by Holm over all
    pairs is below alpha, and both point in the same direction. Equivalent: the interval lies inside +-margin, whatever the
    test says, and is over FEW patients at least, or there is no difference at all. Else undecided.
    """
    places = list(itertools.combinations(range(len(scores)), 2))
    differences = np.array([scores[a] - scores[b] for a, b in places]).reshape(len(places), scores.shape[1])
    differences = differences.round(ROUNDING)
    defined = [row[~np.isnan(row)] for row in differences]
    intervals = mean_intervals(differences, question.resamples, question.seed, 1 - question.alpha)
    p = np.array([wilcoxon_p(row) for row in defined])
    found = []
    for (a, b), row, (low, high), raw, adjusted in zip(places, defined, intervals, p, holm(p), strict=True):
        n = len(row)
        difference = float(row.mean()) if n else math.nan
        verdict = "undecided"
        if question.inside(low, high):
            verdict = "equivalent" if n >= FEW or not row.any() else "undecided"
        elif adjusted < question.alpha and low * high > 0 and difference * signed_ranks(row) > 0:
            verdict = "better" if difference * question.sign > 0 else "worse"
        shown = math.inf
        if smallest_p(n) * len(places) < question.alpha:
            shown = detectable(float(row.std(ddof=1)), n, question.alpha / len(places))
        found.append(
            Pair(
                a, b, n, scores.shape[1] - n, difference, float(low), float(high), float(raw), float(adjusted), shown, verdict
            )
        )
    return found


def signed_ranks(differences: np.ndarray) -> float:
    """The sum of the ranks of the positive differences less that of the negative ones."""
    return float(np.sum(np.sign(differences) * stats.rankdata(np.abs(differences))))


def describe(pair: Pair, names: Sequence[str], question: Question, tests: int, worst: int = 0) -> str:
    """The verdict in words, with what it rests on; for `worst` of the patients an undefined distance counts as the worst."""
    first, second = names[pair.first], names[pair.second]
    head = {
        "better": f"{first} is better than {second}",
        "worse": f"{first} is worse than {second}",
        "equivalent": f"{first} and {second} are equivalent",
        "undecided": f"{first} or {second}: undecided",
    }[pair.verdict]
    if pair.patients < 2:
        return f"{head}: fewer than two patients have a score in both."
    facts = (
        f"{question.score} {pair.difference:+.3f} ({question.level} interval {pair.low:+.3f} to {pair.high:+.3f}), "
        f"Wilcoxon p {format_p(pair.p)}, {format_p(pair.adjusted)} after Holm over {plural(tests, 'pair')}, "
        f"{plural(pair.patients, 'patient')}"
    )
    if pair.dropped:
        facts += f" ({pair.dropped} left out, without a defined score in one of the two)"
    if worst:
        facts += f" (for {worst} an undefined distance counts as the worst)"
    sentences = [f"{head}: {facts}."]
    if pair.verdict == "equivalent":
        sentences.append(f"The interval lies inside the margin of {question.margin:g}.")
        if pair.adjusted < question.alpha:
            sentences.append("There is a difference, but one that does not matter.")
    elif question.inside(pair.low, pair.high):
        sentences.append(
            f"The interval lies inside the margin of {question.margin:g}, but {plural(pair.patients, 'patient')} are too few "
            f"to say equivalent: it takes {FEW}."
        )
    elif pair.verdict == "undecided" and math.isinf(pair.detectable):
        sentences.append(count_powerless(pair.patients, tests))
    elif pair.verdict == "undecided":
        sentences.append(f"So many patients could have shown a difference of {pair.detectable:.3f} (power {POWER:g}).")
    return " ".join(sentences)


def count_powerless(patients: int, tests: int) -> str:
    return f"{plural(patients, 'patient')} cannot show a difference among {plural(tests, 'pair')}, however large."


def explain_powerless(patients: int, tests: int, alpha: float) -> str:
    least = smallest_p(patients)
    return (
        f"{count_powerless(patients, tests)} The smallest p of the signed rank test is {format_p(least)}, "
        f"{format_p(min(1, least * tests))} after Holm, and {alpha:g} is asked for. It takes {patients_needed(tests, alpha)} "
        "patients, or fewer pairs."
    )


def caution(patients: int) -> str:
    """What to think of intervals over few patients; "" where there are enough."""
    if patients >= FEW:
        return ""
    return (
        f"Over {plural(patients, 'patient')} intervals are too narrow: of 95 % intervals over 5 and 7 patients like the real "
        "ones, 86 and 92 % held the true mean (experiments/coverage)."
    )


def format_p(p: float) -> str:
    """A p value as one reads it."""
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"


def plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
