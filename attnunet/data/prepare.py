"""A data set's files as memory-mapped arrays, made once and shared by all runs.

    cache/<content>/slices.json            the slices, checksums, facts of the masks
                    masks.npy              uint8 0 or 1 at native size, one after the other
                    images-<settings>.npy  uint8 (N, image_size, image_size, C)

`<content>` is a hash of the files' names and bytes. `cache/index/` remembers it for a list of paths, sizes and
modification times, so that files are read again only where one of those differs, or where `verify` asks for it.
"""

import json
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from filelock import FileLock

from attnunet.data.files import building, checksum, naming, reserve, write_atomically
from attnunet.data.slices import DataError, Dataset, Slice

VERSION = 2  # of what is written here; a change of the code that changes the arrays raises it


@dataclass(frozen=True)
class Prepared:
    """A prepared data set; pickles as its path, so that worker processes map the same pages."""

    folder: Path
    images_file: str
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str
    spacing: tuple[float, ...] | None = None

    @cached_property
    def facts(self) -> dict:
        return json.loads((self.folder / "slices.json").read_text())

    @cached_property
    def slices(self) -> tuple[Slice, ...]:
        return tuple(Slice(**{**row, "missing": tuple(row["missing"])}) for row in self.facts["slices"])

    @cached_property
    def images(self) -> np.ndarray:
        """uint8 (N, image_size, image_size, C)."""
        return np.load(self.folder / self.images_file, mmap_mode="r")

    @cached_property
    def _masks(self) -> np.ndarray:
        return np.load(self.folder / "masks.npy", mmap_mode="r")

    @cached_property
    def _offsets(self) -> np.ndarray:
        return np.concatenate([[0], np.cumsum([h * w for h, w in self.facts["shapes"]])])

    def mask(self, index: int) -> np.ndarray:
        """uint8 (h, w), 0 or 1, at native size."""
        start, stop = self._offsets[index : index + 2]
        return self._masks[start:stop].reshape(self.facts["shapes"][index])

    @cached_property
    def lesion_pixels(self) -> np.ndarray:
        """int64 (N,): lesion pixels of each slice at native size."""
        return np.array(self.facts["lesion_pixels"], np.int64)

    @property
    def image_size(self) -> int:
        return self.images.shape[1]

    @cached_property
    def patients(self) -> dict[str, list[int]]:
        """The indices of each patient's slices, in the order of their numbers."""
        indices: dict[str, list[int]] = {}
        for index, item in enumerate(self.slices):
            indices.setdefault(item.patient, []).append(index)
        return indices

    @property
    def fingerprint(self) -> str:
        return f"{self.folder.name}/{self.images_file}"

    def __reduce__(self) -> tuple:
        return Prepared, (self.folder, self.images_file, self.file_channels, self.channels, self.intensity, self.spacing)


def prepare(dataset: Dataset, image_size: int, cache: Path) -> Prepared:
    """The data set's arrays under `cache`, made if they are not there.

    Raises:
        DataError: a file that cannot be decoded, or is not of the form that the reader documents; it names the file.
    """
    cache.mkdir(parents=True, exist_ok=True)
    with FileLock(cache / ".lock"):
        content = content_key(dataset, cache)
        folder = cache / content
        if not folder.is_dir():
            with building(folder) as temporary:
                write_masks(dataset, temporary)
        name = f"images-{digest([VERSION, image_size, dataset.channels, dataset.intensity])}.npy"
        if not (folder / name).is_file():
            write_images(dataset, image_size, folder / name)
        if dataset.verify:
            verify(folder, name)
    return Prepared(folder.resolve(), name, dataset.file_channels, dataset.channels, dataset.intensity, dataset.spacing)


def content_key(dataset: Dataset, cache: Path) -> str:
    """A hash of every file's name and bytes, looked up by path, size and modification time where none has changed."""
    paths = [path for s in dataset.slices for path in (s.image, s.mask)]
    stats = [os.stat(path) for path in paths]
    state = [(os.path.abspath(p), s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)]
    identity = [VERSION, dataset.file_channels, [(s.patient, s.number, s.site) for s in dataset.slices]]
    index = cache / "index" / digest([identity, state])
    if index.is_file() and not dataset.verify:
        return index.read_text()
    contents = parallel(lambda path: blake2b(Path(path).read_bytes()).hexdigest(), paths)
    content = digest([identity, contents])
    index.parent.mkdir(exist_ok=True)
    write_atomically(index, content.encode())
    return content


