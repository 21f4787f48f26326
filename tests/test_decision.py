"""The decision on volumes, and how it is chosen."""

import math
from collections.abc import Sequence

import numpy as np
import pytest

from attnunet.metrics.decision import Case, Choice, Decision, decide
from tests.volumes import CORNER, EMPTY, FULL, PIXEL, SEVERAL, SPECIAL, mask

RING = mask(np.s_[1:2, 2:6, 2:6]) - mask(np.s_[1:2, 3:5, 3:5])  # 12 pixels around 4


def soft(volume: np.ndarray, inside: float = 0.8, outside: float = 0.1) -> np.ndarray:
    return np.where(volume, inside, outside).astype(np.float32)


@pytest.mark.parametrize("name", SPECIAL)
@pytest.mark.parametrize(
    "decision", [Decision(), Decision(0.8), Decision(0.3, 1), Decision(0.3, 0, True), Decision(0.3, 1, True)]
)
def test_masks_without_holes_and_small_lesions_pass_unchanged(decision: Decision, name: str) -> None:
    found = decision(soft(SPECIAL[name]))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, SPECIAL[name])


@pytest.mark.parametrize("threshold", [0.05, 0.3, 0.7])
def test_a_probability_on_the_threshold_is_lesion_and_the_next_below_is_not(threshold: float) -> None:
    on = np.float32(threshold)
    pixels = np.array([[[on, np.nextafter(on, np.float32(0))]]], np.float32)
    assert Decision(threshold)(pixels).tolist() == [[[1, 0]]]


@pytest.mark.parametrize(
    ("smallest", "kept"),
    [(0, {9, 24, 6}), (1, {9, 24, 6}), (6, {9, 24, 6}), (7, {9, 24}), (10, {24}), (24, {24}), (25, set())],
)
def test_lesions_with_fewer_voxels_are_removed(smallest: int, kept: set[int]) -> None:
    found = Decision(0.5, smallest)(soft(SEVERAL))
    assert found.sum() == sum(kept)
    assert not (found & ~SEVERAL).any()


def test_lesions_are_counted_through_slices_and_corners() -> None:
    diagonal = mask(np.s_[0:1, 0:1, 0:1], np.s_[1:2, 1:2, 1:2], np.s_[3:4, 8:9, 8:9])
    np.testing.assert_array_equal(Decision(0.5, 2)(soft(diagonal)), diagonal * (np.arange(4) < 2)[:, None, None])


def test_holes_are_filled_slice_by_slice() -> None:
    np.testing.assert_array_equal(Decision(0.5, 0, True)(soft(RING)), mask(np.s_[1:2, 2:6, 2:6]))
    open_ring = RING.copy()
    open_ring[1, 2, 3] = 0
    np.testing.assert_array_equal(Decision(0.5, 0, True)(soft(open_ring)), open_ring)
    corner_open = RING.copy()
    corner_open[1, 2, 2] = 0  # paths go along rows and columns, not across a corner
    assert Decision(0.5, 0, True)(soft(corner_open)).sum() == 15
    at_the_border = mask(np.s_[0:1, 0:3, 0:3]) - mask(np.s_[0:1, 0:2, 0:2])
    np.testing.assert_array_equal(Decision(0.5, 0, True)(soft(at_the_border)), at_the_border)


def test_a_lesion_is_measured_with_its_holes_filled() -> None:
    assert Decision(0.5, 13)(soft(RING)).sum() == 0
    assert Decision(0.5, 16, True)(soft(RING)).sum() == 16
    assert Decision(0.5, 17, True)(soft(RING)).sum() == 0


def test_the_probabilities_stay_as_they_are() -> None:
    probabilities = soft(SEVERAL)
    before = probabilities.copy()
    Decision(0.5, 10, True)(probabilities)
    np.testing.assert_array_equal(probabilities, before)


def chosen(cases: Sequence[tuple[np.ndarray, np.ndarray]], smallest: Sequence[int], fill: Sequence[bool]) -> Decision:
    """Of (probabilities, truth) a patient, at thresholds of which only 0.5 cuts between 0.1 and 0.8."""
    return decide([Case(f"p{i}", p, t) for i, (p, t) in enumerate(cases)], [0.05, 0.5, 0.9], smallest, fill).decision


