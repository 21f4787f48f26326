"""Segment lesions in raw images with the network in this folder, without attnunet: python predict.py INPUT OUTPUT

INPUT is a folder with the slices of a scan (TIFF or PNG), or a volume .npy (slices, rows, columns, channels). OUTPUT is a
folder for the masks. If predictor.json has a pixel_size, add the distances in mm between slices, rows and columns: 3 0.5 0.5.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import tifffile
from scipy import ndimage

Network = Callable[[np.ndarray], np.ndarray]


def scale(values: np.ndarray, intensity: str, image_type: str) -> np.ndarray:
    """Return a sequence of a scan as `image_type`, so that `low` becomes 0 and `high` becomes 255."""
    low, high = 0.0, 255.0
    if intensity == "raw" and not np.array_equal(values, values.clip(0, 255).astype(np.uint8)):
        sys.exit("intensity raw: the values must be whole numbers from 0 to 255")
    if intensity == "percentile":
        other = values[values != 0].astype(np.float64)
        low, high = np.percentile(other, [1, 99]) if other.size else (0.0, 255.0)
    if intensity == "zscore":
        head = values[values > values.mean(dtype=np.float64)]
        if head.size:
            mean, spread = head.mean(dtype=np.float64), 3 * head.std(dtype=np.float64)
            low, high = mean - spread, mean + spread
        elif values.dtype != np.uint8:
            low = float(values.max())
    least = 1 if values.dtype.kind in "iu" else 1e-30
    scaled = ((values - np.float32(low)) * np.float32(255 / max(high - low, least))).clip(0, 255)
    return (np.rint(scaled) if image_type == "uint8" else scaled).astype(image_type)


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    if image.shape[2:] > (4,):  # OpenCV shrinks at most 4 channels
        return np.stack([resize(np.ascontiguousarray(image[..., n]), shape) for n in range(image.shape[2])], axis=2)
    smaller = shape[0] <= image.shape[0] and shape[1] <= image.shape[1]
    return cv2.resize(image, shape[::-1], interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)


def centre(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Return an image that is cut, or padded with 0, to `shape` around its centre."""
    starts = [int((there - here) / 2) for there, here in zip(shape, image.shape, strict=False)]
    before, (top, left) = [max(start, 0) for start in starts], [max(-start, 0) for start in starts]
    cut = image[top : top + shape[0], left : left + shape[1]]
    after = [there - here - start for there, here, start in zip(shape, cut.shape, before, strict=False)]
    return np.pad(cut, [*zip(before, after, strict=True), *[(0, 0)] * (image.ndim - 2)])


def segment(volume: np.ndarray, facts: dict, network: Network, spacing: list[float]) -> np.ndarray:
    """Return the mask uint8 (D, h, w) of 0 and 1 for a volume of numbers (D, h, w, file channels)."""
    preparation, decision, step = facts["preparation"], facts["decision"], facts["batch_size"]
    channels, pixel, size = preparation["file_channels"], preparation["pixel_size"], (preparation["image_size"],) * 2
    if volume.shape[3:] != (len(channels),) or (pixel and len(spacing) != 3):
        sys.exit(f"found {volume.shape} and spacing {spacing}; needed: the channels {channels}, and a spacing for pixel_size")
    native = volume.shape[1:3]
    scaled = tuple(max(1, round(n * mm / pixel)) for n, mm in zip(native, spacing[1:], strict=True)) if pixel else size

    wanted = [channels.index(name) for name in preparation["channels"]]
    how = preparation["intensity"], preparation["image_type"]
    sequences = np.stack([scale(volume[..., channel], *how) for channel in wanted], axis=-1)
    resized = [resize(image if image.dtype == np.uint8 else image.astype(np.float32), scaled) for image in sequences]
    images = np.stack([centre(image.reshape(*scaled, -1), size).astype(sequences.dtype) for image in resized])

    places = [preparation["channels"].index(name) for name in preparation["neighbors"]]
    before, after = images[[0, *range(len(images) - 1)]], images[[*range(1, len(images)), -1]]
    images = np.concatenate([images, before[..., places], after[..., places]], axis=-1)

    def probability(images: np.ndarray) -> np.ndarray:
        batches = [np.ascontiguousarray(images[start : start + step]) for start in range(0, len(images), step)]
        logits = np.concatenate([network(batch) for batch in batches])[..., 0]
        return 1 / (1 + np.exp(-np.clip(logits, -80, 80)))

    lesion = probability(images)
    if facts["flip"]:
        lesion = (lesion + probability(images[:, :, ::-1])[:, :, ::-1]) / 2
    lesion = np.stack([resize(centre(square, scaled), native) for square in lesion])

    mask = lesion >= np.float32(decision["threshold"])
    if decision["fill_holes"]:
        mask = np.stack([ndimage.binary_fill_holes(plane) for plane in mask])
    labels, _ = ndimage.label(mask, np.ones((3, 3, 3)))
    return (mask & (np.bincount(labels.ravel()) >= decision["smallest_lesion"])[labels]).astype(np.uint8)


def decode(path: Path) -> np.ndarray:
    """Return a slice (h, w, channels) as it is stored, but with a TIFF's white as its largest value.

    As in training, uint8, uint16 and int16 pixels keep their type, and all other numbers become float32.
    """
    if path.suffix.lower() == ".png":
        data = path.read_bytes()
        if data[25] == 3:  # the type of the colours
            sys.exit(f"{path.name}: has the colours of a palette; needed: RGB, or grey")
        image = imagecodecs.png_decode(data)
        return image.reshape(*image.shape[:2], -1)
    with tifffile.TiffFile(path) as file:
        page = file.pages.first
        declared = file.series if file.is_imagej or file.is_shaped else []  # one page may stand for several slices
        if len(file.pages) > 1 or sum(series.size for series in declared) > page.size:
            sys.exit(f"{path.name}: has several pages; needed: a file for each slice, or a .npy")
        if (orientation := page.tags.valueof(274, 1)) != 1:
            sys.exit(f"{path.name}: its orientation tag {orientation} turns the picture; needed: 1, so turn the pixels")
        image = page.asarray()
    image = image * np.uint8(255) if image.dtype == bool else image
    native = image.dtype.newbyteorder("=")
    image = image.astype(native if native in (np.uint8, np.uint16, np.int16) else np.float32)
    if page.photometric not in (0, 1, 2) or (page.photometric == 0 and image.dtype.kind != "u"):
        sys.exit(f"{path.name}: {page.photometric!r} of {page.dtype}; needed: RGB, or grey where black is zero")
    image = np.iinfo(image.dtype).max - image if page.photometric == 0 else image
    return np.moveaxis(image, 0, -1) if page.axes == "SYX" else image.reshape(*image.shape[:2], -1)


def read(path: Path) -> tuple[np.ndarray, list[str]]:
    """Return a volume (D, h, w, channels) and the names of its masks. Slices are in the order of their numbers."""
    if path.suffix == ".npy":
        return np.load(path), [path.name]
    names = [file.name for file in path.iterdir() if re.fullmatch(r"(?i)[^.].*(?<!_mask)\.(tiff?|png)", file.name)]
    names.sort(key=lambda name: [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)])
    images = [decode(path / name) for name in names]
    if len({(image.shape, image.dtype) for image in images}) != 1:
        sys.exit(f"{path}: needed: slices (TIFF or PNG) of one size and type")
    return np.stack(images), names


def main(network: Network) -> None:
    """Write the mask of INPUT below OUTPUT: images of 0 and 255, or a .npy of 0 and 1."""
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    source, output, *spacing = sys.argv[1:]
    facts = json.loads(Path(__file__).with_name("predictor.json").read_text())
    volume, names = read(Path(source))
    if not np.isfinite(volume).all():
        sys.exit(f"{source}: has values that are NaN or infinite; needed: numbers")
    mask = segment(volume, facts, network, list(map(float, spacing)))
    Path(output).mkdir(parents=True, exist_ok=True)
    if source.endswith(".npy"):
        np.save(Path(output, *names), mask)
    else:
        for name, plane in zip(names, mask, strict=True):
            cv2.imwrite(str(Path(output, name)), plane * np.uint8(255))
