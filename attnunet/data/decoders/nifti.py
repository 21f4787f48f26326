"""Reading and writing of NIfTI files.

A file is read to its last byte, with its scaling and its grid. A mask is written with the header of its image. nifti1.h and
nifti2.h define the header's fields: https://nifti.nimh.nih.gov.
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import Nifti1Header, Nifti1Image, Nifti2Header
from nibabel.spatialimages import HeaderDataError

from attnunet.data.files import write_atomically
from attnunet.data.grids import Grid
from attnunet.data.slices import DataError

SUFFIXES = (".nii", ".nii.gz")
GEOMETRY = (
    *("dim", "pixdim", "dim_info", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"),
    *("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"),
)
"""The fields of a header that tell where voxels lie."""
LONGEST = Nifti2Header.sizeof_hdr
"""The number of bytes of the longer header, which is that of NIfTI-2."""
MILLIMETRES = {1: 1e3, 3: 1e-3}
"""The length in millimetres of each spatial unit of `xyzt_units`, which are metres and micrometres.

The header may also say millimetres (2) or no unit (0). Like ITK, the reader takes lengths without a unit as millimetres.
"""
THINNEST = 1e6
"""The largest condition number of a valid affine's 3 x 3 part. If it is larger, the affine has lost an axis."""


@dataclass(frozen=True)
class Header:
    """A file's header, which describes the file's voxels.

    Attributes:
        path: the file.
        fields: the header's fields as they are stored.
        shape: (x, y, z), or (x, y, z, t).
        start: the position of the first byte of the voxels in the file.
        grid: the grid of the voxels.
    """

    path: Path
    fields: Any
    shape: tuple[int, ...]
    start: int
    grid: Grid


@dataclass(frozen=True)
class Image:
    """An image whose axes have the order of its file.

    Attributes:
        header: the file's header.
        values: (x, y, z) or (x, y, z, t). Integers stay as they are stored. Real numbers and scaled values are float32.
    """

    header: Header
    values: np.ndarray

    @property
    def grid(self) -> Grid:
        return self.header.grid

    def write(self, path: Path, values: np.ndarray) -> None:
        """Write values (x, y, z) to `path` with the GEOMETRY of the image's header, in the file's version and byte order.

        Nothing else of the header is written, because its texts and its extensions can name the patient.
        """
        own = self.header.fields
        header = type(own)(endianness=own.endianness)
        for name in GEOMETRY:
            header[name] = own[name]
        header["dim"][0], header["dim"][4:] = 3, 1
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1, 0)
        header["magic"], header["vox_offset"] = header.single_magic, header.single_vox_offset
        between = bytes(header.single_vox_offset - header.sizeof_hdr)
        data = header.binaryblock + between + values.astype(header.get_data_dtype()).tobytes(order="F")
        # The time is set to 0, so that equal masks become equal bytes.
        write_atomically(path, gzip.compress(data, 6, mtime=0) if is_compressed(path) else data)


