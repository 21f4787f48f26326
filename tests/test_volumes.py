"""New images in the order that a reader would put them in, and masks that lie over them."""

from pathlib import Path

import cv2
import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from attnunet.data.decoders import dicom
from attnunet.data.slices import DataError
from attnunet.inference import inputs
from attnunet.inference.inputs.folder import find_files
from attnunet.inference.volumes import Source
from tests import scans

RAMP = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(2, 3, 4)  # (D, h, w)


def write_image(path: Path, value: int, shape: tuple[int, ...] = (3, 4, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full(shape, value, np.uint8))


def test_a_folders_images_are_one_volume_in_natural_order_without_masks(tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_image(tmp_path / f"s_{number}.tif", number)
        write_image(tmp_path / f"s_{number}_mask.tif", 255, (3, 4))
    (tmp_path / "notes.txt").touch()
    found = find_files(tmp_path, ["*_mask*"])
    (source,) = found.volumes
    assert source.read(3, "axial")[:, 0, 0, 0].tolist() == [1, 2, 10]
    assert {path.name for path in found.passed.ignored} == {"s_1_mask.tif", "s_2_mask.tif", "s_10_mask.tif"}
    assert [path.name for path in found.passed.strange] == ["notes.txt"]
    told = "left out: 3 file(s) that match ignore, such as s_1_mask.tif; 1 file(s) of other kinds, such as notes.txt"
    assert found.passed.describe() == told


def test_folders_in_a_folder_are_volumes_of_their_own(tmp_path: Path) -> None:
    for patient in ("p10", "p2"):
        write_image(tmp_path / patient / "1.png", 1)
    sources = inputs.find(tmp_path).volumes
    assert [source.targets("") for source in sources] == [[Path("p2/1.png")], [Path("p10/1.png")]]


ONE = {
    **{name: name for name in ("a.tif", "a.png", "A.TIF", "A.PNG", "a b [1] (copy).png", "Zo\u00eb.PNG", "Zoe\u0308.tiff")},
    **{"a.jpg": "a.png", "A.JPEG": "A.png"},
}


@pytest.mark.parametrize(("name", "mask"), ONE.items())
def test_one_image_is_a_volume_of_depth_one(name: str, mask: str, tmp_path: Path) -> None:
    write_image(tmp_path / name, 7)
    (source,) = inputs.find(tmp_path / name).volumes
    assert source.read(3, "axial").shape == (1, 3, 4, 3)
    (tmp_path / "out").mkdir()
    source.write(RAMP[:1] % 2, tmp_path / "out", "", "axial")
    written = cv2.imread(str(tmp_path / "out" / mask), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, RAMP[0] % 2 * 255)
    probabilities = (RAMP[:1] / 24).astype(np.float32)
    source.write(probabilities, tmp_path / "out", "_probability", "axial")
    written = cv2.imread(str(tmp_path / "out" / f"{Path(name).stem}_probability.tif"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, probabilities[0])


def test_a_numpy_volume_becomes_a_numpy_mask(tmp_path: Path) -> None:
    volume = np.stack([RAMP] * 3, axis=-1)
    np.save(tmp_path / "v.npy", volume)
    (source,) = inputs.find(tmp_path / "v.npy").volumes
    np.testing.assert_array_equal(source.read(3, "axial"), volume)
    (tmp_path / "out").mkdir()
    source.write(RAMP % 2, tmp_path / "out", "", "axial")
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v.npy"), RAMP % 2)


@pytest.mark.parametrize("axes", ["RAS", "LPS", "SRP"])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
def test_nifti_is_seen_from_below_with_the_front_up_and_its_mask_lies_over_it(axes: str, suffix: str, tmp_path: Path) -> None:
    """Whatever the order of the file's axes; RAMP is (slices, rows, columns) as a reader sees them."""
    lps = nibabel.Nifti1Image(RAMP.transpose(2, 1, 0), np.diag([-2.0, -3.0, 5.0, 1.0]))  # to left, back, up
    orientations = nibabel.orientations
    turn = orientations.ornt_transform(orientations.io_orientation(lps.affine), orientations.axcodes2ornt(axes))
    stored = lps.as_reoriented(turn)
    nibabel.save(stored, tmp_path / f"scan{suffix}")
    (source,) = inputs.find(tmp_path).volumes
    np.testing.assert_array_equal(source.read(1, "axial")[..., 0], RAMP)

    (tmp_path / "out").mkdir()
    source.write(RAMP, tmp_path / "out", "", "axial")
    written = nibabel.load(tmp_path / "out" / f"scan{suffix}")
    np.testing.assert_array_equal(np.asanyarray(written.dataobj), np.asanyarray(stored.dataobj))
    np.testing.assert_array_equal(written.affine, stored.affine)


def test_nifti_of_several_channels_has_them_last(tmp_path: Path) -> None:
    channels = np.stack([RAMP.transpose(2, 1, 0), RAMP.transpose(2, 1, 0) + 50, RAMP.transpose(2, 1, 0) + 100], axis=-1)
    nibabel.save(nibabel.Nifti1Image(channels, np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "scan.nii.gz")
    (source,) = inputs.find(tmp_path).volumes
    np.testing.assert_array_equal(source.read(3, "axial")[..., 2], RAMP + 100)
    assert source.targets("_probability") == [Path("scan_probability.nii.gz")]


def test_a_mask_that_cannot_be_written_whole_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, values: np.ndarray) -> None:
        path.write_bytes(values.tobytes()[:3])
        raise OSError(28, "No space left on device")

    np.save(tmp_path / "v.npy", RAMP[..., None])
    (source,) = inputs.find(tmp_path / "v.npy").volumes
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "v.npy").write_text("of before")
    monkeypatch.setattr(np, "save", full)
    with pytest.raises(OSError, match=f"No space left on device: '{tmp_path / 'out' / 'v.npy'}'"):
        source.write(RAMP, tmp_path / "out", "", "axial")
    assert [path.read_text() for path in (tmp_path / "out").iterdir()] == ["of before"]


def broken(path: Path) -> None:
    path.write_bytes(b"not one of these")


def archive(path: Path) -> None:
    with path.open("wb") as stream:
        np.savez(stream, a=np.zeros((1, 2, 2, 3), np.uint8))


def of_more(path: Path) -> None:
    np.save(path, np.zeros((1, 2, 2, 3), np.uint8))
    path.write_bytes(path.read_bytes() + b"more")


def without_end(path: Path) -> None:
    np.save(path, np.zeros((1, 2, 2, 3), np.uint8))
    path.write_bytes(path.read_bytes()[:-1])


def of_half_a_header(path: Path) -> None:
    np.save(path, np.zeros((1, 2, 2, 3), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"}", b"{"))


def of_complex_numbers(path: Path) -> None:
    np.save(path, np.zeros((1, 2, 2, 3), complex))


def of_nan(path: Path) -> None:
    np.save(path, np.full((1, 2, 2, 3), np.nan))


def of_two_channels(path: Path) -> None:
    np.save(path, np.zeros((1, 2, 2, 2), np.uint8))


def of_one_channel(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2, 2), np.float32), np.eye(4)), path)


