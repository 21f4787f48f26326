"""A case to segment, what is found at a path, what a network takes, and why a case fails."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

from attnunet.data.slices import DataError
from attnunet.errors import explain, first_line
from attnunet.inference.volumes import Look, Sequences, Source


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
