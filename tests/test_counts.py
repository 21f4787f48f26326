"""Counts against a brute-force loop, at the edges of the definition of a prediction."""

from collections.abc import Sequence

import numpy as np
import pytest

from attnunet.metrics.counts import Counts, concatenate, count, count_masks
from tests.volumes import random_pairs

CELLS = ("tp", "fp", "fn", "tn")


def brute_force(probability: np.ndarray, mask: np.ndarray, threshold: float) -> tuple[int, int, int, int]:
    """tp, fp, fn, tn by their definitions, a pixel at a time."""
    cells = dict.fromkeys(CELLS, 0)
    for p, truth in zip(probability.ravel(), mask.ravel(), strict=True):
        predicted = p >= np.float32(threshold)
        cells[("t" if predicted == bool(truth) else "f") + ("p" if predicted else "n")] += 1
    return cells["tp"], cells["fp"], cells["fn"], cells["tn"]


def at(counts: Counts, row: int = 0, column: int = 0) -> tuple[int, int, int, int]:
    tp, fp, fn, tn = (int(getattr(counts, cell)[row, column]) for cell in CELLS)
    return tp, fp, fn, tn


def one(probability: Sequence[float], mask: Sequence[int], threshold: float) -> tuple[int, int, int, int]:
    """The counts of a slice that is one row of pixels."""
    return at(count(["a"], [np.array([probability], np.float32)], [np.array([mask], np.uint8)], [threshold]))


@pytest.mark.parametrize("thresholds", [(0.5,), (0.3, 0.7), (0.05, 0.1, 0.5, 0.9), (0.0, 1.0)])
@pytest.mark.parametrize("seed", range(3))
def test_equals_brute_force_on_slices_of_different_sizes(thresholds: tuple[float, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [(5, 7), (9, 4), (1, 1), (6, 6)]
    # Rounded, so that many probabilities lie exactly on a threshold.
    maps = [rng.random(shape).round(1).astype(np.float32) for shape in shapes]
    masks = [(rng.random(shape) < 0.4).astype(np.uint8) for shape in shapes]
    counts = count(["a"] * 4, maps, masks, thresholds)
    for column, threshold in enumerate(thresholds):
        for row, (probability, mask) in enumerate(zip(maps, masks, strict=True)):
            assert at(counts, row, column) == brute_force(probability, mask, threshold)


@pytest.mark.parametrize("threshold", [0.05, 0.1, 0.3, 0.5, 0.7, 0.95])
def test_a_probability_on_the_threshold_is_lesion_and_the_next_below_is_not(threshold: float) -> None:
    on = np.float32(threshold)
    below = np.nextafter(on, np.float32(0))
    assert one([on, below], [1, 1], threshold) == (1, 0, 1, 0)
    assert one([on, below], [0, 0], threshold) == (0, 1, 0, 1)


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.0, (2, 2, 0, 0)), (0.5, (1, 1, 1, 1)), (1.0, (1, 1, 1, 1))],
)
def test_probabilities_of_zero_and_one(threshold: float, expected: tuple[int, int, int, int]) -> None:
    assert one([0, 1, 0, 1], [1, 1, 0, 0], threshold) == expected


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (np.zeros((3, 3), np.uint8), (0, 2, 0, 7)),
        (np.ones((3, 3), np.uint8), (2, 0, 7, 0)),
        (np.eye(3, dtype=np.uint8) * (np.arange(3) == 1), (1, 1, 0, 7)),
    ],
    ids=["empty", "full", "one pixel"],
)
def test_special_masks(mask: np.ndarray, expected: tuple[int, int, int, int]) -> None:
    probability = np.zeros((3, 3), np.float32)
    probability[1, 1] = probability[0, 2] = 0.9
    assert at(count(["a"], [probability], [mask], [0.5])) == expected


def test_a_boolean_mask_counts_as_one_of_zero_and_one() -> None:
    probability = np.array([[0.2, 0.8]], np.float32)
    assert at(count(["a"], [probability], [np.array([[True, False]])], [0.5])) == (0, 1, 1, 0)


