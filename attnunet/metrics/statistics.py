"""Intervals of means over patients, and tests of the paired differences between two runs."""

import itertools
import math
from string import ascii_lowercase

import numpy as np
from scipy import stats

LEVEL = 0.95
POWER = 0.8
EXACT = 50  # most differences of an exact signed rank test; for more, the test uses the normal approximation
CELLS = 4_000_000  # most values that a bootstrap holds in memory at the same time
ROUNDING = 1e-12  # relative; values that differ by less count as equal, because BCa is undefined for equal values


def mean_interval(
    values: np.ndarray, resamples: int, seed: int = 0, level: float = LEVEL, clusters: np.ndarray | None = None
) -> tuple[float, float]:
    """Return the bootstrap interval (low, high) of the mean of `values`, the scores of patients.

    SciPy computes a bias-corrected and accelerated (BCa) interval (Efron 1987, doi 10.2307/2289144). `widen` raises its level
    for few values. Of 95 % intervals over 20 patients like the real ones, 97 % contained the true mean (experiments/coverage).
    With the same seed, the same scores always give the same interval. The interval is (NaN, NaN) for fewer than two values.
    If all values are equal, both ends are that value.

    `clusters` holds the patient of each value. If a patient has several values, the bootstrap draws whole patients, each
    with all its values. If it is None, each value belongs to a different patient.
    """
    if clusters is not None and len(np.unique(clusters)) < len(values):
        return cluster_interval(values, clusters, resamples, seed, level)
    low, high = mean_intervals(values[None], resamples, seed, level)[0]
    return float(low), float(high)


