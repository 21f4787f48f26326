"""The scans in an upload: which there are, what a network says about them, and the files of their masks."""

import io
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from attnunet.data.frames import make_frame
from attnunet.data.intensity import percentile
from attnunet.inference import volumes
from attnunet.inference.gates import read_gates
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.volumes import Source
from attnunet.models.blocks import gate_maps
from attnunet.page.uploads import Files, laid_out


@dataclass(frozen=True)
class Scan:
    """A scan of an upload: its name, and the paths of the files of its mask, relative to the output of `attnunet.predict`."""

    name: str
    targets: tuple[Path, ...]

    @property
    def download(self) -> str:
        """The name of the file to download: the mask's, or that of an archive if the mask has several files."""
        (first, *others) = self.targets
        return f"{self.name.replace('/', '_')}_masks.zip" if others else first.name


@dataclass(frozen=True)
class Segmented:
    """A scan with the network's answer.

    Attributes:
        shown: the sequences in grey for a screen, uint8 (D, h, w, C), by the 1st and the 99th percentile of their values.
        images: the network's input, uint8 (D, S, S, C).
        probabilities: the lesion's probability, float32 (D, h, w) in [0, 1].
        spacing: the distance in mm between slices, rows and columns; None if the files do not tell it.
        fullest: the index of the slice with the most voxels above the predictor's threshold, or of the middle one if none has.
    """

    shown: np.ndarray
    images: np.ndarray
    probabilities: np.ndarray
    spacing: tuple[float, ...] | None
    fullest: int


@contextmanager
def opened(files: Files, preparation: Preparation) -> Iterator[tuple[list[Source], list[str]]]:
    """Yield the scans of an upload and the names of the files that are passed over, during a `with` block."""
    with laid_out(files) as path:
        found, passed = volumes.find_volumes(path)
        yield volumes.join(found, preparation.file_channels), [file.name for file in passed]


def list_scans(files: Files, preparation: Preparation) -> tuple[list[Scan], list[str]]:
    """Return the scans of an upload, and the names of the files that are passed over.

    Raises:
        UploadError: there is no scan, or a scan lacks a channel.
    """
    with opened(files, preparation) as (sources, passed):
        return [Scan(name_scan(source), tuple(source.targets(""))) for source in sources], passed


def name_scan(source: Source) -> str:
    """Return the path of a scan in an upload: of its mask's file, or of its folder if the mask has several files."""
    (target, *others) = source.targets("")
    return str(source.place / source.files[0].parent.name if others else target)


def segment(files: Files, number: int, predictor: Predictor) -> Segmented:
    """Return the network's answer for a scan of an upload.

    Raises:
        UploadError: the scan cannot be read, or does not suit the network.
    """
    preparation = predictor.preparation
    with opened(files, preparation) as (sources, _):
        source = sources[number]
        volume = source.read(len(preparation.file_channels), preparation.plane)
        spacing = source.spacing(preparation.plane)
        probabilities = predictor.probabilities_of(volume, spacing)
    places = [preparation.file_channels.index(name) for name in preparation.channels]
    shown = np.stack([percentile(volume[..., place]) for place in places], axis=-1)
    above = (probabilities >= predictor.decision.threshold).sum(axis=(1, 2))
    fullest = int(np.argmax(above)) if above.any() else len(above) // 2
    return Segmented(shown, preparation(volume, spacing), probabilities, spacing, fullest)


def write_mask(files: Files, number: int, predictor: Predictor, mask: np.ndarray) -> bytes:
    """Return the bytes of the file that `attnunet.predict` writes for a scan, or an archive of its files if it writes several.

    `mask` is uint8 (D, h, w) of 0 and 1.
    """
    with opened(files, predictor.preparation) as (sources, _), TemporaryDirectory() as folder:
        source = sources[number]
        source.write(mask, Path(folder), "", predictor.preparation.plane)
        targets = source.targets("")
        if len(targets) == 1:
            return Path(folder, targets[0]).read_bytes()
        archive = io.BytesIO()
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as stream:
            for target in targets:
                stream.write(Path(folder, target), target)
        return archive.getvalue()


def find_gates(segmented: Segmented, place: int, predictor: Predictor) -> dict[str, np.ndarray]:
    """Return the weights of each gate on a slice, (h, w) in [0, 1], by the gate's name; none if the network has no gates."""
    preparation, native = predictor.preparation, segmented.probabilities.shape[1:]
    frame = make_frame(native, preparation.image_size, preparation.pixel_size, segmented.spacing)
    weights = read_gates(gate_maps(predictor.network), segmented.images[place], frame)
    return {name.removesuffix("_map"): values for name, values in weights.items()}