def test_false_specks_are_removed_and_holes_filled_where_that_helps() -> None:
    truth = mask(np.s_[1:2, 2:6, 2:6])
    assert chosen([(soft(RING | CORNER), truth)], [0, 2, 13], [False, True]) == Decision(0.5, 2, True)
    assert chosen([(soft(RING | CORNER), RING)], [0, 2, 13], [False, True]) == Decision(0.5, 2, False)
    assert chosen([(soft(RING | CORNER), RING | CORNER)], [0, 2, 13], [False, True]) == Decision(0.5, 0, False)


def test_of_equals_the_least_processing_is_chosen() -> None:
    assert chosen([(soft(SEVERAL), SEVERAL)], [6, 0, 3, 6], [True, False]) == Decision(0.5, 0, False)
    assert chosen([(soft(SEVERAL), SEVERAL)], [6, 3], [True]) == Decision(0.5, 3, True)
    assert chosen([(soft(EMPTY, outside=0), PIXEL)], [9, 4], [True, False]) == Decision(0.5, 4, False)  # 0 whatever is done


def test_the_mean_is_over_patients_not_over_voxels() -> None:
    """Removing specks below 10 costs one patient its lesion of 6, and cleans 9 voxels away from the 220 of another."""
    small = mask(np.s_[0:1, 0:2, 0:3])
    large, specks = mask(np.s_[:, 4:9, 0:11]), mask(np.s_[3:4, 0:1, 0:9])
    assert chosen([(soft(small), small), (soft(large | specks), large)], [0, 10], [False]) == Decision(0.5, 0)
    assert chosen([(soft(large | specks), large)], [0, 10], [False]) == Decision(0.5, 10)


def test_the_threshold_is_chosen_first_and_without_post_processing() -> None:
    """At 0.2 a closed ring and false specks, which post-processing would make perfect; at 0.5 less of both."""
    truth, specks = mask(np.s_[1:2, 2:6, 2:6]), mask(np.s_[3:4, 0:1, 0:9])
    open_ring = RING.copy()
    open_ring[1, 2, 3] = 0
    probabilities = np.where(open_ring, 0.8, soft(RING | specks, 0.3, 0)).astype(np.float32)
    choice = decide([Case("a", probabilities, truth)], [0.2, 0.5], [0, 10], [False, True])
    assert [t.dice for t in choice.thresholds] == pytest.approx([2 * 12 / (16 + 21), 2 * 11 / (16 + 11)])
    assert Decision(0.2, 10, True)(probabilities).tolist() == truth.tolist()
    assert choice.decision == Decision(0.5, 0, False)


def test_a_patient_with_nothing_to_find_counts_as_soon_as_something_is_found() -> None:
    """Dice 0 for the false alarm; without it the patient has no Dice, and the mean is over the other."""
    choice = decide([Case("a", soft(SEVERAL), SEVERAL), Case("b", soft(PIXEL), EMPTY)], [0.5], [0, 2], [False])
    assert [(t.decision.smallest_lesion, t.dice, t.patients) for t in choice.processing] == [(0, 0.5, 2), (2, 1, 1)]
    assert choice.decision == Decision(0.5, 2)


def test_where_no_dice_is_defined_the_decision_is_the_plainest() -> None:
    choice = decide([Case("a", soft(EMPTY), EMPTY)], [0.3, 0.7], [5, 0], [True, False])
    assert choice.decision == Decision(0.5, 0, False)
    assert all(math.isnan(t.dice) and t.patients == 0 for t in (*choice.thresholds, *choice.processing))


def test_what_was_tried_is_told_row_by_row() -> None:
    choice = decide([Case("a", soft(FULL | PIXEL), FULL)], [0.05, 0.5, 0.9], [0, 500], [False])
    assert [list(row.values()) for row in choice.rows()] == [
        # step, threshold, smallest_lesion, fill_holes, dice, patients, chosen
        [1, 0.05, 0, 0, 1, 1, 0],
        [1, 0.5, 0, 0, 1, 1, 0],
        [1, 0.9, 0, 0, 0, 1, 0],
        [2, 0.5, 0, 0, 1, 1, 1],
        [2, 0.5, 500, 0, 0, 1, 0],
    ]


def test_without_cases_the_only_values_decide() -> None:
    choice = decide([], [0.4], [10], [True])
    assert choice == Choice(Decision(0.4, 10, True), (), ())