def flat(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 2), np.uint8), np.eye(4)), path)


@pytest.mark.parametrize(
    ("name", "make", "message"),
    [
        ("a.tif", broken, "cannot be decoded"),
        ("a.npy", broken, "cannot be read as a NumPy array"),
        ("a.npy", archive, "cannot be read as a NumPy array"),
        ("a.npy", of_more, "cannot be read as a NumPy array: it goes on behind the array"),
        ("a.npy", without_end, "cannot be read as a NumPy array"),
        ("a.npy", of_half_a_header, "cannot be read as a NumPy array"),
        ("a.nii", broken, "cannot be read as NIfTI"),
        ("a.npy", of_complex_numbers, "complex128 values; allowed: integers and real numbers"),
        ("a.npy", of_nan, "values that are NaN or infinite"),
        ("a.npy", of_two_channels, r"are \(1, 2, 2, 2\); 3 channel"),
        ("a.nii.gz", of_one_channel, r"are \(2, 2, 2, 1\); 3 channel"),
        ("a.nii.gz", flat, "2 dimensions; allowed"),
    ],
)
def test_what_cannot_be_read_is_named(name: str, make, message: str, tmp_path: Path) -> None:  # noqa: ANN001
    make(tmp_path / name)
    (source,) = inputs.find(tmp_path).volumes
    with pytest.raises(DataError, match=f"{name}: .*{message}"):
        source.read(3, "axial")


