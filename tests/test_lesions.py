"""Lesions as connected components: what belongs together, what counts as found."""

import math
from itertools import product

import numpy as np
import pytest

from attnunet.metrics.components import bounding_box, components
from attnunet.metrics.lesions import match_lesions
from tests.volumes import CORNER, EDGE, EMPTY, FULL, PIXEL, SEVERAL, mask, random_pairs

NAN = math.nan


def flooded(volume: np.ndarray) -> list[set[tuple[int, ...]]]:
    """The components, grown voxel by voxel over all 26 neighbours."""
    left = {tuple(voxel) for voxel in np.argwhere(volume).tolist()}
    found = []
    while left:
        component, front = set(), [left.pop()]
        while front:
            voxel = front.pop()
            component.add(voxel)
            near = {tuple(np.add(voxel, step).tolist()) for step in product((-1, 0, 1), repeat=3)} & left
            left -= near
            front += near
        found.append(component)
    return found


def brute_force(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    lesions, detections = flooded(truth), flooded(prediction)
    hits = sum(sum(bool(prediction[voxel]) for voxel in lesion) / len(lesion) >= 0.1 for lesion in lesions)
    right = sum(sum(bool(truth[voxel]) for voxel in lesion) / len(lesion) >= 0.1 for lesion in detections)
    recall, precision = hits / len(lesions) if lesions else NAN, right / len(detections) if detections else NAN
    f1 = NAN if not lesions and not detections else 0
    if hits and right:
        f1 = 2 * precision * recall / (precision + recall)
    return [len(lesions), hits, len(detections) - right, recall, precision, f1]


def scores(truth: np.ndarray, prediction: np.ndarray) -> list[float]:
    """Return lesions, found, false; recall, precision, F1."""
    lesions = match_lesions(truth, prediction)
    return [lesions.reference, lesions.found, lesions.false, lesions.recall, lesions.precision, lesions.f1]


def test_two_hundred_random_volumes_equal_brute_force() -> None:
    several = 0
    for truth, prediction in random_pairs(200):
        found = scores(truth, prediction)
        np.testing.assert_allclose(found, brute_force(truth, prediction), atol=1e-9)
        several += 0 < found[1] < found[0]
    assert several > 20


@pytest.mark.parametrize(
    ("truth", "prediction", "expected"),
    [
        # lesions, found, false; recall, precision, F1
        (EMPTY, EMPTY, [0, 0, 0, NAN, NAN, NAN]),
        (EMPTY, PIXEL, [0, 0, 1, NAN, 0, 0]),
        (PIXEL, EMPTY, [1, 0, 0, 0, NAN, 0]),
        (PIXEL, PIXEL, [1, 1, 0, 1, 1, 1]),
        (PIXEL, CORNER, [1, 0, 1, 0, 0, 0]),
        (FULL, FULL, [1, 1, 0, 1, 1, 1]),
        (FULL, PIXEL, [1, 0, 0, 0, 1, 0]),  # a pixel is no tenth of 396, but all of itself
        (PIXEL, FULL, [1, 1, 1, 1, 0, 0]),
        (SEVERAL, SEVERAL, [3, 3, 0, 1, 1, 1]),
        (SEVERAL, EDGE, [3, 1, 1, 1 / 3, 0, 0]),  # 3 of 9 voxels, but 3 of 72
        (SEVERAL, mask(np.s_[0:2, 0:3, 2:9]), [3, 2, 0, 2 / 3, 1, 0.8]),  # 3 of 9 and 2 of 6, 5 of 42
        (SEVERAL, mask(np.s_[0:1, 0:1, 0:1], np.s_[3:4, 0:1, 10:11]), [3, 1, 1, 1 / 3, 1 / 2, 0.4]),
    ],
)
def test_lesions_by_hand(truth: np.ndarray, prediction: np.ndarray, expected: list[float]) -> None:
    np.testing.assert_allclose(scores(truth, prediction), expected, atol=1e-12)


@pytest.mark.parametrize(("overlap", "hit"), [(0, 0), (1, 0), (2, 1), (3, 1)])
def test_a_tenth_is_enough(overlap: int, hit: int) -> None:
    """Of a lesion of 20 voxels."""
    truth = mask(np.s_[0:1, 0:2, 0:10])
    prediction = mask(np.s_[0:1, 0:1, 0:overlap])
    assert match_lesions(truth, prediction).found == hit


def test_voxels_that_share_a_corner_are_of_one_lesion() -> None:
    diagonal = mask(np.s_[0:1, 0:1, 0:1], np.s_[1:2, 1:2, 1:2])
    labels, sizes = components(diagonal)
    assert sizes.tolist() == [394, 2]
    assert labels[0, 0, 0] == labels[1, 1, 1] == 1
    assert components(mask(np.s_[0:1, 0:1, 0:1], np.s_[2:3, 1:2, 1:2]))[1].tolist() == [394, 1, 1]


@pytest.mark.parametrize(
    ("volume", "box"),
    [
        (FULL, np.s_[0:4, 0:9, 0:11]),
        (PIXEL, np.s_[1:2, 4:5, 5:6]),
        (SEVERAL, np.s_[0:4, 0:8, 0:11]),
        (EMPTY, np.s_[0:0, 0:0, 0:0]),
    ],
    ids=["full", "pixel", "several", "empty"],
)
def test_the_bounding_box(volume: np.ndarray, box: tuple[slice, ...]) -> None:
    assert bounding_box(volume) == box
