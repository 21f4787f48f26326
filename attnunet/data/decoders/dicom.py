"""DICOM series as volumes, and segmentations (DICOM SEG) on the grid of a series. A series has one file for each slice.

DICOM PS3.3 defines the attributes: C.7.6.2 (image plane), C.11.1 (modality LUT), C.8.20 (segmentation).
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError
from pydicom.uid import SegmentationStorage

import attnunet
from attnunet.data.decoders.nifti import scale
from attnunet.data.files import replacing
from attnunet.data.grids import CLOSE, Grid
from attnunet.data.slices import DataError
from attnunet.errors import first_line

TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
"""DICOM's first two axes run to the left and to the back. The first two axes of a `Grid` run to the right and to the front."""
PARALLEL = 1e-3
"""Two orientations count as equal if no cosine differs by more than this number."""
UNEVEN = 0.01
"""Distances between slices count as equal if none exceeds the smallest one by more than this share."""
TOGETHER = 1e-3
"""Two slices count as being at the same position if they are less than this many millimetres apart."""
THICKNESS = 1.0
"""The thickness in mm that is assumed for a single slice whose header tells none."""
COLOURS = ("MONOCHROME1", "PALETTE COLOR", "RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT")
"""The kinds of pixels of DICOM that are not read."""
MAGIC = slice(128, 132)
GEOMETRY = (
    *("Rows", "Columns", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
    *("SpacingBetweenSlices", "Modality"),
)
"""The attributes of a slice that tell where its pixels lie, and the kind of the image."""
UIDS = ("SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID", "FrameOfReferenceUID")
"""The numbers by which a DICOM SEG refers to the slices that it marks, and by which viewers show it over them."""
EMPTY = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate", "StudyTime")
"""The attributes that a DICOM SEG must have, and that may be empty."""


@dataclass(frozen=True)
class Series:
    """The slices of a series without pixels, in the order of their positions, and the grid that these slices form."""

    paths: tuple[Path, ...]
    headers: tuple[pydicom.Dataset, ...]
    grid: Grid

    @property
    def assumed(self) -> bool:
        """Whether THICKNESS is assumed: the series is one slice, and its header tells no thickness."""
        return len(self.headers) == 1 and not self.headers[0].get("SliceThickness")


def list_slices(folder: Path) -> list[Path]:
    """Return the DICOM files in a folder. Files of other kinds, such as notes, are skipped.

    Raises:
        DataError: the folder has no DICOM file; a file with the suffix .dcm is no DICOM file.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))
    kinds = {path: is_dicom(path) for path in files}
    for path, right in kinds.items():
        if path.suffix.lower() == ".dcm" and not right:
            raise DataError(f"{path}: is no DICOM file: it lacks the mark DICM at byte 128")
    found = [path for path, right in kinds.items() if right and path.name != "DICOMDIR"]
    if not found:
        raise DataError(f"{folder}: holds no DICOM files; allowed: the slices of a series")
    return found


def is_dicom(path: Path) -> bool:
    """Return whether a file has the mark of DICOM, which is the text DICM at byte 128."""
    with path.open("rb") as stream:
        return stream.read(MAGIC.stop)[MAGIC] == b"DICM"


def read_file(path: Path, pixels: bool = True) -> pydicom.Dataset:
    """Return a file's attributes. Raise DataError if the file is damaged."""
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (InvalidDicomError, AttributeError, EOFError, KeyError, NotImplementedError, OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read as DICOM: {first_line(error)}") from error


def read_series(folder: Path) -> Series:
    """Return the series in a folder. A single slice is as thick as its SliceThickness says. Without one, THICKNESS is assumed.

    Raises:
        DataError: the folder has slices of several series, sizes, spacings or orientations; two slices are at one position;
            a slice is missing; a file has several frames or colours.
    """
    paths = list_slices(folder)
    headers = [read_file(path, pixels=False) for path in paths]
    planes = [read_plane(path, header) for path, header in zip(paths, headers, strict=True)]
    for name, told in (("SeriesInstanceUID", "series"), ("Rows", "numbers of rows"), ("Columns", "numbers of columns")):
        values = {str(header.get(name)): path for path, header in zip(paths, headers, strict=True)}
        if len(values) > 1:
            raise DataError(
                f"{folder}: {len(values)} {told}, as of {' and '.join(map(str, list(values.values())[:2]))}; allowed: one"
            )
    for path, plane in zip(paths, planes, strict=True):
        if np.abs(plane[:, :2] - planes[0][:, :2]).max() > PARALLEL * np.linalg.norm(planes[0][:, 0]):
            raise DataError(f"{path}: another orientation or spacing than {paths[0]}; allowed: one in a series")
    normal = np.cross(planes[0][:, 0], planes[0][:, 1])
    heights = [float(plane[:, 2] @ normal / np.linalg.norm(normal)) for plane in planes]
    order = np.argsort(heights, kind="stable")
    ordered = [paths[place] for place in order]
    check_distances(ordered, [heights[place] for place in order])

    first, last = planes[order[0]], planes[order[-1]]
    thickness = float(headers[0].get("SliceThickness") or THICKNESS)
    step = (last[:, 2] - first[:, 2]) / (len(paths) - 1) if len(paths) > 1 else normal / np.linalg.norm(normal) * thickness
    affine = np.eye(4)
    affine[:3] = np.column_stack([first[:, 0], first[:, 1], step, first[:, 2]])
    shape = (int(headers[0].Columns), int(headers[0].Rows), len(paths))
    return Series(tuple(ordered), tuple(headers[place] for place in order), Grid(shape, TO_RAS @ affine))


def read_plane(path: Path, header: pydicom.Dataset) -> np.ndarray:
    """Return a slice's plane in millimetres, as a matrix (3, 3).

    Its columns are the step from column to column, the step from row to row, and the slice's position.

    Raises:
        DataError: the file has no position, orientation or spacing; it has several frames; it has no grey values.
    """
    if int(header.get("NumberOfFrames") or 1) > 1:  # first, because frames have positions of their own
        raise DataError(
            f"{path}: {header.NumberOfFrames} frames, as of an enhanced image; allowed: one slice a file, so convert it to "
            "NIfTI (for example with dcm2niix), and list it for data=nifti data.file=CSV"
        )
    try:
        plane = plane_of(header.ImageOrientationPatient, header.PixelSpacing, header.ImagePositionPatient)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: no position, orientation or spacing (ImagePositionPatient and others)") from error
    if (found := header.get("PhotometricInterpretation")) != "MONOCHROME2":
        told = found if found in COLOURS else "unknown"  # any other text of a header could name the patient
        raise DataError(f"{path}: {told} pixels; allowed: grey values (MONOCHROME2)")
    return plane


def plane_of(orientation: Sequence[float], spacing: Sequence[float], position: Sequence[float]) -> np.ndarray:
    """Return the plane (3, 3) in the form of `read_plane`.

    The first three cosines of `orientation` point along a row, in the direction in which the column number grows.
    """
    along_row, along_column = np.array(orientation, float).reshape(2, 3)
    between_rows, between_columns = np.array(spacing, float)
    return np.column_stack([along_row * between_columns, along_column * between_rows, np.array(position, float)])


def check_distances(paths: Sequence[Path], heights: Sequence[float]) -> None:
    """Raise DataError if the distances between neighbouring slices differ. The slices are in the order of their heights."""
    steps = np.diff(heights)
    for (one, other), step in zip(pairwise(paths), steps, strict=True):
        if step < TOGETHER:
            raise DataError(f"{other}: lies where {one} does; allowed: one slice a position, no time series")
        if step > (1 + UNEVEN) * steps.min():
            raise DataError(
                f"{other}: {step:.4g} mm above {one}, other slices {steps.min():.4g}; is one missing? allowed: equal steps"
            )


def read_volume(folder: Path) -> tuple[np.ndarray, Grid]:
    """Return a series' values (x, y, z) and its grid.

    The values are integers as they are stored, or float32 if the file rescales them.

    Raises:
        DataError: see `read_series`; the pixels are damaged or cannot be decompressed.
    """
    series = read_series(folder)
    slices = [read_pixels(path) for path in series.paths]
    return np.stack(slices, axis=-1), series.grid


def read_pixels(path: Path) -> np.ndarray:
    """Return a slice's rescaled values (columns, rows)."""
    header = read_file(path)
    slope, inter = (float(header.get(name, default)) for name, default in (("RescaleSlope", 1), ("RescaleIntercept", 0)))
    return scale(decode(path, header), slope, inter).T


def decode(path: Path, header: pydicom.Dataset) -> np.ndarray:
    """Return the stored pixels. Raise DataError for every error of pydicom's decoders."""
    try:
        return header.pixel_array
    except Exception as error:
        raise DataError(f"{path}: its pixels cannot be read: {first_line(error)}") from error


def is_segmentation(path: Path) -> bool:
    """Return whether a path is a DICOM SEG file, or a folder whose first DICOM file is a DICOM SEG file."""
    file = list_slices(path)[0] if path.is_dir() else path
    return read_file(file, pixels=False).get("SOPClassUID") == SegmentationStorage


def read_segmentation(path: Path, grid: Grid) -> np.ndarray:
    """Return the segment number of each voxel of a grid, (x, y, z), from a DICOM SEG. Voxels outside all segments get 0.

    Raises:
        DataError: a frame does not lie on a slice of the grid; segments overlap or hold fractions; a folder has several files.
    """
    files = list_slices(path) if path.is_dir() else [path]
    if len(files) > 1:
        raise DataError(f"{path}: {len(files)} files; allowed: one segmentation")
    header = read_file(files[0])
    if header.get("SegmentationType") == "FRACTIONAL":
        raise DataError(f"{files[0]}: holds fractions; allowed: a segmentation of the type BINARY or LABELMAP")
    frames = decode(files[0], header).reshape(-1, header.Rows, header.Columns)
    values = np.zeros(grid.shape, np.uint16)
    for frame, (number, plane) in zip(frames, read_frames(files[0], header), strict=True):
        place = find_slice(files[0], plane, frame.shape, grid)
        numbers = (frame * number).T
        if (values[..., place].astype(bool) & numbers.astype(bool)).any():
            raise DataError(f"{files[0]}: segments overlap; allowed: one segment a voxel")
        values[..., place] += numbers.astype(np.uint16)
    return values


def read_frames(path: Path, header: pydicom.Dataset) -> Iterator[tuple[int, np.ndarray]]:
    """Yield a factor and the plane for each frame. The factor turns the frame's pixels into segment numbers.

    It is the frame's segment number if the pixels are a mask of 0 and 1. It is 1 for a LABELMAP, whose pixels already are
    segment numbers.
    """
    try:
        shared = header.SharedFunctionalGroupsSequence[0]
        for frame in header.PerFrameFunctionalGroupsSequence:
            orientation, measures, position, segment = (
                (frame if name in frame else shared).get(name, [pydicom.Dataset()])[0]
                for name in (
                    "PlaneOrientationSequence",
                    "PixelMeasuresSequence",
                    "PlanePositionSequence",
                    "SegmentIdentificationSequence",
                )
            )
            plane = plane_of(orientation.ImageOrientationPatient, measures.PixelSpacing, position.ImagePositionPatient)
            yield 1 if header.SegmentationType == "LABELMAP" else int(segment.ReferencedSegmentNumber), plane
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(f"{path}: a frame without place or segment: {first_line(error)}") from error


def find_slice(path: Path, plane: np.ndarray, shape: tuple[int, ...], grid: Grid) -> int:
    """Return the index of the grid's slice on which a frame lies. Raise DataError if the frame lies on no slice."""
    affine = TO_RAS @ grid.affine
    *inside, height = (np.linalg.inv(affine) @ [*plane[:, 2], 1])[:3]
    place = round(float(height))
    apart = np.abs([*inside, height - place]).max()
    turned = np.abs(plane[:, :2] - affine[:3, :2]).max() > PARALLEL * np.linalg.norm(affine[:3, 0])
    if turned or apart > CLOSE or not 0 <= place < grid.shape[2] or shape != grid.shape[1::-1]:
        raise DataError(
            f"{path}: a frame at {plane[:, 2].round(3).tolist()} lies on no slice of its image; allowed: the same grid"
        )
    return place


def without_texts(header: pydicom.Dataset) -> pydicom.Dataset:
    """Return a slice's header with its GEOMETRY and its UIDs only. The attributes that a DICOM SEG must have are empty.

    highdicom copies the patient, the study and more from the header of a slice.
    """
    kept = pydicom.Dataset()
    kept.file_meta = header.file_meta
    for name in (*GEOMETRY, *UIDS):
        if name in header:
            kept[name] = header[name]
    for name in EMPTY:
        setattr(kept, name, "")
    return kept


def write_segmentation(path: Path, values: np.ndarray, series: Series) -> None:
    """Write a mask (x, y, z) of 0 and 1 as a DICOM SEG with one segment. The DICOM SEG refers to the series' slices."""
    import highdicom  # imported here because the import takes half a second
    from pydicom.sr.coding import Code

    logging.getLogger("highdicom").setLevel(logging.WARNING)  # it would log each module of attributes that it copies

    lesion = highdicom.seg.SegmentDescription(
        1,
        "lesion",
        Code("49755003", "SCT", "Morphologically Abnormal Structure"),
        Code("52988006", "SCT", "Lesion"),
        "AUTOMATIC",
        highdicom.AlgorithmIdentificationSequence(
            "attnunet", Code("123110", "DCM", "Artificial Intelligence"), attnunet.__version__
        ),
    )
    made = highdicom.seg.Segmentation(
        source_images=[without_texts(header) for header in series.headers],
        pixel_array=values.transpose(2, 1, 0).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=[lesion],
        series_instance_uid=highdicom.UID(),
        series_number=1,
        sop_instance_uid=highdicom.UID(),
        instance_number=1,
        manufacturer="attnunet",
        manufacturer_model_name="attnunet.predict",
        software_versions=attnunet.__version__,
        device_serial_number="none",
        omit_empty_frames=bool(values.any()),
    )
    with replacing(path) as temporary:
        made.save_as(temporary)
