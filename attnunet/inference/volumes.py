"""The kinds of volume that are segmented: how each is read, and how its mask is written in the same form.

A volume is a stack of slices, a TIFF of several pages, a .npy file, or NIfTI files and DICOM series.
`attnunet.inference.inputs` finds the volumes at a path.
"""

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, Protocol

import cv2
import nibabel
import numpy as np
import tifffile

from attnunet.data import images
from attnunet.data.decoders import dicom, nifti
from attnunet.data.files import replacing, write_atomically
from attnunet.data.grids import Grid
from attnunet.data.images import read_mask, read_pages, read_stack
from attnunet.data.labels import mark_lesion
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError
from attnunet.data.volumes import read_grid, read_label, read_values

LOSSLESS = {".jpg": ".png", ".jpeg": ".png"}
"""Maps the suffix of an image in a lossy format to the suffix of its mask. Other masks have the suffix of their image."""
TILTED = 5
"""A volume is called tilted if its slices are, by more than this number of degrees."""


class Look(NamedTuple):
    """The facts about a volume that its headers tell.

    Attributes:
        shape: the numbers of slices, rows and columns.
        channels: the number of channels.
        spacing: the distances in mm between slices, between rows and between columns, or None if the files lack them.
        orientation: the directions of the file's axes as text, such as "LPS" or "RAS, tilted by 20 degrees".
        assumed: whether the files lack an orientation, so that one was assumed.
        refusal: the reason why no network for slices of this plane can segment the volume, or None; see `Grid.refusal`.
        thickness: whether the thickness of the only slice was assumed; see `dicom.Series.assumed`.
    """

    shape: tuple[int, ...]
    channels: int
    spacing: tuple[float, ...] | None
    orientation: str
    assumed: bool = False
    refusal: str | None = None
    thickness: bool = False


class Source(Protocol):
    """A volume to segment.

    Attributes:
        files: the files of the volume.
        place: the folder of its mask, relative to the output, which has the same folders as the input.
        name: the volume's name in its place, or "" for a folder of slices, which has the name of the folder.
    """

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def place(self) -> Path: ...

    @property
    def name(self) -> str: ...

    def look(self, plane: str) -> Look:
        """Return the facts about the volume, without reading all its values. The slices lie in `plane`.

        Raises:
            DataError: a file cannot be read, or does not fit. The message names the file.
        """

    def read(self, channels: int, plane: str) -> np.ndarray:
        """Return numbers (D, h, w, channels). Slices lie in `plane` if the files tell their orientation.

        Raises:
            DataError: a file cannot be read, or does not fit. The message names the file.
        """

    def targets(self, ending: str) -> list[Path]:
        """Return the paths that `write` writes, relative to the output. `ending` stands before the suffix of each name."""

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        """Write values (D, h, w) below `folder`. They are a mask, uint8 of 0 and 1, or float32 values in [0, 1]."""

    def read_mask(self, folder: Path, plane: str) -> np.ndarray:
        """Return the mask, uint8 (D, h, w) of 0 and 1, that `write` wrote with an empty ending.

        Raises:
            DataError: a file cannot be read, or is no mask.
        """


@dataclass(frozen=True)
class Stack:
    """A volume whose slices are image files. A mask becomes images of 0 and 255; real numbers become float32 TIFF files."""

    files: tuple[Path, ...]
    place: Path
    name: str = ""

    def look(self, plane: str) -> Look:
        first = images.read(str(self.files[0])).pixels
        channels = 1 if first.ndim == 2 else first.shape[2]
        return Look((len(self.files), *first.shape[:2]), channels, None, "as stored")

    def read(self, channels: int, plane: str) -> np.ndarray:
        return read_stack([str(file) for file in self.files], channels)

    def targets(self, ending: str) -> list[Path]:
        suffixes = [".tif" if ending else LOSSLESS.get(file.suffix.lower(), file.suffix) for file in self.files]
        return [self.place / f"{file.stem}{ending}{suffix}" for file, suffix in zip(self.files, suffixes, strict=True)]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        for target, item in zip(self.targets(ending), values, strict=True):
            image = item * np.uint8(255) if item.dtype == np.uint8 else item
            _, encoded = cv2.imencode(target.suffix, image)
            write_atomically(folder / target, encoded.tobytes())

    def read_mask(self, folder: Path, plane: str) -> np.ndarray:
        return np.stack([read_mask(str(folder / target)) for target in self.targets("")])


