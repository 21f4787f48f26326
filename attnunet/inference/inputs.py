"""Finds the volumes to segment at a path, and joins the sequences of each case.

The path is a file, a folder in any layout that `attnunet.data` trains on, a zip archive of such a folder, or a CSV that lists
cases. The volumes are found before it is known which network segments them. `Found.cases` then picks the sequences that the
network uses.
"""

import os
import re
import shutil
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from glob import escape
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Protocol

from attnunet.data import brats, cells, lgg, listing, nnunet
from attnunet.data.decoders import dicom, nifti
from attnunet.data.files import naming
from attnunet.data.images import count_pages
from attnunet.data.listing import IMAGES, natural_key
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, name_volume, refuse
from attnunet.errors import explain, first_line
from attnunet.inference.volumes import Array, Look, Pages, Sequences, Source, Stack

VOLUMES = (".npy", *nifti.SUFFIXES)
ALLOWED = (
    f"images ({', '.join(IMAGES)}), volumes ({', '.join(VOLUMES)}), a folder or .zip of such or of DICOM series, or a .csv "
    "that lists cases"
)


class Takes(Protocol):
    """The volumes that a network takes; see `Preparation`."""

    @property
    def file_channels(self) -> tuple[str, ...]: ...

    @property
    def channels(self) -> tuple[str, ...]: ...

    @property
    def plane(self) -> str: ...


@dataclass(frozen=True)
class Case:
    """A volume to segment.

    Attributes:
        name: the case's name, which no other case has.
        source: the volume, or None if its files do not fit together.
        fault: the sentence that tells why there is no source.
        sequences: the name of the file or folder of each sequence, if each sequence has its own.
    """

    name: str
    source: Source | None
    fault: str = ""
    sequences: Mapping[str, Path] = field(default_factory=dict)


class Passed(NamedTuple):
    """The files that are not segmented: they match `ignore`, or are of an unknown kind, or of another sequence."""

    ignored: tuple[Path, ...] = ()
    strange: tuple[Path, ...] = ()
    other: tuple[Path, ...] = ()

    def describe(self) -> str:
        """Return one line with the numbers of files, or "" if there are none."""
        kinds = zip(self, ("that match ignore", "of other kinds", "of other sequences"), strict=True)
        parts = [f"{len(files):,} file(s) {kind}, such as {files[0].name}" for files, kind in kinds if files]
        return f"left out: {'; '.join(parts)}" if parts else ""


class Found(Protocol):
    """The volumes at a path.

    Attributes:
        root: the folder that the names of cases are relative to.
        volumes: all volumes, before sequences are joined.
    """

    @property
    def root(self) -> Path: ...

    @property
    def volumes(self) -> Sequence[Source]: ...

    def cases(self, takes: Takes, channels: Mapping[str, str] | None) -> tuple[list[Case], Passed]:
        """Return the cases for a network, and the files that are left out.

        Args:
            takes: the channels that the network takes.
            channels: the pattern of the files of each channel, or None for the patterns of the layout.

        Raises:
            DataError: the patterns name other channels than the network's; nothing matches them.
        """

    def reader(self, passed: Passed) -> str | None:
        """Return the reader of `attnunet.data` that takes the passed files as references, or None if it is not known."""


@contextmanager
def unpacked(path: Path) -> Iterator[Path]:
    """Yield the path itself, or for a zip archive a temporary folder with its files, which lives as long as the `with` block.

    An error of the block names the archive in place of the folder.

    Raises:
        DataError: the archive is damaged or encrypted, or there is not enough space for its files.
    """
    if path.suffix.lower() != ".zip" or not path.is_file():
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="attnunet-") as temporary:
        folder = Path(temporary, path.stem)
        folder.mkdir()
        try:
            with zipfile.ZipFile(path) as archive, naming(folder):
                needed, free = sum(item.file_size for item in archive.infolist()), shutil.disk_usage(folder).free
                if needed > free:
                    raise DataError(f"{path}: unpacks to {needed:,} bytes, but {temporary} has {free:,}; set TMPDIR to more")
                archive.extractall(folder)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError, ValueError) as error:
            raise DataError(f"{path}: cannot be read as a zip archive: {error}") from error
        try:
            yield folder
        except DataError as error:
            raise DataError(str(error).replace(str(folder), str(path))) from error


def find(path: Path, ignore: Sequence[str] = ()) -> Found:
    """Return the volumes at a path. The values of images are not read yet.

    Raises:
        DataError: there is no volume; `listing.list_files` finds a fault; dataset.json or the CSV is faulty.
    """
    if path.suffix.lower() == ".csv" and path.is_file():
        return read_table(path)
    return find_files(path, ignore)


