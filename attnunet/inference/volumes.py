"""Reads new images as volumes, and writes masks in the same arrangement of folders.

The images can be slices, folders of slices, .npy files, NIfTI files or DICOM series.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import cv2
import numpy as np

from attnunet.data import listing, sequences
from attnunet.data.decoders import dicom, nifti
from attnunet.data.files import replacing, write_atomically
from attnunet.data.images import read_stack
from attnunet.data.listing import IMAGES
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, refuse
from attnunet.data.volumes import list_parts, read_grid, read_values

LOSSLESS = {".jpg": ".png", ".jpeg": ".png"}
"""Maps the suffix of an image in a lossy format to the suffix of its mask. Other masks have the suffix of their image."""


class Source(Protocol):
    """A volume to segment.

    `files` are the files of the volume. `place` is the folder of its mask, relative to the output, which has the same folders
    as the input.
    """

    @property
    def files(self) -> tuple[Path, ...]: ...

    @property
    def place(self) -> Path: ...

    def read(self, channels: int, plane: str) -> np.ndarray:
        """Return numbers (D, h, w, channels). Slices lie in `plane` if the files tell their orientation.

        Raises:
            DataError: a file cannot be read, or does not fit. The message names the file.
        """

    def spacing(self, plane: str) -> tuple[float, ...] | None:
        """Return the distances in mm between slices, between rows and between columns, or None if the files lack them."""

    def targets(self, ending: str) -> list[Path]:
        """Return the paths that `write` writes, relative to the output. `ending` stands before the suffix of each name."""

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        """Write values (D, h, w) below `folder`. They are a mask, uint8 of 0 and 1, or probabilities, float32 in [0, 1]."""


@dataclass(frozen=True)
class Stack:
    """A volume whose slices are image files. A mask becomes images of 0 and 255; probabilities become float32 TIFF files."""

    files: tuple[Path, ...]
    place: Path

    def read(self, channels: int, plane: str) -> np.ndarray:
        return read_stack([str(file) for file in self.files], channels)

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
    """A volume (D, h, w, channels) in a NumPy file. The output file holds (D, h, w): uint8 of 0 and 1, or float32."""

    files: tuple[Path]
    place: Path

    def read(self, channels: int, plane: str) -> np.ndarray:
        (file,) = self.files
        try:
            volume = np.lib.format.open_memmap(file, mode="r")  # not np.load, which accepts archives and pickles too
        except Exception as error:  # for a damaged header NumPy raises TokenError, TypeError and other errors
            raise DataError(f"{file}: cannot be read as a NumPy array: {error}") from error
        if file.stat().st_size != volume.offset + volume.nbytes:
            raise DataError(f"{file}: cannot be read as a NumPy array: it goes on behind the array")
        return np.array(check_channels(volume, file, channels), order="C")  # a copy in memory, because the file can change

    def spacing(self, plane: str) -> None:
        return None

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.files[0].stem}{ending}.npy"]

    def write(self, values: np.ndarray, folder: Path, ending: str, plane: str) -> None:
        with replacing(folder / self.targets(ending)[0]) as temporary:
            np.save(temporary, values)


@dataclass(frozen=True)
class Sequences:
    """One volume for each channel, all on the same grid, or a single NIfTI file with all channels.

    A volume is a NIfTI file, or a folder with a DICOM series. The network gets slices in the plane of its training. Axial
    slices are seen from below, with the front at the top.

    Every viewer shows the mask on top of the first volume: a NIfTI mask has the header of the first volume, and a DICOM SEG
    file refers to the slices of the first volume. For a DICOM series, probabilities are written to a NIfTI file.
    """

    volumes: tuple[Path, ...]
    place: Path
    name: str

    @property
    def files(self) -> tuple[Path, ...]:
        return tuple(Path(part) for volume in self.volumes for part in list_parts(str(volume)))

    def read(self, channels: int, plane: str) -> np.ndarray:
        read = [read_values(str(volume)) for volume in self.volumes]
        _, first = read[0]
        for volume, (_, grid) in zip(self.volumes, read, strict=True):
            if told := first.differs(grid):
                raise DataError(f"{volume}: lies on another grid than {self.volumes[0]}: {told}; allowed: one grid a scan")
        shown = [grid.show(values.reshape(*grid.shape, -1), plane) for values, grid in read]
        return check_channels(np.concatenate(shown, axis=-1), self.volumes[0], channels)

    def spacing(self, plane: str) -> tuple[float, ...]:
        return read_grid(str(self.volumes[0])).spacing(plane)

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


def check_channels(volume: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """Return the volume. Raise DataError if a network that needs `channels` channels of a file cannot take it."""
    if volume.dtype.kind not in "iuf":
        raise DataError(f"{file}: {volume.dtype} values; allowed: integers and real numbers")
    if volume.ndim != 4 or volume.shape[-1] != channels or volume.size == 0:
        raise DataError(f"{file}: slices, height, width, channels are {volume.shape}; {channels} channel(s) are needed")
    if not np.isfinite(volume).all():
        raise DataError(f"{file}: holds values that are NaN or infinite; allowed: numbers")
    return volume


VOLUMES = (".npy", *nifti.SUFFIXES)
ALLOWED = f"images ({', '.join(IMAGES)}), volumes ({', '.join(VOLUMES)}), or folders of such or of DICOM series"


def find_volumes(path: Path) -> tuple[list[Source], list[Path]]:
    """Return the volumes at `path`, and the files that are ignored.

    All images in a folder form one volume, in natural order (slice_2 before slice_10). Each folder below it forms a volume of
    its own. A DICOM series in a folder is one volume too. A file is ignored if its name ends with _mask before the suffix,
    or if ALLOWED does not list its format.

    Raises:
        DataError: there is no volume at `path`, or `listing.list_files` finds a fault.
    """
    files, faults = listing.list_files(path) if path.is_dir() else ([path] if path.is_file() else [], [])
    refuse(faults)
    images: dict[Path, list[Path]] = {}
    volumes: list[Source] = []
    passed: list[Path] = []
    series = {file.parent for file in files if path.is_dir() and file.suffix.lower() in (".dcm", "") and dicom.is_dicom(file)}
    volumes += [Sequences((folder,), place_below(folder, path), folder.name) for folder in sorted(series)]
    for file in (file for file in files if file.parent not in series):
        place = Path() if path.is_file() else file.parent.relative_to(path)
        name = file.name.lower()
        suffix = next((suffix for suffix in (*IMAGES, *VOLUMES) if name.endswith(suffix)), "")
        if not suffix or name.removesuffix(suffix).endswith("_mask"):
            passed.append(file)
        elif suffix == ".npy":
            volumes.append(Array((file,), place))
        elif suffix in nifti.SUFFIXES:
            volumes.append(Sequences((file,), place, stem(file)))
        else:
            images.setdefault(place, []).append(file)
    sources = [*(Stack(tuple(slices), place) for place, slices in images.items()), *volumes]
    if not sources:
        raise DataError(f"input={path}: nothing to segment there; allowed: {ALLOWED}; files named *_mask are passed over")
    return sources, passed


def place_below(folder: Path, root: Path) -> Path:
    """Return the folder for the mask of a DICOM series, relative to the output. `folder` is the folder of the series.

    If the series is the input itself, its mask goes to the top of the output.
    """
    return folder.parent.relative_to(root) if folder != root else Path()


def join(found: Sequence[Source], names: Sequence[str]) -> list[Source]:
    """Return the volumes, after the channels of each scan were joined into one volume.

    A channel of a scan is a NIfTI file or a DICOM series that is named after one of `names`, the run's channels. If a folder
    holds a channel, its other NIfTI files and DICOM series are ignored. These are, for example, labels, or sequences that the
    run does not use.

    Raises:
        DataError: a scan has files for some channels, but not for all.
    """
    scans: dict[tuple[Path, str], dict[str, Path]] = {}
    for source in found:
        if isinstance(source, Sequences):
            case, name = sequences.divide(source.name, sorted(names, key=len, reverse=True))
            scans.setdefault((source.place, case), {})[name] = source.volumes[0]
    named = {key: files for key, files in scans.items() if set(files) & set(names)}
    places = {place for place, _ in named}
    joined = [source for source in found if not (isinstance(source, Sequences) and source.place in places)]
    for (place, case), files in named.items():
        if lacking := [name for name in names if name not in files]:
            there = next(iter(files.values()))
            raise DataError(f"{there}: no file for the sequence {', '.join(lacking)} beside it, which the run's network takes")
        paths = tuple(files[name] for name in names)
        joined.append(Sequences(paths, place, (case or "mask") if len(paths) > 1 else stem(paths[0])))
    return joined