@dataclass(frozen=True)
class Pages:
    """A volume whose slices are the pages of a TIFF file. A mask has pages of 0 and 255, real numbers have float32 pages."""

    files: tuple[Path]
    place: Path

    @property
    def name(self) -> str:
        return self.files[0].stem

    def look(self, plane: str) -> Look:
        first, *others = read_pages(str(self.files[0]))
        channels = 1 if first.pixels.ndim == 2 else first.pixels.shape[2]
        return Look((1 + len(others), *first.pixels.shape[:2]), channels, None, "as stored")

    def read(self, channels: int, plane: str) -> np.ndarray:
        path = str(self.files[0])
        return np.stack([images.brightness(path, page, channels) for page in read_pages(path)])

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.name}{ending}{self.files[0].suffix}"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        pages = values * np.uint8(255) if values.dtype == np.uint8 else values
        encoded = io.BytesIO()
        tifffile.imwrite(encoded, pages, photometric="minisblack", compression="zlib", metadata=None)
        write_atomically(folder / self.targets(ending)[0], encoded.getvalue())

    def read_mask(self, folder: Path, plane: str) -> np.ndarray:
        path = str(folder / self.targets("")[0])
        return np.stack([mark_lesion(path, page.pixels, None, (0,)) for page in read_pages(path)])


@dataclass(frozen=True)
class Array:
    """A volume (D, h, w, channels) in a NumPy file. The output file holds (D, h, w): uint8 of 0 and 1, or float32."""

    files: tuple[Path]
    place: Path

    @property
    def name(self) -> str:
        return self.files[0].stem

    def look(self, plane: str) -> Look:
        volume = map_array(self.files[0])
        if volume.ndim != 4:
            raise DataError(f"{self.files[0]}: {volume.shape}; allowed: four axes, for slices, rows, columns and channels")
        return Look(volume.shape[:3], volume.shape[3], None, "as stored")

    def read(self, channels: int, plane: str) -> np.ndarray:
        (file,) = self.files
        return np.array(check_channels(map_array(file), file, channels), order="C")  # a copy, because the file can change

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.files[0].stem}{ending}.npy"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        with replacing(folder / self.targets(ending)[0]) as temporary:
            np.save(temporary, values)

    def read_mask(self, folder: Path, plane: str) -> np.ndarray:
        return np.array(map_array(folder / self.targets("")[0]))


def map_array(file: Path) -> np.ndarray:
    """Return the array of a NumPy file, mapped to memory. Raise DataError if the file is damaged or holds more."""
    try:
        volume = np.lib.format.open_memmap(file, mode="r")  # not np.load, which accepts archives and pickles too
    except Exception as error:  # for a damaged header NumPy raises TokenError, TypeError and other errors
        raise DataError(f"{file}: cannot be read as a NumPy array: {error}") from error
    if file.stat().st_size != volume.offset + volume.nbytes:
        raise DataError(f"{file}: cannot be read as a NumPy array: it goes on behind the array")
    return volume


