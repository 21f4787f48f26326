"""New images as volumes, and masks beside each other as the images were: slices, folders of slices, .npy, NIfTI."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from attnunet.data import listing, sequences
from attnunet.data.decoders import nifti
from attnunet.data.files import replacing, write_atomically
from attnunet.data.images import read_image
from attnunet.data.listing import IMAGES
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, refuse

LOSSLESS = {".jpg": ".png", ".jpeg": ".png"}
"""What a mask is written as, where not as its image."""


class Source(Protocol):
    """One volume: its files, and where they lie below the input."""

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def place(self) -> Path: ...

    def read(self, channels: int, plane: str) -> np.ndarray:
        """(D, h, w, channels) of numbers, in a plane where that is known. Raises DataError, which names the file."""

    def spacing(self, plane: str) -> tuple[float, ...] | None:
        """Return the distance in mm between slices, rows and columns; None where the files do not tell it."""

    def targets(self, ending: str) -> list[Path]:
        """Where `write` writes, relative to the output; `ending` goes before the suffix."""

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        """Values (D, h, w), a mask uint8 of 0 and 1 or probabilities float32 in [0, 1], below `folder`."""


@dataclass(frozen=True)
class Stack:
    """Image files as the slices of a volume. Masks are images of 0 and 255, probabilities TIFF files of float32."""

    files: tuple[Path, ...]
    place: Path

    def read(self, channels: int, plane: str) -> np.ndarray:
        slices = [read_image(str(file), channels) for file in self.files]
        for file, image in zip(self.files, slices, strict=True):
            if image.shape != slices[0].shape:
                raise DataError(f"{file}: {image.shape[:2]} pixels, but {self.files[0]} beside it has {slices[0].shape[:2]}")
        return np.stack(slices)

    def spacing(self, plane: str) -> None:
        return None

    def targets(self, ending: str) -> list[Path]:
        suffixes = [".tif" if ending else LOSSLESS.get(file.suffix.lower(), file.suffix) for file in self.files]
        return [self.place / f"{file.stem}{ending}{suffix}" for file, suffix in zip(self.files, suffixes, strict=True)]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        for target, item in zip(self.targets(ending), values, strict=True):
            image = item * np.uint8(255) if item.dtype == np.uint8 else item
            _, encoded = cv2.imencode(target.suffix, image)
            write_atomically(folder / target, encoded.tobytes())


@dataclass(frozen=True)
class Array:
    """A NumPy file: (D, h, w, channels) in; uint8 (D, h, w) of 0 and 1, or float32, out."""

    files: tuple[Path]
    place: Path

    def read(self, channels: int, plane: str) -> np.ndarray:
        (file,) = self.files
        try:
            volume = np.lib.format.open_memmap(file, mode="r")  # not np.load, which takes archives and pickles too
        except Exception as error:  # a damaged header meets NumPy's parser, which raises TokenError, TypeError and others
            raise DataError(f"{file}: cannot be read as a NumPy array: {error}") from error
        if file.stat().st_size != volume.offset + volume.nbytes:
            raise DataError(f"{file}: cannot be read as a NumPy array: it goes on behind the array")
        return np.array(check_channels(volume, file, channels), order="C")  # off the disk, where the file may change

    def spacing(self, plane: str) -> None:
        return None

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.files[0].stem}{ending}.npy"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        with replacing(folder / self.targets(ending)[0]) as temporary:
            np.save(temporary, values)


@dataclass(frozen=True)
class Nifti:
    """NIfTI files on one grid, one for each channel; or one file, (x, y, z), or (x, y, z, channels) for several channels.

    Slices are shown to the network as in training: in its plane, from below with the front at the top if that is axial.
    What is written lies over the image in every viewer, since it has the first file's header; a mask is of 0 and 1.
    """

    files: tuple[Path, ...]
    place: Path
    name: str

    def read(self, channels: int, plane: str) -> np.ndarray:
        images = [nifti.read(file) for file in self.files]
        for file, image in zip(self.files, images, strict=True):
            if told := images[0].grid.differs(image.grid):
                raise DataError(f"{file}: lies on another grid than {self.files[0]}: {told}; allowed: one grid a scan")
        shown = [image.grid.show(image.values.reshape(*image.grid.shape, -1), plane) for image in images]
        return check_channels(np.concatenate(shown, axis=-1), self.files[0], channels)

    def spacing(self, plane: str) -> tuple[float, ...]:
        return nifti.read_header(self.files[0]).grid.spacing(plane)

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.name}{ending}{self.files[0].name.removeprefix(stem(self.files[0]))}"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        image = nifti.read(self.files[0])
        image.write(folder / self.targets(ending)[0], image.grid.restore(values, plane))


def check_channels(volume: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """The volume, if a network of so many file channels can take it."""
    if volume.dtype.kind not in "iuf":
        raise DataError(f"{file}: {volume.dtype} values; allowed: integers and real numbers")
    if volume.ndim != 4 or volume.shape[-1] != channels or volume.size == 0:
        raise DataError(f"{file}: slices, height, width, channels are {volume.shape}; {channels} channel(s) are needed")
    if not np.isfinite(volume).all():
        raise DataError(f"{file}: holds values that are NaN or infinite; allowed: numbers")
    return volume


VOLUMES = (".npy", *nifti.SUFFIXES)
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
        elif suffix == ".npy":
            volumes.append(Array((file,), place))
        elif suffix in nifti.SUFFIXES:
            volumes.append(Nifti((file,), place, stem(file)))
        else:
            images.setdefault(place, []).append(file)
    sources = [*(Stack(tuple(slices), place) for place, slices in images.items()), *volumes]
    if not sources:
        raise DataError(f"input={path}: nothing to segment there; allowed: {ALLOWED}; files named *_mask are passed over")
    return sources, passed


def join(found: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """Return the volumes, NIfTI files of one scan as one: those that are named as a run's channels.

    In a folder that has such files, other NIfTI files are passed over, such as labels and sequences that the run does not use.

    Raises:
        DataError: some of a scan's files are there, others not.
    """
    scans: dict[tuple[Path, str], dict[str, Path]] = {}
    for source in found:
        if isinstance(source, Nifti):
            case, name = sequences.divide(source.name, sorted(names, key=len, reverse=True))
            scans.setdefault((source.place, case), {})[name] = source.files[0]
    named = {key: files for key, files in scans.items() if set(files) & set(names)}
    places = {place for place, _ in named}
    joined = [source for source in found if not (isinstance(source, Nifti) and source.place in places)]
    for (place, case), files in named.items():
        if lacking := [name for name in names if name not in files]:
            there = next(iter(files.values()))
            raise DataError(f"{there}: no file for the sequence {', '.join(lacking)} beside it, which the run's network takes")
        paths = tuple(files[name] for name in names)
        joined.append(Nifti(paths, place, (case or "mask") if len(paths) > 1 else stem(paths[0])))
    return joined