def mean_intervals(values: np.ndarray, resamples: int, seed: int = 0, level: float = LEVEL) -> np.ndarray:
    """Return the interval of the mean of each row, (rows, 2), as `mean_interval` does. NaN values are left out."""
    intervals = np.full((len(values), 2), np.nan)
    defined = ~np.isnan(values)
    for mask in np.unique(defined, axis=0):
        n = int(mask.sum())
        if n < 2:
            continue
        rows = np.flatnonzero((defined == mask).all(axis=1))
        found = values[rows][:, mask]
        intervals[rows] = found[:, :1]  # rows of equal values keep this interval
        varied = np.ptp(found, axis=1) > ROUNDING * np.abs(found).max(axis=1)
        at_once = max(1, CELLS // resamples)
        for start in range(0, int(varied.sum()), at_once):
            chosen = np.flatnonzero(varied)[start : start + at_once]
            interval = stats.bootstrap(
                (found[chosen],),
                np.mean,
                n_resamples=resamples,
                batch=max(1, CELLS // (len(chosen) * n)),
                axis=-1,
                method="BCa",
                confidence_level=min(widen(level, n), 1 - 1 / resamples),  # at most the level that the resamples can resolve
                rng=np.random.default_rng(seed),
            ).confidence_interval
            intervals[rows[chosen]] = np.stack([interval.low, interval.high], axis=1)
    return intervals


def cluster_interval(values: np.ndarray, clusters: np.ndarray, resamples: int, seed: int, level: float) -> tuple[float, float]:
    """Return the bootstrap interval of the mean of values that belong to clusters, as `mean_interval` does.

    The bootstrap draws whole clusters, because the values of a patient are alike and must not count as independent (Davison
    and Hinkley 1997, Bootstrap Methods and their Application, section 3.8). The interval is (NaN, NaN) for fewer than two
    clusters.
    """
    _, places = np.unique(clusters, return_inverse=True)
    sums, sizes = np.bincount(places, values), np.bincount(places)
    if len(sizes) < 2:
        return math.nan, math.nan
    if np.ptp(values) <= ROUNDING * np.abs(values).max():
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (sums, sizes),
        lambda total, size, axis: total.sum(axis) / size.sum(axis),
        paired=True,
        n_resamples=resamples,
        method="BCa",
        confidence_level=min(widen(level, len(sizes)), 1 - 1 / resamples),
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def widen(level: float, n: int) -> float:
    """Return the level at which a bootstrap over n values gives an interval as long as Student's t does at `level`.

    The level is 2 Phi(t) - 1, where t is the quantile of Student's t at (1 + level) / 2 with n - 1 degrees of freedom. The
    quantiles of a bootstrap are close to normal quantiles. For few values, normal quantiles lie too close to each other.
    A higher level makes the interval longer and keeps the shape of the bootstrap distribution. The method is from Hesterberg
    2015, doi 10.1080/00031305.2015.1089789, who also multiplies by sqrt(n / (n - 1)). This function leaves out that factor:
    with the factor and BCa, 97 % instead of 95 % of the intervals contained the mean (experiments/coverage).
    """
    return float(2 * stats.norm.cdf(stats.t.ppf((1 + level) / 2, n - 1)) - 1)


def required_resamples(level: float, n: int) -> int:
    """Return the number of resamples that the interval of `mean_interval` over n values takes.

    Beyond each end of the interval, at least half a resample must lie. With fewer resamples, the interval is shorter than the
    one of this level.
    """
    beyond = 2 * stats.norm.sf(stats.t.isf((1 - level) / 2, n - 1))
    return math.ceil(1 / max(beyond, 1e-300))


def wilcoxon_p(differences: np.ndarray) -> float:
    """Return the two-sided p value of the signed rank test (Wilcoxon 1945, doi 10.2307/3001968) over paired differences.

    Differences of 0 are dropped, as in Wilcoxon's paper, and ties share their mean rank. The test is exact for up to 50
    differences. For more, it uses the normal approximation with continuity correction. The p value is 1 if every difference
    is 0 or there are no differences. SciPy computes the test. With ties, `tied_p` does: SciPy's exact test assumes no ties.
    """
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 1.0
    if nonzero.size > EXACT:
        return float(stats.wilcoxon(nonzero, correction=True, method="asymptotic").pvalue)
    if len(np.unique(np.abs(nonzero))) < nonzero.size:
        return tied_p(nonzero)
    return float(stats.wilcoxon(nonzero, method="exact").pvalue)


def tied_p(differences: np.ndarray) -> float:
    """Return the exact two-sided p value of the signed rank test over differences other than 0, with ties.

    Under the null hypothesis, each rank is positive with a chance of 1/2. `chances` has the chance of each sum of the positive
    ranks. Ranks are doubled, because the mean rank of ties may be a half.
    """
    ranks = (2 * stats.rankdata(np.abs(differences))).astype(int)
    chances = np.ones(1)
    for rank in ranks:
        chances = (np.pad(chances, (rank, 0)) + np.pad(chances, (0, rank))) / 2
    positive = ranks[differences > 0].sum()
    return float(min(1.0, 2 * min(chances[: positive + 1].sum(), chances[positive:].sum())))


def smallest_p(n: int) -> float:
    """Return the smallest p value that the signed rank test can give over n patients.

    It is 2 / 2^n, but at most 1. The test gives it if the differences of all patients have the same sign.
    """
    return min(1.0, 2.0 ** (1 - n))


def required_patients(tests: int, alpha: float) -> int:
    """Return the smallest number of patients that lets the p value of a signed rank test fall below alpha.

    `tests` is the number of tests for which Holm's method corrects the p value.
    """
    return math.floor(math.log2(2 * tests / alpha)) + 1


def holm(p: np.ndarray) -> np.ndarray:
    """Return the p values after Holm's correction for the number of tests (Holm 1979), in the same order."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1] if len(p) else p


def detectable_difference(spread: float, n: int, alpha: float) -> float:
    """Return the smallest mean difference that a paired t test over n patients finds with a power of 0.8 at a two-sided alpha.

    The formula is (t(1 - alpha / 2) + t(0.8)) spread / sqrt(n). t(q) is the q-quantile of Student's t with n - 1 degrees of
    freedom, and `spread` is the standard deviation of the paired differences. For ten or more patients and alpha above 0.003,
    the result differs by at most 3 % from the value of the noncentral t distribution. If the differences are normal, the
    signed rank test needs 5 % more patients (Pitman efficiency 3 / pi). The result is NaN for fewer than two patients.
    """
    if n < 2:
        return math.nan
    freedom = float(n - 1)
    quantiles = stats.t.isf(alpha / 2, freedom) + stats.t.ppf(POWER, freedom)
    return float(quantiles * spread / math.sqrt(n))


def patients_to_show(difference: float, spread: float, alpha: float) -> float:
    """Return the smallest n for which `detectable_difference` is at most the size of `difference`.

    The result is inf if `difference` is 0, or if `difference` or `spread` is NaN. The search begins at the number that the
    normal distribution gives. Student's t needs a few patients more, and rounding alone decides beyond 10^15 patients.
    """
    if not (abs(difference) > 0 and spread >= 0):
        return math.inf
    quantiles = stats.norm.isf(alpha / 2) + stats.norm.ppf(POWER)
    least = max(2, math.ceil((quantiles * spread / difference) ** 2))
    found = (n for n in range(least, least + 100) if detectable_difference(spread, n, alpha) <= abs(difference))
    return next(found, least)


def rank_intervals(scores: np.ndarray, sign: int, resamples: int, seed: int = 0, level: float = LEVEL) -> np.ndarray:
    """Return the bootstrap interval of the rank of each row, (rows, 2). The best rank is 1.

    `scores` is (rows, patients). A resample draws patients with replacement, the same ones for all rows, and ranks the rows by
    their mean scores (Goldstein and Spiegelhalter 1996, doi 10.2307/2983325; Wiesenfarth et al. 2021, doi
    10.1038/s41598-021-82017-6). Rows with equal means share all their ranks: an interval begins at the quantile of the best
    rank that a row can have, and ends at the quantile of the worst.

    NaN scores are left out of a mean. In a resample without a score of a row, that row shares the last rank. The interval is
    (NaN, NaN) for a row without scores, and for fewer than two patients.

    Args:
        sign: 1 if the larger score is better, -1 if the smaller score is better.
    """
    count, n = scores.shape
    defined = ~np.isnan(scores)
    intervals = np.full((count, 2), np.nan)
    rows = np.flatnonzero(defined.any(axis=1))
    if n < 2 or not rows.size:
        return intervals
    rng = np.random.default_rng(seed)
    values, present = np.where(defined, scores, 0)[rows].T, defined[rows].T.astype(float)
    best, worst = [], []
    at_once = max(1, CELLS // (n + count))
    for start in range(0, resamples, at_once):
        drawn = rng.multinomial(n, np.full(n, 1 / n), min(at_once, resamples - start)).astype(float)
        sums, sizes = drawn @ values, drawn @ present
        means = np.divide(sums, sizes, out=np.full_like(sums, -sign * np.inf), where=sizes > 0)
        losses = (-sign * means).round(12)  # without rounding, floating-point errors would break ties
        best.append(stats.rankdata(losses, "min", axis=1))
        worst.append(stats.rankdata(losses, "max", axis=1))
    ends = (1 - level) / 2, (1 + level) / 2
    for place, (ranks, end) in enumerate(zip((best, worst), ends, strict=True)):
        intervals[rows, place] = np.quantile(np.concatenate(ranks), end, axis=0, method="inverted_cdf")
    return intervals


def compact_letters(differ: np.ndarray) -> list[str]:
    """Return letters for each row, such that two rows share a letter if and only if they do not differ.

    `differ` is bool (rows, rows) and symmetric. This is the compact letter display (Piepho 2004, doi 10.1198/1061860043515).
    It is found as Gramm et al. 2007 (doi 10.1016/j.csda.2006.09.035) cover a graph with cliques: as long as two rows that do
    not differ share no letter, both get a new one, and so does every other row that differs from no row with this letter.
    The letters after z are a1, b1 and so on.
    """
    count = len(differ)
    letters = [""] * count
    covered = differ.copy()
    for number in itertools.count():
        open_pairs = np.argwhere(~covered)
        if not len(open_pairs):
            break
        members = sorted({int(row) for row in open_pairs[0]})
        for row in range(count):
            if row not in members and not differ[row, members].any():
                members.append(row)
        covered[np.ix_(members, members)] = True
        for row in members:
            letters[row] += f"{ascii_lowercase[number % 26]}{number // 26 or ''}"
    return letters
