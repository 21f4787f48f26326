"""New images as volumes, and masks beside each other as the images were: slices, folders of slices, .npy, NIfTI."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from attnunet.data import listing
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
            encoded.tofile(folder / target)


@dataclass(frozen=True)
class Array:
    """A NumPy file: uint8 (D, h, w, channels) in; uint8 (D, h, w) of 0 and 1, or float32, out."""

    files: tuple[Path]
    place: Path

    def read(self, channels: int) -> np.ndarray:
        (file,) = self.files
        try:
            volume = np.load(file)
        except (ValueError, EOFError, OSError) as error:
            raise DataError(f"{file}: cannot be read as a NumPy array: {error}") from error
        return checked(volume, file, channels)

    def targets(self, ending: str) -> list[Path]:
        return [self.place / f"{self.files[0].stem}{ending}.npy"]

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        np.save(folder / self.targets(ending)[0], values)


@dataclass(frozen=True)
class Nifti:
    """A NIfTI file of uint8: (x, y, z), or (x, y, z, channels) for more than one channel.

    Slices are shown to the network as to a reader: the first row in front, the first column at the patient's right,
    slices upwards. What is written has the file's axes and affine again; a mask is of 0 and 1.
    """

    files: tuple[Path]
    place: Path

    def image(self) -> Any:
        try:
            import nibabel
            from nibabel.filebasedimages import ImageFileError
        except ModuleNotFoundError as error:
            raise DataError(f"{self.files[0]}: NIfTI needs nibabel: pip install attnunet[nifti]") from error
        try:
            return nibabel.load(self.files[0])
        except (ImageFileError, EOFError, OSError) as error:
            raise DataError(f"{self.files[0]}: cannot be read as NIfTI: {error}") from error

    def read(self, channels: int) -> np.ndarray:
        image = self.image()
        from nibabel import orientations

        data = np.asanyarray(image.dataobj)
        data = data[..., None] if data.ndim == 3 else data
        if data.ndim != 4:
            raise DataError(f"{self.files[0]}: {data.ndim} dimensions; allowed: (x, y, z) or (x, y, z, channels)")
        turn = orientations.ornt_transform(orientations.io_orientation(image.affine), orientations.axcodes2ornt("LPS"))
        shown = orientations.apply_orientation(data, turn).transpose(2, 1, 0, 3)
        return checked(np.ascontiguousarray(shown), self.files[0], channels)

    def targets(self, ending: str) -> list[Path]:
        name = self.files[0].name
        stem = name.removesuffix(".gz").removesuffix(".nii")
        return [self.place / f"{stem}{ending}{name.removeprefix(stem)}"]

    def write(self, values: np.ndarray, folder: Path, ending: str) -> None:
        import nibabel
        from nibabel import orientations

        affine = self.image().affine
        turn = orientations.ornt_transform(orientations.axcodes2ornt("LPS"), orientations.io_orientation(affine))
        turned = orientations.apply_orientation(values.transpose(2, 1, 0), turn)
        nibabel.save(nibabel.Nifti1Image(turned, affine), folder / self.targets(ending)[0])


def checked(volume: np.ndarray, file: Path, channels: int) -> np.ndarray:
    """The volume, if a network of so many file channels can take it."""
    if volume.dtype != np.uint8:
        raise DataError(f"{file}: {volume.dtype} values; only uint8 is read, so rescale it to 0 to 255 first")
    if volume.ndim != 4 or volume.shape[-1] != channels or volume.size == 0:
        raise DataError(f"{file}: slices, height, width, channels are {volume.shape}; {channels} channel(s) are needed")
    return volume


VOLUMES: dict[str, type[Array] | type[Nifti]] = {".npy": Array, ".nii": Nifti, ".nii.gz": Nifti}
ALLOWED = f"images ({', '.join(IMAGES)}), volumes ({', '.join(VOLUMES)}), or folders of such"


def find(path: Path) -> tuple[list[Source], list[Path]]:
    """The volumes at `path`, and the files that are passed over: those named *_mask, and those that are none of ALLOWED.

    A folder's images are one volume, in natural order (slice_2 before slice_10), and so are those of each folder in it.

    Raises:
        DataError: there is nothing, or a fault of `listing.files`.
    """
    files, faults = listing.files(path) if path.is_dir() else ([path] if path.is_file() else [], [])
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
