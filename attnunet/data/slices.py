"""A data set: its slices, the patient of each slice, and the source of the slices' pixels."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnunet.data.names import find_second_names, match_absent
from attnunet.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class DataError(UserError):
    """Something is wrong with the files of a data set. The message names the file or key, and tells what is allowed."""


SHOWN = 20


def refuse(faults: Sequence[str]) -> None:
    """Raise DataError if there are faults. The message has a line for each of the first SHOWN faults, and counts the rest."""
    if len(faults) > SHOWN:
        raise DataError("\n".join([*faults[:SHOWN], f"... and {len(faults) - SHOWN} more"]))
    if faults:
        raise DataError("\n".join(faults))


@dataclass(frozen=True)
class Slice:
    """One image and its mask.

    Attributes:
        patient: the patient's name.
        number: orders a patient's slices.
        image: the path of the image.
        mask: the path of the mask.
        site: where the patient was scanned, "" if unknown.
        missing: the sequences that are missing. Another sequence or zeros replace them. The names may be complete only after
            the files were read.
        scan: tells the patient's scans apart; "" if the patient has only one scan.
        spacing: the distance in mm between the scan's slices, rows and columns, or None if the files do not tell it.
    """

    patient: str
    number: int
    image: str
    mask: str
    site: str = ""
    missing: tuple[str, ...] = ()
    scan: str = ""
    spacing: tuple[float, ...] | None = None

    @property
    def volume(self) -> str:
        """The name of the volume that the slice belongs to; see `name_volume`."""
        return name_volume(self.patient, self.scan)


def name_volume(patient: str, scan: str) -> str:
    """Return the name of a volume: "patient/scan", or the patient's name if `scan` is ""."""
    return f"{patient}/{scan}" if scan else patient


class Pixels(Protocol):
    """The pixels of a scan's slices."""

    def slices(self) -> Iterator[tuple[np.ndarray, np.ndarray] | DataError]:
        """Yield each slice's image and mask.

        The image has the shape (h, w, file channels) and any type of numbers. The mask is uint8 (h, w) of 0 and 1. If a
        file cannot be read, an error that names the file is yielded instead. An error that holds for all slices is the last
        item.
        """

    def sequence(self, channel: int) -> np.ndarray:
        """Return one file channel of all slices, (slices, h, w).

        Raises:
            DataError: a file cannot be read. The message names the file.
        """


class Source(Protocol):
    """The reader that turns the files of a data set into pixels."""

    @property
    def settings(self) -> list[Any]:
        """The settings that the pixels depend on, besides the files. They have JSON's types."""

    def files(self, slices: Sequence[Slice]) -> list[str]:
        """Return the paths of the files from which the given slices are read."""

    def pixels(self, slices: Sequence[Slice]) -> Pixels:
        """Return the pixels of a scan's slices."""


@dataclass(frozen=True)
class Dataset:
    """Slices in the order (patient, number), and how to read their files.

    Attributes:
        name: the name of the data set's reader, such as "lgg".
        slices: the slices.
        source: reads the files.
        file_channels: the names of the images' channels, in the order in which `source` returns the channels.
        channels: the names of the channels that are used.
        intensity: "raw", "percentile" or "zscore" (see `attnunet.data.intensity`).
        verify: whether all files are read again, even if their sizes and modification times have not changed.
        spacing: the distance in mm between slices, between rows and between columns. It is None if the distances are unknown,
            or if each slice has its own `spacing`.
        notes: lines that a user should read before training.
        plane: the plane of the slices, as far as it is known.
        pixel_size: the pixel size in mm that slices are resampled to. If it is None, each slice is squeezed into a square.
        dtype: a type that holds the values in the files.
    """

    name: str
    slices: tuple[Slice, ...]
    source: Source
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str = "raw"
    verify: bool = False
    spacing: tuple[float, ...] | None = None
    notes: tuple[str, ...] = ()
    plane: str = "axial"
    pixel_size: float | None = None
    dtype: str = "uint8"