def write_masks(dataset: Dataset, folder: Path) -> None:
    """masks.npy and slices.json, and on the way every file decoded and checked once."""
    checked = parallel(lambda s: check_slice(s, dataset.file_channels), dataset.slices)
    shapes = [mask.shape for mask, _ in checked]
    for previous, item, a, b in zip(dataset.slices, dataset.slices[1:], shapes, shapes[1:], strict=False):
        if previous.patient == item.patient and a != b:
            raise DataError(f"{item.image}: {b} pixels, but {previous.image} of the same patient has {a}")
    np.save(folder / "masks.npy", np.concatenate([mask.ravel() for mask, _ in checked]))

    # A sequence is missing when another stands in for it on every slice that shows anything.
    copies: dict[str, set[str]] = {}
    for item, (_, same) in zip(dataset.slices, checked, strict=True):
        if same is not None:
            copies[item.patient] = copies.get(item.patient, same) & same
    slices = [replace(s, missing=tuple(sorted(copies.get(s.patient, ())))) for s in dataset.slices]
    facts = {
        "slices": [asdict(s) for s in slices],
        "shapes": shapes,
        "lesion_pixels": [int(mask.sum()) for mask, _ in checked],
        "checksums": {"masks.npy": checksum(folder / "masks.npy")},
    }
    (folder / "slices.json").write_text(json.dumps(facts))


def check_slice(item: Slice, file_channels: Sequence[str]) -> tuple[np.ndarray, set[str] | None]:
    """-> mask (h, w) of 0 and 1, and the channels that equal FLAIR (None where the slice is blank)."""
    image, mask = read_image(item.image, len(file_channels)), read_mask(item.mask)
    if mask.shape != image.shape[:2]:
        raise DataError(f"{item.mask}: {mask.shape} pixels, but its image {item.image} has {image.shape[:2]}")
    if "flair" not in file_channels or image.min() == image.max():
        return mask, None
    flair = image[..., file_channels.index("flair")]
    return mask, {name for i, name in enumerate(file_channels) if name != "flair" and np.array_equal(image[..., i], flair)}


def write_images(dataset: Dataset, image_size: int, path: Path) -> None:
    """The images at `image_size`, straight into a memory map that moves to `path` when it is whole."""
    wanted = [dataset.file_channels.index(name) for name in dataset.channels]
    shape = (len(dataset.slices), image_size, image_size, len(wanted))
    by_patient: dict[str, list[int]] = {}
    for index, item in enumerate(dataset.slices):
        by_patient.setdefault(item.patient, []).append(index)

    with tempfile.TemporaryDirectory(prefix=".", dir=path.parent) as folder:
        temporary = Path(folder) / path.name
        with naming(path), temporary.open("wb") as stream:
            np.lib.format.write_array_header_1_0(stream, {"descr": "|u1", "fortran_order": False, "shape": shape})
            reserve(stream, math.prod(shape))
        images = np.lib.format.open_memmap(temporary, mode="r+")

        def write(indices: list[int]) -> None:
            files = [read_image(dataset.slices[i].image, len(dataset.file_channels)) for i in indices]
            images[indices] = prepare_volume(np.stack(files)[..., wanted], image_size, dataset.intensity)

        parallel(write, list(by_patient.values()))
        images.flush()
        write_atomically(path.with_suffix(".sum"), checksum(temporary).encode())  # first: no array is without its checksum
        os.replace(temporary, path)


def prepare_volume(volume: np.ndarray, image_size: int, intensity: str) -> np.ndarray:
    """A patient's slices as a network sees them: uint8 (D, h, w, C) -> uint8 (D, image_size, image_size, C).

    Intensities are scaled a channel of the volume (see INTENSITIES). Slices are resized to a square: by area averaging
    when they shrink, bilinearly when they grow.
    """
    scale = INTENSITIES[intensity]
    scaled = np.stack([scale(volume[..., channel]) for channel in range(volume.shape[-1])], axis=-1)
    return np.stack([resize(image, (image_size, image_size)) for image in scaled])


