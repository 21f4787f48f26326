"""Scores and their summaries against values worked by hand."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats
from sklearn import metrics

from attnunet.metrics.counts import Counts, concatenate, count, count_masks
from attnunet.metrics.masks import Masks
from attnunet.metrics.scores import (
    best_threshold,
    dice,
    iou,
    mean_dice_by_threshold,
    precision,
    sensitivity,
    specificity,
    volume_error,
)
from attnunet.metrics.summary import score_patient, summarize_patients, summarize_slices
from tests.volumes import random_pairs

NAN = math.nan
EMPTY = np.zeros((4, 4), np.uint8)
FULL = np.ones((4, 4), np.uint8)
PIXEL = np.eye(4, dtype=np.uint8) * (np.arange(4) == 1).astype(np.uint8)
LEFT = np.repeat([[1, 1, 0, 0]], 4, axis=0).astype(np.uint8)
ALL = (dice, iou, sensitivity, specificity, precision, volume_error)


@pytest.mark.parametrize(
    ("reference", "prediction", "expected"),
    [
        # dice, iou, sensitivity, specificity, precision, volume error
        (EMPTY, EMPTY, (NAN, NAN, NAN, 1, NAN, NAN)),
        (EMPTY, PIXEL, (0, 0, NAN, 15 / 16, 0, NAN)),
        (EMPTY, FULL, (0, 0, NAN, 0, 0, NAN)),
        (PIXEL, EMPTY, (0, 0, 0, 1, NAN, -1)),
        (PIXEL, PIXEL, (1, 1, 1, 1, 1, 0)),
        (PIXEL, LEFT, (2 / 9, 1 / 8, 1, 8 / 15, 1 / 8, 7)),
        (PIXEL, 1 - LEFT, (0, 0, 0, 7 / 15, 0, 7)),
        (PIXEL, FULL, (2 / 17, 1 / 16, 1, 0, 1 / 16, 15)),
        (FULL, EMPTY, (0, 0, 0, NAN, NAN, -1)),
        (FULL, PIXEL, (2 / 17, 1 / 16, 1 / 16, NAN, 1, -15 / 16)),
        (FULL, LEFT, (2 / 3, 1 / 2, 1 / 2, NAN, 1, -1 / 2)),
        (FULL, FULL, (1, 1, 1, NAN, 1, 0)),
    ],
)
def test_scores_by_hand(reference: np.ndarray, prediction: np.ndarray, expected: tuple[float, ...]) -> None:
    counts = count(["a"], [prediction.astype(np.float32)], [reference], [0.5])
    assert [score(counts).shape for score in ALL] == [(1, 1)] * 6
    np.testing.assert_array_equal([score(counts)[0, 0] for score in ALL], np.array(expected, float))


@pytest.mark.parametrize("score", ALL)
def test_a_score_keeps_slices_and_thresholds_apart(score: Callable[[Counts], np.ndarray]) -> None:
    rng = np.random.default_rng(0)
    maps, masks = rng.random((3, 4, 4), dtype=np.float32), (rng.random((3, 4, 4)) < 0.5).astype(np.uint8)
    counts = count(["a", "a", "b"], list(maps), list(masks), [0.2, 0.8])
    together = score(counts)
    for row in range(3):
        for column, threshold in enumerate((0.2, 0.8)):
            alone = score(count(["a"], [maps[row]], [masks[row]], [threshold]))
            assert together[row, column] == alone[0, 0]


# Six slices of 20 pixels: tp, fp, fn, tn.
SLICES = [(6, 2, 2, 10), (0, 4, 0, 16), (1, 0, 3, 16), (0, 0, 0, 20), (8, 0, 0, 12), (0, 0, 0, 20)]
PATIENTS = ("a", "a", "b", "b", "c", "c")


def from_cells(patients: Sequence[str], cells: Sequence[tuple[int, int, int, int]]) -> list[Masks]:
    """Return each patient's masks, in which every slice is one row of 20 pixels with the wanted tp, fp, fn and tn."""
    slices: dict[str, list[np.ndarray]] = {}
    for patient, numbers in zip(patients, cells, strict=True):
        slices.setdefault(patient, []).append(np.repeat([[[1, 0, 1, 0]], [[1, 1, 0, 0]]], numbers, axis=2))
    volumes = {patient: np.stack(masks, axis=1).astype(np.uint8) for patient, masks in slices.items()}
    return [Masks(patient, *volume, 1, None) for patient, volume in volumes.items()]


