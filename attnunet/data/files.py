"""Files on disk. A file is written completely or not at all. A hash checks a file. A CSV table is read as it was written."""

import csv
import errno
import io
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

NUMBER = re.compile(r"[+-]?(\d+\.?\d*([eE][+-]?\d+)?|\.\d+|inf|nan)")
FORMULA = re.compile(r"'*[=+\-@\t\r]")


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Add `path`, during a `with` block, to every OSError that does not name exactly one file.

    For example, NumPy's error for a full disk names no file, and tells only how much was written.
    """
    try:
        yield
    except OSError as error:
        # An error of a copy has two names, and the first name is the source of the copy.
        if error.filename is not None and error.filename2 is None:
            raise
        reason = error.strerror or f"{os.strerror(errno.ENOSPC)} ({error})"
        raise OSError(error.errno or errno.ENOSPC, reason, str(path)) from error


def reserve(stream: BinaryIO, size: int) -> None:
    """Make a file longer by `size` bytes, and let the disk reserve space for them.

    Without reserved space, writing to a memory map of the file may end in a bus error.

    Raises:
        OSError: the disk does not have enough space.
    """
    start = stream.tell()
    stream.truncate(start + size)
    try:
        os.posix_fallocate(stream.fileno(), start, size)
    except AttributeError:  # macOS has no such call
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # the file system cannot reserve space
            raise OSError(error.errno, f"{error.strerror} for {size:,} bytes") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces `path` after a `with` block without an error.

    The temporary file is on the disk before it replaces `path`. If the block fails, the temporary file is removed. The
    temporary file has the suffix of `path`, because NumPy appends its own suffix to any other name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".writing-{os.getpid()}-{path.name}")
    try:
        with naming(path):
            yield temporary
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file completely or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`, during a `with` block.

    After the block, the temporary folder is renamed to `folder`. If the block fails, the temporary folder is removed.
    """
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir()  # gets the access rights of the user's umask, which mkdtemp ignores
    try:
        with naming(folder):
            yield temporary
            os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def checksum(path: Path) -> str:
    """Return the hash of a file's bytes as 32 hexadecimal digits."""
    with path.open("rb") as stream:
        hasher = blake2b(digest_size=16)
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def digest(value: Any) -> str:
    """Return the hash of a value of JSON's types as 16 hexadecimal digits. The order of a dictionary's keys has no effect."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def write_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV text, with a column for each name that occurs in a row.

    A spreadsheet would run some texts as formulas (OWASP, CSV injection). Such a text gets an apostrophe in front, so that a
    spreadsheet shows it as text. `read_csv` removes the apostrophe.
    """
    table = [dict(row) for row in rows]
    stream = io.StringIO(newline="")
    names = dict.fromkeys(name for row in table for name in row)
    writer = csv.writer(stream)
    writer.writerow([quote(name) for name in names])
    writer.writerows([quote(row.get(name, "")) for name in names] for row in table)
    return stream.getvalue()


def read_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that `write_csv` wrote. Every value is text."""
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [unquote(name) for name in next(reader, [])]
    return [dict(zip(header, map(unquote, cells), strict=True)) for cells in reader]


def quote(value: Any) -> str:
    """Return a cell's text. A text that begins like a formula and is no number gets an apostrophe in front."""
    cell = "" if value is None else str(value)
    return f"'{cell}" if FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell


def unquote(cell: str) -> str:
    """Return the text from which `quote` made the cell."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
