"""NIfTI files: what a reader sees, where a mask lies in ITK, and what is refused."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from nibabel import Nifti1Header, Nifti2Header

from attnunet.data.decoders import nifti
from attnunet.data.slices import DataError
from attnunet.inference import inputs

# (x, y, z): no two voxels are alike, so that no turn of it equals another.
VOXELS = np.arange(4 * 3 * 2, dtype=np.uint8).reshape(4, 3, 2)
ZERO, NAN = np.zeros((4, 4)), np.full((4, 4), np.nan)


def rotation(degrees: float) -> np.ndarray:
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])


def form(axes: Any, sizes: tuple[float, float, float] = (0.5, 1.0, 4.0), origin: tuple = (30, -20, 10)) -> np.ndarray:
    """(4, 4): the direction of each axis as a column, its voxel size, and where the first voxel lies."""
    found = np.eye(4)
    found[:3, :3] = np.asarray(axes, float) * sizes
    found[:3, 3] = origin
    return found


RAS = form(np.eye(3))
LPS = form(np.diag([-1, -1, 1]))
SLICES_FIRST = form([[0, 0, 1], [0, 1, 0], [1, 0, 0]])  # up, front, right: left-handed
OBLIQUE = form(rotation(20) @ np.diag([-1, -1, 1]))
SINGULAR = form([[1, 1, 0], [0, 0, 0], [0, 0, 1]])
SHEARED = form([[1, 0.2, 0], [0, 1, 0], [0, 0, 1]])


def header(
    sform: np.ndarray | None = None,
    qform: np.ndarray | None = None,
    sizes: tuple[float, ...] = (0.5, 1.0, 4.0),
    kind: type = Nifti1Header,
    order: str = "<",
    shape: tuple[int, ...] = VOXELS.shape,
) -> Any:
    """Of a uint8 image in a single file; a form that is None has no code."""
    made = kind(endianness=order)
    made.set_data_dtype(np.uint8)
    made.set_data_shape(shape)
    made["pixdim"][1:4] = sizes
    if qform is not None:
        made.set_qform(qform, 1)
    if sform is not None:
        made.set_sform(sform, 2)
    made.set_xyzt_units("mm", "sec")
    made["pixdim"][4] = 2.5
    made["vox_offset"] = made.single_vox_offset
    return made


def save(path: Path, of: Any, voxels: np.ndarray = VOXELS, between: bytes = bytes(4)) -> Path:
    data = of.binaryblock + between + voxels.tobytes(order="F")
    path.write_bytes(gzip.compress(data) if path.suffix.lower() == ".gz" else data)
    return path


def read(path: Path, channels: int = 1) -> np.ndarray:
    (source,) = inputs.find(path).volumes
    return source.read(channels, "axial")


def segmented(path: Path, values: Callable[[np.ndarray], np.ndarray], channels: int = 1) -> Path:
    """Where the mask values(volume) was written."""
    (source,) = inputs.find(path).volumes
    source.write(values(source.read(channels, "axial")[..., 0]), path.parent / "out", "", "axial")
    return path.parent / "out" / path.name


def bright(volume: np.ndarray) -> np.ndarray:
    return (volume >= 20).astype(np.uint8)


# What a reader sees of VOXELS, in ITK's way: (slices, rows, columns) up, back and left.
AS_STORED = VOXELS.transpose(2, 1, 0)
TURNED = AS_STORED[:, ::-1, ::-1]
GEOMETRIES = {
    "no codes": (header(), AS_STORED),
    "only qform": (header(qform=RAS), TURNED),
    "only sform": (header(sform=LPS), AS_STORED),
    "both the same": (header(sform=RAS, qform=RAS), TURNED),
    "both, the sform first": (header(sform=RAS, qform=LPS), TURNED),
    "oblique": (header(sform=OBLIQUE, qform=OBLIQUE), AS_STORED),
    "slices first, mirrored": (header(sform=SLICES_FIRST, qform=SLICES_FIRST), VOXELS[:, ::-1, ::-1]),
    "zero sform": (header(sform=ZERO, qform=RAS), TURNED),
    "NaN in the sform": (header(sform=NAN, qform=RAS), TURNED),
    "singular sform": (header(sform=SINGULAR, qform=LPS), AS_STORED),
    "sheared sform": (header(sform=SHEARED, qform=RAS), TURNED),
    "big-endian": (header(sform=RAS, qform=RAS, order=">"), TURNED),
    "NIfTI-2": (header(sform=RAS, qform=LPS, kind=Nifti2Header), TURNED),
    "NIfTI-2, big-endian": (header(qform=RAS, kind=Nifti2Header, order=">"), TURNED),
}


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("case", GEOMETRIES)
def test_a_mask_lies_where_its_image_does(case: str, suffix: str, tmp_path: Path) -> None:
    made, expected = GEOMETRIES[case]
    path = save(tmp_path / f"scan{suffix}", made)
    np.testing.assert_array_equal(read(path)[..., 0], expected)
    written = segmented(path, bright)
    if "NIfTI-2" not in case:  # which ITK 5.4 does not read
        image, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(written))
        for place in ("GetOrigin", "GetSpacing", "GetDirection"):
            np.testing.assert_array_equal(getattr(mask, place)(), getattr(image, place)(), err_msg=place)
        assert mask.GetPixelID() == sitk.sitkUInt8
        np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(image) >= 20)

    data = written.read_bytes()
    data = gzip.decompress(data) if suffix == ".nii.gz" else data
    found = type(made)(data[: made.sizeof_hdr], check=False)
    voxels = np.frombuffer(data, np.uint8, offset=made.single_vox_offset).reshape(VOXELS.shape, order="F")
    np.testing.assert_array_equal(voxels, VOXELS >= 20)
    assert found.endianness == made.endianness
    for field in ("sform_code", "qform_code", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x", "pixdim", "xyzt_units"):
        np.testing.assert_array_equal(found[field], made[field], err_msg=field)


@pytest.mark.parametrize("case", ["no codes", "only qform", "only sform", "oblique", "slices first, mirrored", "zero sform"])
def test_a_volume_is_what_itk_turns_to_left_back_and_up(case: str, tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", GEOMETRIES[case][0])
    turned = sitk.DICOMOrient(sitk.ReadImage(str(path)), "LPS")
    np.testing.assert_array_equal(read(path)[..., 0], sitk.GetArrayFromImage(turned))


@pytest.mark.parametrize("seed", range(40))
def test_random_geometries_are_seen_as_itk_sees_them(seed: int, tmp_path: Path) -> None:
    """Axes in any order and direction, oblique by up to 20 degrees, with any codes, sizes, origin and order of bytes."""
    rng = np.random.default_rng(seed)
    axes = np.eye(3)[rng.permutation(3)] * rng.choice([-1, 1], 3)
    turned = rotation(rng.uniform(-20, 20)) @ axes
    sizes, origin = tuple(rng.uniform(0.3, 6, 3).astype(np.float32)), tuple(rng.uniform(-200, 200, 3))
    placed = form(turned, sizes, origin)
    qform, sform = ((placed, None), (None, placed), (placed, placed), (None, None))[rng.integers(4)]
    made = header(sform, qform, sizes, order=rng.choice(["<", ">"]))
    path = save(tmp_path / "scan.nii", made)
    written = segmented(path, bright)

    image, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(written))
    np.testing.assert_array_equal(read(path)[..., 0], sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")))
    for place in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_array_equal(getattr(mask, place)(), getattr(image, place)(), err_msg=place)
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), sitk.GetArrayFromImage(image) >= 20)


@pytest.mark.parametrize("unit", ["meter", "mm", "micron", "unknown"])
@pytest.mark.parametrize("case", ["no codes", "only qform", "only sform"])
def test_lengths_are_those_that_itk_reads_in_any_unit(case: str, unit: str, tmp_path: Path) -> None:
    made = GEOMETRIES[case][0].copy()
    made.set_xyzt_units(unit, "sec")
    path = save(tmp_path / "scan.nii", made)
    image = sitk.ReadImage(str(path))
    grid = nifti.read_header(path).grid
    np.testing.assert_allclose(grid.spacing("axial"), image.GetSpacing()[::-1], rtol=1e-6)
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ grid.affine[:3, 3], image.GetOrigin(), rtol=1e-6)
    mask = sitk.ReadImage(str(segmented(path, bright)))
    assert (mask.GetSpacing(), mask.GetOrigin()) == (image.GetSpacing(), image.GetOrigin())


TYPES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


@pytest.mark.parametrize("scaling", [(1, 0), (0, 7), (2, -3), (-0.37, 1000.5)])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("dtype", TYPES)
def test_values_of_any_type_and_scaling_are_those_that_itk_reads(
    dtype: str, order: str, scaling: tuple[float, float], tmp_path: Path
) -> None:
    made = header(sform=RAS, order=order)
    made.set_data_dtype(dtype)
    made["scl_slope"], made["scl_inter"] = scaling
    voxels = (VOXELS * 5 - (60 if dtype[0] != "u" else 0)).astype(made.get_data_dtype())
    if dtype[0] == "f":
        voxels += 0.25
    path = save(tmp_path / "scan.nii.gz", made, voxels)
    found, image = read(path)[..., 0], sitk.ReadImage(str(path))
    expected = sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS"))
    assert found.dtype == (np.float32 if dtype[0] == "f" or scaling[0] not in (0, 1) else np.dtype(dtype))
    if scaling[0]:  # ITK shifts where the slope is 0, which the format's text says is no scaling
        np.testing.assert_array_equal(found, expected.astype(np.float32))
    else:
        np.testing.assert_array_equal(found, voxels.transpose(2, 1, 0)[:, ::-1, ::-1])


def test_a_voxel_that_is_no_number_is_refused(tmp_path: Path) -> None:
    made = header(sform=RAS)
    made.set_data_dtype(np.float32)
    for value in (np.nan, np.inf, -np.inf):
        voxels = VOXELS.astype(np.float32)
        voxels[1, 1, 1] = value
        path = save(tmp_path / "scan.nii", made, voxels)
        with pytest.raises(DataError, match=rf"{path}: 1 voxel\(s\) are NaN or infinite; allowed: numbers"):
            read(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_probabilities_are_float32_under_the_same_header(order: str, tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", header(sform=RAS, order=order))
    written = sitk.ReadImage(str(segmented(path, lambda volume: volume / np.float32(23))))
    assert written.GetPixelID() == sitk.sitkFloat32
    np.testing.assert_array_equal(sitk.GetArrayFromImage(written), AS_STORED / np.float32(23))
    assert written.GetOrigin() == sitk.ReadImage(str(path)).GetOrigin() == (-30, 20, 10)


def test_a_mask_of_several_channels_is_of_three_dimensions(tmp_path: Path) -> None:
    channels = np.stack([VOXELS, VOXELS + 50], axis=-1)
    path = save(tmp_path / "scan.nii", header(sform=RAS, shape=channels.shape), channels)
    np.testing.assert_array_equal(read(path, 2)[..., 1], TURNED + 50)
    image, mask = sitk.ReadImage(str(path)), sitk.ReadImage(str(segmented(path, bright, 2)))
    assert mask.GetSize() == VOXELS.shape
    assert mask.GetOrigin() == image.GetOrigin()[:3]
    np.testing.assert_array_equal(sitk.GetArrayFromImage(mask), AS_STORED >= 20)


@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_nothing_of_a_header_but_geometry_is_written(kind: type, tmp_path: Path) -> None:
    made = header(RAS, RAS, kind=kind)
    made["cal_max"], made["scl_slope"], made["vox_offset"] = 255, 1, made.single_vox_offset + 16
    made.set_intent("estimate", (), "Smith")
    for name in ("descrip", "aux_file", "intent_name", "data_type", "db_name", "unused_str"):
        if name in made.keys():  # noqa: SIM118 - a header has no __contains__
            made[name] = b"Smith"
    extension = b"\1\0\0\0" + b"\x10\0\0\0" + b"\6\0\0\0" + b"Smith, J"
    written = segmented(save(tmp_path / "scan.nii", made, between=extension), bright).read_bytes()
    found = kind(written[: kind.sizeof_hdr])
    assert (found["cal_max"], found["scl_slope"], found["scl_inter"], found["intent_code"]) == (0, 1, 0, 0)
    np.testing.assert_array_equal(found.get_best_affine(), made.get_best_affine())
    assert b"Smith" not in written
    assert len(written) == kind.single_vox_offset + VOXELS.size


def test_a_suffix_in_capitals_stays(tmp_path: Path) -> None:
    (source,) = inputs.find(save(tmp_path / "A.nii.NII.GZ", header(sform=RAS))).volumes
    assert source.targets("_probability") == [Path("A.nii_probability.NII.GZ")]
    source.write(np.zeros(AS_STORED.shape, np.uint8), tmp_path / "out", "_probability", "axial")
    assert gzip.decompress((tmp_path / "out" / "A.nii_probability.NII.GZ").read_bytes())[344:347] == b"n+1"


def of_colours(of: Any) -> None:
    of["datatype"] = 128


def of_complex_numbers(of: Any) -> None:
    of["datatype"] = 32


def of_128_bits(of: Any) -> None:
    of["datatype"] = 1536


def of_unknown_values(of: Any) -> None:
    of["datatype"] = 77


def endlessly_scaled(of: Any) -> None:
    of["scl_slope"], of["scl_inter"] = np.inf, 0


def shifted_nowhere(of: Any) -> None:
    of["scl_slope"], of["scl_inter"] = 1, np.nan


def beyond_float32(of: Any) -> None:
    of["scl_slope"], of["scl_inter"] = 3e38, 0


def of_two_dimensions(of: Any) -> None:
    of["dim"][0] = 2


def of_five_dimensions(of: Any) -> None:
    of["dim"][:6] = 5, *VOXELS.shape, 1, 1


def of_minus_four_dimensions(of: Any) -> None:
    of["dim"][0] = -4  # which speaks for the other order of bytes


def without_slices(of: Any) -> None:
    of["dim"][3] = 0


def larger(of: Any) -> None:
    of["dim"][1] = 5


def smaller(of: Any) -> None:
    of["dim"][1] = 3


def voxels_in_the_header(of: Any) -> None:
    of["vox_offset"] = 0


def voxels_nowhere(of: Any) -> None:
    of["vox_offset"] = np.nan


def of_a_pair(of: Any) -> None:
    of["magic"] = b"ni1"


def without_magic(of: Any) -> None:
    of["magic"] = b""


def of_another_size(of: Any) -> None:
    of["sizeof_hdr"] = 349


WRONG_HEADERS: list[tuple[Callable[[Any], None], str]] = [
    (of_colours, "RGB values; allowed: integers and real numbers"),
    (of_complex_numbers, "complex64 values; allowed"),
    (of_128_bits, "float128 values; allowed"),
    (of_unknown_values, "unknown code 77"),
    (endlessly_scaled, "scl_slope=inf, scl_inter=0; allowed: numbers"),
    (shifted_nowhere, "scl_slope=1, scl_inter=nan"),
    (beyond_float32, r"22 voxel\(s\) are NaN or infinite"),
    (of_two_dimensions, r"2 dimensions; allowed: \(x, y, z\) or \(x, y, z, channels\); a slice is \(x, y, 1\)"),
    (of_five_dimensions, "5 dimensions; allowed"),
    (of_minus_four_dimensions, "its header is damaged"),
    (without_slices, r"\(4, 3, 0\) voxels"),
    (larger, r"376 bytes, but its header tells of \(5, 3, 2\) voxels from byte 352"),
    (smaller, r"376 bytes, but its header tells of \(3, 3, 2\) voxels"),
    (voxels_in_the_header, "from byte 0 on"),
    (voxels_nowhere, "from byte nan on"),
    (of_a_pair, r"its voxels are in another file \(\.img\)"),
    (without_magic, "cannot be read as NIfTI"),
    (of_another_size, "its header is damaged"),
]


@pytest.mark.parametrize(("spoil", "message"), WRONG_HEADERS)
def test_a_header_that_cannot_be_right_is_refused(spoil: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    made = header(sform=RAS)
    spoil(made)
    with pytest.raises(DataError, match=rf"scan\.nii: .*{message}"):
        read(save(tmp_path / "scan.nii", made))


def with_code(of: Any, **codes: int) -> Any:
    for name, code in codes.items():
        of[name] = code
    return of


@pytest.mark.parametrize(
    "made",
    [
        header(sform=ZERO),
        header(sform=NAN),
        header(sform=SINGULAR),
        with_code(header(sizes=(1, 0, 1)), qform_code=1),
        with_code(header(sizes=(1, np.nan, 1)), qform_code=1),
        with_code(header(), qform_code=1, quatern_b=2),
        header(sform=ZERO, qform=None, sizes=(1, 1, 1)),
        header(sizes=(1, 0, 1)),
        header(sizes=(1, -1, 1)),
        header(sizes=(np.inf, 1, 1)),
    ],
)
def test_a_file_without_any_sound_geometry_is_refused(made: Any, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"scan\.nii: no orientation: sform, qform or voxel sizes \(pixdim\) are zero"):
        read(save(tmp_path / "scan.nii", made))


def wrong_checksum(data: bytes) -> bytes:
    return data[:-8] + bytes([data[-8] ^ 1]) + data[-7:]


def wrong_length(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


def cut(data: bytes) -> bytes:
    return data[:-20]


def longer(data: bytes) -> bytes:
    return data + b"more"


def of_other_voxels(data: bytes) -> bytes:
    whole = gzip.decompress(data)
    return gzip.compress(whole[:-1] + b"\xff")[:-8] + data[-8:]


def not_packed(data: bytes) -> bytes:
    return gzip.decompress(data)


@pytest.mark.parametrize("damage", [wrong_checksum, wrong_length, cut, longer, of_other_voxels, not_packed])
def test_a_gzip_file_is_read_to_its_end(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii.gz", header(sform=RAS))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"scan\.nii\.gz: damaged, or no gzip file: \w.*; allowed: a complete file"):
        read(path)


@pytest.mark.parametrize("damage", [cut, longer])
def test_a_plain_file_has_the_length_that_its_header_tells(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = save(tmp_path / "scan.nii", header(sform=RAS))
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=r"scan\.nii: not whole, or more than an image"):
        read(path)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """One bit or byte changed, some set to zero, the end cut off, or something put behind it."""
    changed, at = bytearray(data), int(rng.integers(len(data)))
    match rng.integers(5):
        case 0:
            changed[at] ^= 1 << rng.integers(8)
        case 1:
            changed[at] ^= rng.integers(1, 256)
        case 2:
            changed[at : at + 8] = bytes(len(changed[at : at + 8]))
        case 3:
            del changed[at:]
        case _:
            changed += rng.bytes(1 + at % 20)
    return bytes(changed)


@pytest.mark.parametrize("number", [100, pytest.param(5000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("suffix", [".nii", ".nii.gz"])
@pytest.mark.parametrize("kind", [Nifti1Header, Nifti2Header])
def test_a_damaged_file_is_refused_or_its_pixels_are_right(
    kind: type, suffix: str, number: int, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What no checksum covers may change: the voxels of a plain file, and the fields that turn them."""
    rng = np.random.default_rng(number)
    path = save(tmp_path / f"scan{suffix}", header(sform=RAS, qform=RAS, kind=kind))
    data = path.read_bytes()
    whole = read(path)
    refused = []
    for _ in range(number):
        changed = mutated(data, rng)
        path.write_bytes(changed)
        try:
            found = read(path)
        except DataError as error:
            refused.append(str(error))
            continue
        if suffix == ".nii.gz":  # of the gzip header: the name, the time, the system
            np.testing.assert_array_equal(found, whole)
        else:
            stored, of = np.sort(list(changed[-VOXELS.size :])), kind(changed[: kind.sizeof_hdr], check=False)
            slope, inter = (float(of[name]) for name in ("scl_slope", "scl_inter"))
            factors = (1, 0) if slope == 0 or np.isnan(slope) else (slope, inter)
            expected = stored * factors[0] + factors[1]
            if of["datatype"] == 2:  # bytes are signed where that field is the one that changed
                np.testing.assert_array_equal(np.sort(found, axis=None), np.sort(expected.astype(np.float32)))
            assert len(changed) == len(data)
    assert len(refused) > number / 3
    assert all(str(path) in message for message in refused)
    assert capfd.readouterr() == ("", "")  # nibabel tells of nothing besides
