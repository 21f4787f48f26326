"""Intervals over patients, and what the differences between two runs on the same patients can show."""

import math

import numpy as np
from scipy import stats

LEVEL = 0.95
POWER = 0.8
EXACT = 50  # differences up to which the signed rank's own distribution is computed, beyond it the normal one
CELLS = 4_000_000  # values that a bootstrap holds at once
ROUNDING = 1e-12  # of the largest value: values that differ by less are equal, of which BCa has no acceleration


def mean_interval(
    values: np.ndarray, resamples: int, seed: int = 0, level: float = LEVEL, clusters: np.ndarray | None = None
) -> tuple[float, float]:
    """The bootstrap interval of the mean of `values` (one a patient): (low, high).

    Bias-corrected and accelerated (Efron 1987, doi 10.2307/2289144), by SciPy, at a level that is `widened` for few values:
    of 95 % intervals over 20 patients like the real ones 97 % held the true mean (experiments/coverage). A seed, so that the
    same scores give the same interval. (NaN, NaN) for fewer than two values; the value itself twice where all are equal.
    Where `clusters`, the patient of each value, has one more than once, patients are drawn with all their values.
    """
    if clusters is not None and len(np.unique(clusters)) < len(values):
        return cluster_interval(values, clusters, resamples, seed, level)
    low, high = mean_intervals(values[None], resamples, seed, level)[0]
    return float(low), float(high)


def mean_intervals(values: np.ndarray, resamples: int, seed: int = 0, level: float = LEVEL) -> np.ndarray:
    """The interval of each row's mean, as `mean_interval` has it: (rows, patients) -> (rows, 2). NaN are left out."""
    intervals = np.full((len(values), 2), np.nan)
    defined = ~np.isnan(values)
    for mask in np.unique(defined, axis=0):
        n = int(mask.sum())
        if n < 2:
            continue
        rows = np.flatnonzero((defined == mask).all(axis=1))
        found = values[rows][:, mask]
        intervals[rows] = found[:, :1]  # right for those that are constant
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
                confidence_level=min(widen(level, n), 1 - 1 / resamples),  # more than the resamples can tell
                rng=np.random.default_rng(seed),
            ).confidence_interval
            intervals[rows[chosen]] = np.stack([interval.low, interval.high], axis=1)
    return intervals


def cluster_interval(values: np.ndarray, clusters: np.ndarray, resamples: int, seed: int, level: float) -> tuple[float, float]:
    """The interval of the mean of values that come in clusters, as `mean_interval` has it, by resampling clusters.

    So values of one patient, which are alike, do not count as independent ones (Davison and Hinkley 1997, Bootstrap Methods
    and their Application, section 3.8).
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
    """The level whose normal quantiles are those of Student's t over n values at `level`: 2 Phi(t) - 1.

    A bootstrap's quantiles are in effect normal ones, too near to each other where values are few; so the length of the
    interval is right, while its shape stays the bootstrap's. After Hesterberg 2015, doi 10.1080/00031305.2015.1089789, who
    widens by sqrt(n / (n - 1)) besides: with BCa, 97 % of the intervals held the mean then, of 95 (experiments/coverage).
    """
    return float(2 * stats.norm.cdf(stats.t.ppf((1 + level) / 2, n - 1)) - 1)


def wilcoxon_p(differences: np.ndarray) -> float:
    """The two-sided p of the signed rank test (Wilcoxon 1945, doi 10.2307/3001968) over paired differences, by SciPy.

    Zeros are dropped, as Wilcoxon did; ties share their mean rank. Exact for up to 50 differences, beyond it by the normal
    approximation with its correction for continuity. 1 where every difference is 0 or there is none.
    """
    nonzero = differences[differences != 0]
    if not nonzero.size:
        return 1.0
    exact = nonzero.size <= EXACT
    return float(stats.wilcoxon(nonzero, correction=not exact, method="exact" if exact else "asymptotic").pvalue)


def smallest_p(n: int) -> float:
    """The least p that the signed rank test can give over n patients: all differ in one direction, 2 / 2^n."""
    return min(1.0, 2.0 ** (1 - n))


def patients_needed(tests: int, alpha: float) -> int:
    """How many patients there must be so that one of `tests` signed rank tests can fall below alpha after Holm."""
    return math.floor(math.log2(2 * tests / alpha)) + 1


def holm(p: np.ndarray) -> np.ndarray:
    """The p values adjusted for their number (Holm 1979), in their order: below alpha where one is to be believed."""
    from statsmodels.stats.multitest import multipletests

    return multipletests(p, method="holm")[1] if len(p) else p


def detectable(spread: float, n: int, alpha: float) -> float:
    """The smallest mean difference that a paired t test over n patients finds with a power of 0.8 at a two-sided alpha.

    (t(1 - alpha / 2) + t(0.8)) spread / sqrt(n), with Student's quantiles at n - 1 degrees of freedom and `spread` the
    standard deviation of the paired differences: from ten patients on, and alpha above 0.003, within 3 % of what the
    noncentral t distribution gives. For normal differences the signed rank test needs 5 % more patients (Pitman
    efficiency 3 / pi). NaN for fewer than two.
    """
    if n < 2:
        return math.nan
    quantiles = stats.t.isf(alpha / 2, n - 1) + stats.t.ppf(POWER, n - 1)
    return float(quantiles * spread / math.sqrt(n))
