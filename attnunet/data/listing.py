"""The files below a folder. All readers of image files use this one rule.

A suffix may have small or capital letters. Links to files and folders are followed, except a link to a folder that contains
the link. Names that begin with a dot are skipped. An example is `._x.png`, a file that macOS leaves on foreign disks.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

IMAGES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""The suffixes of the images that the readers of slices can decode."""
UNREAD = (".bmp", ".dcm", ".gif", ".jp2", ".nii", ".nii.gz", ".webp")
"""The suffixes of other images, which the readers of slices do not read."""


def is_image(path: Path) -> bool:
    """Return whether a file's name has the suffix of an image, whether or not a reader can decode it."""
    return path.name.lower().endswith(IMAGES + UNREAD)


def list_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files below a folder, in natural order, and a line for each fault.

    A fault is a link whose target is missing, an image that is no regular file (reading a named pipe would hang), a name that
    is not UTF-8, or an image that has the same number as another image in its folder.
    """
    faults: list[str] = []
    found = list(walk_files(folder, frozenset(), faults))
    return found, [*faults, *find_second_numbers(found)]


def walk_files(folder: Path, above: frozenset[tuple[int, int]], faults: list[str]) -> Iterator[Path]:
    """Yield the files below a folder, and add a line to `faults` for each path that cannot be used.

    `above` are the folders that contain the folder. The walk stops at a folder that is one of them.
    """
    status = folder.stat()
    here = (status.st_dev, status.st_ino)
    if here in above:
        return
    for path in sorted(folder.iterdir(), key=lambda path: (natural_key(path.name), path.name)):
        if path.name.startswith("."):
            continue
        if not is_utf8(path.name):
            faults.append(f"{str(path)!a}: the name is not UTF-8; rename it")
        elif path.is_dir():
            yield from walk_files(path, above | {here}, faults)
        elif path.is_file():
            yield path
        elif not path.exists():
            faults.append(f"{path}: a link to {os.readlink(path)}, which is not there; fetch it, or remove the link")
        elif is_image(path):
            faults.append(f"{path}: neither a file nor a folder; remove it")


def find_second_numbers(files: list[Path]) -> Iterator[str]:
    """Yield a line for each image that has the number of another image in its folder, such as s_01.png beside s_1.tif."""
    first: dict[tuple, Path] = {}
    for path in files:
        if path.suffix.lower() in IMAGES:
            other = first.setdefault((path.parent, *natural_key(unicodedata.normalize("NFC", path.stem.casefold()))), path)
            if other is not path:
                yield f"{path}: has the number of {other.name}; keep one of the two"


def is_utf8(name: str) -> bool:
    """Return whether a file's name is UTF-8. Python replaces the bytes of other names by lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sorting key that compares the numbers in names as numbers: slice_2 comes before slice_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