@dataclass(frozen=True)
class Files:
    """The volumes that files and folders form.

    All images in a folder form one volume, in natural order (slice_2 before slice_10). Each folder below it forms a volume of
    its own. A DICOM series in a folder is one volume too.

    Attributes:
        layout: the pattern of each channel as the folder's own dataset.json tells it, or None without one.
    """

    root: Path
    volumes: tuple[Source, ...]
    passed: Passed
    layout: Mapping[str, tuple[str, ...]] | None = None

    def cases(self, takes: Takes, channels: Mapping[str, str] | None) -> tuple[list[Case], Passed]:
        singles = [source for source in self.volumes if isinstance(source, Sequences)]
        given = channels is not None or self.layout is not None
        groups, matched = group(singles, find_patterns(takes, channels, self.layout), self.root)
        if given and singles and not groups:
            named = f"channels={dict(channels)}" if channels else f"dataset.json at {self.root}"
            raise DataError(f"{named}: no file has such a name, {singles[0].volumes[0]} for example; allowed: other patterns")
        places = {source.place for source in singles if given or source in matched} if groups else set()
        kept = [source for source in self.volumes if not (isinstance(source, Sequences) and source.place in places)]
        used = {*kept, *matched}
        found = [Case(self.name(PurePosixPath(source.place), source.name), source) for source in kept]
        found += [self.join(key, files, takes.channels) for key, files in groups.items()]
        other = [source.volumes[0] for source in singles if source not in used]
        return tell_apart(found), self.passed._replace(other=tuple(other))

    def reader(self, passed: Passed) -> str | None:
        """Return the reader of `attnunet.data` that takes the passed files as references, or None if it is not known."""
        if self.layout is not None:
            return "nnunet"
        kinds = {
            "lgg": lgg.match_name,
            "brats": lambda file: re.match("BraTS", file.name),
            "nifti": lambda file: nifti.is_nifti(file.name) and re.fullmatch("(.*[_-])?seg", stem(file)),
        }
        return next((name for name, fits in kinds.items() if any(map(fits, passed.ignored))), None)

    def name(self, place: PurePosixPath, own: str | PurePosixPath) -> str:
        """Return the name of a case: its path below the root. An empty path gives the root's name, p1/p1 gives p1."""
        path = place if place.name == str(own) else place / own
        return path.as_posix() if path.parts else self.root.resolve().name

    def join(self, key: "Key", files: Mapping[str, Sequence[Path]], channels: Sequence[str]) -> Case:
        """Return the case of some files, which are listed by channel."""
        name = self.name(key.place, key.case)
        for channel, paths in files.items():
            if len(paths) > 1:
                told = f"{name}: two files for the sequence {channel}, {paths[0]} and {paths[1]}; allowed: one"
                return Case(name, None, f"{told}, so give channels narrower patterns")
        first = next(iter(files.values()))[0]
        if lacking := [channel for channel in channels if channel not in files]:
            told = f"{first}: no file for the sequence {', '.join(lacking)} beside it, which the run's network takes"
            return Case(name, None, f"{told}; channels={{{lacking[0]}: PATTERN, ...}} gives the names of the files")
        chosen = {channel: files[channel][0] for channel in channels}
        own_name = key.case.name or "mask" if len(chosen) > 1 or key.by_path else stem(next(iter(chosen.values())))
        source = Sequences(tuple(chosen.values()), Path(key.place / key.case.parent), own_name)
        return Case(name, source, sequences=chosen)


def find_files(path: Path, ignore: Sequence[str]) -> Files:
    """Return the volumes at a path. A file is left out if a pattern of `ignore` matches it or a folder above it.

    Raises:
        DataError: there is no volume at `path`; `listing.list_files` finds a fault; see `nnunet.channel_names`.
    """
    files, faults = listing.list_files(path) if path.is_dir() else ([path] if path.is_file() else [], [])
    refuse(faults)
    root = path if path.is_dir() else path.parent
    ignored = {file: None for file in files if is_ignored(file.relative_to(root), ignore)}  # keeps the order
    kinds = {file: find_suffix(file.name) for file in files if file not in ignored}
    series = {file.parent for file, suffix in kinds.items() if not suffix and path.is_dir() and dicom.is_dicom(file)}
    described = next((file for file in (root / "dataset.json", root.parent / "dataset.json") if file.is_file()), None)
    images: dict[Path, list[Path]] = {}
    volumes: list[Source] = []
    strange: list[Path] = []
    for folder in sorted(series, key=lambda folder: natural_key(str(folder))):
        if is_segmentation(folder):
            strange.append(folder)
        else:
            volumes.append(Sequences((folder,), place_below(folder, root), folder.name))
    for file, suffix in kinds.items():
        place = file.parent.relative_to(root)
        if file.parent in series:
            continue
        if suffix == ".npy":
            volumes.append(Array((file,), place))
        elif suffix in nifti.SUFFIXES:
            volumes.append(Sequences((file,), place, stem(file)))
        elif suffix:
            images.setdefault(place, []).append(file)
        elif file != described:
            strange.append(file)
    stacks = [stack for place, slices in images.items() for stack in stack_up(slices, place, path)]
    if not (stacks or volumes):
        besides = f"; {len(ignored)} file(s) are left out by ignore={list(ignore)}" if ignored else ""
        raise DataError(f"input={path}: nothing to segment there; allowed: {ALLOWED}{besides}")
    layout = read_layout(described) if described and (described.parent == root or root.name.startswith("images")) else None
    return Files(root, (*stacks, *volumes), Passed(tuple(ignored), tuple(strange)), layout)


