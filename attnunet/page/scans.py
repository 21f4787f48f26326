"""The scans in an upload: which there are, what a network says about them, and the files of their masks."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TypeAlias

import numpy as np
from omegaconf import OmegaConf

from attnunet.config.targets import CONF
from attnunet.data.intensity import is_scaled, scale
from attnunet.data.slices import DataError
from attnunet.inference import inputs
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.gates import read_gates
from attnunet.inference.inputs.case import Case
from attnunet.inference.inputs.folder import find_files
from attnunet.inference.predictor import Predictor
from attnunet.inference.segmenting import NOTES, Work, describe_mask, read_case
from attnunet.models.blocks import gate_maps
from attnunet.page.uploads import Files, check_sizes, laid_out

Network: TypeAlias = Predictor | Ensemble
NOWHERE = Path()
"""The output of `Work` where nothing is written."""


@dataclass(frozen=True)
class Scan:
    """A scan of an upload.

    Attributes:
        name: its name, which no other scan of the upload has.
        targets: the paths of the files of its mask, relative to the output of `attnunet.predict`; none if the scan is faulty.
    """

    name: str
    targets: tuple[Path, ...]

    @property
    def download(self) -> str:
        """The name of the file to download: the mask's, or that of an archive if the mask has several files."""
        return self.targets[0].name if len(self.targets) == 1 else f"{self.name.replace('/', '_')}_masks.zip"


@dataclass(frozen=True)
class Segmented:
    """A scan with the network's answer.

    Attributes:
        shown: the sequences in grey for a screen, uint8 (D, h, w, C), by the 1st and the 99th percentile of their values.
        probabilities: the lesion's probability, float32 (D, h, w) in [0, 1].
        images: the input of the network, or of the first one of an ensemble, (D, S, S, its channels).
        spacing: the distance in mm between slices, rows and columns; None if the files do not tell it.
        fullest: the index of the slice with the most lesion, or of the middle one if there is none.
        notes: what a user should know of the mask, see `attnunet.inference.segmenting.NOTES`.
    """

    shown: np.ndarray
    probabilities: np.ndarray
    images: np.ndarray
    spacing: Sequence[float] | None
    fullest: int
    notes: tuple[str, ...]


@contextmanager
def opened(files: Files, predictor: Network) -> Iterator[tuple[list[Case], str]]:
    """Yield the scans of an upload and a sentence about the files that are left out, during a `with` block."""
    with laid_out(files) as path, inputs.unpacked(path) as root:
        check_sizes(root)
        # A table of cases is not read, because it could name any file of this machine.
        cases, passed = find_files(root, OmegaConf.load(Path(CONF, "predict.yaml")).ignore).cases(predictor, None)
        yield cases, passed.describe()


def list_scans(files: Files, predictor: Network) -> tuple[list[Scan], str]:
    """Return the scans of an upload, and a sentence about the files that are left out.

    Raises:
        UploadError: there is no scan.
    """
    with opened(files, predictor) as (cases, passed):
        return [Scan(case.name, tuple(case.source.targets("") if case.source else ())) for case in cases], passed


def segment(files: Files, number: int, predictor: Network) -> Segmented:
    """Return the network's answer for a scan of an upload.

    Raises:
        UploadError: the scan cannot be read, or does not suit the network.
    """
    member, *_ = predictor.members
    scaled = any(is_scaled(each.preparation.intensity) for each in predictor.members)
    work = Work(NOWHERE, scaled=scaled)
    with opened(files, predictor) as (cases, _):
        if cases[number].source is None:
            raise DataError(cases[number].fault)
        volume, look = read_case(cases[number], predictor, work)
        found = predictor.predict_one(volume, look.spacing)
        notes = describe_mask(cases[number], found.mask, look, work)["notes"]
    places = [predictor.file_channels.index(name) for name in predictor.channels]
    shown = np.stack([scale(volume[..., place], "percentile", "uint8") for place in places], axis=-1)
    pixels = found.mask.sum(axis=(1, 2))
    fullest = int(pixels.argmax()) if pixels.any() else len(pixels) // 2
    images = member.preparation(volume, look.spacing)
    told = tuple(note for note in NOTES if note in notes)
    return Segmented(shown, found.probabilities, images, look.spacing, fullest, told)


def write_mask(files: Files, number: int, predictor: Network, mask: np.ndarray) -> bytes:
    """Return the bytes of the file that `attnunet.predict` writes for a scan, or an archive of its files if it writes several.

    `mask` is uint8 (D, h, w) of 0 and 1.
    """
    with opened(files, predictor) as (cases, _), TemporaryDirectory() as folder:
        source = cases[number].source
        assert source is not None
        source.write(mask, Path(folder), "", predictor.plane)
        targets = source.targets("")
        if len(targets) == 1:
            return Path(folder, targets[0]).read_bytes()
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
            for target in targets:
                stream.write(Path(folder, target), target)
        return archive.getvalue()


def find_gates(segmented: Segmented, place: int, predictor: Network) -> dict[str, np.ndarray]:
    """Return the weights of each gate on a slice, (h, w) in [0, 1], by the gate's name; none if the network has no gates.

    The gates of an ensemble are those of its first network.
    """
    member, *_ = predictor.members
    frame = member.preparation.frame(segmented.probabilities.shape[1:], segmented.spacing)
    weights = read_gates(gate_maps(member.network), segmented.images[place], frame)
    return {name.removesuffix("_map"): values for name, values in weights.items()}
