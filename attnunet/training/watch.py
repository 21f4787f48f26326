"""The predictions of a few validation slices after each epoch, kept beside the state of a training for a figure."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.files import replacing

Masks = Mapping[int, np.ndarray]
"""Masks, bool (h, w), by the index of the slice."""


def choose_slices(prepared: Prepared, indices: Sequence[int]) -> list[int]:
    """Return a slice of each of three scans: those with the largest, the median and the smallest lesion.

    Each slice is the one with the most lesion pixels in its scan. Scans without a lesion are left out.
    """
    scans: dict[str, list[int]] = {}
    for index in indices:
        if prepared.lesion_pixels[index]:
            scans.setdefault(prepared.slices[index].volume, []).append(index)
    ranked = sorted(scans.values(), key=lambda members: -prepared.lesion_pixels[members].sum())
    places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1) if ranked else ())
    return [max(ranked[place], key=lambda index: prepared.lesion_pixels[index]) for place in places]


class Watch(keras.callbacks.Callback):
    """Writes the masks that `masks` holds at the end of each epoch to a file. An interrupted training keeps its files."""

    def __init__(self, masks: Masks, folder: Path) -> None:
        super().__init__()
        self.masks, self.folder = masks, folder

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.masks:
            with replacing(self.folder / f"watched-{epoch + 1}.npz") as temporary:
                np.savez_compressed(temporary, list(self.masks), *self.masks.values())


def read_masks(folder: Path, epochs: int) -> dict[int, Masks]:
    """Return the masks of the epochs 1 to `epochs`. Epochs are missing if the figures were off then."""
    files = {epoch: folder / f"watched-{epoch}.npz" for epoch in range(1, epochs + 1)}
    return {epoch: read_file(path) for epoch, path in files.items() if path.exists()}


def read_file(path: Path) -> Masks:
    with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
        return {int(index): stored[f"arr_{place}"] for place, index in enumerate(stored["arr_0"], 1)}
