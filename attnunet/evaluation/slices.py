"""Slices of a run's own data, to check an exported network or to calibrate an engine."""

from __future__ import annotations

import numpy as np

from attnunet.data.phantom import draw_patient
from attnunet.data.slices import DataError
from attnunet.evaluation.scoring import Selection, select_slices
from attnunet.inference.predictor import Preparation
from attnunet.tracking.records import Record

MOST = 32
"""The number of slices for a check."""


def spread(selection: Selection, most: int) -> np.ndarray:
    """Return up to `most` images of a selection, uint8 or float16 (n, S, S, C), at equal distances over all its slices."""
    places = np.unique(np.linspace(0, len(selection.indices) - 1, most).round().astype(int))
    return selection.prepared.inputs([selection.indices[place] for place in places])


def slices_to_check(record: Record, preparation: Preparation) -> tuple[np.ndarray, str]:
    """Return images for the check of an exported network, uint8 or float16 (n, S, S, C), and a text that tells what they are.

    They are validation slices of the run. If the data of the run cannot be read, they are slices of a phantom, and the text
    tells the reason.
    """
    try:
        selection = select_slices(record, preparation, None, None, "val")
        images = spread(selection, MOST)
        changed = selection.prepared.fingerprint != record.split["fingerprint"]
        return images, f"{len(images)} validation slices of the run{', whose data have changed since' if changed else ''}"
    except DataError as error:
        drawn, _ = draw_patient(np.random.default_rng(0), slices=8, size=preparation.image_size)
        volume = drawn[..., np.arange(len(preparation.file_channels)) % drawn.shape[-1]]
        side = preparation.pixel_size or 1.0
        images = preparation(volume, (side, side, side))
        return images, f"{len(images)} PHANTOM slices, because the run's data cannot be read here: {error}"
