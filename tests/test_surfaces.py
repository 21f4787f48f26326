"""Distances of surfaces: against values worked by hand, and against all pairs of surface pixels."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
from scipy.spatial import cKDTree

from attnunet.metrics.surfaces import Distances, distances, surface
from tests.volumes import CORNER, EDGE, EMPTY, FULL, PIXEL, SEVERAL, SPECIAL, mask, random_pairs

NAN = math.nan
SPACING = (3.0, 1.0, 0.5)


def on_surface(volume: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Coordinates (n, 3) of the voxels that have a neighbour outside along one of the axes, found one by one."""
    padded = np.pad(volume, 1)
    found = []
    for voxel in np.argwhere(volume):
        neighbours = [padded[tuple(voxel + 1 + step * np.eye(3, dtype=int)[axis])] for axis in axes for step in (-1, 1)]
        if not all(neighbours):
            found.append(voxel)
    return np.array(found, int).reshape(-1, 3)


def brute_force(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float] | None, tolerance: float) -> list[float]:
    """hd95, assd, surface Dice and unmatched slices by a search among the other surface's coordinates."""
    axes = (0, 1, 2) if spacing else (1, 2)
    ours, theirs = on_surface(truth, axes), on_surface(prediction, axes)
    scale = np.array(spacing) if spacing else np.array([1e6, 1, 1])  # another slice is never the nearest
    there, back = np.empty(0), np.empty(0)
    if len(ours) and len(theirs):
        there, back = cKDTree(theirs * scale).query(ours * scale)[0], cKDTree(ours * scale).query(theirs * scale)[0]
    there, back = there[there < 1e5], back[back < 1e5]
    both = np.concatenate([there, back])
    slices = [set(surface[:, 0]) for surface in (ours, theirs)]
    lone = set() if spacing and all(slices) else slices[0] ^ slices[1]  # in a volume, slices have each other
    return [
        max(np.percentile(there, 95), np.percentile(back, 95)) if len(both) else NAN,
        both.mean() if len(both) else NAN,
        (both <= tolerance).sum() / (len(ours) + len(theirs)) if len(ours) + len(theirs) else NAN,
        len(lone),
    ]


def scores(found: Distances, tolerance: float) -> list[float]:
    return [found.hd95, found.assd, found.surface_dice(tolerance), found.unmatched_slices]


@pytest.mark.parametrize("spacing", [None, SPACING], ids=["in slices", "in the volume"])
def test_two_hundred_random_volumes_equal_brute_force(spacing: Sequence[float] | None) -> None:
    defined = 0
    for truth, prediction in random_pairs(200):
        found = scores(distances(truth, prediction, spacing), tolerance=1.5)
        expected = brute_force(truth, prediction, spacing, tolerance=1.5)
        np.testing.assert_allclose(found, expected, atol=1e-3)
        defined += not math.isnan(found[0])
    assert 100 < defined < 200


@pytest.mark.parametrize("spacing", [None, SPACING], ids=["in slices", "in the volume"])
@pytest.mark.parametrize("truth", SPECIAL)
@pytest.mark.parametrize("prediction", SPECIAL)
def test_special_volumes_equal_brute_force(truth: str, prediction: str, spacing: Sequence[float] | None) -> None:
    found = scores(distances(SPECIAL[truth], SPECIAL[prediction], spacing), tolerance=1)
    np.testing.assert_allclose(found, brute_force(SPECIAL[truth], SPECIAL[prediction], spacing, tolerance=1), atol=1e-9)


@pytest.mark.parametrize("spacing", [None, SPACING], ids=["in slices", "in the volume"])
@pytest.mark.parametrize("same", [FULL, PIXEL, CORNER, EDGE, SEVERAL], ids=["full", "pixel", "corner", "edge", "several"])
def test_a_perfect_prediction_has_no_distance(same: np.ndarray, spacing: Sequence[float] | None) -> None:
    assert scores(distances(same, same, spacing), tolerance=0) == [0, 0, 1, 0]


def test_two_pixels_of_a_slice() -> None:
    """Three rows down and four columns across: five pixels; with a spacing, what these measure."""
    other = mask(np.s_[1:2, 7:8, 9:10])
    assert scores(distances(PIXEL, other, None), tolerance=4.9) == [5, 5, 0, 0]
    assert scores(distances(PIXEL, other, None), tolerance=5) == [5, 5, 1, 0]
    in_mm = math.hypot(3 * 1.0, 4 * 0.5)
    assert scores(distances(PIXEL, other, SPACING), tolerance=4) == pytest.approx([in_mm, in_mm, 1, 0])


