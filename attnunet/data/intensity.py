"""A patient's slices as a network sees them: intensities scaled, resized to a square."""

from collections.abc import Iterable, Sequence

import numpy as np

from attnunet.data.frames import make_frame
from attnunet.data.slices import DataError


class ValuesError(DataError):
    """Values that an intensity cannot take; the message does not know their file."""


def prepare_volume(
    sequences: Iterable[np.ndarray],
    image_size: int,
    intensity: str,
    pixel_size: float | None = None,
    spacing: Sequence[float] | None = None,
) -> np.ndarray:
    """Return a scan as a network sees it: sequences (D, h, w) of any type of numbers as uint8 (D, image_size, image_size, C).

    Intensities are scaled a sequence of the scan, from the values that the files hold, and then rounded (see INTENSITIES).
    Slices are brought to a square as `frames.make_frame` says: by area averaging when they shrink, bilinearly when they grow.

    Raises:
        ValuesError: intensity "raw", and a value that uint8 does not hold.
    """
    scaled = np.stack([INTENSITIES[intensity](values) for values in sequences], axis=-1)
    frame = make_frame(scaled.shape[1:3], image_size, pixel_size, spacing)
    return np.stack([frame.show(image) for image in scaled])


def linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return uint8: low becomes 0 and high 255, linearly, rounded and clipped; of integers, a range below 1 counts as 1."""
    least = 1 if np.issubdtype(values.dtype, np.integer) else np.finfo(np.float32).tiny
    scaled = (values - np.float32(low)) * np.float32(255 / max(high - low, least))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def raw(values: np.ndarray) -> np.ndarray:
    """Return the values as they are, if they are whole numbers from 0 to 255."""
    found = values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else None
    if found is None or not np.array_equal(found, values):
        raise ValuesError(
            f"data.intensity=raw: values from {values.min():g} to {values.max():g}; allowed: whole numbers from 0 to 255, "
            "or data.intensity=zscore or percentile"
        )
    return found


def percentile(values: np.ndarray) -> np.ndarray:
    """Return uint8: the 1st percentile of the values that are not 0 becomes 0, the 99th 255; without any, all are 0."""
    other = values[values != 0].astype(np.float64)
    return linear(values, *np.percentile(other, [1, 99])) if other.size else np.zeros(values.shape, np.uint8)


def zscore(values: np.ndarray) -> np.ndarray:
    """Return uint8: three standard deviations below the head's mean become 0, three above 255.

    The head is what exceeds the overall mean; a scan of one value stays as it is, if uint8, else it becomes 0. So heads of
    dark and bright scans get the same mean, as by nnU-Net's normalisation of MRI (doi 10.1038/s41592-020-01008-z), and the
    unit and the zero of a scanner's values do not matter.
    """
    head = values[values > values.mean(dtype=np.float64)]
    if not head.size:
        return values if values.dtype == np.uint8 else np.zeros(values.shape, np.uint8)
    mean, spread = head.mean(dtype=np.float64), 3 * head.std(dtype=np.float64)
    return linear(values, mean - spread, mean + spread)


INTENSITIES = {"raw": raw, "percentile": percentile, "zscore": zscore}
