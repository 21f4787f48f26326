"""Phantoms as images to try a network on."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from attnunet.data.decoders import nifti
from attnunet.data.grids import Grid
from attnunet.data.lgg import CHANNELS
from attnunet.data.phantom import draw_patient
from attnunet.page.uploads import Files

SEED = 2_000_000_000
"""A seed that no training uses by default, so that the network has not seen the phantom."""
SLICES, SIZE = 20, 128
SPACING = (6.0, 1.8, 1.8)
"""The distance in mm between slices, rows and columns."""


def draw_example(number: int, channels: Sequence[str]) -> Files:
    """Return a phantom as a NIfTI file for each channel. A channel that the phantom lacks is a copy of its FLAIR."""
    images, _ = draw_patient(np.random.default_rng([SEED, number]), SLICES, SIZE)
    slices, rows, columns = SPACING
    files = {}
    with TemporaryDirectory() as folder:
        for channel in channels:
            place = CHANNELS.index(channel if channel in CHANNELS else "flair")
            voxels = images[..., place].transpose(2, 1, 0)
            path = Path(folder, f"phantom_{number}_{channel}.nii.gz")
            nifti.write(path, voxels, Grid(voxels.shape, np.diag([-columns, -rows, slices, 1])))
            files[path.name] = path.read_bytes()
    return files
