"""Slices at one pixel size: nothing is squeezed, and predictions come back to where they were seen."""

from pathlib import Path

import numpy as np
import pytest

from attnunet.data.cache import prepare
from attnunet.data.checks import find_doubts
from attnunet.data.frames import Frame, make_frame
from attnunet.data.nifti import nifti
from attnunet.data.slices import DataError
from tests import scans


def test_without_a_pixel_size_a_slice_is_squeezed_into_the_square() -> None:
    assert make_frame((20, 30), 8) == Frame((20, 30), (8, 8), 8)


@pytest.mark.parametrize(
    ("spacing", "pixel_size", "scaled"),
    [((5, 1, 1), 1, (20, 30)), ((5, 0.5, 2), 1, (10, 60)), ((5, 1, 1), 2.5, (8, 12)), ((5, 0.01, 1), 1, (1, 30))],
)
def test_a_slice_is_resampled_to_the_pixel_size(
    spacing: tuple[float, ...], pixel_size: float, scaled: tuple[int, int]
) -> None:
    assert make_frame((20, 30), 8, pixel_size, spacing).scaled == scaled


def test_a_pixel_size_needs_a_spacing() -> None:
    with pytest.raises(DataError, match=r"data\.pixel_size=1: the files do not tell how many mm a pixel measures"):
        make_frame((20, 30), 8, 1)


@pytest.mark.parametrize("native", [(4, 4), (3, 6), (9, 7), (5, 2), (11, 12)])
def test_what_is_shown_is_in_the_centre_and_comes_back(native: tuple[int, int]) -> None:
    """Of a margin that does not divide by two, the larger half is below and at the right."""
    image = np.arange(1, 1 + native[0] * native[1], dtype=np.float32).reshape(native)
    frame = make_frame(native, 6, 1, (1, 1, 1))
    shown = frame.show(image)
    assert shown.shape == (6, 6)
    starts = [int((6 - length) / 2) for length in native]
    for (row, column), value in np.ndenumerate(shown):
        place = (row - starts[0], column - starts[1])
        inside = 0 <= place[0] < native[0] and 0 <= place[1] < native[1]
        assert value == (image[place] if inside else 0)
    seen = np.isin(image, shown)
    np.testing.assert_array_equal(frame.restore(shown), np.where(seen, image, 0))
    assert frame.cuts == (max(native) > 6)
    np.testing.assert_array_equal(frame.show_mask((image > 5).astype(np.uint8)), shown > 5)


def write(folder: Path, name: str, spacing: tuple[float, ...], shape: tuple[int, int, int]) -> None:
    """A disc of 8 mm in radius, whatever the pixels."""
    _, rows, columns = (np.indices(shape)[axis] - (shape[axis] - 1) / 2 for axis in range(3))
    disc = np.hypot(rows * spacing[1], columns * spacing[2]) < 8
    scans.save(folder / f"{name}_t1.nii", (disc * 200).astype(np.int16), spacing=spacing)
    scans.save(folder / f"{name}_seg.nii", disc.astype(np.uint8), spacing=spacing)


def test_a_disc_stays_a_disc_of_its_size_whatever_the_scanners_pixels(tmp_path: Path) -> None:
    write(tmp_path / "in", "p1", (5, 1, 1), (2, 40, 30))
    write(tmp_path / "in", "p2", (5, 0.5, 0.8), (2, 60, 70))
    prepared = prepare(nifti(str(tmp_path / "in"), pixel_size=1, intensity="raw"), 32, tmp_path / "cache")
    for index in range(4):
        bright = prepared.images[index][..., 0] > 100
        assert bright.sum() == pytest.approx(np.pi * 64, rel=0.06)
        assert bright.any(axis=0).sum() == pytest.approx(16, abs=1)
        assert bright.any(axis=1).sum() == pytest.approx(16, abs=1)
        frame, mask = prepared.frame(index), prepared.mask(index)
        assert (frame.show_mask(mask) != bright).sum() < 12
        back = frame.restore(frame.show_mask(mask).astype(np.float32)) >= 0.5
        assert back.shape == mask.shape
        assert (back != mask).sum() < 0.05 * mask.sum()
    squeezed = prepare(nifti(str(tmp_path / "in"), intensity="raw"), 32, tmp_path / "cache")
    assert squeezed.folder == prepared.folder
    assert squeezed.images_file != prepared.images_file


def test_margins_that_are_cut_off_are_said(tmp_path: Path) -> None:
    write(tmp_path / "in", "p1", (5, 1, 1), (2, 40, 30))
    prepared = prepare(nifti(str(tmp_path / "in"), pixel_size=0.9), 32, tmp_path / "cache")
    assert "margins of 2 slice(s) of p1 are cut off: 32 pixels of 0.9 mm do not hold them; raise image_size" in find_doubts(
        prepared, [0, 1]
    )