def test_slices_of_16_and_of_8_bits_are_no_volume(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", 1)
    cv2.imwrite(str(tmp_path / "2.png"), np.full((3, 4, 3), 300, np.uint16))
    (source,) = inputs.find(tmp_path).volumes
    with pytest.raises(
        DataError, match=r"2\.png: \(3, 4\) pixels of type uint16, but .*1\.png beside it has .* of type uint8"
    ):
        source.read(3, "axial")


def test_slices_of_two_sizes_are_no_volume(tmp_path: Path) -> None:
    write_image(tmp_path / "1.png", 1)
    write_image(tmp_path / "2.png", 1, (5, 4, 3))
    (source,) = inputs.find(tmp_path).volumes
    with pytest.raises(DataError, match=r"2\.png: \(5, 4\) pixels .*, but .*1\.png beside it has \(3, 4\)"):
        source.read(3, "axial")


def test_nothing_to_segment_is_said(tmp_path: Path) -> None:
    write_image(tmp_path / "a_mask.png", 1)
    for path in (tmp_path, tmp_path / "nowhere", tmp_path / "a_mask.png"):
        with pytest.raises(DataError, match=r"nothing to segment there; allowed: images \(\.tif"):
            inputs.find(path, ["*_mask*"])


def test_linked_folders_are_volumes_and_dot_files_are_none(tmp_path: Path) -> None:
    write_image(tmp_path / "elsewhere" / "s_1.png", 1)
    write_image(tmp_path / "in" / "p2" / "s_1.png", 1)
    write_image(tmp_path / "in" / "p2" / "._s_1.png", 1)
    (tmp_path / "in" / "p1").symlink_to(tmp_path / "elsewhere")
    sources = inputs.find(tmp_path / "in").volumes
    assert [source.targets("") for source in sources] == [[Path("p1/s_1.png")], [Path("p2/s_1.png")]]


def test_a_slice_that_is_a_link_to_nothing_is_named(tmp_path: Path) -> None:
    write_image(tmp_path / "p2" / "s_1.png", 1)
    (tmp_path / "p2" / "s_2.png").symlink_to("annex")
    with pytest.raises(DataError, match=r"p2/s_2\.png: a link to annex, which is not there"):
        inputs.find(tmp_path)


def place_sequences(folder: Path, *names: str, axes: str = "RAS") -> None:
    for place, name in enumerate(names):
        scans.save(folder / name, RAMP + np.uint8(50 * place), axes)


def join(folder: Path) -> list[Source]:
    """The volumes of a network for t1 and flair."""
    cases, _ = inputs.find(folder).cases(scans.Takes(("t1", "flair"), ("t1", "flair")), None)
    return [case.source for case in cases if case.source is not None]


def find_joined(folder: Path, *channels: str) -> dict[str, list[str]]:
    """The names of the files of each volume by the name of its mask."""
    cases, _ = inputs.find(folder).cases(scans.Takes(channels, channels), None)
    sources = [case.source for case in cases if case.source is not None]
    return {str(source.targets("")[0]): [file.name for file in source.files] for source in sources}


def test_files_that_are_named_as_a_runs_channels_are_one_volume(tmp_path: Path) -> None:
    names = [f"{patient}_{sequence}.nii.gz" for patient in ("p1", "p2") for sequence in ("t1", "flair", "seg")]
    place_sequences(tmp_path / "flat", *names)
    place_sequences(tmp_path / "folders" / "p3", "t1.nii", "flair.nii", "other.nii")
    place_sequences(tmp_path / "else", "whole.nii")
    assert find_joined(tmp_path, "flair", "t1") == {
        "flat/p1.nii.gz": ["p1_flair.nii.gz", "p1_t1.nii.gz"],
        "flat/p2.nii.gz": ["p2_flair.nii.gz", "p2_t1.nii.gz"],
        "folders/p3/mask.nii": ["flair.nii", "t1.nii"],
        "else/whole.nii": ["whole.nii"],
    }
    assert find_joined(tmp_path / "flat", "flair") == {
        "p1_flair.nii.gz": ["p1_flair.nii.gz"],
        "p2_flair.nii.gz": ["p2_flair.nii.gz"],
    }


def test_a_volume_without_one_of_a_runs_channels_is_named(tmp_path: Path) -> None:
    place_sequences(tmp_path, "p1_t1.nii.gz", "p2_t1.nii.gz", "p2_flair.nii.gz")
    (broken, whole), _ = inputs.find(tmp_path).cases(scans.Takes(("flair", "t1"), ("flair", "t1")), None)
    assert (broken.name, broken.source, whole.name, whole.fault) == ("p1", None, "p2", "")
    told = f"{tmp_path / 'p1_t1.nii.gz'}: no file for the sequence flair beside it, which the run's network takes"
    assert broken.fault == f"{told}; channels={{flair: PATTERN, ...}} gives the names of the files"


@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
@pytest.mark.parametrize("axes", scans.ORIENTATIONS)
def test_the_mask_of_several_files_lies_over_the_first_in_the_world(axes: str, plane: str, tmp_path: Path) -> None:
    place_sequences(tmp_path, "p_t1.nii.gz", axes=axes)
    place_sequences(tmp_path, "p_flair.nii.gz", axes="LPS")  # on the same grid, in another order
    (source,) = join(tmp_path)
    seen = source.read(2, plane)
    np.testing.assert_array_equal(seen[..., 0], seen[..., 1])
    source.write((seen[..., 0] >= 20).astype(np.uint8), tmp_path / "out", "", plane)
    image, mask = sitk.ReadImage(str(tmp_path / "p_t1.nii.gz")), sitk.ReadImage(str(tmp_path / "out" / "p.nii.gz"))
    assert mask.GetPixelID() == sitk.sitkUInt8
    for place in ("GetOrigin", "GetSpacing", "GetDirection", "GetSize"):
        assert getattr(mask, place)() == getattr(image, place)()
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(image) >= 20)


