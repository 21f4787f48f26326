"""Tells by the names of files which of them are the sequences of one case."""

import re
from collections.abc import Iterable, Mapping, Sequence
from glob import escape
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from attnunet.data import brats, nnunet
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError
from attnunet.inference.inputs.case import Takes
from attnunet.inference.volumes import Sequences


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
