"""What lies below a folder: one rule for all readers of image files.

Suffixes count in any case. Links to files and folders are followed; one to a folder that it lies in ends there. Names that
begin with a dot are passed over, such as `._x.png`, which macOS leaves on foreign disks.
"""

import os
import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

IMAGES = (".tif", ".tiff", ".png", ".jpg", ".jpeg")
"""What the readers of slices decode."""
UNREAD = (".bmp", ".dcm", ".gif", ".jp2", ".nii", ".nii.gz", ".webp")
"""What holds images too, and is no slice to them."""


def is_image(path: Path) -> bool:
    """Return whether a file's name is that of an image, read or not."""
    return path.name.lower().endswith(IMAGES + UNREAD)


def list_files(folder: Path) -> tuple[list[Path], list[str]]:
    """Return the files below a folder, in natural order, and a line for each fault.

    Faults are links that lead nowhere, images that are no regular files (a named pipe would hang), names that are not
    UTF-8, and two images of one number in a folder.
    """
    faults: list[str] = []
    found = list(walk_files(folder, frozenset(), faults))
    return found, [*faults, *find_second_numbers(found)]


def walk_files(folder: Path, above: frozenset[tuple[int, int]], faults: list[str]) -> Iterator[Path]:
    """Yield the files below a folder and add what is wrong with others to `faults`; `above` are the folders it lies in."""
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
    """Yield a line for each image that has the number of another in its folder, as s_01.png beside s_1.tif."""
    first: dict[tuple, Path] = {}
    for path in files:
        if path.suffix.lower() in IMAGES:
            other = first.setdefault((path.parent, *natural_key(unicodedata.normalize("NFC", path.stem.casefold()))), path)
            if other is not path:
                yield f"{path}: has the number of {other.name}; keep one of the two"


def is_utf8(name: str) -> bool:
    """Return whether a file's name is text, and not bytes that Python stands in for by lone surrogates."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def natural_key(name: str) -> list[tuple[int, str]]:
    """Return a sorting key by which the numbers in names count as numbers: slice_2 before slice_10."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", name)]