def write(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write values (x, y, z), which lie on a grid, as a compressed file."""
    write_atomically(path, gzip.compress(Nifti1Image(values, grid.affine).to_bytes(), 6, mtime=0))


def is_nifti(name: str) -> bool:
    """Return whether a file's name has a suffix of NIfTI."""
    return name.lower().endswith(SUFFIXES)


def read(path: Path) -> Image:
    """Return a NIfTI-1 or NIfTI-2 image. The file may have either byte order.

    Raises:
        DataError: the file is not complete; it has values that are neither integers nor real numbers; it has a voxel that is
            NaN or infinite; it has no orientation.
    """
    data = read_contents(path)
    header = parse(path, data)
    dtype = header.fields.get_data_dtype()
    if header.start + math.prod(header.shape) * dtype.itemsize != len(data):
        told = f"{header.shape} voxels from byte {header.start} on"
        raise DataError(f"{path}: not whole, or more than an image: {len(data)} bytes, but its header tells of {told}")
    stored = np.frombuffer(data, dtype, offset=header.start).reshape(header.shape, order="F")
    values = scale(stored, *read_scaling(header))
    if wrong := values.size - np.count_nonzero(np.isfinite(values)):
        raise DataError(f"{path}: {wrong} voxel(s) are NaN or infinite; allowed: numbers, so give those a value")
    return Image(header, values)


def read_header(path: Path) -> Header:
    """Return a file's header, without reading the voxels.

    Raises:
        DataError: see `read`, except for the errors that only the voxels show.
    """
    try:
        with gzip.open(path) if is_compressed(path) else path.open("rb") as stream:
            return parse(path, stream.read(LONGEST))
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damage_error(path, error) from error


def parse(path: Path, data: bytes) -> Header:
    kind = next((kind for kind in (Nifti1Header, Nifti2Header) if kind.may_contain_header(data)), None)
    if kind is None:
        raise DataError(f"{path}: cannot be read as NIfTI: it has neither the size nor the mark of NIfTI-1 or NIfTI-2")
    fields = kind(data[: kind.sizeof_hdr], check=False)
    if fields["sizeof_hdr"] != kind.sizeof_hdr or fields["magic"] != kind.single_magic:
        raise DataError(f"{path}: cannot be read as NIfTI: its header is damaged, or its voxels are in another file (.img)")
    rank = int(fields["dim"][0])
    if rank not in (3, 4):
        way_out = "; a slice is (x, y, 1)" if rank == 2 else ""
        raise DataError(f"{path}: {rank} dimensions; allowed: (x, y, z) or (x, y, z, channels){way_out}")
    shape = tuple(int(size) for size in fields["dim"][1 : rank + 1])
    start = float(fields["vox_offset"])
    if min(shape) < 1 or not kind.single_vox_offset <= start < math.inf:
        raise DataError(f"{path}: its header is damaged: it tells of {shape} voxels from byte {start:g} on")
    try:
        dtype = fields.get_data_dtype()
    except KeyError:  # nibabel has no type for this code
        dtype = None
    if dtype is None or dtype.kind not in "iuf" or dtype.itemsize > 8:
        found = fields.get_value_label("datatype")
        raise DataError(f"{path}: {found} values; allowed: integers and real numbers of 8 to 64 bits")
    known = bool(fields["sform_code"] > 0 or fields["qform_code"] > 0)
    header = Header(path, fields, shape, int(start), Grid(shape[:3], read_affine(fields, path), known))
    read_scaling(header)
    return header


def read_scaling(header: Header) -> tuple[float, float]:
    """Return the factor for the stored values, and the number that is added to the product.

    A slope of 0 or NaN means that the values are not scaled, so the result is (1, 0).

    Raises:
        DataError: the slope or the intercept is infinite, or the intercept is NaN.
    """
    slope, inter = float(header.fields["scl_slope"]), float(header.fields["scl_inter"])
    if slope == 0 or math.isnan(slope):
        return 1, 0
    if not (math.isfinite(slope) and math.isfinite(inter)):
        raise DataError(f"{header.path}: scl_slope={slope:g}, scl_inter={inter:g}; allowed: numbers")
    return slope, inter


def scale(stored: np.ndarray, slope: float, inter: float) -> np.ndarray:
    """Return stored * slope + inter in this machine's byte order.

    Unscaled integers keep their type. Scaled values and all real numbers become float32.
    """
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite, and `read` refuses it
        if (slope, inter) != (1, 0):
            return (stored.astype(np.float64) * slope + inter).astype(np.float32)
        native = stored.dtype.newbyteorder("=")
        return stored.astype(np.float32 if native.kind == "f" else native, copy=False)


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def read_contents(path: Path) -> bytes:
    """Return a file's bytes. A .gz file is decompressed, and its checksum is verified."""
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if is_compressed(path) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise damage_error(path, error) from error


def damage_error(path: Path, error: Exception) -> DataError:
    return DataError(f"{path}: damaged, or no gzip file: {error}; allowed: a complete file, so copy it again")


def read_affine(header: Any, path: Path) -> np.ndarray:
    """Return the affine (4, 4) from voxel indices to millimetres. The millimetres run to the right, to the front and up.

    The first of these affines that is valid is returned, after its lengths were converted from the unit of the header:
        the sform, if its code is above 0;
        the qform, if its code is above 0;
        the voxel sizes along the axes left, back and up, if neither code is above 0. ITK reads such files in the same way.

    Raises:
        DataError: none of these affines is valid.
    """
    forms = [form(header) for form, code in ((sform, "sform_code"), (qform, "qform_code")) if header[code] > 0]
    for found in forms or [voxel_sizes(header)]:
        if np.isfinite(found).all() and np.linalg.cond(found[:3, :3]) < THINNEST:
            length = MILLIMETRES.get(int(header["xyzt_units"]) % 8, 1)
            return np.diag([length, length, length, 1]) @ found
    raise DataError(f"{path}: no orientation: sform, qform or voxel sizes (pixdim) are zero, singular or no numbers")


def sform(header: Any) -> np.ndarray:
    return header.get_sform()


def qform(header: Any) -> np.ndarray:
    """Return the qform, or NaN if the qform is no rotation. Only the sign of pixdim[0] is used."""
    header = header.copy()
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        return header.get_qform()
    except (HeaderDataError, ValueError):
        return np.full((4, 4), np.nan)


def voxel_sizes(header: Any) -> np.ndarray:
    """Return the voxel sizes along the axes left, back and up, as an affine (4, 4). A size that is not above 0 becomes NaN."""
    sizes = header["pixdim"][1:4]
    return np.diag([*np.where(sizes > 0, sizes, np.nan) * (-1, -1, 1), 1])