def read_text(path: Path) -> str:
    """Return a text file's content. The file is UTF-8, or UTF-16 if it begins with a byte order mark of UTF-16.

    Raises:
        DataError: the file is not UTF-8 text.
    """
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 text; save the file as UTF-8") from None


def read_excluded(exclude: Sequence[str] | str) -> list[str]:
    """Return the patients that `data.exclude` names. It is a list of patients, or a text file with one patient per line."""
    if not isinstance(exclude, str):
        return [str(name) for name in exclude]  # earlier versions wrote some names as numbers
    path = Path(exclude)
    if not path.is_file():
        raise DataError(f"data.exclude={exclude}: no such file; give a text file with one patient a line, or a list")
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def number_through(slices: Iterable[Slice]) -> tuple[Slice, ...]:
    """Return the slices in the order (patient, scan, number). If a patient has several scans, its slices get new numbers.

    The new numbers begin with 1 and continue from scan to scan.
    """
    ordered = sorted(slices, key=lambda s: (s.patient, s.scan, s.number))
    patients = [list(group) for _, group in groupby(ordered, key=lambda s: s.patient)]
    return tuple(
        replace(item, number=number) if len({s.scan for s in group}) > 1 else item
        for group in patients
        for number, item in enumerate(group, start=1)
    )


def drop_patients(slices: Iterable[Slice], exclude: Sequence[str] | str) -> tuple[Slice, ...]:
    """Return the slices of all patients that are not excluded, in the order (patient, number).

    Raises:
        DataError: an excluded patient is not in the data, because a misspelt name would let in a patient that must stay out;
            two names may mean the same patient or the same site, which would then both train and test; two names may mean the
            same scan of a patient, which would then be cut in two; a patient has two sites; no patient is left.
    """
    slices = sorted(slices, key=lambda s: (s.patient, s.number))
    names, patients = set(read_excluded(exclude)), {s.patient for s in slices}
    if unknown := match_absent(names, patients):
        raise DataError(f"data.exclude names patients that are not in the data: {', '.join(unknown)}")
    kept = tuple(s for s in slices if s.patient not in names)
    if not kept:
        raise DataError("data.exclude leaves no patient")
    refuse(
        [
            *find_second_names("patient", {s.patient for s in kept}),
            *find_second_names("site", {s.site for s in kept}),
            *find_second_scans(kept),
            *find_second_sites(kept),
        ]
    )
    return kept


def find_second_scans(slices: Iterable[Slice]) -> Iterator[str]:
    """Yield a line for each patient with two scans whose names `fold_name` does not tell apart."""
    scans: dict[str, set[str]] = {}
    for item in slices:
        scans.setdefault(item.patient, set()).add(item.scan)
    for patient, names in scans.items():
        yield from (f"patient {patient}: {line}" for line in find_second_names("scan", names))


def find_second_sites(slices: Iterable[Slice]) -> Iterator[str]:
    """Yield a line for each patient with several sites. A split by site would train and test on such a patient."""
    files: dict[str, dict[str, str]] = {}
    for item in slices:
        files.setdefault(item.patient, {}).setdefault(item.site, item.mask)
    for patient, found in files.items():
        if len(found) > 1:
            told = f"patient {patient} is of the sites {', '.join(map(repr, sorted(found)))}"
            yield f"{', '.join(found.values())}: {told}; allowed: one site a patient"


def shown_channel(channels: Sequence[str]) -> int:
    """Return the place of the channel that figures show: flair if there is one, else the first."""
    return channels.index("flair") if "flair" in channels else 0


def choose_channels(channels: Sequence[str], file_channels: Sequence[str]) -> tuple[str, ...]:
    """Return the channels that are used. Raise DataError if the files lack one of them, or if `channels` is empty."""
    if not channels or set(channels) - set(file_channels):
        raise DataError(f"data.channels={list(channels)}: choose one or more of {list(file_channels)}")
    return tuple(channels)