def summarize(volumes: Sequence[Masks], resamples: int) -> dict[str, float]:
    """Return the part of a run's summary that depends on the counts of pixels alone."""
    rows = [score_patient(masks) for masks in volumes]
    values = summarize_patients(rows, resamples) | summarize_slices(concatenate(masks.slices for masks in volumes))
    counted = ("dice", "iou", "sensitivity", "specificity", "precision", "volume_error")
    return {name: value for name, value in values.items() if name.startswith(counted)}


def test_every_convention_by_hand() -> None:
    """Volumes: a (6, 6, 2), b (1, 0, 3), c (8, 0, 0); the slice of a without lesion has a false alarm."""
    values = summarize(from_cells(PATIENTS, SLICES), 999)
    intervals = {f"{name}_ci_{end}": values.pop(f"{name}_ci_{end}") for name in ("dice", "iou") for end in ("low", "high")}
    assert values == pytest.approx(
        {
            "dice": (0.6 + 0.4 + 1) / 3,
            "dice_median": 0.6,
            "dice_patients": 3,
            "dice_pooled": 30 / 41,
            "dice_slice_lesion": (0.75 + 0.4 + 1) / 3,
            "dice_slice_empty_one": (0.75 + 0 + 0.4 + 1 + 1 + 1) / 6,
            "dice_all_background": 3 / 6,
            "iou": (6 / 14 + 1 / 4 + 1) / 3,
            "iou_median": 6 / 14,
            "iou_patients": 3,
            "iou_pooled": 15 / 26,
            "iou_slice_lesion": (0.6 + 0.25 + 1) / 3,
            "iou_slice_empty_one": (0.6 + 0 + 0.25 + 1 + 1 + 1) / 6,
            "iou_all_background": 3 / 6,
            "sensitivity": (6 / 8 + 1 / 4 + 1) / 3,
            "specificity": (26 / 32 + 1 + 1) / 3,
            "precision": (6 / 12 + 1 + 1) / 3,
            "volume_error": (4 / 8 - 3 / 4 + 0) / 3,
            **dict.fromkeys(("sensitivity_patients", "specificity_patients", "precision_patients"), 3),
            "volume_error_patients": 3,
        }
    )
    # The conventions differ on this set, so that none can stand in for another.
    of_dice = [v for name, v in values.items() if name.startswith("dice") and name != "dice_patients"]
    assert len({round(v, 6) for v in of_dice}) == len(of_dice)
    for name, patients in (("dice", [0.6, 0.4, 1.0]), ("iou", [6 / 14, 1 / 4, 1.0])):
        expected = stats.bootstrap((patients,), np.mean, n_resamples=999, method="BCa", rng=np.random.default_rng(0))
        low, high = expected.confidence_interval
        assert (intervals[f"{name}_ci_low"], intervals[f"{name}_ci_high"]) == (low, high)


def test_the_order_of_slices_does_not_matter() -> None:
    order = [3, 0, 5, 1, 4, 2]
    shuffled = from_cells([PATIENTS[i] for i in order], [SLICES[i] for i in order])
    assert summarize(shuffled, 99) == pytest.approx(summarize(from_cells(PATIENTS, SLICES), 99))


def test_a_prediction_of_nothing_scores_the_share_of_empty_slices() -> None:
    nothing = [(0, 0, tp + fn, fp + tn) for tp, fp, fn, tn in SLICES]
    values = summarize(from_cells(PATIENTS, nothing), 99)
    for name in ("dice", "iou"):
        assert values[name] == values[f"{name}_pooled"] == values[f"{name}_slice_lesion"] == 0
        assert values[f"{name}_slice_empty_one"] == values[f"{name}_all_background"] == 0.5
    assert (values["sensitivity"], values["specificity"], values["volume_error"]) == (0, 1, -1)
    assert math.isnan(values["precision"])


