"""A data set's files as memory-mapped arrays, which are made once and shared by all runs.

    cache/<content>/slices.json            the slices, the checksums, and facts about images and masks
                    masks.npy              all masks, one after the other, at native size: uint8, 0 or 1
                    images-<settings>.npy  uint8 or float16 (N, image_size, image_size, C), in [0, 255]

`<content>` is a hash of the slices' names and the files' bytes. `cache/index/` stores this hash under a key, which is made
of the paths, sizes and modification times of all files. So the files are read again only if the key changes, or if `verify`
is set.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from hashlib import blake2b
from itertools import accumulate, chain, groupby
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from filelock import FileLock

from attnunet.data.files import building, checksum, digest, naming, reserve, write_atomically
from attnunet.data.frames import Frame, make_frame
from attnunet.data.intensity import ValuesError, prepare_volume
from attnunet.data.neighbors import find_neighbors, join_neighbors
from attnunet.data.slices import DataError, Dataset, Slice, refuse

VERSION = 3  # of the written files; raise it with every change of the code that changes the arrays


@dataclass(frozen=True)
class Prepared:
    """A prepared data set. Its pickle holds paths and settings but no arrays, so that worker processes map the same pages."""

    folder: Path
    images_file: str
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    plane: str = "axial"
    pixel_size: float | None = None
    dtype: str = "uint8"
    neighbors: tuple[str, ...] = ()

    @cached_property
    def facts(self) -> dict:
        return json.loads((self.folder / "slices.json").read_text())

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        return tuple(map(as_slice, self.facts["slices"]))

    @cached_property
    def images(self) -> np.ndarray:
        """All images, uint8 or float16 (N, image_size, image_size, C), in [0, 255]."""
        return np.load(self.folder / self.images_file, mmap_mode="r")

    @property
    def input_channels(self) -> int:
        """The number of channels of the network's input."""
        return len(self.channels) + 2 * len(self.neighbors)

    @cached_property
    def _around(self) -> tuple[np.ndarray, np.ndarray]:
        return find_neighbors([item.volume for item in self.slices])

    def inputs(self, indices: Sequence[int]) -> np.ndarray:
        """Return the network's input for slices, uint8 or float16 (n, image_size, image_size, input_channels).

        After a slice's own channels come those of the slice before and of the slice after it that `neighbors` names.
        """
        if not self.neighbors:
            return self.images[indices]
        before, after = (side[indices] for side in self._around)
        places = [self.channels.index(name) for name in self.neighbors]
        return join_neighbors(self.images[indices], self.images[before], self.images[after], places)

    @cached_property
    def _masks(self) -> np.ndarray:
        return np.load(self.folder / "masks.npy", mmap_mode="r")

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([h * w for h, w in self.facts["shapes"]])])

    def mask(self, index: int) -> np.ndarray:
        """Return the mask of a slice, uint8 (h, w) of 0 and 1, at native size."""
        start, stop = self._offsets[index : index + 2]
        return self._masks[start:stop].reshape(self.facts["shapes"][index])

    @cached_property
    def lesion_pixels(self) -> np.ndarray:
        """The number of lesion pixels of each slice at native size, int64 (N,)."""
        return np.array(self.facts["lesion_pixels"], np.int64)

    @property
    def image_size(self) -> int:
        return self.images.shape[1]

    @cached_property
    def patients(self) -> dict[str, list[int]]:
        """The indices of each patient's slices, in the order of the slices' numbers."""
        indices: dict[str, list[int]] = {}
        for index, item in enumerate(self.slices):
            indices.setdefault(item.patient, []).append(index)
        return indices

    def frame(self, index: int) -> Frame:
        """Return the frame that brings a slice to the square for the network, and back to the slice's size."""
        spacing = self.spacing_of(index) if self.pixel_size else None
        return make_frame(self.facts["shapes"][index], self.image_size, self.pixel_size, spacing)

    def spacing_of(self, index: int) -> tuple[float, ...] | None:
        """Return the distance in mm between the slices, rows and columns of a slice's scan, or None if it is unknown."""
        return self.spacing or self.slices[index].spacing

    @property
    def fingerprint(self) -> str:
        """The folder's name and the image file's name, which stand for the content and the settings of the data."""
        return f"{self.folder.name}/{self.images_file}"

    def __reduce__(self) -> tuple:
        return Prepared, tuple(getattr(self, field.name) for field in fields(self))


def as_slice(row: dict[str, Any]) -> Slice:
    """Return a slice from its row of slices.json. JSON has no tuples, so the row's lists become tuples again."""
    stored: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    return Slice(**stored)


