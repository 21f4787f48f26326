"""Pairs of rows on the same patients: the mean difference, its interval, the test, and the verdict in words."""

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from attnunet.errors import UserError
from attnunet.metrics import catalog
from attnunet.metrics.statistics import (
    POWER,
    detectable_difference,
    holm,
    mean_intervals,
    patients_to_show,
    required_patients,
    required_resamples,
    smallest_p,
    wilcoxon_p,
)

ROUNDING = 12  # decimals of a difference; without rounding, floating-point errors would break ties and change zeros
FEW = 10
"""The number of patients below which an interval is too narrow to call two rows equivalent; see experiments/coverage."""


@dataclass(frozen=True)
class Question:
    """The score to compare, and the settings of the verdicts.

    Attributes:
        score: the name of a metric that `catalog.rankings` returns.
        margin: the largest difference that does not matter, in the unit of the score.
        alpha: the significance level for all pairs together. Each interval has the level 1 - alpha.
        resamples: the number of resamples of the bootstrap.
        seed: the seed of the bootstrap.
    """

    score: str = "dice"
    margin: float = 0.02
    alpha: float = 0.05
    resamples: int = 9999
    seed: int = 0

    def inside(self, low: float, high: float) -> bool:
        """Return whether the interval from `low` to `high` lies inside -margin to margin."""
        return -self.margin <= low <= high <= self.margin

    @property
    def sign(self) -> int:
        """1 if the larger score is better, -1 if the smaller score is better."""
        return catalog.metric(self.score).better

    @property
    def level(self) -> str:
        """The level of the intervals as text, for example 95%."""
        return f"{100 * (1 - self.alpha):.10g}%"

    def check_resamples(self, patients: int) -> None:
        """Raise UserError if there are too few resamples for the interval over so many patients.

        Fewer than FEW patients who cannot show a difference are accepted: their intervals are too narrow, and a note says so.
        """
        if patients < FEW and (patients < 2 or smallest_p(patients) >= self.alpha):
            return
        if (least := required_resamples(1 - self.alpha, patients)) > self.resamples:
            raise UserError(
                f"alpha={self.alpha:g}: a {self.level} interval over {plural(patients, 'patient')} takes {least:,} resamples, "
                f"and resamples={self.resamples}; allowed: a larger alpha, or more resamples, at most 1,000,000"
            )


