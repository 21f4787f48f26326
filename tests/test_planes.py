"""The plane of a scan against the plane of a network: which scans are taken, and which are refused."""

from pathlib import Path

import nibabel
import numpy as np
import pytest

from attnunet.data.decoders import nifti
from attnunet.data.grids import Grid
from attnunet.data.slices import DataError
from attnunet.inference.inputs.case import check_fit
from attnunet.inference.volumes import Sequences
from tests.scans import Takes


def tilted(degrees: float, sizes: tuple[float, float, float] = (1, 1, 5)) -> Grid:
    """23 axial slices of 256 x 256 pixels, tilted about the axis from left to right."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    affine = np.eye(4)
    affine[:3, :3] = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) * sizes
    return Grid((256, 256, 23), affine)


@pytest.mark.parametrize(("degrees", "tilt"), [(0, 0), (10, 10), (-25, 25), (44, 44), (50, 40), (90, 0)])
def test_the_tilt_is_the_angle_to_the_nearest_axis(degrees: float, tilt: float) -> None:
    assert tilted(degrees).tilt("axial") == pytest.approx(tilt, abs=1e-5)
    assert tilted(degrees).tilt("coronal") == pytest.approx(tilt, abs=1e-5)
    assert tilted(degrees).tilt("sagittal") == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize(
    ("degrees", "told"),
    [
        (0, None),
        (29.9, None),
        (30.1, "its axial slices are tilted by 30.1 degrees; allowed: up to 30, so resample the scan"),
        (50, "its axial slices are tilted by 40 degrees; allowed: up to 30, so resample the scan"),
        (80, "acquired in coronal slices, and a pixel of its axial slices measures 5 x 1 mm; allowed: axial slices, or sides"),
    ],
)
def test_a_scan_is_not_cut_across_its_slices(degrees: float, told: str | None) -> None:
    """A scan tilted by 50 degrees was cut into 256 axial slices of 256 x 23 pixels."""
    found = tilted(degrees).refusal("axial")
    assert found is None if told is None else str(found).startswith(told)


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize(("sizes", "taken"), [((1, 1, 1), True), ((1, 1, 2), True), ((1, 1, 2.1), False)])
def test_pixels_that_are_nearly_square_may_be_cut_in_any_plane(
    plane: str, sizes: tuple[float, float, float], taken: bool
) -> None:
    assert (tilted(0, sizes).refusal(plane) is None) == (taken or plane == "axial")


@pytest.mark.parametrize(("codes", "known"), [((0, 0), False), ((1, 0), True), ((0, 2), True)])
def test_an_orientation_without_a_code_is_a_guess(codes: tuple[int, int], known: bool, tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), None)
    image.set_sform(tilted(0).affine, codes[0])
    image.set_qform(tilted(0).affine, codes[1])
    nibabel.save(image, tmp_path / "scan.nii")
    grid = nifti.read_header(tmp_path / "scan.nii").grid
    assert grid.known == known
    assert grid.shown("axial").known == known


def test_a_refused_scan_is_named(tmp_path: Path) -> None:
    for name, degrees in (("tilted", 50), ("straight", 5)):
        nibabel.save(nibabel.Nifti1Image(np.zeros((4, 5, 6), np.uint8), tilted(degrees).affine), tmp_path / f"{name}.nii.gz")
    takes = Takes(("flair",), ("flair",), "axial")
    look = {name: Sequences((tmp_path / f"{name}.nii.gz",), Path(), name).look("axial") for name in ("straight", "tilted")}
    check_fit("straight", look["straight"], takes, any_plane=False)
    check_fit("tilted", look["tilted"], takes, any_plane=True)
    with pytest.raises(DataError, match=r"^tilted: its axial slices are tilted by 40 degrees.* or any_plane=true$"):
        check_fit("tilted", look["tilted"], takes, any_plane=False)