def is_segmentation(folder: Path) -> bool:
    """Return whether a folder holds a DICOM SEG. A folder that cannot be read is a case that fails, so it does not."""
    try:
        return dicom.is_segmentation(folder)
    except DataError:
        return False


def stack_up(slices: Sequence[Path], place: Path, path: Path) -> list[Source]:
    """Return the volumes of the images in a folder: one for all, or one for each if the first is a TIFF of several pages."""
    if count_pages(str(slices[0])) > 1:
        return [Pages((file,), place) for file in slices]
    return [Stack(tuple(slices), place, slices[0].stem if path.is_file() else "")]


def find_suffix(name: str) -> str:
    """Return the suffix of an image or a volume that a file's name has, in small letters, or ""."""
    return next((suffix for suffix in (*IMAGES, *VOLUMES) if name.lower().endswith(suffix)), "")


def is_ignored(path: Path, ignore: Sequence[str]) -> bool:
    """Return whether a pattern matches a part of a path below the root. Small and capital letters are equal."""
    return any(fnmatchcase(part.lower(), pattern.lower()) for part in path.parts for pattern in ignore)


def place_below(folder: Path, root: Path) -> Path:
    """Return the folder for the mask of a DICOM series, relative to the output. `folder` is the folder of the series.

    If the series is the input itself, its mask goes to the top of the output.
    """
    return folder.parent.relative_to(root) if folder != root else Path()


def read_layout(described: Path) -> dict[str, tuple[str, ...]]:
    """Return the pattern of each channel that a dataset.json of nnU-Net names: "*_0000" for the first."""
    names = nnunet.channel_names(nnunet.read_json(described), described)
    return {name: (f"*_{place:04}",) for place, name in enumerate(names)}


def find_patterns(
    takes: Takes, channels: Mapping[str, str] | None, layout: Mapping[str, tuple[str, ...]] | None
) -> dict[str, tuple[str, ...]]:
    """Return the patterns of each channel that the network uses.

    Without `channels` and `layout`, a file belongs to a channel if its name is the channel's name, or ends with it after a _
    or -. BraTS's names for a sequence count as one name.

    Raises:
        DataError: `channels` names a channel that the network does not take, or lacks one that it uses; `layout` lacks one.
    """
    needed = takes.channels
    if channels is not None:
        strange, lacking = set(channels) - set(takes.file_channels), [name for name in needed if name not in channels]
        if strange or lacking:
            wrong = f"no such channel {min(strange)}" if strange else f"lacks {lacking[0]}"
            allowed = f"a pattern for each of {', '.join(needed)}, which the network uses"
            raise DataError(f"channels={dict(channels)}: {wrong}; allowed: {allowed}")
        return {name: (channels[name],) for name in needed}
    if layout is not None:
        if lacking := [name for name in needed if name not in layout]:
            raise DataError(
                f"dataset.json names the channels {', '.join(layout)}, but the network takes {', '.join(lacking)}; "
                f"channels={{{lacking[0]}: '*_0000*'}} tells which files these are"
            )
        return {name: layout[name] for name in needed}
    names = {name: [name, *(other for other, one in brats.NAMES.items() if one == name)] for name in needed}
    return {
        name: tuple(pattern for one in map(escape, dict.fromkeys(others)) for pattern in (one, f"*_{one}", f"*-{one}"))
        for name, others in names.items()
    }


class Key(NamedTuple):
    """Tells a case from the others: its folder, and its name below that, which is empty if the folder is the case.

    `by_path` tells whether the pattern was one of a path, so that the files of a case lie in different folders.
    """

    place: PurePosixPath
    case: PurePosixPath
    by_path: bool = False


