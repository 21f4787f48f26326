"""New images as volumes, and masks beside each other as the images were: slices, folders of slices, .npy, NIfTI."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from attnunet.data import listing
from attnunet.data.files import replacing, write_atomically
from attnunet.data.images import read_image
from attnunet.data.listing import IMAGES
from attnunet.data.slices import DataError, refuse

LOSSLESS = {".jpg": ".png", ".jpeg": ".png"}
"""What a mask is written as, where not as its image."""


class Source(Protocol):
    """One volume: its files, and where they lie below the input."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def place(self) -> Path: ...

    def read(self, channels: int) -> np.ndarray:
        """uint8 (D, h, w, channels). Raises DataError, which names the file."""

    def targets(self, ending: str) -> list[Path]:
        """Where `write` writes, relative to the output; `ending` goes before the suffix."""

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        """Values (D, h, w), a mask uint8 of 0 and 1 or probabilities float32 in [0, 1], below `folder`."""


@dataclass(frozen=True)
class Stack:
    """Image files as the slices of a volume. Masks are images of 0 and 255, probabilities TIFF files of float32."""

    files: tuple[Path, ...]
    place: Path

    def read(self, channels: int) -> np.ndarray:
        slices = [read_image(str(file), channels) for file in self.files]
        for file, image in zip(self.files, slices, strict=True):
            if image.shape != slices[0].shape:
                raise DataError(f"{file}: {image.shape[:2]} pixels, but {self.files[0]} beside it has {slices[0].shape[:2]}")
        return np.stack(slices)

    def targets(self, ending: str) -> list[Path]:
        suffixes = [".tif" if ending else LOSSLESS.get(file.suffix.lower(), file.suffix) for file in self.files]
        return [self.place / f"{file.stem}{ending}{suffix}" for file, suffix in zip(self.files, suffixes, strict=True)]

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        for target, plane in zip(self.targets(ending), values, strict=True):
            image = plane * np.uint8(255) if plane.dtype == np.uint8 else plane
            _, encoded = cv2.imencode(target.suffix, image)
            write_atomically(folder / target, encoded.tobytes())


@dataclass(frozen=True)
class Array:
    """A NumPy file: uint8 (D, h, w, channels) in; uint8 (D, h, w) of 0 and 1, or float32, out."""

    files: tuple[Path]
    place: Path

    def read(self, channels: int) -> np.ndarray:
        (file,) = self.files
        try:
            volume = np.lib.format.open_memmap(file, mode="r")  # not np.load, which takes archives and pickles too
        except Exception as error:  # a damaged header meets NumPy's parser, which raises TokenError, TypeError and others
            raise DataError(f"{file}: cannot be read as a NumPy array: {error}") from error
        if file.stat().st_size != volume.offset + volume.nbytes:
            raise DataError(f"{file}: cannot be read as a NumPy array: it goes on behind the array")
        return np.array(check_channels(volume, file, channels), order="C")  # off the disk, where the file may change

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.files[0].stem}{ending}.npy"]

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        with replacing(folder / self.targets(ending)[0]) as temporary:
            np.save(temporary, values)


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file of uint8: (x, y, z), or (x, y, z, channels) for more than one channel.

    Slices are shown to the network as to a reader: the first row in front, the first column at the patient's right,
    slices upwards. What is written lies over the image in every viewer, since it has the file's header; a mask is of 0 and 1.
    """

    files: tuple[Path]
    place: Path

    def scan(self) -> Any:
        try:
            from attnunet.inference import nifti
        except ModuleNotFoundError as error:
            raise DataError(f"{self.files[0]}: NIfTI needs nibabel: pip install attnunet[nifti]") from error
        return nifti.read(self.files[0])

    def read(self, channels: int) -> np.ndarray:
        return check_channels(self.scan().shown, self.files[0], channels)

    def targets(self, ending: str) -> list[Path]:
        name = self.files[0].name
        stem = name[: name.lower().rindex(".nii")]
        return [self.place / f"{stem}{ending}{name.removeprefix(stem)}"]

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        self.scan().write(folder / self.targets(ending)[0], values)


def check_channels(volume: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """The volume, if a network of so many file channels can take it."""
    if volume.dtype != np.uint8:
        raise DataError(f"{file}: {volume.dtype} values; only uint8 is read, so rescale it to 0 to 255 first")
    if volume.ndim != 4 or volume.shape[-1] != channels or volume.size == 0:
        raise DataError(f"{file}: slices, height, width, channels are {volume.shape}; {channels} channel(s) are needed")
    return volume


VOLUMES: dict[str, type[Array] | type[Nifti]] = {".npy": Array, ".nii": Nifti, ".nii.gz": Nifti}
ALLOWED = f"images ({', '.join(IMAGES)}), volumes ({', '.join(VOLUMES)}), or folders of such"


def find_volumes(path: Path) -> tuple[list[Source], list[Path]]:
    """The volumes at `path`, and the files that are passed over: those named *_mask, and those that are none of ALLOWED.

    A folder's images are one volume, in natural order (slice_2 before slice_10), and so are those of each folder in it.

    Raises:
        DataError: there is nothing, or a fault of `listing.files`.
    """
    files, faults = listing.list_files(path) if path.is_dir() else ([path] if path.is_file() else [], [])
    refuse(faults)
    images: dict[Path, list[Path]] = {}
    volumes: list[Source] = []
    passed: list[Path] = []
    for file in files:
        place = Path() if path.is_file() else file.parent.relative_to(path)
        name = file.name.lower()
        suffix = next((suffix for suffix in (*IMAGES, *VOLUMES) if name.endswith(suffix)), "")
        if not suffix or name.removesuffix(suffix).endswith("_mask"):
            passed.append(file)
        elif suffix in VOLUMES:
            volumes.append(VOLUMES[suffix]((file,), place))
        else:
            images.setdefault(place, []).append(file)
    sources = [*(Stack(tuple(slices), place) for place, slices in images.items()), *volumes]
    if not sources:
        raise DataError(f"input={path}: nothing to segment there; allowed: {ALLOWED}; files named *_mask are passed over")
    return sources, passed
