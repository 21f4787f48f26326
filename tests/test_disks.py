"""Disks that are full or read-only: one sentence that names the path, nothing half made, and the way on once there is room."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from attnunet.data.cache import Prepared, prepare
from attnunet.data.files import building, replacing, reserve
from attnunet.data.lgg import lgg
from attnunet.data.phantom import phantom
from attnunet.errors import explain


def fill(disk: Path, leave: int = 0) -> Path:
    """Take a disk's room but for `leave` bytes."""
    ballast = disk / "ballast"
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


def prepared_on(disk: Path, lgg_root: Path, image_size: int = 32) -> Prepared:
    return prepare(lgg(str(lgg_root)), image_size, disk / "cache")


def test_room_is_set_aside_or_refused(disk: Path) -> None:
    file = disk / "file"
    with file.open("wb") as stream:
        stream.write(b"head")
        reserve(stream, 1 << 20)
        assert file.stat().st_size == 4 + (1 << 20)
        assert file.stat().st_blocks * 512 >= 1 << 20
        with pytest.raises(OSError, match="No space left on device for 67,108,864 bytes"):
            reserve(stream, 64 << 20)


@pytest.mark.parametrize("lacking", [AttributeError(), OSError(errno.EOPNOTSUPP, "Operation not supported")])
def test_where_no_room_can_be_set_aside_a_file_is_long_enough(
    lacking: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS, and on some network disks."""

    def posix_fallocate(*_: int) -> None:
        raise lacking

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    with (tmp_path / "file").open("wb") as stream:
        reserve(stream, 1000)
    assert (tmp_path / "file").stat().st_size == 1000


def test_images_that_do_not_fit_are_refused_and_fit_later(disk: Path, lgg_root: Path) -> None:
    """72 images of 256 x 256 x 3 bytes take 14,155,776 bytes: written through a memory map, they would end in a bus error."""
    small = np.array(prepared_on(disk, lgg_root).images)
    before = files(disk)
    with pytest.raises(OSError, match="No space left on device") as refusal:
        prepared_on(disk, lgg_root, image_size=256)
    sentence = explain(refusal.value)
    assert sentence is not None
    assert sentence.startswith(f"{disk}/cache/")
    assert sentence.endswith("No space left on device for 14,155,776 bytes; free some space there")
    assert files(disk) == before
    subprocess.run(["mount", "-o", "remount,size=32m", str(disk)], check=True)
    assert prepared_on(disk, lgg_root, image_size=256).images.shape == (72, 256, 256, 3)
    np.testing.assert_array_equal(prepared_on(disk, lgg_root).images, small)


def test_masks_that_do_not_fit_are_refused_and_fit_later(disk: Path, lgg_root: Path) -> None:
    """NumPy itself says only how many bytes were written."""
    (disk / "cache").mkdir()
    ballast = fill(disk, leave=40_000)  # the masks take 73,728 bytes
    with pytest.raises(OSError, match="No space left on device") as refusal:
        prepared_on(disk, lgg_root)
    assert str(refusal.value.filename).startswith(f"{disk}/cache/")
    assert files(disk) - {"ballast"} <= {path for path in files(disk) if path.startswith("cache/index/")}
    ballast.unlink()
    assert len(prepared_on(disk, lgg_root).slices) == 72


def test_a_phantom_that_does_not_fit_is_drawn_anew(disk: Path) -> None:
    """OpenCV writes as much of a file as there is room for, and says nothing."""
    arguments = {"patients": 3, "slices": 4, "size": 64}
    ballast = fill(disk, leave=80_000)  # a slice and its mask take 16 kB
    with pytest.raises(OSError, match="No space left on device"):
        phantom(str(disk / "phantom"), **arguments)
    assert files(disk) == {"ballast"}
    ballast.unlink()
    assert len(phantom(str(disk / "phantom"), **arguments).slices) == 12


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_file_that_cannot_be_replaced_stays_and_is_named(how: str, disk: Path) -> None:
    path = disk / "state.npz"
    with replacing(path) as temporary:
        np.savez(temporary, np.zeros(1000))
    before = path.read_bytes()
    if how == "full":
        fill(disk, leave=8192)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)

    def replace() -> None:
        with replacing(path) as temporary:
            np.savez(temporary, np.ones(100_000))

    with pytest.raises(OSError, match="No space left" if how == "full" else "Read-only") as refusal:
        replace()
    sentence = explain(refusal.value)
    assert sentence is not None
    assert sentence.startswith(f"{disk}/")
    assert "state.npz" in sentence
    assert path.read_bytes() == before
    assert files(disk) - {"ballast"} == {"state.npz"}


def test_an_array_that_numpy_writes_in_part_names_its_folder(disk: Path) -> None:
    fill(disk, leave=8192)

    def build() -> None:
        with building(disk / "folder") as temporary:
            np.save(temporary / "array.npy", np.zeros(100_000))

    with pytest.raises(OSError, match="No space left on device") as refusal:
        build()
    assert refusal.value.filename == str(disk / "folder")
    assert files(disk) == {"ballast"}
