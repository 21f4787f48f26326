"""Calibration: how well the predicted probabilities of lesion agree with the share of pixels that are lesion."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from attnunet.metrics.components import bounding_box

BINS = 10
MARGIN = 10  # pixels


@dataclass(frozen=True)
class Calibration:
    """Pixels, divided by their predicted probability of lesion into BINS bins of equal width.

    A pixel with a probability of 1 belongs to the last bin.

    Attributes:
        pixels: the number of pixels in each bin, int64 (BINS,).
        lesion: the number of pixels in each bin that are lesion in the reference, int64 (BINS,).
        probability: the sum of the probabilities of the pixels in each bin, float64 (BINS,).
    """

    pixels: np.ndarray
    lesion: np.ndarray
    probability: np.ndarray

    @property
    def ece(self) -> float:
        """The expected calibration error, in [0, 1]; NaN if there are no pixels.

        The formula is sum_b |lesion_b - probability_b| / sum_b pixels_b. The error of a bin is the distance between its
        share of lesion and its mean probability. The result is the mean of this error over all pixels. The source is
        Naeini, Cooper and Hauskrecht 2015, doi 10.1609/aaai.v29i1.9602.
        """
        total = self.pixels.sum()
        return float(np.abs(self.lesion - self.probability).sum() / total) if total else float("nan")


def calibration(probabilities: np.ndarray, truth: np.ndarray) -> Calibration:
    """Return the pixels in bins, from probabilities, float32 in [0, 1], and from a mask of 0 and 1 of the same shape."""
    values = probabilities.ravel()
    place = np.minimum((values * BINS).astype(np.intp), BINS - 1)
    pixels = np.bincount(place, minlength=BINS)
    lesion = np.bincount(place[truth.ravel() > 0], minlength=BINS)
    return Calibration(pixels, lesion, np.bincount(place, weights=values, minlength=BINS))


def near_lesions(truth: np.ndarray, prediction: np.ndarray) -> np.ndarray:
    """Return which pixels lie near a lesion, bool (D, h, w).

    A pixel lies near a lesion if the reference or the prediction has a lesion pixel in the same slice, at most MARGIN rows
    and at most MARGIN columns away. Every network is sure about most pixels of a brain, which are background.
    Over all pixels, every network therefore looks calibrated. The pixels around lesions show the differences. Mehrtash et
    al. 2020, doi 10.1109/TMI.2020.3006437, use boxes around lesions for the same reason.
    """
    either = truth | prediction
    region = np.zeros(either.shape, bool)
    for plane, around in zip(either, region, strict=True):
        box = tuple(slice(max(s.start - MARGIN, 0), s.stop + MARGIN) for s in bounding_box(plane))
        if plane[box].any():
            around[box] = ndimage.maximum_filter(plane[box], 2 * MARGIN + 1, mode="constant")
    return region


def pool(parts: Iterable[Calibration]) -> Calibration:
    """Return the calibration over the pixels of all parts together."""
    found = list(parts)
    pixels, lesion, probability = (np.sum([getattr(c, n) for c in found], axis=0) for n in ("pixels", "lesion", "probability"))
    return Calibration(pixels, lesion, probability)