def test_a_perfect_prediction() -> None:
    perfect = [(tp + fn, 0, 0, fp + tn) for tp, fp, fn, tn in SLICES]
    values = summarize(from_cells(PATIENTS, perfect), 99)
    for name in ("", "_median", "_ci_low", "_ci_high", "_pooled", "_slice_lesion", "_slice_empty_one"):
        assert values[f"dice{name}"] == values[f"iou{name}"] == 1


def test_a_patient_whose_dice_is_not_defined_is_left_out() -> None:
    with_empty = summarize(from_cells((*PATIENTS, "d", "d"), [*SLICES, (0, 0, 0, 20), (0, 0, 0, 20)]), 99)
    without = summarize(from_cells(PATIENTS, SLICES), 99)
    by_patient = ["dice", "dice_median", "dice_ci_low", "dice_ci_high", "dice_patients", "dice_pooled", "dice_slice_lesion"]
    by_patient += ["iou", "iou_patients", "sensitivity", "precision", "volume_error"]
    assert [with_empty[name] for name in by_patient] == [without[name] for name in by_patient]
    # It does count where slices are, and where its score is defined.
    assert with_empty["dice_slice_empty_one"] == pytest.approx((4.15 + 2) / 8)
    assert with_empty["dice_all_background"] == 5 / 8
    assert with_empty["specificity"] == pytest.approx((26 / 32 + 1 + 1 + 1) / 4)


def test_a_false_alarm_on_an_empty_patient_counts_as_zero() -> None:
    values = summarize(from_cells((*PATIENTS, "d"), [*SLICES, (0, 1, 0, 19)]), 99)
    assert values["dice_patients"] == 4
    assert values["dice"] == pytest.approx((0.6 + 0.4 + 1 + 0) / 4)


def test_a_set_without_lesion_and_prediction_is_nan_and_warns_of_nothing() -> None:
    values = summarize(from_cells(("a", "b"), [(0, 0, 0, 20)] * 2), 99)
    assert values["dice_patients"] == values["iou_patients"] == 0
    assert values["dice_slice_empty_one"] == values["dice_all_background"] == values["specificity"] == 1
    undefined = {name for name, value in values.items() if math.isnan(value)}
    overlaps = {f"{name}{end}" for name in ("dice", "iou") for end in ("", "_median", "_ci_low", "_ci_high", "_pooled")}
    lesions = {"dice_slice_lesion", "iou_slice_lesion", "sensitivity", "precision", "volume_error"}
    assert undefined == overlaps | lesions


def test_one_patient_has_a_mean_but_no_interval() -> None:
    values = summarize(from_cells("a", [(6, 2, 2, 10)]), 99)
    assert (values["dice"], values["dice_median"], values["dice_patients"]) == (0.75, 0.75, 1)
    assert math.isnan(values["dice_ci_low"])
    assert math.isnan(values["dice_ci_high"])


def test_patient_rows() -> None:
    rows = [score_patient(masks) for masks in from_cells((*PATIENTS, "d"), [*SLICES, (0, 0, 0, 20)])]
    assert [row["patient"] for row in rows] == ["a", "b", "c", "d"]
    by_hand = {
        "patient": "a",
        "slices": 2,
        "lesion_slices": 1,
        "dice": 0.6,
        "iou": 6 / 14,
        "sensitivity": 6 / 8,
        "specificity": 26 / 32,
        "precision": 6 / 12,
        "volume_error": 4 / 8,
        "tp": 6,
        "fp": 6,
        "fn": 2,
        "tn": 26,
    }
    assert {name: rows[0][name] for name in by_hand} == pytest.approx(by_hand)
    assert [(row["slices"], row["lesion_slices"]) for row in rows] == [(2, 1), (2, 1), (2, 1), (1, 0)]
    undefined = [name for name in by_hand if isinstance(rows[3][name], float) and math.isnan(rows[3][name])]
    assert undefined == ["dice", "iou", "sensitivity", "precision", "volume_error"]
    assert all(type(value) in (str, int, float) for row in rows for value in row.values())


