"""Which values of a mask or label file are lesion."""

from collections.abc import Sequence

import numpy as np

from attnunet.data.slices import DataError

SHOWN = 10
"""The number of values that a message names."""


def mark_lesion(path: str, values: np.ndarray, labels: Sequence[int] | None, background: Sequence[int]) -> np.ndarray:
    """Return 1 where a value is one of `labels`, and 0 where it is one of `background`, as uint8 of the same shape.

    If `labels` is None, one value besides those of `background` is allowed, and it is lesion.

    Raises:
        DataError: there are other values. The message names the file `path`.
    """
    if labels is None:
        lesion = np.isin(values, background, invert=True)
        if np.unique(values[lesion]).size > 1:
            allowed = f"a mask has the values {list_values(background)} and one other"
            raise DataError(
                f"{path}: {allowed}, found {list_values(np.unique(values))}; save masks as PNG, as JPEG blurs them, or name "
                "the values that are lesion by data.labels (data=table)"
            )
        return lesion.astype(np.uint8)
    lesion = np.isin(values, labels)
    if not (lesion | np.isin(values, background)).all():
        raise DataError(
            f"{path}: holds the values {list_values(np.unique(values))}; data.labels={list(labels)} are lesion, "
            f"{list(background)} background, and each value must be one of these"
        )
    return lesion.astype(np.uint8)


def list_values(values: Sequence[float] | np.ndarray) -> str:
    """Return the first values as a text."""
    return ", ".join(f"{value:g}" for value in list(values)[:SHOWN])