@dataclass(frozen=True)
class Pair:
    """The comparison of two rows.

    Attributes:
        first, second: the indices of the two rows, from 0.
        patients: the number of patients whose score is defined in both rows.
        dropped: the number of all other patients. They do not count in the values below.
        difference: the mean of the first row's score minus the second row's score.
        low, high: the ends of the interval of `difference`.
        p: the p value of the signed rank test.
        adjusted: the p value after Holm's correction over all pairs.
        detectable: the smallest mean difference that this number of patients can show; inf if it can show none.
        shown_by: the number of patients like these that would show `difference` with the same power; inf if it is 0.
        verdict: the verdict on the first row, "better", "worse", "equivalent" or "undecided".
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
    shown_by: float
    verdict: str


def compare_pairs(scores: np.ndarray, question: Question) -> list[Pair]:
    """Return the comparison of every two rows of `scores` (rows, patients). An undefined score is NaN.

    The verdict follows the first rule that applies:

    1. The interval of the mean difference lies inside -margin to margin. The rows are equivalent if at least FEW patients
       have a score in both rows, or if no patient's scores differ. Otherwise the pair is undecided. The signed rank test
       does not matter here.
    2. The first row is better or worse if three conditions hold: the interval does not contain 0, the p value of the signed
       rank test is below alpha after Holm's correction, and the mean and the ranks of the differences have the same sign.
    3. Otherwise the pair is undecided.

    Raises:
        UserError: the intervals take more resamples; see `Question.check_resamples`.
    """
    places = list(itertools.combinations(range(len(scores)), 2))
    differences = np.array([scores[a] - scores[b] for a, b in places]).reshape(len(places), scores.shape[1])
    differences = differences.round(ROUNDING)
    defined = [row[~np.isnan(row)] for row in differences]
    for patients in {len(row) for row in defined} | set(np.sum(~np.isnan(scores), axis=1).tolist()):
        question.check_resamples(patients)
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
        spread, alpha = float(row.std(ddof=1)) if n > 1 else math.nan, question.alpha / len(places)
        powerless = smallest_p(n) * len(places) >= question.alpha
        found.append(
            Pair(
                first=a,
                second=b,
                patients=n,
                dropped=scores.shape[1] - n,
                difference=difference,
                low=float(low),
                high=float(high),
                p=float(raw),
                adjusted=float(adjusted),
                detectable=math.inf if powerless else detectable_difference(spread, n, alpha),
                shown_by=max(patients_to_show(difference, spread, alpha), required_patients(len(places), question.alpha)),
                verdict=verdict,
            )
        )
    return found


def signed_ranks(differences: np.ndarray) -> float:
    """Return the sum of the ranks of the positive differences minus that of the negative ones, without differences of 0."""
    nonzero = differences[differences != 0]
    return float(np.sum(np.sign(nonzero) * stats.rankdata(np.abs(nonzero))))


def describe(pair: Pair, first: str, second: str, remarks: Sequence[str] = ()) -> str:
    """Return the verdict on a pair in words, with its numbers. `explain_sentences` says how to read them.

    `first` and `second` are names of the rows. `remarks` stand at the end.
    """
    head = {
        "better": f"{first} is better than {second}",
        "worse": f"{first} is worse than {second}",
        "equivalent": f"{first} and {second} are equivalent",
        "undecided": f"{first} or {second}: undecided",
    }[pair.verdict]
    if pair.patients < 2:
        return f"{head}: fewer than two patients have a score in both."
    numbers = f"{pair.difference:+.3f} ({pair.low:+.3f} to {pair.high:+.3f}), p {format_p(pair.adjusted)}"
    return "; ".join((f"{head}: {numbers}", *remarks)) + "."


def list_remarks(pair: Pair, question: Question) -> Iterator[str]:
    """Yield remarks on the verdict."""
    inside = question.inside(pair.low, pair.high)
    if pair.verdict == "equivalent" and pair.adjusted < question.alpha:
        yield "there is a difference, but one that does not matter"
    if pair.verdict == "undecided" and inside:
        yield f"inside the margin, but {plural(pair.patients, 'patient')} are too few to say equivalent: it takes {FEW}"
    elif pair.verdict == "undecided":
        yield "detectable " + ("none" if math.isinf(pair.detectable) else f"{pair.detectable:.3f}")
        if pair.shown_by < math.inf:
            yield f"shown by about {float(f'{pair.shown_by:.2g}'):,.0f} patients"
    if pair.dropped:
        yield f"over {plural(pair.patients, 'patient')}, {pair.dropped} left out without a defined score in one of the two"


def explain_sentences(compared: Sequence[Pair], patients: int, question: Question) -> str:
    """Return how to read the sentences of `describe` on these pairs, which cover so many patients."""
    verdicts = {pair.verdict for pair in compared}
    lines = [
        f"Each pair has the mean difference of {question.score} over {plural(patients, 'patient')}, the first row less the "
        f"second, with its {question.level} interval, and the p of the signed rank test after Holm over "
        f"{plural(len(compared), 'pair')}."
    ]
    if question.sign < 0:
        lines.append(f"The smaller {question.score} is better.")
    if "equivalent" in verdicts:
        lines.append(f"Equivalent: the interval lies inside the margin, -{question.margin:g} to {question.margin:g}.")
    if "undecided" in verdicts:
        lines.append(f"Detectable: the smallest difference that so many patients could have shown (power {POWER:g}).")
        lines.append("Shown by: the number of patients like these that would show the difference, if it is as measured.")
    return " ".join(lines)


def explain_powerless(patients: int, tests: int, alpha: float) -> str:
    """Return why so many patients cannot show a difference among so many pairs, and the number of patients that can."""
    least = smallest_p(patients)
    return (
        f"{plural(patients, 'patient')} cannot show a difference among {plural(tests, 'pair')}, however large. The smallest p "
        f"of the signed rank test is {format_p(least)}, {format_p(min(1, least * tests))} after Holm, and {alpha:g} is asked "
        f"for. It takes {required_patients(tests, alpha)} patients, or fewer pairs."
    )


def warn_of_few(patients: int) -> str:
    """Return a warning that intervals over few patients are too narrow; "" if there are enough patients."""
    if patients >= FEW:
        return ""
    return (
        f"Over {plural(patients, 'patient')} intervals are too narrow: of 95 % intervals over 5 and 7 patients like the real "
        "ones, 86 and 92 % held the true mean (experiments/coverage)."
    )


def format_p(p: float) -> str:
    """Return a p value as text."""
    return f"{p:.2g}" if p >= 0.0001 else "below 0.0001"


def decimals(value: float) -> str:
    """Return a score with three decimals; "" for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"


def millions(count: float) -> str:
    """Return a count in millions with three digits, for example 0.482 M; "" for NaN."""
    return "" if math.isnan(count) else f"{count / 1e6:.3g} M"


def plural(count: int, noun: str) -> str:
    """Return a count with its noun."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
