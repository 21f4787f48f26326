"""Intervals over patients."""

import numpy as np
from scipy import stats


def mean_interval(values: np.ndarray, resamples: int, seed: int = 0) -> tuple[float, float]:
    """The 95 % bootstrap interval of the mean of `values` (one a patient): (low, high).

    Bias-corrected and accelerated (Efron 1987, doi 10.2307/2289144), by SciPy, with a seed so that the same scores give
    the same interval. (NaN, NaN) for fewer than two values; the value itself twice where all are equal.
    """
    if len(values) < 2:
        return float("nan"), float("nan")
    if np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    interval = stats.bootstrap(
        (values,), np.mean, n_resamples=resamples, method="BCa", rng=np.random.default_rng(seed)
    ).confidence_interval
    return float(interval.low), float(interval.high)
