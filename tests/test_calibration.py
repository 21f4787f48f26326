"""Reliability and the expected calibration error, worked by hand."""

import math

import numpy as np
import pytest

from attnunet.metrics.calibration import BINS, MARGIN, calibration, near_lesions, pool


def of(probabilities: list[float], lesion: list[int]) -> tuple[np.ndarray, np.ndarray]:
    return np.array(probabilities, np.float32), np.array(lesion, np.uint8)


def test_bins_by_hand() -> None:
    """Four pixels at 0.25 of which one is lesion: as it says. Two at 0.75, none of them: 0.75 off. One at 1.0 that is."""
    found = calibration(*of([0.25, 0.25, 0.25, 0.25, 0.75, 0.75, 1.0], [0, 0, 1, 0, 0, 0, 1]))
    assert found.pixels.tolist() == [0, 0, 4, 0, 0, 0, 0, 2, 0, 1]
    assert found.lesion.tolist() == [0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert found.probability.tolist() == [0, 0, 1, 0, 0, 0, 0, 1.5, 0, 1]
    assert found.ece == pytest.approx(2 * 0.75 / 7)


def test_errors_do_not_cancel_between_bins_but_do_within_one() -> None:
    assert calibration(*of([0.05, 0.95], [1, 0])).ece == pytest.approx(0.95)
    assert calibration(*of([0.55, 0.55], [1, 0])).ece == pytest.approx(0.05)


@pytest.mark.parametrize("right", [0, 1])
def test_a_sure_network_errs_by_what_it_gets_wrong(right: int) -> None:
    found = calibration(*of([0.0, 0.0, 1.0, 1.0], [1 - right, 1 - right, right, right]))
    assert found.ece == 1 - right
    assert found.pixels.tolist() == [2, *[0] * (BINS - 2), 2]


def test_equals_a_definition_bin_by_bin() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(5000, dtype=np.float32)
    lesion = (rng.random(5000) < probabilities**2).astype(np.uint8)
    error = 0.0
    for low in np.arange(BINS) / BINS:
        held = (probabilities >= low) & (probabilities < low + 1 / BINS)
        error += held.mean() * abs(probabilities[held].mean(dtype=float) - lesion[held].mean())
    assert calibration(probabilities, lesion).ece == pytest.approx(error, abs=1e-5)


def test_a_network_that_means_what_it_says_has_a_small_error() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.random(100_000, dtype=np.float32)
    assert calibration(probabilities, (rng.random(100_000) < probabilities).astype(np.uint8)).ece < 0.01


def test_patients_are_pooled_pixel_by_pixel() -> None:
    rng = np.random.default_rng(0)
    probabilities, lesion = rng.random((3, 4, 5), dtype=np.float32), rng.integers(0, 2, (3, 4, 5), np.uint8)
    together = calibration(probabilities, lesion)
    parts = [calibration(p, t) for p, t in zip(probabilities, lesion, strict=True)]
    assert pool(parts).ece == pytest.approx(together.ece)
    np.testing.assert_array_equal(pool(parts).pixels, together.pixels)


def test_no_pixels_have_no_error() -> None:
    assert math.isnan(calibration(*of([], [])).ece)


def test_near_is_within_the_margin_of_either_mask_in_its_slice() -> None:
    truth, prediction = np.zeros((2, 3, 50, 60), np.uint8)
    truth[0, 20, 30] = prediction[1, 0, 59] = 1
    region = near_lesions(truth, prediction)
    expected = np.zeros(truth.shape, bool)
    expected[0, 20 - MARGIN : 21 + MARGIN, 30 - MARGIN : 31 + MARGIN] = True
    expected[1, : 1 + MARGIN, 59 - MARGIN :] = True
    np.testing.assert_array_equal(region, expected)


def test_where_both_masks_are_empty_nothing_is_near() -> None:
    empty = np.zeros((2, 5, 5), np.uint8)
    assert not near_lesions(empty, empty).any()
