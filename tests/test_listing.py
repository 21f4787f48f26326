"""One rule of listing for all readers."""

import os
from pathlib import Path

import pytest

from attnunet.data.listing import list_files


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(folder: Path) -> list[str]:
    """The files below a folder, without faults."""
    found, faults = list_files(folder)
    assert faults == []
    return [str(path.relative_to(folder)) for path in found]


def test_numbers_in_names_count_as_numbers(tmp_path: Path) -> None:
    touch(tmp_path, "p10/s_1.png", "p2/s_10.png", "p2/s_9.TIF", "p2/s_\u00b2.png", "p2/s_\u0663.png")
    assert listed(tmp_path) == ["p2/s_\u0663.png", "p2/s_9.TIF", "p2/s_10.png", "p2/s_\u00b2.png", "p10/s_1.png"]


def test_names_that_begin_with_a_dot_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "._a.png", ".DS_Store", ".git/b.png", "c/.hidden/d.png")
    (tmp_path / ".gone").symlink_to("nowhere")
    assert listed(tmp_path) == ["a.png"]


def test_links_are_followed_and_loops_of_them_end(tmp_path: Path) -> None:
    touch(tmp_path / "elsewhere", "s_1.png")
    touch(tmp_path / "in", "p2/s_1.png")
    (tmp_path / "in" / "p1").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "p2" / "s_2.png").symlink_to(tmp_path / "elsewhere" / "s_1.png")
    (tmp_path / "in" / "p2" / "up").symlink_to("..")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    assert listed(tmp_path / "in") == ["p1/s_1.png", "p2/s_1.png", "p2/s_2.png"]


@pytest.mark.parametrize("name", ["s_4.png", "p3", "table.csv"])
def test_a_link_that_leads_nowhere_is_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path, "s_1.png")
    (tmp_path / name).symlink_to(".git/annex/1")
    told = f"{tmp_path / name}: a link to .git/annex/1, which is not there; fetch it, or remove the link"
    assert list_files(tmp_path) == ([tmp_path / "s_1.png"], [told])


def test_a_link_to_itself_is_named(tmp_path: Path) -> None:
    (tmp_path / "s_1.png").symlink_to("s_1.png")
    (fault,) = list_files(tmp_path)[1]
    assert fault.startswith(f"{tmp_path}/s_1.png: a link to s_1.png")


def test_a_named_pipe_is_no_image(tmp_path: Path) -> None:
    touch(tmp_path, "s_1.png")
    os.mkfifo(tmp_path / "log")
    assert listed(tmp_path) == ["s_1.png"]
    os.mkfifo(tmp_path / "s_2.png")
    (tmp_path / "s_3.png").symlink_to("s_2.png")
    assert list_files(tmp_path)[1] == [f"{tmp_path}/s_{n}.png: neither a file nor a folder; remove it" for n in (2, 3)]


@pytest.mark.parametrize("name", [b"s_\xff.png", b"p\xff/s_1.png", b"notes\xff.txt"])
def test_a_name_that_is_no_text_is_shown_by_its_bytes(tmp_path: Path, name: bytes) -> None:
    touch(tmp_path, os.fsdecode(name))
    (fault,) = list_files(tmp_path)[1]
    assert r"\udcff" in fault
    assert fault.isascii()
    assert fault.endswith(": the name is not UTF-8; rename it")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("s_1.png", "s_01.png"),
        ("s_1.TIF", "s_1.tif"),
        ("s_1.png", "s_1.jpg"),
        ("S_1.png", "s_1.png"),
        ("\u00e4.png", "a\u0308.tif"),
    ],
)
def test_two_images_of_one_number_are_named(tmp_path: Path, one: str, other: str) -> None:
    touch(tmp_path, f"a/{one}", f"b/{other}", "b/s_2.png", "b/s_2.txt", "b/s_2_mask.png", "b/s_22.png")
    assert len(listed(tmp_path)) == 6
    touch(tmp_path, f"a/{other}")
    (fault,) = list_files(tmp_path)[1]
    assert "has the number of" in fault
    assert all(name in fault for name in (one, other))
