"""Search for probable faults of a data set: nearly equal images of two patients, wrong labels and wrong sequences."""

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
"""The standard deviation in pixels of a Gaussian blur. The blurred image is subtracted from the image of SIDE x SIDE pixels.

The subtraction removes the coarse form, in which all heads are alike.
"""
NEAR = 0.9
"""Two images with a larger correlation count as nearly the same.

No two slices of different patients among 45 LGG patients exceed 0.86. A copy at half the size, at 0.6 of the brightness or as
JPEG of quality 50 reaches 0.96 or more in 19 of 20 slices.
"""
SATURATED = 0.05
"""A sequence counts as clipped if a larger share of its pixels above 0 has the largest value. On LGG it is 0.000005."""
BLOCK = 1024
"""The number of images that are compared with all others in one step."""


@dataclass(frozen=True)
class Finding:
    """A fault that a check found.

    Attributes:
        check: the name of the check.
        patients: the patients or scans with the fault.
        found: a text that describes the fault.
        file: the path of an example.
    """

    check: str
    patients: str
    found: str
    file: str = ""

    def row(self) -> dict[str, str]:
        """Return the finding as a row of audit.csv."""
        return asdict(self)


def audit(dataset: Dataset, prepared: Prepared) -> list[Finding]:
    """Return the faults of a data set's files, which are read at native size, and of its labels."""
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
    """Yield a finding for each volume without any lesion, and for each volume with a slice that is lesion everywhere."""
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
    """Yield the name of the check and a text, for each fault of a scan's sequences.

    `sequences` maps the name of each sequence to its values (slices, h, w).
    """
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
    """Return the detail of each slice of a sequence (slices, h, w), as float32 (slices, SIDE * SIDE).

    The detail is the small image minus its blurred form. It has the mean 0.
    """
    drawn = []
    for image in volume.astype(np.float32):
        small = cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
        detail = small - cv2.GaussianBlur(small, (0, 0), DETAIL)
        drawn.append((detail - detail.mean()).ravel())
    return np.stack(drawn)


def normalize(drawn: np.ndarray) -> np.ndarray:
    """Return the descriptions (N, sequences * SIDE * SIDE), scaled to the length 1.

    The sequences of a slice have equal lengths in its description. So the product of two descriptions is the mean correlation
    of their sequences. A constant sequence becomes 0, and the description of a slice with only constant sequences has the
    length 0.
    """
    parts = drawn.reshape(len(drawn), -1, SIDE * SIDE)
    lengths = np.linalg.norm(parts, axis=2, keepdims=True)
    there = lengths > np.float32(1e-6) * max(float(lengths.max()), 1e-30)
    parts = np.where(there, parts / np.where(there, lengths, 1), 0)
    return (parts / np.sqrt(np.maximum(there.sum(axis=1, keepdims=True), 1))).reshape(len(drawn), -1)


def find_near_copies(prepared: Prepared, drawn: np.ndarray) -> Iterator[Finding]:
    """Yield a finding for each pair of patients with nearly the same images. Equal images are left to `find_copies`.

    Args:
        prepared: the data set.
        drawn: the description of each slice; see `normalize`.
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
