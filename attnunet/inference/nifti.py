"""NIfTI files: read to the last byte, shown as a reader sees them, written with the header of their image.

Fields and their meaning: nifti1.h and nifti2.h, https://nifti.nimh.nih.gov.
"""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import Nifti1Header, Nifti2Header, orientations
from nibabel.spatialimages import HeaderDataError

from attnunet.data.files import write_atomically
from attnunet.data.slices import DataError

SHOWN = orientations.axcodes2ornt("LPS")
"""Axes that run to the left, back and up, so that slices are seen from below with the front at the top."""
UINT8 = 2
"""The code of uint8 in the field `datatype`."""
THINNEST = 1e6
"""A form whose axes differ by more than this factor has lost one of them."""


@dataclass(frozen=True)
class Scan:
    """An image of uint8 in the order of its file.

    Attributes:
        header: the fields as they are stored.
        extensions: the bytes between header and voxels.
        axes: nibabel's orientation of the file's axes, (3, 2).
        voxels: (x, y, z, channels).
    """

    header: Any
    extensions: bytes
    axes: np.ndarray
    voxels: np.ndarray

    @property
    def shown(self) -> np.ndarray:
        """The voxels as (D, h, w, channels): rows begin in front, columns at the patient's right, slices go upwards."""
        turn = orientations.ornt_transform(self.axes, SHOWN)
        return np.ascontiguousarray(orientations.apply_orientation(self.voxels, turn).transpose(2, 1, 0, 3))

    def write(self, path: Path, values: np.ndarray) -> None:
        """Write values (D, h, w) over the image, with its header less the fields that speak of the image's own values."""
        turn = orientations.ornt_transform(SHOWN, self.axes)
        turned = orientations.apply_orientation(values.transpose(2, 1, 0), turn)
        header = self.header.copy()
        header["dim"][[0, 4]] = 3, 1
        header.set_data_dtype(values.dtype)
        header.set_slope_inter(1, 0)
        header.set_intent("none")
        header["cal_min"] = header["cal_max"] = 0
        data = header.binaryblock + self.extensions + turned.astype(header.get_data_dtype()).tobytes(order="F")
        # Without the time of writing the same mask is the same bytes.
        write_atomically(path, gzip.compress(data, 6, mtime=0) if is_compressed(path) else data)


def read(path: Path) -> Scan:
    """Return a NIfTI-1 or NIfTI-2 image, in either order of bytes.

    Raises:
        DataError: the file is not whole, or is no image of uint8 with an orientation; the message names it.
    """
    data = read_contents(path)
    kind = next((kind for kind in (Nifti1Header, Nifti2Header) if kind.may_contain_header(data)), None)
    if kind is None:
        raise DataError(f"{path}: cannot be read as NIfTI: it has neither the size nor the mark of NIfTI-1 or NIfTI-2")
    header = kind(data[: kind.sizeof_hdr], check=False)
    if header["sizeof_hdr"] != kind.sizeof_hdr or header["magic"] != kind.single_magic:
        raise DataError(f"{path}: cannot be read as NIfTI: its header is damaged, or its voxels are in another file (.img)")
    if header["datatype"] != UINT8:
        found = header.get_value_label("datatype")
        raise DataError(f"{path}: {found} values; only uint8 is read, so rescale it to 0 to 255 first")
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    if not (slope in (0, 1) or math.isnan(slope)) or not (inter == 0 or math.isnan(inter)):
        raise DataError(f"{path}: scl_slope={slope:g}, scl_inter={inter:g}; only values without a scaling are read")
    rank = int(header["dim"][0])
    if rank not in (3, 4):
        raise DataError(f"{path}: {rank} dimensions; allowed: (x, y, z) or (x, y, z, channels)")
    shape = tuple(int(size) for size in header["dim"][1 : rank + 1])
    start = float(header["vox_offset"])
    if min(shape) < 1 or not start >= kind.single_vox_offset or start + math.prod(shape) != len(data):
        told = f"{shape} voxels from byte {start:g} on"
        raise DataError(f"{path}: not whole, or more than an image: {len(data)} bytes, but its header tells of {told}")
    axes = orientations.io_orientation(read_affine(header, path))
    voxels = np.frombuffer(data, np.uint8, offset=int(start)).reshape(shape, order="F")
    return Scan(header, data[kind.sizeof_hdr : int(start)], axes, voxels if rank == 4 else voxels[..., None])


def is_compressed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def read_contents(path: Path) -> bytes:
    """Return a file's bytes, those of a .gz unpacked and held against its checksum."""
    data = path.read_bytes()
    try:
        return gzip.decompress(data) if is_compressed(path) else data
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: damaged, or no gzip file: {error}") from error


def read_affine(header: Any, path: Path) -> np.ndarray:
    """Return where the voxels lie, as (4, 4) from indices to millimetres that run to the right, front and up.

    That is the sform; the qform where the sform has no code, or is no sound affine; and where neither has a code, the
    file's order as ITK takes it, to the left, back and up.

    Raises:
        DataError: none of these is sound.
    """
    forms = [form(header) for form, code in ((sform, "sform_code"), (qform, "qform_code")) if header[code] > 0]
    for found in forms or [voxel_sizes(header)]:
        if np.isfinite(found).all() and np.linalg.cond(found[:3, :3]) < THINNEST:
            return found
    raise DataError(f"{path}: no orientation: sform, qform or voxel sizes (pixdim) are zero, singular or no numbers")


def sform(header: Any) -> np.ndarray:
    return header.get_sform()


def qform(header: Any) -> np.ndarray:
    """Return the qform; NaN where it is no rotation. Of pixdim[0] only the sign counts."""
    header = header.copy()
    header["pixdim"][0] = -1 if header["pixdim"][0] < 0 else 1
    try:
        return header.get_qform()
    except (HeaderDataError, ValueError):
        return np.full((4, 4), np.nan)


def voxel_sizes(header: Any) -> np.ndarray:
    """Return the voxel sizes along the axes left, back and up; NaN where one is below 0."""
    sizes = header["pixdim"][1:4]
    return np.diag([*np.where(sizes > 0, sizes, np.nan) * (-1, -1, 1), 1])
