"""Damaged image files are read right or refused: the pixels are the whole file's, or what an independent reader sees."""

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from attnunet.data import images
from attnunet.data.slices import DataError
from tests.test_images import READ, noise, opencv, tiff

SMOOTH = np.clip(np.add.outer(np.arange(48) * 3, np.arange(48)) + noise(48, 48) // 16, 0, 255).astype(np.uint8)
WHOLE = {
    **{f"TIFF {c}": tiff(SMOOTH, compression=None if c == "none" else c, rowsperstrip=8) for c in sorted(READ)},
    "TIFF tiles": tiff(SMOOTH, compression="deflate", tile=(16, 16), predictor=True),
    "TIFF colours": tiff(np.stack([SMOOTH] * 3, axis=-1), compression="lzw"),
    "PNG": opencv(SMOOTH, ".png"),
    "PNG colours": opencv(np.stack([SMOOTH] * 3, axis=-1), ".png"),
    "JPEG": opencv(SMOOTH, ".jpg"),
    "JPEG colours": opencv(np.stack([SMOOTH] * 3, axis=-1), ".jpg"),
}
CHECKED = {"PNG", "PNG colours"}
"""Every byte of these has a checksum, so that what is read of a damaged one is the whole one's pixels."""


def damage(data: bytes, rng: np.random.Generator) -> bytes:
    """Flip, cut, zero, insert or swap some bytes."""
    broken = bytearray(data)
    place = int(rng.integers(len(data)))
    length = int(rng.integers(1, 64))
    match rng.integers(5):
        case 0:
            broken[place] ^= 1 << int(rng.integers(8))
        case 1:
            del broken[place:]
        case 2:
            broken[place : place + length] = bytes(len(broken[place : place + length]))
        case 3:
            broken[place:place] = rng.bytes(length)
        case _:
            other = int(rng.integers(len(data)))
            broken[place], broken[other] = broken[other], broken[place]
    return bytes(broken)


def independent(data: bytes) -> np.ndarray | None:
    """Return what Pillow sees, and with it libtiff and libjpeg; None where it refuses."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                pixels = np.asarray(image)
        return pixels * np.uint8(255) if pixels.dtype == bool else pixels
    except Exception:
        return None


def pixels_or_message(path: Path) -> np.ndarray | str:
    try:
        picture = images.read(str(path))
    except DataError as error:
        return str(error)
    return 255 - picture.pixels if picture.white_is_zero else picture.pixels


def check_damaged(folder: Path, count: int, capfd: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    path, accepted = folder / "a.img", 0
    for number in range(count):
        name = list(WHOLE)[number % len(WHOLE)]
        path.write_bytes(WHOLE[name])
        whole = pixels_or_message(path)
        broken = damage(WHOLE[name], rng)
        path.write_bytes(broken)
        found = pixels_or_message(path)
        if isinstance(found, str):
            assert str(path) in found
            continue
        accepted += 1
        if not np.array_equal(found, whole):
            assert name not in CHECKED, (number, name)
            np.testing.assert_array_equal(found, independent(broken), err_msg=f"{number} {name}")
    assert capfd.readouterr().err == ""
    assert 0 < accepted < count


def test_damaged_files_are_read_right_or_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_damaged(tmp_path, 300, capfd)


@pytest.mark.slow
def test_two_thousand_damaged_files_are_read_right_or_refused(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    check_damaged(tmp_path, 2000, capfd)