def test_the_next_slice_is_near_only_where_the_spacing_is_known() -> None:
    above = np.roll(PIXEL, 1, axis=0)
    assert scores(distances(PIXEL, above, SPACING), tolerance=3) == [3, 3, 1, 0]
    found = scores(distances(PIXEL, above, None), tolerance=3)
    np.testing.assert_array_equal(found, [NAN, NAN, 0, 2])


def test_the_larger_directed_percentile_counts() -> None:
    """A row of 21 pixels of which one was predicted: the way back is 0, the way there reaches 19 at the 95th percentile."""
    truth, prediction = np.ones((1, 1, 21), np.uint8), np.zeros((1, 1, 21), np.uint8)
    prediction[..., 0] = 1
    for one, other in ((truth, prediction), (prediction, truth)):
        assert scores(distances(one, other, None), tolerance=2) == pytest.approx([19, 210 / 22, 4 / 22, 0])


def test_slices_are_pooled_and_lonely_ones_are_beyond_any_tolerance() -> None:
    """A pixel that is met, one that is missed by 2, one alone in its slice."""
    truth = mask(np.s_[0:3, 2:3, 2:3])
    prediction = mask(np.s_[0:1, 2:3, 2:3], np.s_[1:2, 2:3, 4:5])
    found = distances(truth, prediction, None)
    assert sorted(found.to_prediction) == sorted(found.to_reference) == [0, 2]
    assert scores(found, tolerance=1) == pytest.approx([1.9, 1, 2 / 5, 1])
    assert found.surface_dice(1e9) == 4 / 5


@pytest.mark.parametrize("spacing", [None, SPACING], ids=["in slices", "in the volume"])
def test_where_one_is_empty_there_is_no_distance_but_a_surface_that_nothing_meets(spacing: Sequence[float] | None) -> None:
    for one, other in ((SEVERAL, EMPTY), (EMPTY, SEVERAL)):
        np.testing.assert_array_equal(scores(distances(one, other, spacing), tolerance=9), [NAN, NAN, 0, 4])
    np.testing.assert_array_equal(scores(distances(EMPTY, EMPTY, spacing), tolerance=9), [NAN, NAN, NAN, 0])


DIAGONALS = {None: math.hypot(9, 11), SPACING: math.hypot(4 * 3, 9 * 1, 11 * 0.5)}  # of a slice in pixels, of the volume in mm


def worst_case(truth: np.ndarray, prediction: np.ndarray, spacing: Sequence[float] | None) -> tuple[float, float]:
    found = distances(truth, prediction, spacing)
    return found.or_worst(found.hd95), found.or_worst(found.assd)


@pytest.mark.parametrize("spacing", DIAGONALS, ids=["in slices", "in the volume"])
@pytest.mark.parametrize("lesion", [PIXEL, CORNER, SEVERAL, FULL], ids=["pixel", "corner", "several", "full"])
def test_a_missed_or_invented_lesion_has_the_diagonal_as_its_worst_case(lesion: np.ndarray, spacing: tuple | None) -> None:
    for one, other in ((lesion, EMPTY), (EMPTY, lesion)):
        assert worst_case(one, other, spacing) == pytest.approx((DIAGONALS[spacing], DIAGONALS[spacing]))
    assert worst_case(EMPTY, EMPTY, spacing) == (0, 0)  # right, and nothing to measure


def test_a_lesion_predicted_in_other_slices_has_the_worst_case_only_where_no_distance_is_known() -> None:
    above = np.roll(PIXEL, 1, axis=0)
    assert worst_case(PIXEL, above, SPACING) == (3, 3)
    assert worst_case(PIXEL, above, None) == pytest.approx((math.hypot(9, 11), math.hypot(9, 11)))


def test_no_distance_is_larger_than_the_worst_case() -> None:
    """From one corner to the opposite one, which is defined and stays as it is."""
    opposite = mask(np.s_[3:4, 8:9, 10:11])
    farthest = math.hypot(3 * 3, 8 * 1, 10 * 0.5)
    assert worst_case(CORNER, opposite, SPACING) == pytest.approx((farthest, farthest))
    assert farthest < DIAGONALS[SPACING]


def test_the_surface_is_what_has_a_neighbour_outside_along_an_axis() -> None:
    plane = np.ones((5, 5), np.uint8)
    plane[0, 0] = 0  # a diagonal neighbour does not open (1, 1)
    expected = plane.astype(bool)
    expected[1:4, 1:4] = False
    np.testing.assert_array_equal(surface(plane), expected)
    assert surface(np.ones((1, 5, 5), np.uint8)).all()  # above and below a lone slice there is nothing
    assert not surface(EMPTY).any()