def group(
    volumes: Iterable[Sequences], patterns: Mapping[str, Sequence[str]], root: Path
) -> tuple[dict[Key, dict[str, list[Path]]], set[Sequences]]:
    """Return the files of each case by channel, and the volumes that a pattern matches.

    The case is the part of a name for which the stars of a pattern stand. If a folder holds DICOM series, and one at most for
    each channel, the folder is the case, because the series of a scan are numbered.
    """
    groups: dict[Key, dict[str, list[Path]]] = {}
    matched: set[Sequences] = set()
    for source in volumes:
        if found := match(source, patterns, root):
            channel, key = found
            groups.setdefault(key, {}).setdefault(channel, []).append(source.volumes[0])
            matched.add(source)
    folders: dict[PurePosixPath, list[Key]] = {}
    for key in groups:
        if not key.by_path:
            folders.setdefault(key.place, []).append(key)
    for place, keys in folders.items():
        there = [(channel, path) for key in keys for channel, paths in groups[key].items() for path in paths]
        if all(path.is_dir() for _, path in there) and len({channel for channel, _ in there}) == len(there):
            for key in keys:
                del groups[key]
            groups[Key(place, PurePosixPath())] = {channel: [path] for channel, path in there}
    return groups, matched


def match(source: Sequences, patterns: Mapping[str, Sequence[str]], root: Path) -> tuple[str, Key] | None:
    """Return the channel of a volume and the key of its case, or None if no pattern matches.

    A pattern with a / is one of the path below the root, any other one of the name. Both may leave out the suffix. If several
    patterns match, the one with the longest text besides stars decides.
    """
    file, place = source.volumes[0], PurePosixPath(source.place)
    ordered = sorted(((len(one.replace("*", "")), name, one) for name in patterns for one in patterns[name]), reverse=True)
    for _, channel, pattern in ordered:
        by_path = "/" in pattern
        whole = file.relative_to(root).as_posix() if by_path and file != root else file.name
        for text in (whole.removesuffix(file.name) + stem(file), whole):
            if found := re.fullmatch(as_regex(pattern), text, re.IGNORECASE | re.DOTALL):
                parts = [part.strip("_-. /") for part in found.groups()]
                case = PurePosixPath("_".join(part for part in parts if part))
                return channel, Key(PurePosixPath() if by_path else place, case, by_path)
    return None


def as_regex(pattern: str) -> str:
    """Return a pattern of the shell as a regular expression. Each star becomes a group."""
    return "".join(map(part_as_regex, re.split(r"(\*|\?|\[!?[^\]]+\])", pattern)))


def part_as_regex(part: str) -> str:
    if part in ("*", "?"):
        return "(.*)" if part == "*" else "."
    return f"[{part[1:-1].replace('!', '^', 1)}]" if re.fullmatch(r"\[.+\]", part) else re.escape(part)


def tell_apart(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with names that differ. Cases of the same name get the names of their files besides."""
    times = Counter(case.name for case in cases)
    return [
        replace(case, name=f"{case.name} ({case.source.files[0].name})") if case.source and times[case.name] > 1 else case
        for case in cases
    ]


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
        if all("image" in row for row in rows):
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
    of the sequences, with a row for each slice or volume. A column `slice` orders the slices. Other columns are not read, so
    the tables that train can be given too.

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
    rows.sort(key=lambda item: (-order[item[0]], natural_key(item[1].get("slice", ""))))
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


def check_readable(found: Found) -> None:
    """Raise DataError if no volume at all can be read, as far as headers tell. Stop at the first one that can be read."""
    faults: list[str] = []
    for source in found.volumes:
        try:
            source.look("axial")
            return
        except Exception as error:
            faults.append(describe_fault(Case(source.files[0].name, source), error))
    refuse(faults)


def describe_fault(case: Case, error: Exception) -> str:
    """Return one line that tells why a case failed. It begins with the case or one of its files.

    For a DICOM series, the message of an unknown error is left out, because it can quote the header.
    """
    quotes = isinstance(case.source, Sequences) and any(volume.is_dir() for volume in case.source.volumes)
    unknown = type(error).__name__ if quotes else f"{type(error).__name__}: {first_line(error)}"
    told = " ".join((explain(error) or unknown).split())
    named = told.partition(": ")[0]
    return told if named == case.name or os.sep in named else f"{case.name}: {told}"


def check_fit(case: str, look: Look, takes: Takes, any_plane: bool) -> None:
    """Raise DataError if a volume does not fit a network: by its channels, or by the plane in which it was acquired."""
    if look.channels not in (len(takes.file_channels), len(takes.channels)):
        names = ", ".join(takes.channels)
        raise DataError(
            f"{case}: {look.channels} channel(s), but the network takes {len(takes.channels)}: {names}; where each is a file "
            f"of its own, channels={{{takes.channels[0]}: '*_{takes.channels[0]}*', ...}} tells which"
        )
    if look.refusal and not any_plane:
        raise DataError(f"{case}: {look.refusal}, or any_plane=true")


def pick_channels(takes: Takes, channels: int) -> Collection[int]:
    """Return the places, among the file channels that a network takes, of the channels of a volume with so many channels."""
    if channels == len(takes.file_channels):
        return range(channels)
    return [takes.file_channels.index(name) for name in takes.channels]
