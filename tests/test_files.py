"""Files that are written whole or not at all, and tables that come back as they were written."""

import csv
import errno
import io
from pathlib import Path

import pytest

from attnunet.data.files import building, naming, read_csv, replacing, write_atomically, write_csv


def test_a_write_that_fails_leaves_what_was_there_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file.keras"
    write_atomically(path, b"whole")

    def fail() -> None:
        with replacing(path) as temporary:
            temporary.write_bytes(b"ha")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_replaced_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file"
    for content in (b"one", b"two"):
        with replacing(path) as temporary:
            temporary.write_bytes(content)
            assert not path.exists() or path.read_bytes() == b"one"
        assert path.read_bytes() == content


def test_a_folder_that_fails_is_removed(tmp_path: Path) -> None:
    def fail() -> None:
        with building(tmp_path / "folder") as temporary:
            (temporary / "file").write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert list(tmp_path.iterdir()) == []


NAMES = [
    "=1+1",
    "+x",
    "-x",
    "@y",
    "\tz",
    "\rz",
    "'q",
    "'=q",
    "''=q",
    "a,b",
    'a"b',
    "a\nb",
    "a\r\nb",
    "",
    " ",
    "\u00e9\u4e2d",
    "-2",
    "+3",
]


def test_names_come_back_as_they_were_written() -> None:
    rows = [{"patient": name, name: "cell"} for name in NAMES]
    found = read_csv(write_csv(rows))
    assert [row["patient"] for row in found] == NAMES
    assert all(row[name] == "cell" for row, name in zip(found, NAMES, strict=True))


def test_no_cell_of_text_begins_as_a_formula_does() -> None:
    cells = [row[0] for row in csv.reader(io.StringIO(write_csv({"patient": name} for name in NAMES), newline=""))]
    assert [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))] == ["-2", "+3"]


def test_numbers_are_written_as_numbers() -> None:
    (row,) = read_csv(write_csv([{"a": -0.5, "b": 1, "c": float("nan"), "d": None, "e": 1e-7, "f": float("-inf"), "g": -2}]))
    assert row == {"a": "-0.5", "b": "1", "c": "nan", "d": "", "e": "1e-07", "f": "-inf", "g": "-2"}


def test_rows_need_not_have_the_same_columns() -> None:
    assert read_csv(write_csv([{"a": 1}, {"b": 2}])) == [{"a": "1", "b": ""}, {"a": "", "b": "2"}]


def test_a_table_of_nothing() -> None:
    assert read_csv(write_csv([])) == []
    assert read_csv("") == []


def test_a_copy_that_fails_names_where_it_was_to_go(tmp_path: Path) -> None:
    """Python's error of a copy names first what was read."""

    def copy() -> None:
        with naming(tmp_path / "artifacts"):
            raise OSError(errno.ENOSPC, "No space left on device", "read", None, "written")

    with pytest.raises(OSError, match="No space left") as error:
        copy()
    assert (error.value.filename, error.value.filename2) == (str(tmp_path / "artifacts"), None)
