"""The cases that a CSV lists."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from attnunet.data import cells, listing
from attnunet.data.decoders import nifti
from attnunet.data.images import count_pages
from attnunet.data.listing import IMAGES, natural_key
from attnunet.data.slices import DataError, name_volume, refuse
from attnunet.inference.inputs.case import Case, Passed, Takes
from attnunet.inference.inputs.folder import find_suffix
from attnunet.inference.volumes import Array, Pages, Sequences, Source, Stack

CASE, ORDER = ("case", "patient"), ("scan", "slice", "site")


@dataclass(frozen=True)
class Listed:
    """The cases that a CSV lists: the paths of each row by column, and the name of the row's case."""

    root: Path
    rows: tuple[tuple[str, Mapping[str, Path]], ...]

    @property
    def volumes(self) -> list[Source]:
        paths = chain.from_iterable(row.values() for _, row in self.rows)
        return [source_of([path], Path()) for path in paths if path.exists()]

    def cases(self, takes: Takes, channels: Mapping[str, str] | None) -> tuple[list[Case], Passed]:
        if channels is not None:
            raise DataError(f"channels={dict(channels)}: a CSV has a column for each sequence; allowed: null")
        grouped: dict[str, list[Mapping[str, Path]]] = {}
        for name, row in self.rows:
            grouped.setdefault(name, []).append(row)
        return [self.case(name, rows, takes.channels) for name, rows in grouped.items()], Passed()

    def reader(self, passed: Passed) -> None:
        return None

    def case(self, name: str, rows: Sequence[Mapping[str, Path]], channels: Sequence[str]) -> Case:
        """Return the case of some rows: one row with a path for each sequence, or a row for each image."""
        there = [path for row in rows for column, path in row.items() if column in (*channels, "image")]
        if absent := [path for path in there if not path.exists()]:
            return Case(name, None, f"{absent[0]}: no such file or folder")
        if all("image" in row for row in rows) and not set(channels) <= set(rows[0]):  # a training prefers the sequences, too
            return Case(name, source_of([row["image"] for row in rows], Path(name)))
        if lacking := [channel for channel in channels if channel not in rows[0]]:
            return Case(name, None, f"{name}: no file for the sequence {', '.join(lacking)}, which the run's network takes")
        if len(rows) > 1:
            return Case(name, None, f"{name}: is listed twice; allowed: one row a case")
        paths = {channel: rows[0][channel] for channel in channels}
        if strange := [path for path in paths.values() if not (path.is_dir() or nifti.is_nifti(path.name))]:
            return Case(name, None, f"{strange[0]}: allowed for a sequence: a NIfTI file, or the folder of a DICOM series")
        return Case(name, Sequences(tuple(paths.values()), Path(name).parent, Path(name).name), sequences=paths)


def read_table(file: Path) -> Listed:
    """Return the cases that a CSV lists. Paths are relative to its folder.

    The columns are `case` (or `patient`, and `scan` if a patient has several), and one for each sequence; or `image` instead
    of the sequences, with a row for each slice or volume. A column `slice` orders the slices: by number if all are whole
    numbers, else in natural order. Other columns are not read, so the tables that train can be given too.

    Raises:
        DataError: the file is no such CSV; it has no rows; a name cannot be that of a folder.
    """
    table = next((found for name in CASE if name in (found := cells.read_rows(file, [name])).columns), None)
    if table is None or len(set(table.columns)) < len(table.columns):
        raise DataError(f"{file}: needed: the columns case, and one for each sequence (or image), each once")
    refuse(table.faults)
    rows: list[tuple[str, dict[str, str]]] = []
    for line, row in table.lines.items():
        name = name_volume(next((row[column] for column in CASE if column in row), ""), row.get("scan", ""))
        if not name or Path(name).is_absolute() or ".." in Path(name).parts:
            raise DataError(f"{file}, line {line}: the case is named {name!r}; allowed: names that can be those of files")
        rows.append((name, row))
    if not rows:
        raise DataError(f"{file}: no rows below the header")
    order = {name: place for place, (name, _) in enumerate(reversed(rows))}
    numbered = all(re.fullmatch("-?[0-9]+", row.get("slice", "")) for _, row in rows)
    rows.sort(key=lambda item: (-order[item[0]], int(item[1]["slice"]) if numbered else natural_key(item[1].get("slice", ""))))
    return Listed(file.parent, tuple((name, locate_files(file.parent, row)) for name, row in rows))


def locate_files(folder: Path, row: Mapping[str, str]) -> dict[str, Path]:
    """Return the path of each column of a row that can name a file."""
    return {column: cells.locate(folder, cell) for column, cell in row.items() if cell and column not in (*CASE, *ORDER)}


def source_of(paths: Sequence[Path], place: Path) -> Source:
    """Return the volume that some files form: the slices of a stack, or one file or folder of a volume."""
    first = paths[0]
    if first.is_dir() and not any(find_suffix(file.name) for file in first.iterdir()):
        return Sequences((first,), place.parent, place.name)
    if first.is_dir():
        return Stack(tuple(file for file in listing.list_files(first)[0] if find_suffix(file.name) in IMAGES), place)
    if nifti.is_nifti(first.name):
        return Sequences((first,), place.parent, place.name)
    if first.is_file() and len(paths) == 1 and count_pages(str(first)) > 1:
        return Pages((first,), place)
    return Array((first,), place) if first.suffix.lower() == ".npy" else Stack(tuple(paths), place)