def test_channels_on_two_grids_are_refused(tmp_path: Path) -> None:
    place_sequences(tmp_path, "p_t1.nii.gz")
    scans.save(tmp_path / "p_flair.nii.gz", RAMP, spacing=(5, 0.5, 0.5))
    (source,) = join(tmp_path)
    with pytest.raises(DataError, match=r"p_flair\.nii\.gz: lies on another grid than .*p_t1\.nii\.gz: corners"):
        source.read(2, "axial")


@pytest.mark.parametrize("plane", ["axial", "coronal"])
@pytest.mark.parametrize("threshold", [20, 255])
@pytest.mark.parametrize("axes", ["LPS", "RAS", "PIR"])
def test_the_mask_of_a_dicom_series_is_a_segmentation_of_its_slices(
    axes: str, threshold: int, plane: str, tmp_path: Path
) -> None:
    """An empty one too; a viewer reads it by the places of its frames. highdicom 0.28 packs slices below 8 pixels wrongly."""
    ramp = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    scans.write_series(tmp_path / "in" / "p1" / "t1", ramp, axes)
    scans.write_series(tmp_path / "in" / "p1" / "flair", ramp + 1, "LPS")
    assert find_joined(tmp_path / "in", "t1", "flair").keys() == {"p1/mask.dcm"}
    (source,) = join(tmp_path / "in")
    seen = source.read(2, plane)
    np.testing.assert_array_equal(seen[..., 0] + 1, seen[..., 1])
    source.write((seen[..., 0] >= threshold).astype(np.uint8), tmp_path / "out", "", plane)
    source.write((seen[..., 0] / np.float32(59)), tmp_path / "out", "_probability", plane)
    grid = dicom.read_series(tmp_path / "in" / "p1" / "t1").grid
    mask = grid.show(dicom.read_segmentation(tmp_path / "out" / "p1" / "mask.dcm", grid), "axial")
    np.testing.assert_array_equal(mask, threshold <= ramp)
    image = sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(tmp_path / "in" / "p1" / "t1")))
    found = sitk.ReadImage(str(tmp_path / "out" / "p1" / "mask_probability.nii.gz"))
    np.testing.assert_allclose(found.GetOrigin(), image.GetOrigin(), atol=1e-4)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(found), sitk.GetArrayFromImage(image) / np.float32(59))


def test_the_input_may_be_one_dicom_series(tmp_path: Path) -> None:
    scans.write_series(tmp_path / "t1", RAMP)
    (source,) = inputs.find(tmp_path / "t1").volumes
    assert (source.targets(""), source.targets("_probability")) == ([Path("t1.dcm")], [Path("t1_probability.nii.gz")])
    assert len(source.files) == 2