@dataclass(frozen=True)
class Sequences:
    """One volume for each channel, all on the same grid, or a single NIfTI file with all channels.

    A volume is a NIfTI file, or a folder with a DICOM series. The network gets slices in the plane of its training. Axial
    slices are seen from below, with the front at the top.

    Every viewer shows the mask on top of the first volume: a NIfTI mask has the geometry of the first volume's header, and a
    DICOM SEG file refers to the slices of the first volume. For a DICOM series, real numbers are written to a NIfTI file.
    """

    volumes: tuple[Path, ...]
    place: Path
    name: str

    @property
    def files(self) -> tuple[Path, ...]:
        """The files, also those of a folder that is no whole series."""
        parts = [sorted(volume.iterdir()) if volume.is_dir() else [volume] for volume in self.volumes]
        return tuple(chain.from_iterable(parts))

    def look(self, plane: str) -> Look:
        first, *others = self.volumes
        header = None if first.is_dir() else nifti.read_header(first)
        grid = header.grid if header and not others else read_grid(str(first))
        for other in others:
            if told := grid.differs(read_grid(str(other))):
                raise DataError(f"{other}: lies on another grid than {first}: {told}; allowed: one grid a scan")
        check_patient([volume for volume in self.volumes if volume.is_dir()])
        channels = math.prod(header.shape[3:]) if header and not others else len(self.volumes)
        shape, axes = grid.shown(plane).shape, describe_axes(grid, plane)
        thickness = grid.shape[-1] == 1 and first.is_dir() and dicom.read_series(first).assumed
        return Look(shape, channels, grid.spacing(plane), axes, not grid.known, grid.refusal(plane), thickness)

    def read(self, channels: int, plane: str) -> np.ndarray:
        read = [read_values(str(volume)) for volume in self.volumes]
        _, first = read[0]
        for volume, (_, grid) in zip(self.volumes, read, strict=True):
            if told := first.differs(grid):
                raise DataError(f"{volume}: lies on another grid than {self.volumes[0]}: {told}; allowed: one grid a scan")
        shown = [grid.show(values.reshape(*grid.shape, -1), plane) for values, grid in read]
        return check_channels(np.concatenate(shown, axis=-1), self.volumes[0], channels)

    def targets(self, ending: str) -> list[Path]:
        first = self.volumes[0]
        suffix = first.name.removeprefix(stem(first)) if first.is_file() else ".nii.gz" if ending else ".dcm"
        return [self.place / f"{self.name}{ending}{suffix}"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        first, target = self.volumes[0], folder / self.targets(ending)[0]
        if first.is_file():
            image = nifti.read(first)
            image.write(target, image.grid.restore(values, plane))
            return
        series = dicom.read_series(first)
        turned = series.grid.restore(values, plane)
        if ending:
            nifti.write(target, turned, series.grid)
        else:
            dicom.write_segmentation(target, turned, series)

    def read_mask(self, folder: Path, plane: str) -> np.ndarray:
        return (read_label(str(folder / self.targets("")[0]), str(self.volumes[0]), plane) > 0).astype(np.uint8)


def describe_axes(grid: Grid, plane: str) -> str:
    """Return the directions of a grid's axes, such as "RAS", and how far its slices are tilted if that is above TILTED."""
    axes, tilt = "".join(nibabel.aff2axcodes(grid.affine)), grid.tilt(plane)
    return f"{axes}, tilted by {tilt:.0f} degrees" if tilt > TILTED else axes


def check_patient(folders: Sequence[Path]) -> None:
    """Raise DataError if DICOM series belong to several patients. The message does not name them."""
    if len({str(dicom.read_series(folder).headers[0].get("PatientID", "")) for folder in folders}) > 1:
        raise DataError(f"{folders[1]}: is of another patient than {folders[0]} (PatientID); allowed: series of one patient")


def check_channels(volume: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """Return the volume. Raise DataError if a network that needs `channels` channels of a file cannot take it."""
    if volume.dtype.kind not in "iuf":
        raise DataError(f"{file}: {volume.dtype} values; allowed: integers and real numbers")
    if volume.ndim != 4 or volume.shape[-1] != channels or volume.size == 0:
        raise DataError(f"{file}: slices, height, width, channels are {volume.shape}; {channels} channel(s) are needed")
    if not np.isfinite(volume).all():
        raise DataError(f"{file}: holds values that are NaN or infinite; allowed: numbers")
    return volume
