"""The interval of the mean over patients."""

import math

import numpy as np
import pytest
from scipy import stats

from attnunet.evaluation.statistics import mean_interval

SCORES = np.array([0.91, 0.85, 0.02, 0.77, 0.88, 0.64, 0.93])


def test_equals_scipys_bca_with_the_same_seed() -> None:
    expected = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=999, confidence_level=0.95, method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert mean_interval(SCORES, 999, seed=3) == (expected.low, expected.high)


def test_is_deterministic_and_the_seed_matters() -> None:
    assert mean_interval(SCORES, 999) == mean_interval(SCORES.copy(), 999)
    assert mean_interval(SCORES, 999, seed=1) != mean_interval(SCORES, 999, seed=2)


def test_is_not_the_symmetric_percentile_interval() -> None:
    """Skewed scores: the low outlier pulls the lower end further from the mean than the upper."""
    low, high = mean_interval(SCORES, 999)
    assert SCORES.mean() - low > 1.5 * (high - SCORES.mean())


@pytest.mark.parametrize("values", [[], [0.7]])
def test_needs_two_values(values: list[float]) -> None:
    low, high = mean_interval(np.array(values), 99)
    assert math.isnan(low)
    assert math.isnan(high)


@pytest.mark.parametrize("value", [0.0, 1 / 3, 1.0])
def test_of_a_constant_is_the_constant(value: float) -> None:
    assert mean_interval(np.full(4, value), 99) == (value, value)


@pytest.mark.parametrize("size", [2, 3, 10, 40])
@pytest.mark.parametrize("seed", range(3))
def test_contains_the_mean_and_stays_among_the_values(size: int, seed: int) -> None:
    values = np.random.default_rng(seed).beta(5, 2, size)
    low, high = mean_interval(values, 499)
    rounding = 1e-12
    assert values.min() - rounding <= low <= values.mean() <= high <= values.max() + rounding
    assert low < high


def test_widens_with_the_spread_and_narrows_with_more_patients() -> None:
    def width(values: np.ndarray) -> float:
        low, high = mean_interval(values, 499)
        return high - low

    centred = SCORES - SCORES.mean()
    assert width(2 * centred) == pytest.approx(2 * width(centred))
    assert width(np.tile(SCORES, 9)) == pytest.approx(width(SCORES) / 3, rel=0.2)


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5 + 1e-9]])
def test_ties_and_extremes_warn_of_nothing(values: list[float]) -> None:
    low, high = mean_interval(np.array(values), 499)
    assert min(values) <= low < high <= max(values)
