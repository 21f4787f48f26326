"""A data set: slices that know their patient, and where their pixels come from."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from attnunet.data.names import find_second_names, match_absent
from attnunet.errors import UserError

if TYPE_CHECKING:
    import numpy as np


class DataError(UserError):
    """Something is wrong with the files of a data set; the message names the file or key and what is allowed."""


SHOWN = 20


def refuse(faults: Sequence[str]) -> None:
    """Raise DataError where there are faults: one line for each of the first, and how many more there are."""
    if len(faults) > SHOWN:
        raise DataError("\n".join([*faults[:SHOWN], f"... and {len(faults) - SHOWN} more"]))
    if faults:
        raise DataError("\n".join(faults))


@dataclass(frozen=True)
class Slice:
    """One image and its mask.

    `number` orders a patient's slices, `site` is where the patient was scanned ("" where unknown), `missing` names the
    sequences for which another one or nothing stands in (known once the files were read), `scan` is the scan among the
    patient's ("" where there is one), `spacing` the distance in mm between its slices, rows and columns where the files tell.
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
        """The name of the volume that the slice is of: the patient's, and the scan's where there are several."""
        return name_volume(self.patient, self.scan)


def name_volume(patient: str, scan: str) -> str:
    """Return the name of a patient's scan; a patient's only scan has none of its own."""
    return f"{patient}/{scan}" if scan else patient


class Pixels(Protocol):
    """The pixels of a scan's slices."""

    def slices(self) -> Iterator[tuple[np.ndarray, np.ndarray] | DataError]:
        """Yield each slice's image, (h, w, file channels) of any type of numbers, and its mask, uint8 (h, w) of 0 and 1.

        Where a file cannot be read, yield the error that names it; after one that holds for all slices, none follows.
        """

    def sequence(self, channel: int) -> np.ndarray:
        """Return one of the file channels of all slices, (slices, h, w). Raises DataError, which names the file."""


class Source(Protocol):
    """What turns the files of a data set into pixels."""

    @property
    def settings(self) -> list[Any]:
        """What the pixels depend on besides the files, of JSON's types."""

    def files(self, slices: Sequence[Slice]) -> list[str]:
        """Return the paths of the files that these slices are read from."""

    def pixels(self, slices: Sequence[Slice]) -> Pixels:
        """Return the pixels of a scan's slices."""


@dataclass(frozen=True)
class Dataset:
    """Slices in the order (patient, number), and how their files are to be read.

    `source` reads the files. `file_channels` are the names of the images' channels in its order, `channels` the ones to
    use. `intensity` is "raw", "percentile" or "zscore" (see `attnunet.data.cache`). `verify` distrusts sizes and
    modification times and reads all. `spacing` is the distance in mm between slices, between rows and between columns, None
    where unknown or where each slice has its own. `notes` are lines that a user should read before training. `plane` is
    that of the slices, as far as it is known. `pixel_size` is the one in mm that they are resampled to, None where each is
    squeezed into a square. `dtype` is the type of values that a request to a served network has.
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
    """Return a text file's content: UTF-8, or UTF-16 where a byte order mark says so."""
    data = path.read_bytes()
    encoding = "utf-16" if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: is not UTF-8 text; save the file as UTF-8") from None


def read_excluded(exclude: Sequence[str] | str) -> list[str]:
    """The patients named by `data.exclude`: a list of them, or the path of a text file with one a line."""
    if not isinstance(exclude, str):
        return [str(name) for name in exclude]  # runs of earlier versions recorded numbers
    path = Path(exclude)
    if not path.is_file():
        raise DataError(f"data.exclude={exclude}: no such file; give a text file with one patient a line, or a list")
    lines = [line.strip() for line in read_text(path).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def drop_patients(slices: Iterable[Slice], exclude: Sequence[str] | str) -> tuple[Slice, ...]:
    """The slices of the patients that are not excluded, ordered.

    An excluded patient that is not there is an error: a misspelt name would let a locked patient in. So are two names
    that may be one patient's or one site's, which would train and test.
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
            *find_second_sites(kept),
        ]
    )
    return kept


def find_second_sites(slices: Iterable[Slice]) -> Iterator[str]:
    """Yield a line for each patient that was scanned at two sites, one of which a split by site would train on."""
    sites: dict[str, set[str]] = {}
    for item in slices:
        sites.setdefault(item.patient, set()).add(item.site)
    for patient, found in sites.items():
        if len(found) > 1:
            yield f"patient {patient} is of the sites {', '.join(map(repr, sorted(found)))}; allowed: one site a patient"


def choose_channels(channels: Sequence[str], file_channels: Sequence[str]) -> tuple[str, ...]:
    """The channels to use, checked against those of the files."""
    if not channels or set(channels) - set(file_channels):
        raise DataError(f"data.channels={list(channels)}: choose one or more of {list(file_channels)}")
    return tuple(channels)