def prepare(dataset: Dataset, image_size: int | None, cache: Path, image_type: str = "uint8") -> Prepared:
    """Return the data set's arrays under `cache`. Arrays that are not there yet are made.

    If `image_size` is None, only the masks and the facts are made. `image_type` is the type of the images.

    Raises:
        DataError: a file cannot be decoded, or does not have the form that the reader documents. The message names the file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        content = hash_contents(dataset, cache)
        folder = cache / content
        if not folder.is_dir():
            with building(folder) as temporary:
                write_masks(dataset, temporary)
        name = ""
        if image_size is not None:
            # A setting that has its default is left out, so that arrays of earlier versions keep their names.
            resampled = [dataset.pixel_size, dataset.spacing] if dataset.pixel_size else []
            typed = [image_type] if image_type != "uint8" else []
            name = f"images-{digest([VERSION, image_size, dataset.channels, dataset.intensity, *resampled, *typed])}.npy"
            if not (folder / name).is_file():
                write_images(dataset, image_size, image_type, folder / name)
        if dataset.verify:
            verify(folder, name)
    kept = ("file_channels", "channels", "intensity", "spacing", "notes", "plane", "pixel_size", "dtype")
    prepared = Prepared(folder.resolve(), name, **{field: getattr(dataset, field) for field in kept})
    return prepared if set(prepared.facts.get("dtypes", ["uint8"])) == {"uint8"} else replace(prepared, dtype="float32")


def hash_contents(dataset: Dataset, cache: Path) -> str:
    """Return a hash of the slices' names, the reader's settings and the bytes of all files.

    The hash is looked up in `cache/index/` if no path, size or modification time has changed and `verify` is off.
    """
    paths = dataset.source.files(dataset.slices)
    stats = [os.stat(path) for path in paths]
    state = [(os.path.abspath(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)]
    slices = [(s.patient, s.number, s.site, *([s.scan] if s.scan else [])) for s in dataset.slices]
    identity = [VERSION, dataset.file_channels, slices, *dataset.source.settings]
    index = cache / "index" / digest([identity, state])
    if index.is_file() and not dataset.verify:
        return index.read_text()
    contents = map_parallel(lambda path: blake2b(Path(path).read_bytes()).hexdigest(), paths)
    content = digest([identity, contents])
    index.parent.mkdir(exist_ok=True)
    write_atomically(index, content.encode())
    return content


def write_masks(dataset: Dataset, folder: Path) -> None:
    """Write masks.npy and slices.json. This decodes and checks every file once."""

    def check(slices: Sequence[Slice]) -> list[Checked | DataError]:
        read = dataset.source.pixels(slices).slices()  # one error alone if it holds for all slices
        return [check_slice(item, found, dataset.file_channels) for item, found in zip(slices, read, strict=False)]

    results = list(chain.from_iterable(map_parallel(check, by_scan(dataset.slices))))
    refuse([str(result) for result in results if isinstance(result, DataError)])
    checked = [result for result in results if isinstance(result, Checked)]
    shapes = [found.shape for found in checked]
    kinds = [(found.shape, found.dtype) for found in checked]
    neighbours = zip(dataset.slices, dataset.slices[1:], kinds, kinds[1:], strict=False)
    refuse(
        [
            f"{item.image}: {b[0]} pixels of type {b[1]}, but {previous.image} of the same patient has {a[0]} of type {a[1]}"
            for previous, item, a, b in neighbours
            if previous.volume == item.volume and a != b
        ]
    )
    with (folder / "masks.npy").open("wb") as stream:
        header = {"descr": "|u1", "fortran_order": False, "shape": (sum(map(math.prod, shapes)),)}
        np.lib.format.write_array_header_1_0(stream, header)
        for found in checked:
            stream.write(found.mask.tobytes())

    # A sequence is missing if it is a copy of FLAIR on every slice that is not blank.
    copies: dict[str, set[str]] = {}
    for item, found in zip(dataset.slices, checked, strict=True):
        if found.pixels:
            copies[item.volume] = copies.get(item.volume, found.copies) & found.copies
    missing = [{*item.missing, *copies.get(item.volume, ())} for item in dataset.slices]
    slices = [replace(item, missing=tuple(sorted(names))) for item, names in zip(dataset.slices, missing, strict=True)]
    facts = {
        "slices": [asdict(s) for s in slices],
        "shapes": shapes,
        "dtypes": sorted({found.dtype for found in checked}),
        "lesion_pixels": [found.lesion_pixels for found in checked],
        "outside": [found.outside for found in checked],
        "pixels": [found.pixels for found in checked],
        "checksums": {"masks.npy": checksum(folder / "masks.npy")},
    }
    (folder / "slices.json").write_text(json.dumps(facts))


@dataclass(frozen=True)
class Checked:
    """A slice's mask, and facts about its image.

    Attributes:
        shape: of the mask, (h, w).
        dtype: the name of the type of the image's values.
        bits: the mask with one bit for each pixel, because the masks of all slices are in memory at the same time.
        lesion_pixels: their number.
        pixels: a hash of the image, or "" if the image is blank.
        copies: the names of the channels that equal FLAIR.
        outside: the number of lesion pixels outside of the head.
    """

    shape: tuple[int, ...]
    dtype: str
    bits: np.ndarray
    lesion_pixels: int
    pixels: str
    copies: set[str]
    outside: int

    @property
    def mask(self) -> np.ndarray:
        """The flattened mask, uint8 (h * w,) of 0 and 1."""
        return np.unpackbits(self.bits, count=math.prod(self.shape))


def check_slice(
    item: Slice, found: tuple[np.ndarray, np.ndarray] | DataError, file_channels: Sequence[str]
) -> Checked | DataError:
    """Return a slice's mask and facts, or an error if its image and mask were not read or differ in size.

    Args:
        item: the slice.
        found: its image and mask as they were read, or the error of reading them.
        file_channels: the names of the image's channels.
    """
    if isinstance(found, DataError):
        return found
    image, mask = found
    if mask.shape != image.shape[:2]:
        return DataError(f"{item.mask}: {mask.shape} pixels, but its image {item.image} has {image.shape[:2]}")
    blank = bool((image == image[:1, :1]).all())
    pixels = "" if blank else blake2b(str(image.shape).encode() + image.tobytes(), digest_size=8).hexdigest()
    copies: set[str] = set()
    if "flair" in file_channels:
        flair = image[..., file_channels.index("flair")]
        copies = {n for i, n in enumerate(file_channels) if n != "flair" and np.array_equal(image[..., i], flair)}
    outside = int(mask[~find_head(image)].sum()) if mask.any() else 0
    return Checked(mask.shape, image.dtype.name, np.packbits(mask), int(mask.sum()), pixels, copies, outside)


def find_head(image: np.ndarray) -> np.ndarray:
    """Return the pixels of the head, bool (h, w).

    A pixel is bright if its value in at least one channel lies more than a tenth of the channel's range above the channel's
    minimum. The head is all bright pixels, and all pixels that bright pixels enclose.
    """
    low, high = image.min(axis=(0, 1)).astype(np.float64), image.max(axis=(0, 1)).astype(np.float64)
    bright = (image > low + (high - low) / 10).any(axis=-1).astype(np.uint8)
    outlines, _ = cv2.findContours(bright, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return cv2.drawContours(bright, outlines, -1, 1, cv2.FILLED).astype(bool)


def by_scan(slices: Sequence[Slice]) -> list[list[Slice]]:
    """Return one list of slices for each scan."""
    return [list(group) for _, group in groupby(slices, key=lambda item: item.volume)]


def write_images(dataset: Dataset, image_size: int, image_type: str, path: Path) -> None:
    """Write the images at `image_size` into a memory-mapped file, and move the file to `path` when it is complete."""
    wanted = [dataset.file_channels.index(name) for name in dataset.channels]
    shape = (len(dataset.slices), image_size, image_size, len(wanted))

    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        with naming(path), temporary.open("wb") as stream:
            header = {"descr": np.dtype(image_type).str, "fortran_order": False, "shape": shape}
            np.lib.format.write_array_header_1_0(stream, header)
            reserve(stream, math.prod(shape) * np.dtype(image_type).itemsize)
        images = np.lib.format.open_memmap(temporary, mode="r+")

        def write(slices: Sequence[Slice], first: int) -> None:
            pixels = dataset.source.pixels(slices)
            sequences = (pixels.sequence(channel) for channel in wanted)
            try:
                images[first : first + len(slices)] = prepare_volume(
                    sequences,
                    image_size,
                    dataset.intensity,
                    dataset.pixel_size,
                    dataset.spacing or slices[0].spacing,
                    image_type,
                )
            except ValuesError as error:
                raise DataError(f"{slices[0].image}: {error}") from None

        of_scans = by_scan(dataset.slices)
        map_parallel(write, of_scans, accumulate(map(len, of_scans), initial=0))
        images.flush()
        # The checksum is written first, so that no array lacks it.
        write_atomically(path.with_suffix(".sum"), checksum(temporary).encode())
        os.replace(temporary, path)


def verify(folder: Path, images: str) -> None:
    """Raise DataError if an array differs from the array that was written."""
    expected = json.loads((folder / "slices.json").read_text())["checksums"]
    if images:
        expected[images] = (folder / images).with_suffix(".sum").read_text()
    for name, value in expected.items():
        if checksum(folder / name) != value:
            raise DataError(f"{folder / name}: damaged (checksum differs); delete {folder} and start again")


def map_parallel(function: Callable, *items: Iterable) -> list:
    """Return list(map(function, *items)), computed by threads on all cores.

    Threads suffice because the decoders and the disk do most of the work, and do it without Python's lock.
    """
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, *items))
