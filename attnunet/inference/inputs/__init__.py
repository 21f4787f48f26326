"""Finds the volumes to segment at a path, and joins the sequences of each case.

The path is a file, a folder in any layout that `attnunet.data` trains on, a zip archive of such a folder, or a CSV that lists
cases. The volumes are found before it is known which network segments them. `Found.cases` then picks the sequences that the
network uses.
"""

import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from attnunet.data.files import naming
from attnunet.data.slices import DataError, refuse
from attnunet.inference.inputs.case import Case, Found, describe_fault
from attnunet.inference.inputs.folder import find_files
from attnunet.inference.inputs.table import read_table


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
