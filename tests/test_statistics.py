"""Intervals of the mean over patients, the signed rank test, Holm, and what so few patients can show."""

import csv
import itertools
import math
import string
import warnings
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from attnunet.metrics.statistics import (
    compact_letters,
    detectable_difference,
    holm,
    mean_interval,
    mean_intervals,
    patients_to_show,
    rank_intervals,
    required_patients,
    required_resamples,
    smallest_p,
    tied_p,
    widen,
    wilcoxon_p,
)

SCORES = np.array([0.91, 0.85, 0.02, 0.77, 0.88, 0.64, 0.93])


def test_is_scipys_bca_at_students_level_with_the_same_seed() -> None:
    """Student's t over seven values at 95 % is 2.4469, which for a normal is 98.56 %."""
    assert widen(0.95, 7) == pytest.approx(0.98559, abs=1e-5)
    expected = stats.bootstrap(
        (SCORES,), np.mean, n_resamples=999, confidence_level=widen(0.95, 7), method="BCa", rng=np.random.default_rng(3)
    ).confidence_interval
    assert mean_interval(SCORES, 999, seed=3) == (expected.low, expected.high)


def test_many_at_once_are_what_each_is_alone() -> None:
    """Also where they lack different patients, are constant, or hold nothing."""
    nan = math.nan
    rows = np.array([SCORES, SCORES[::-1] ** 2, np.full(7, 0.5), np.full(7, nan), [nan, *SCORES[1:]], [0.1, *[nan] * 6]])
    found = mean_intervals(rows, 999, seed=2, level=0.9)
    for row, interval in zip(rows, found, strict=True):
        np.testing.assert_array_equal(interval, mean_interval(row[~np.isnan(row)], 999, seed=2, level=0.9))
    assert np.isnan(found[[3, 5]]).all()
    assert found[2].tolist() == [0.5, 0.5]


def test_memory_is_bounded_however_many_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).beta(5, 2, (5, 8))
    whole = mean_intervals(rows, 199)
    monkeypatch.setattr("attnunet.metrics.statistics.CELLS", 400)  # two rows at once, 25 resamples a batch
    np.testing.assert_allclose(mean_intervals(rows, 199), whole)


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


@pytest.mark.parametrize("n", [3, 8, 20])
@pytest.mark.parametrize("value", [0.1, 0.5, 333.3])
def test_values_that_only_rounding_tells_apart_are_a_constant(value: float, n: int) -> None:
    values = np.full(n, value)
    values[0] = np.nextafter(value, 1000)
    assert mean_interval(values, 199) == pytest.approx((value, value), rel=1e-15)


REAL = Path(__file__).parent.parent / "experiments" / "coverage" / "patients.csv"


def test_95_percent_intervals_over_20_skewed_dice_values_hold_the_true_mean_in_93_to_97_percent() -> None:
    """1,000 draws of 20 from the Dice of 26 real patients; other distributions and methods in experiments/coverage."""
    with REAL.open() as stream:
        real = np.array([float(row["dice"]) for row in csv.DictReader(stream)])
    assert stats.skew(real) < -0.7
    low, high = mean_intervals(np.random.default_rng(0).choice(real, (1000, 20)), 1999).T
    coverage = np.mean((low <= real.mean()) & (real.mean() <= high))
    assert 0.93 <= coverage <= 0.97
    # A wrong interval would be noticed: half as wide, it holds the mean far less often.
    middle, half = (low + high) / 2, (high - low) / 4
    assert np.mean(np.abs(real.mean() - middle) <= half) < 0.75


def test_the_signed_rank_test_of_three_patients_by_hand() -> None:
    """Ranks 1, 2, 3: of the eight choices of signs, two have negative ranks that sum to at most 1; both tails: 4 of 8."""
    assert wilcoxon_p(np.array([-0.1, 0.2, 0.3])) == pytest.approx(4 / 8)
    assert wilcoxon_p(np.array([0.1, 0.2, 0.3])) == pytest.approx(2 / 8)


@pytest.mark.parametrize("n", [5, 12, 50, 80])
def test_the_signed_rank_test_equals_scipys(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    expected = stats.wilcoxon(differences, correction=n > 50)  # SciPy, left alone, is exact up to 50 too
    assert wilcoxon_p(differences) == pytest.approx(expected.pvalue, abs=1e-12)
    assert wilcoxon_p(-differences) == pytest.approx(expected.pvalue, abs=1e-12)


def test_ties_share_their_rank_and_the_test_stays_exact() -> None:
    """Twenty differences of one size: the sign test. Of 2^20 choices of signs, 21,700 have at most five of one sign."""
    differences = np.array([1.0] * 15 + [-1.0] * 5)
    assert wilcoxon_p(differences) == pytest.approx(2 * 21700 / 2**20)
    assert wilcoxon_p(-differences) == pytest.approx(2 * 21700 / 2**20)
    # Ranks 1.5, 1.5, 3: of the eight choices, three have negative ranks that sum to at most 1.5; both tails: 6 of 8.
    assert wilcoxon_p(np.array([-1.0, 1.0, 2.0])) == pytest.approx(6 / 8)
    assert wilcoxon_p(np.array([-1.0, 1.0])) == 1


@pytest.mark.parametrize("n", [3, 20, 50])
def test_the_test_for_ties_equals_scipys_where_there_are_none(n: int) -> None:
    differences = np.random.default_rng(n).normal(0.3, 1, n)
    assert tied_p(differences) == pytest.approx(stats.wilcoxon(differences, method="exact").pvalue, rel=1e-9)


def test_an_interval_of_a_higher_level_takes_more_resamples() -> None:
    """t(0.975, 9) is 2.262, and the normal tails beyond it hold 0.0237; t(0.9995, 11) is 4.437, and they hold 9.1e-6."""
    assert required_resamples(0.95, 10) == math.ceil(1 / 0.0237)
    assert required_resamples(0.999, 12) == pytest.approx(1 / 9.1e-6, rel=0.01)


def test_zero_differences_are_dropped() -> None:
    differences = np.array([0.3, -0.1, 0.2, 0.5, 0.4])
    assert wilcoxon_p(np.array([0, *differences, 0, 0])) == wilcoxon_p(differences)


@pytest.mark.parametrize("differences", [[], [0.0], [0.0] * 9])
def test_without_a_difference_p_is_one(differences: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert wilcoxon_p(np.array(differences)) == 1


@pytest.mark.parametrize("n", [1, 2, 7, 20])
def test_the_smallest_p_is_that_of_all_patients_in_one_direction(n: int) -> None:
    assert wilcoxon_p(np.arange(1, n + 1) / 100) == pytest.approx(smallest_p(n))


def test_the_patients_needed_are_the_fewest_that_can_show_something() -> None:
    """15 pairs: 9 patients reach 2 / 512 * 15 = 0.059, 10 patients 0.029."""
    assert required_patients(15, 0.05) == 10
    for tests in (1, 2, 15, 100):
        n = required_patients(tests, 0.05)
        assert smallest_p(n) * tests < 0.05 <= smallest_p(n - 1) * tests


def test_holm_by_hand() -> None:
    """Sorted 0.01, 0.02, 0.04 times 3, 2, 1: 0.03, 0.04, 0.04; never below the one before, never above 1."""
    assert holm(np.array([0.04, 0.01, 0.02])) == pytest.approx([0.04, 0.03, 0.04])
    assert holm(np.array([0.9, 0.01, 0.5])) == pytest.approx([1, 0.03, 1])
    assert holm(np.array([])).size == 0


def test_the_detectable_difference_by_hand() -> None:
    """20 patients, alpha 0.05: t quantiles 2.0930 and 0.8610 at 19 degrees of freedom, over sqrt(20)."""
    assert detectable_difference(0.1, 20, 0.05) == pytest.approx(0.1 * (2.0930 + 0.8610) / math.sqrt(20), rel=1e-4)
    assert math.isnan(detectable_difference(0.1, 1, 0.05))


@pytest.mark.parametrize(("n", "alpha"), [(10, 0.05), (20, 0.05), (20, 0.05 / 15), (40, 0.01)])
def test_the_detectable_difference_is_found_with_the_power_that_the_noncentral_t_has(n: int, alpha: float) -> None:
    noncentrality = detectable_difference(1, n, alpha) * math.sqrt(n)
    power = stats.nct.sf(stats.t.isf(alpha / 2, n - 1), n - 1, noncentrality)
    assert power == pytest.approx(0.8, abs=0.03)


def test_the_patients_that_show_a_difference_by_hand() -> None:
    """1.96 + 0.8416 = 2.8016: at half a standard deviation 31.4 patients by the normal distribution, 34 by Student's t."""
    assert patients_to_show(0.05, 0.1, 0.05) == 34
    assert patients_to_show(-0.05, 0.1, 0.05) == 34
    assert detectable_difference(0.1, 34, 0.05) <= 0.05 < detectable_difference(0.1, 33, 0.05)
    assert patients_to_show(1e-12, 0.1, 0.05) == pytest.approx((2.8016 / 1e-11) ** 2, rel=1e-4)
    assert patients_to_show(0.05, 0, 0.05) == 2  # all patients differ alike
    for difference, spread in ((0, 0.1), (math.nan, 0.1), (0.05, math.nan)):
        assert patients_to_show(difference, spread, 0.05) == math.inf


def test_values_of_one_patient_do_not_count_as_independent() -> None:
    """Scans that repeat a patient's value tell nothing new: the interval is that of the patients."""
    patients = np.array([0.2, 0.5, 0.9, 0.4, 0.7])
    once = mean_interval(patients, 999)
    repeated = mean_interval(np.repeat(patients, 4), 999, clusters=np.repeat(list("abcde"), 4))
    assert repeated == pytest.approx(once)
    independent = mean_interval(np.repeat(patients, 4), 999)
    assert independent[1] - independent[0] < 0.7 * (repeated[1] - repeated[0])


def test_a_patient_counts_by_the_number_of_its_scans() -> None:
    values, clusters = np.array([0.0, 0.0, 0.0, 1.0, 0.5]), np.array(["a", "a", "a", "b", "c"])
    low, high = mean_interval(values, 999, clusters=clusters)
    assert low < values.mean() < high
    assert low >= 0
    assert high <= 1


def test_clusters_of_one_value_each_change_nothing() -> None:
    assert mean_interval(SCORES, 999, clusters=np.arange(len(SCORES)).astype(str)) == mean_interval(SCORES, 999)


def test_one_patient_has_no_interval_however_many_scans() -> None:
    assert np.isnan(mean_interval(np.array([0.1, 0.5]), 99, clusters=np.array(["a", "a"]))).all()
    assert mean_interval(np.full(3, 0.4), 99, clusters=np.array(["a", "a", "b"])) == (0.4, 0.4)


# Ranks and groups.


def test_the_rank_is_sure_where_a_row_is_better_on_each_patient() -> None:
    """Whatever patients are drawn, the means keep their order. An error is the better the smaller."""
    scores = np.array([SCORES - 0.01, SCORES, SCORES - 0.02])
    assert rank_intervals(scores, 1, 199).tolist() == [[2, 2], [1, 1], [3, 3]]
    assert rank_intervals(scores, -1, 199).tolist() == [[2, 2], [3, 3], [1, 1]]


@pytest.mark.parametrize(("level", "expected"), [(0.4, [[1, 1], [2, 2]]), (0.6, [[1, 2], [1, 2]])])
def test_ranks_over_the_four_resamples_of_two_patients(level: float, expected: list[list[float]]) -> None:
    """The means of the first row are 1, 0.7, 0.7 and 0.4, those of the second are 0.5: it is first in 3 of 4 resamples.

    An interval of 40 % leaves out 0.3 at each end, which is more than 1 in 4; one of 60 % leaves out 0.2.
    """
    assert rank_intervals(np.array([[1, 0.4], [0.5, 0.5]]), 1, 999, level=level).tolist() == expected


def test_equal_rows_share_their_ranks() -> None:
    scores = np.array([SCORES, SCORES, SCORES / 2])
    assert rank_intervals(scores, 1, 99).tolist() == [[1, 2], [1, 2], [3, 3]]
    assert rank_intervals(scores[:1], 1, 99).tolist() == [[1, 1]]


def test_ranks_of_undefined_scores() -> None:
    """The second row is better where it is defined, but one of three resamples lacks its patient, and it is last there."""
    nan = math.nan
    found = rank_intervals(np.array([[0.1, 0.2, 0.3], [0.9, nan, nan], [nan, nan, nan]]), 1, 999)
    np.testing.assert_array_equal(found, [[1, 2], [1, 2], [nan, nan]])
    assert np.isnan(rank_intervals(np.array([[0.5], [0.4]]), 1, 99)).all()  # one patient


def test_ranks_are_of_the_same_patients_in_all_rows() -> None:
    """Patients differ more than rows do. Drawn for each row alone, they would change the order."""
    patients = np.linspace(0, 1, 20)
    assert rank_intervals(np.array([patients + 1e-6, patients]), 1, 99, seed=5).tolist() == [[1, 1], [2, 2]]


def test_ranks_need_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = np.random.default_rng(0).beta(5, 2, (4, 8))
    whole = rank_intervals(scores, 1, 199)
    monkeypatch.setattr("attnunet.metrics.statistics.CELLS", 60)  # five resamples at once
    np.testing.assert_array_equal(rank_intervals(scores, 1, 199), whole)


@pytest.mark.parametrize(
    ("rows", "pairs", "letters"),
    [
        (1, [], ["a"]),
        (3, [], ["a", "a", "a"]),
        (3, [(0, 1)], ["a", "b", "ab"]),
        (3, [(0, 2)], ["a", "ab", "b"]),
        (3, [(0, 1), (0, 2), (1, 2)], ["a", "b", "c"]),
        (4, [(0, 2), (0, 3), (1, 3)], ["a", "ab", "bc", "c"]),
        (4, [(0, 1), (2, 3)], ["ab", "cd", "ac", "bd"]),  # a ring
        (28, list(itertools.combinations(range(28), 2)), [*string.ascii_lowercase, "a1", "b1"]),
    ],
)
def test_rows_share_a_letter_where_they_do_not_differ(rows: int, pairs: list[tuple[int, int]], letters: list[str]) -> None:
    differ = np.zeros((rows, rows), bool)
    for a, b in pairs:
        differ[a, b] = differ[b, a] = True
    assert compact_letters(differ) == letters