def test_generators_are_taken() -> None:
    maps = (np.full((2, 2), p, np.float32) for p in (0.1, 0.9))
    counts = count(["a", "b"], maps, (np.ones((2, 2), np.uint8) for _ in range(2)), [0.5])
    assert [at(counts, row) for row in (0, 1)] == [(0, 0, 4, 0), (4, 0, 0, 0)]


@pytest.fixture
def three_slices() -> Counts:
    """Two of patient b around one of patient a, at two thresholds."""
    maps = [np.array(row, np.float32) for row in ([[0.9, 0.6]], [[0.6, 0.1, 0.9]], [[0.1, 0.6]])]
    masks = [np.array(row, np.uint8) for row in ([[1, 0]], [[1, 1, 0]], [[0, 1]])]
    return count(["b", "a", "b"], maps, masks, [0.5, 0.8])


def test_by_patient_sums_a_volume_and_sorts_the_names(three_slices: Counts) -> None:
    volumes = three_slices.by_patient()
    assert volumes.patients == ("a", "b")
    assert volumes.thresholds == (0.5, 0.8)
    assert [at(volumes, 0, column) for column in (0, 1)] == [(1, 1, 1, 0), (0, 1, 2, 0)]
    assert [at(volumes, 1, column) for column in (0, 1)] == [(2, 1, 0, 1), (1, 0, 1, 2)]


def test_pooled_sums_everything(three_slices: Counts) -> None:
    pooled = three_slices.pooled()
    assert pooled.tp.shape == (1, 2)
    assert [at(pooled, 0, column) for column in (0, 1)] == [(3, 2, 1, 1), (1, 1, 3, 2)]


def test_at_keeps_one_threshold(three_slices: Counts) -> None:
    chosen = three_slices.at(0.8)
    assert chosen.thresholds == (0.8,)
    assert [at(chosen, row) for row in range(3)] == [at(three_slices, row, 1) for row in range(3)]
    with pytest.raises(ValueError, match="not in tuple"):
        three_slices.at(0.7)


@pytest.mark.parametrize("thresholds", [(), (0.5, 0.5), (0.7, 0.3), (0.1, 0.9, 0.5)])
def test_thresholds_must_ascend(thresholds: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="thresholds must ascend"):
        count(["a"], [np.zeros((2, 2), np.float32)], [np.zeros((2, 2), np.uint8)], thresholds)


def test_shapes_must_agree_even_where_the_number_of_pixels_does() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3\) pixels for a mask of \(3, 2\)"):
        count(["a"], [np.zeros((2, 3), np.float32)], [np.zeros((3, 2), np.uint8)], [0.5])


@pytest.mark.parametrize(("patients", "maps", "masks"), [(1, 2, 2), (3, 2, 2), (2, 1, 2), (2, 2, 1)])
def test_patients_maps_and_masks_must_be_as_many(patients: int, maps: int, masks: int) -> None:
    pixels = np.zeros((2, 2), np.float32)
    with pytest.raises(ValueError, match="zip"):
        count(["a"] * patients, [pixels] * maps, [pixels] * masks, [0.5])


def test_two_masks_count_as_a_probability_of_zero_and_one() -> None:
    for truth, prediction in random_pairs(20):
        expected = count(["a"] * len(truth), prediction.astype(np.float32), truth, [0.5])
        found = count_masks("a", prediction, truth)
        assert (found.patients, found.thresholds) == (expected.patients, expected.thresholds)
        for cell in CELLS:
            np.testing.assert_array_equal(getattr(found, cell), getattr(expected, cell))


def test_joined_puts_slices_one_after_the_other(three_slices: Counts) -> None:
    twice = concatenate([three_slices, three_slices])
    assert twice.patients == ("b", "a", "b") * 2
    assert [at(twice, row, 1) for row in (1, 4)] == [at(three_slices, 1, 1)] * 2
