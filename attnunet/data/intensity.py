"""A scan's slices in the form for the network: with scaled intensities, and resized to a square."""

from collections.abc import Iterable, Sequence

import numpy as np

from attnunet.data.frames import make_frame
from attnunet.data.slices import DataError

SMALLEST = 1e-30
"""The smallest range of real numbers. 255 divided by it still is a number of float32."""


class ValuesError(DataError):
    """An intensity option does not accept an image's values. The message does not name the image's file."""


def is_scaled(intensity: str) -> bool:
    """Return whether a slice gets other values alone than among the slices of its scan."""
    return intensity != "raw"


def prepare_volume(
    sequences: Iterable[np.ndarray],
    image_size: int,
    intensity: str,
    pixel_size: float | None = None,
    spacing: Sequence[float] | None = None,
    image_type: str = "uint8",
) -> np.ndarray:
    """Return a scan in the form for the network, `image_type` (D, image_size, image_size, C), in [0, 255].

    Each of the C sequences is (D, h, w) with any type of numbers. The intensities of each sequence are scaled from the values
    in the files (see INTENSITIES), and rounded to whole numbers if the type is uint8. Then `frames.make_frame` tells how each
    slice is brought to a square. Slices shrink by area averaging, and grow by bilinear interpolation.

    Raises:
        ValuesError: the intensity is "raw", and a value is no whole number from 0 to 255.
    """
    scaled = np.stack([scale(values, intensity, image_type) for values in sequences], axis=-1)
    frame = make_frame(scaled.shape[1:3], image_size, pixel_size, spacing)
    if image_type == "uint8":
        return np.stack([frame.show(image) for image in scaled])
    return np.stack([frame.show(image.astype(np.float32)).astype(image_type) for image in scaled])  # OpenCV has no float16


def scale(values: np.ndarray, intensity: str, image_type: str) -> np.ndarray:
    """Return the values of a sequence, scaled to [0, 255], as `image_type`. Whole numbers are rounded to the nearest."""
    scaled = INTENSITIES[intensity](values)
    rounds = image_type == "uint8" and scaled.dtype != np.uint8
    return (np.rint(scaled) if rounds else scaled).astype(image_type, copy=False)


def linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the values, scaled linearly so that `low` becomes 0 and `high` becomes 255, and clipped to this range.

    If the values are integers, a range high - low below 1 counts as 1. A range of 0 makes all values above it 255.
    """
    least = 1 if np.issubdtype(values.dtype, np.integer) else SMALLEST
    with np.errstate(over="ignore"):  # the result may be infinite, and is clipped
        return ((values - np.float32(low)) * np.float32(255 / max(high - low, least))).clip(0, 255)


def raw(values: np.ndarray) -> np.ndarray:
    """Return the values unchanged, as uint8. Raise ValuesError if they are not whole numbers from 0 to 255."""
    found = values.astype(np.uint8) if values.min() >= 0 and values.max() <= 255 else None
    if found is None or not np.array_equal(found, values):
        raise ValuesError(
            f"data.intensity=raw: values from {values.min():g} to {values.max():g}; allowed: whole numbers from 0 to 255, "
            "or data.intensity=zscore or percentile"
        )
    return found


def percentile(values: np.ndarray) -> np.ndarray:
    """Return the values, scaled so that the 1st percentile becomes 0 and the 99th percentile becomes 255.

    The percentiles are those of the values other than 0. If all values are 0, the result is 0.
    """
    other = values[values != 0].astype(np.float64)
    return linear(values, *np.percentile(other, [1, 99])) if other.size else np.zeros(values.shape, np.uint8)


def zscore(values: np.ndarray) -> np.ndarray:
    """Return the values, scaled by the mean and the standard deviation of the head.

    The head is all values above the overall mean. Three standard deviations below the head's mean become 0. Three standard
    deviations above it become 255. So the heads of dark and bright scans get the same mean, as in nnU-Net's normalisation of
    MRI (doi 10.1038/s41592-020-01008-z). The unit and the zero of a scanner's values do not matter.

    If all values are equal, uint8 values stay as they are, and values of other types become 0.
    """
    head = values[values > values.mean(dtype=np.float64)]
    if not head.size:
        return values if values.dtype == np.uint8 else np.zeros(values.shape, np.uint8)
    mean, spread = head.mean(dtype=np.float64), 3 * head.std(dtype=np.float64)
    return linear(values, mean - spread, mean + spread)


INTENSITIES = {"raw": raw, "percentile": percentile, "zscore": zscore}
"""The functions that scale a sequence to [0, 255], by the value of data.intensity."""