def with_dice(scores: dict[float, Sequence[float | None]]) -> Counts:
    """Counts in which each patient has the wanted Dice at each threshold, None for one that is not defined."""
    hits = [[0 if d is None else round(100 * d) for d in row] for row in zip(*scores.values(), strict=True)]
    misses = [[0 if d is None else 200 - 2 * round(100 * d) for d in row] for row in zip(*scores.values(), strict=True)]
    tp, fp = np.array(hits), np.array(misses)
    patients = tuple(f"p{i}" for i in range(len(tp)))
    return Counts(patients, tuple(scores), tp, fp, np.zeros_like(tp), np.zeros_like(tp))


def test_mean_dice_by_threshold() -> None:
    counts = with_dice({0.3: (0.2, 0.6), 0.5: (0.4, None), 0.7: (None, None)})
    np.testing.assert_allclose(mean_dice_by_threshold(counts), [0.4, 0.4, NAN])


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({0.3: (0.2, 0.6), 0.5: (0.3, 0.6), 0.7: (0.1, 0.9)}, 0.7),  # the highest mean over patients, not pixels
        ({0.3: (0.5,), 0.5: (0.5,), 0.9: (0.5,)}, 0.5),
        ({0.1: (0.5,), 0.5: (0.2,), 0.7: (0.5,)}, 0.7),  # the nearest to 0.5 of equals
        ({0.2: (None,), 0.5: (None,), 0.6: (0.0,)}, 0.6),  # a defined 0 is more than nothing
        ({0.2: (None,), 0.7: (None,)}, 0.5),
    ],
)
def test_best_threshold(scores: dict[float, Sequence[float | None]], best: float) -> None:
    assert best_threshold(with_dice(scores)) == best


@pytest.mark.parametrize("low", [0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45])
def test_of_equals_as_near_the_lower_threshold_is_taken(low: float) -> None:
    """Also where floats put the higher one nearer: 0.7 - 0.5 < 0.5 - 0.3."""
    high = round(1 - low, 2)
    assert best_threshold(with_dice({low: (0.8,), 0.5: (0.1,), high: (0.8,)})) == low


def test_best_threshold_is_of_volumes_not_of_slices() -> None:
    """At 0.5 the volume is right, its slices cancel out at 0.7 only in their mean."""
    counts = Counts(
        ("a", "a"),
        (0.5, 0.7),
        tp=np.array([[90, 50], [0, 4]]),
        fp=np.array([[0, 0], [0, 0]]),
        fn=np.array([[10, 50], [4, 0]]),
        tn=np.zeros((2, 2), int),
    )
    by_slice = dice(counts).mean(axis=0)
    assert by_slice[1] > by_slice[0]
    assert best_threshold(counts) == 0.5


# Against scikit-learn.


def by_scikit_learn(truth: np.ndarray, prediction: np.ndarray) -> tuple[float, ...]:
    """Dice, IoU, sensitivity, specificity, precision; NaN where a denominator is 0."""
    pair = (truth.ravel(), prediction.ravel())
    return (
        metrics.f1_score(*pair, zero_division=NAN),
        metrics.jaccard_score(*pair) if truth.any() or prediction.any() else NAN,  # knows no NaN
        metrics.recall_score(*pair, zero_division=NAN),
        metrics.recall_score(*pair, pos_label=0, zero_division=NAN),
        metrics.precision_score(*pair, zero_division=NAN),
    )


def test_overlaps_of_two_hundred_random_volumes_equal_scikit_learns() -> None:
    for truth, prediction in [*random_pairs(200), (EMPTY[None], EMPTY[None]), (FULL[None], EMPTY[None])]:
        volume = count_masks("a", prediction, truth).by_patient()
        found = [score(volume)[0, 0] for score in (dice, iou, sensitivity, specificity, precision)]
        np.testing.assert_allclose(found, by_scikit_learn(truth, prediction), atol=1e-6)
