"""The volumes that files and folders form."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath

from attnunet.data import lgg, listing
from attnunet.data.decoders import dicom, nifti
from attnunet.data.images import count_pages
from attnunet.data.listing import IMAGES, natural_key
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, refuse
from attnunet.inference.inputs.case import Case, Passed, Takes
from attnunet.inference.inputs.patterns import Key, find_patterns, group, read_layout
from attnunet.inference.volumes import Array, Pages, Sequences, Source, Stack

VOLUMES = (".npy", *nifti.SUFFIXES)
ALLOWED = (
    f"images ({', '.join(IMAGES)}), volumes ({', '.join(VOLUMES)}), a folder or .zip of such or of DICOM series, or a .csv "
    "that lists cases"
)


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
        strays = [source for source in kept if groups and isinstance(source, Sequences) and len(takes.channels) == 1]
        kept = [source for source in kept if source not in strays]
        used = {*kept, *matched, *strays}
        found = [Case(self.name(PurePosixPath(source.place), source.name), source) for source in kept]
        found += [self.join(key, files, takes.channels) for key, files in groups.items()]
        found += [self.refuse_stray(source, takes.channels[0]) for source in strays]
        other = [source.volumes[0] for source in singles if source not in used]
        return tell_apart(found), self.passed._replace(other=tuple(other))

    def refuse_stray(self, source: Sequences, channel: str) -> Case:
        """Return a case that fails: a volume without the name of the network's only channel, where others have this name."""
        name, file = self.name(PurePosixPath(source.place), source.name), source.volumes[0]
        told = f"{file}: not named as {channel}, the sequence that the run's network takes, and other files are"
        return Case(name, None, f"{told}; channels={{{channel}: PATTERN}} gives the names of the files")

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

    def join(self, key: Key, files: Mapping[str, Sequence[Path]], channels: Sequence[str]) -> Case:
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


def tell_apart(cases: Sequence[Case]) -> list[Case]:
    """Return the cases with names that differ. Cases of the same name get the names of their files besides."""
    times = Counter(case.name for case in cases)
    return [
        replace(case, name=f"{case.name} ({case.source.files[0].name})") if case.source and times[case.name] > 1 else case
        for case in cases
    ]