def linear(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """uint8: low to 0 and high to 255, linearly, rounded and clipped; a range below 1 counts as 1."""
    scaled = (values - np.float32(low)) * np.float32(255 / max(high - low, 1))
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)


def percentile(values: np.ndarray) -> np.ndarray:
    """The 1st percentile of the pixels above 0 becomes 0, the 99th 255."""
    above = values[values > 0]
    return linear(values, *np.percentile(above, [1, 99])) if above.size else values


def zscore(values: np.ndarray) -> np.ndarray:
    """Three standard deviations below the head's mean become 0, three above 255; the head is what exceeds the overall mean.

    So heads of dark and bright scans get the same mean, as by nnU-Net's normalisation of MRI (doi
    10.1038/s41592-020-01008-z).
    """
    head = values[values > values.mean()]
    if not head.size:
        return values
    mean, spread = head.mean(dtype=np.float64), 3 * head.std(dtype=np.float64)
    return linear(values, mean - spread, mean + spread)


INTENSITIES = {"raw": lambda values: values, "percentile": percentile, "zscore": zscore}


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """(h, w) or (h, w, C) to (*shape) or (*shape, C): area averaging to shrink, bilinear to grow."""
    if image.shape[:2] == shape:
        return image
    shrinks = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    resized = cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return resized.reshape(*shape, *image.shape[2:])  # OpenCV drops a channel axis of length one


def resize_mask(mask: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """uint8 0 or 1 (h, w) -> uint8 0 or 1 (*shape): a pixel is lesion where at least half of it is."""
    return (resize(mask * np.uint8(255), shape) >= 128).astype(np.uint8)


def read_image(path: str, channels: int) -> np.ndarray:
    """uint8 (h, w, channels), in the file's order of channels."""
    image = read(path)
    found = 1 if image.ndim == 2 else image.shape[2]
    if found != channels:
        raise DataError(f"{path}: {found} channel(s), expected {channels}")
    if found == 3:
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB)  # in one piece: what reads a view backwards takes five times as long
    return image[..., None] if image.ndim == 2 else image[..., ::-1]


def read_mask(path: str) -> np.ndarray:
    """uint8 (h, w) of 0 and 1: the file's larger value is lesion; a mask of one value is empty if that is 0, else full."""
    mask = read(path)
    if mask.ndim != 2:
        raise DataError(f"{path}: a mask has 1 channel, found {mask.shape[2]}")
    lesion = mask > 0
    if (mask[lesion] != mask.max()).any():
        raise DataError(f"{path}: a mask has the values 0 and one other, found {np.unique(mask)[:5].tolist()}")
    return lesion.astype(np.uint8)


def read(path: str) -> np.ndarray:
    """The 8-bit pixels of a file, as OpenCV gives them."""
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if data.size else None
    if image is None:
        raise DataError(f"{path}: cannot be decoded; it is truncated, or not an image")
    if image.dtype != np.uint8:
        raise DataError(f"{path}: {image.dtype} pixels; only 8-bit files are read, so rescale it to 0 to 255 first")
    return image


def verify(folder: Path, images: str) -> None:
    """Raises DataError if an array is not the one that was written."""
    expected = {
        **json.loads((folder / "slices.json").read_text())["checksums"],
        images: (folder / images).with_suffix(".sum").read_text(),
    }
    for name, value in expected.items():
        if checksum(folder / name) != value:
            raise DataError(f"{folder / name}: damaged (checksum differs); delete {folder} and start again")


def parallel(function: Callable, items: Sequence) -> list:
    """[function(item) for item in items] on all cores; the work is OpenCV's and the disk's, which need no Python lock."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(function, items))


def digest(value: object) -> str:
    """16 hexadecimal digits of a value made of JSON's types."""
    return blake2b(json.dumps(value).encode(), digest_size=8).hexdigest()
