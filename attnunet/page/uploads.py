"""Uploaded files. They lie on the disk only during a `with` block, in a temporary folder."""

import gzip
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeAlias

from attnunet.errors import UserError, explain

Files: TypeAlias = Mapping[str, bytes]
"""Maps the name of each uploaded file to its bytes. A name is relative, and contains the folders of an uploaded folder."""


LARGEST = 2**31
"""The number of bytes to which a compressed file may unpack. A 7 Tesla scan of 0.5 mm in float32 has 0.6e9 bytes."""


class UploadError(UserError):
    """An upload that cannot be used; the message names the file."""


class Uploaded(Protocol):
    """A file as Streamlit holds it in memory."""

    name: str

    def getvalue(self) -> bytes: ...


def collect(uploaded: Iterable[Uploaded]) -> Files:
    """Return the uploaded files by name. Raise UploadError if a name occurs twice, or leads out of its folder."""
    files: dict[str, bytes] = {}
    for file in uploaded:
        if any(part in ("", ".", "..") or Path(part).name != part for part in file.name.split("/")):
            raise UploadError(f"{file.name!r}: leads out of the upload; allowed: the name of a file, or FOLDER/NAME")
        if file.name in files:
            raise UploadError(f"{file.name}: uploaded twice; remove one, or upload the folder that holds both")
        files[file.name] = file.getvalue()
    return files


@contextmanager
def laid_out(files: Files) -> Iterator[Path]:
    """Yield the folder that holds the files, during a `with` block; or the uploaded folder or zip archive, if it is alone.

    Raises:
        UploadError: an error in the block that a user can fix. Its message names files as they were uploaded.
    """
    with TemporaryDirectory(prefix="attnunet-") as temporary:
        root = Path(temporary, "upload")
        try:
            for name, data in files.items():
                path = root / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            there = list(root.iterdir())
            alone = len(there) == 1 and (there[0].is_dir() or there[0].suffix.lower() == ".zip")
            yield there[0] if alone else root
        except Exception as error:
            message = explain(error)
            if message is None:
                raise
            raise UploadError(message.replace(f"{root}/", "").replace(str(root), "the upload")) from error


def check_sizes(root: Path) -> None:
    """Raise UploadError if a file below `root` that gzip compressed unpacks to more than LARGEST bytes.

    The reader would keep all of them in memory. It refuses a damaged file, so this function passes one.
    """
    for path in root.rglob("*.[gG][zZ]"):
        size = 0
        with suppress(OSError, EOFError, zlib.error), gzip.open(path) as stream:
            while size <= LARGEST and (part := len(stream.read(2**20))):
                size += part
        if size > LARGEST:
            raise UploadError(f"{path}: unpacks to more than {LARGEST:,} bytes; allowed: a smaller volume")
