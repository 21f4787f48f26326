"""What is likely wrong with a data set: nearly equal images of two patients, labels and sequences that cannot be right."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations

import cv2
import numpy as np

from attnunet.data.cache import Prepared, by_scan, map_parallel
from attnunet.data.checks import find_copies, find_doubts
from attnunet.data.slices import Dataset, Slice

SIDE = 32
DETAIL = 2.0
"""Pixels of the Gaussian blur that is taken away from an image of SIDE pixels: heads are alike in their coarse form."""
NEAR = 0.9
"""The correlation of two images above which they are one. Of 45 LGG patients no two slices exceed 0.86; a copy at half the
size, at 0.6 of the brightness or as JPEG of quality 50 has 0.96 and more in 19 of 20 slices."""
SATURATED = 0.05
"""The share of a sequence's pixels above 0 with its largest value, above which it was clipped; on the LGG data 0.000005."""
BLOCK = 1024
"""Images that are compared with all others at once."""


@dataclass(frozen=True)
class Finding:
    """What one check found.

    Attributes:
        check: its name.
        patients: whom it concerns.
        found: in words.
        file: an example.
    """

    check: str
    patients: str
    found: str
    file: str = ""

    def row(self) -> dict[str, str]:
        """Return the row of audit.csv."""
        return asdict(self)


def audit(dataset: Dataset, prepared: Prepared) -> list[Finding]:
    """Return what is found in a data set's own files, read at native size, and in its labels."""
    findings = [Finding("doubt", "", line) for line in find_doubts(prepared, range(len(prepared.slices)))]
    findings += find_labels(prepared)
    scans = by_scan(dataset.slices)
    wanted = [dataset.file_channels.index(name) for name in dataset.channels]

    def read(slices: Sequence[Slice]) -> tuple[list[Finding], np.ndarray]:
        pixels = dataset.source.pixels(slices)
        sequences = {dataset.file_channels[channel]: pixels.sequence(channel) for channel in wanted}
        found = [Finding(check, slices[0].volume, line, slices[0].image) for check, line in check_sequences(sequences)]
        return found, np.concatenate([describe(volume) for volume in sequences.values()], axis=1)

    results = map_parallel(read, scans)
    findings += [finding for found, _ in results for finding in found]
    return findings + list(find_near_copies(prepared, normalize(np.concatenate([drawn for _, drawn in results]))))


def find_labels(prepared: Prepared) -> Iterator[Finding]:
    """Yield volumes whose labels are empty, and those with a label that is full."""
    volumes: dict[str, list[int]] = {}
    for index, item in enumerate(prepared.slices):
        volumes.setdefault(item.volume, []).append(index)
    for name, indices in volumes.items():
        full = [i for i in indices if prepared.lesion_pixels[i] == np.prod(prepared.facts["shapes"][i])]
        if full:
            yield Finding("full label", name, f"{len(full)} slice(s) are lesion all over", prepared.slices[full[0]].mask)
        if not prepared.lesion_pixels[indices].any():
            found = f"no lesion in {len(indices)} slice(s)"
            yield Finding("empty label", name, found, prepared.slices[indices[0]].mask)


def check_sequences(sequences: dict[str, np.ndarray]) -> Iterator[tuple[str, str]]:
    """Yield the check and the finding, for the sequences (slices, h, w) of one scan by name."""
    for name, volume in sequences.items():
        low, high = volume.min(), volume.max()
        if low == high:
            yield "constant sequence", f"{name} is {low:g} everywhere"
        elif (share := (volume == high).sum() / max((volume > 0).sum(), 1)) > SATURATED:
            yield "saturated sequence", f"{name} has its largest value, {high:g}, in {share:.0%} of the pixels above 0"
    for (one, a), (other, b) in combinations(sequences.items(), 2):
        if np.array_equal(a, b):
            yield "copied sequence", f"{one} and {other} are the same"


def describe(volume: np.ndarray) -> np.ndarray:
    """Return the detail of each slice of a sequence (slices, h, w), of mean 0, float32 (slices, SIDE * SIDE)."""
    drawn = []
    for image in volume.astype(np.float32):
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        detail = small - cv2.GaussianBlur(small, (0, 0), DETAIL)
        drawn.append((detail - detail.mean()).ravel())
    return np.stack(drawn)


def normalize(drawn: np.ndarray) -> np.ndarray:
    """Return the descriptions (N, sequences * SIDE * SIDE) with a length of 1, to which each sequence adds alike.

    The product of two is the mean correlation of their sequences. A slice that is constant has the length 0.
    """
    parts = drawn.reshape(len(drawn), -1, SIDE * SIDE)
    lengths = np.linalg.norm(parts, axis=2, keepdims=True)
    there = lengths > np.float32(1e-6) * max(float(lengths.max()), 1e-30)
    parts = np.where(there, parts / np.where(there, lengths, 1), 0)
    return (parts / np.sqrt(np.maximum(there.sum(axis=1, keepdims=True), 1))).reshape(len(drawn), -1)


def find_near_copies(prepared: Prepared, drawn: np.ndarray) -> Iterator[Finding]:
    """Yield each two patients with images that are nearly the same. `find_copies` has the equal ones.

    Args:
        prepared: the data set.
        drawn: the description of each slice.
    """
    equal = set(find_copies(prepared, range(len(prepared.slices))))
    owners = np.unique([item.patient for item in prepared.slices], return_inverse=True)[1]
    pairs: dict[tuple[str, str], list[tuple[float, int, int]]] = {}
    for start in range(0, len(drawn), BLOCK):
        alike = drawn[start : start + BLOCK] @ drawn.T
        alike[owners[start : start + BLOCK, None] == owners] = 0
        for row, other in np.argwhere(alike > NEAR):
            one = start + int(row)
            if one < other and (one, int(other)) not in equal:
                who = prepared.slices[one].patient, prepared.slices[other].patient
                pairs.setdefault(who, []).append((float(alike[row, other]), one, int(other)))
    for (patient, copy), images in pairs.items():
        nearest, one, other = max(images)
        found = f"{len(images)} pair(s) of images are nearly the same, correlation up to {nearest:.3f}"
        example = f"{prepared.slices[one].image} and {prepared.slices[other].image}"
        yield Finding("near copy", f"{patient} and {copy}", found, example)
