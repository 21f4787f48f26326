"""Files on disk: written whole or not at all, checked by their hash, tables read back as they were written."""

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
    """Let an error of the disk name `path`, if it does not name one file. NumPy tells only how much it could write."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and error.filename2 is None:  # of a copy the first is what was read
            raise
        reason = error.strerror or f"{os.strerror(errno.ENOSPC)} ({error})"
        raise OSError(error.errno or errno.ENOSPC, reason, str(path)) from error


def reserve(stream: BinaryIO, size: int) -> None:
    """Make a file longer by `size` bytes, for which the disk sets room aside: else a memory map of it may end in a bus error.

    Raises:
        OSError: the disk has no such room.
    """
    start = stream.tell()
    stream.truncate(start + size)
    try:
        os.posix_fallocate(stream.fileno(), start, size)
    except AttributeError:  # macOS has no such call
        pass
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # of a file system without it
            raise OSError(error.errno, f"{error.strerror} for {size:,} bytes") from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The path of a temporary file that takes `path`'s place when the block ends well and the disk has it.

    It keeps the suffix, to which NumPy would else add its own. Where the block fails, nothing of it stays.
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
    """Write a file whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


@contextmanager
def building(folder: Path) -> Iterator[Path]:
    """A temporary sibling that becomes `folder` when the block ends well, and is removed when it does not."""
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary.mkdir()  # with the rights that the cache's owner gives, which mkdtemp would not
    try:
        with naming(folder):
            yield temporary
            os.replace(temporary, folder)
    except BaseException:
        shutil.rmtree(temporary)
        raise


def checksum(path: Path) -> str:
    """Return the hash of a file's bytes, 32 hexadecimal digits."""
    with path.open("rb") as stream:
        hasher = blake2b(digest_size=16)
        while block := stream.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits of a value made of JSON's types; the order of a dictionary's keys is no part of it."""
    return blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=8).hexdigest()


def write_csv(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return rows as CSV, with a column for each name that one of them has.

    Text that a spreadsheet would run as a formula gets an apostrophe in front, by which a spreadsheet shows it as text
    (OWASP, CSV injection). `read_csv` takes it away again.
    """
    table = [dict(row) for row in rows]
    stream = io.StringIO(newline="")
    names = dict.fromkeys(name for row in table for name in row)
    writer = csv.writer(stream)
    writer.writerow([quote(name) for name in names])
    writer.writerows([quote(row.get(name, "")) for name in names] for row in table)
    return stream.getvalue()


def read_csv(text: str) -> list[dict[str, str]]:
    """Return the rows of a table that `write_csv` wrote, as text."""
    reader = csv.reader(io.StringIO(text, newline=""))
    header = [unquote(name) for name in next(reader, [])]
    return [dict(zip(header, map(unquote, cells), strict=True)) for cells in reader]


def quote(value: Any) -> str:
    """Return a cell's text, with an apostrophe in front of what is no number and begins as a formula does."""
    cell = "" if value is None else str(value)
    return f"'{cell}" if FORMULA.match(cell) and not NUMBER.fullmatch(cell) else cell


def unquote(cell: str) -> str:
    """Return the text that `quote` was given."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell
