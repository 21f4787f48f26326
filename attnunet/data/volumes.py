"""Data sets of volumes: each sequence of a scan is a file, and so is the label. All files of a scan share one grid."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.data.checks import list_names
from attnunet.data.decoders import dicom, nifti
from attnunet.data.grids import Grid
from attnunet.data.labels import mark_lesion
from attnunet.data.sequences import note_scans
from attnunet.data.slices import DataError, Dataset, Slice, choose_channels, drop_patients, name_volume, refuse


@dataclass(frozen=True)
class Scan:
    """The volumes of one scan of a patient: NIfTI files or folders of DICOM series. The label may also be a DICOM SEG.

    Attributes:
        patient: the patient's name.
        name: tells the patient's scans apart; "" if the patient has only one scan.
        site: where the patient was scanned, "" if unknown.
        images: the path of each sequence; sequences may be missing.
        label: the path of the volume that marks the lesion voxels.
    """

    patient: str
    name: str
    site: str
    images: Mapping[str, str]
    label: str

    def volumes(self, sequences: Sequence[str]) -> list[str]:
        """Return the paths of the `sequences` that the scan has, and then the path of the label."""
        return [*(self.images[name] for name in sequences if name in self.images), self.label]

    def stand_in(self, sequences: Sequence[str]) -> str:
        """Return the sequence that replaces a missing one: FLAIR if the scan has it, else the first sequence that it has."""
        there = [name for name in sequences if name in self.images]
        return "flair" if "flair" in there else there[0]


@dataclass(frozen=True)
class Choices:
    """The options of a data set of volumes.

    Attributes:
        labels: the values of a label file that mean lesion. None means one value that is not background, whatever it is.
        background: the values of a label file that mean background. Any other value is refused.
        missing: the treatment of a scan that lacks a sequence. "refuse" raises an error, "zero" shows zeros in place of the
            sequence, "copy" shows another sequence of the scan.
        plane: the plane of the slices. None chooses the plane across the axis with the largest spacing.
        pixel_size: the pixel size in mm that slices are resampled to. If it is None, slices are squeezed into a square.
    """

    labels: tuple[int, ...] | None
    background: tuple[int, ...] = (0,)
    missing: str = "refuse"
    plane: str | None = None
    pixel_size: float | None = None


@dataclass(frozen=True)
class Volumes:
    """The source that reads slices from volumes."""

    scans: Mapping[tuple[str, str], Scan]
    sequences: tuple[str, ...]
    choices: Choices
    plane: str

    @property
    def settings(self) -> list[Any]:
        there = [[*key, [name for name in self.sequences if name in scan.images]] for key, scan in self.scans.items()]
        return [self.choices.labels, self.choices.background, self.choices.missing, self.plane, there]

    def files(self, slices: Sequence[Slice]) -> list[str]:
        scans = [self.scans[key] for key in dict.fromkeys((item.patient, item.scan) for item in slices)]
        volumes = [path for scan in scans for path in scan.volumes(self.sequences)]
        return [part for path in volumes for part in list_parts(path)]

    def pixels(self, slices: Sequence[Slice]) -> "Turned":
        return Turned(self.scans[slices[0].patient, slices[0].scan], self.sequences, self.choices, self.plane)


@dataclass(frozen=True)
class Turned:
    """A scan whose slices are turned into a plane, in the way in which a human reader looks at them."""

    files: Scan
    sequences: tuple[str, ...]
    choices: Choices
    plane: str

    def slices(self) -> Iterator[tuple[np.ndarray, np.ndarray] | DataError]:
        try:
            images = [self.sequence(channel) for channel in range(len(self.sequences))]
            mask = self.mask()
        except DataError as error:
            yield error
            return
        for place, lesion in enumerate(mask):
            yield np.stack([image[place] for image in images], axis=-1), lesion

    def sequence(self, channel: int) -> np.ndarray:
        name = self.sequences[channel]
        there = name if name in self.files.images else self.files.stand_in(self.sequences)
        image = read_volume(self.files.images[there], self.plane)
        return np.zeros_like(image) if name != there and self.choices.missing == "zero" else image

    def mask(self) -> np.ndarray:
        """Return the masks of all slices, uint8 (slices, h, w) of 0 and 1."""
        values = read_label(self.files.label, self.files.images[self.files.stand_in(self.sequences)], self.plane)
        return mark_lesion(self.files.label, values, self.choices.labels, self.choices.background)


def list_parts(path: str) -> list[str]:
    """Return the files of a volume: the slices of a DICOM series if the path is a folder, else the path itself."""
    return [str(part) for part in dicom.list_slices(Path(path))] if Path(path).is_dir() else [path]


def read_values(path: str) -> tuple[np.ndarray, Grid]:
    """Return the values of a NIfTI file or of the DICOM series in a folder, and the grid.

    The values have the order of the grid.
    """
    if Path(path).is_dir():
        return dicom.read_volume(Path(path))
    image = nifti.read(Path(path))
    return image.values, image.header.grid


def read_volume(path: str, plane: str) -> np.ndarray:
    """Return the values of a volume, turned to (slices, rows, columns) of a plane."""
    values, grid = read_values(path)
    return grid.show(values.reshape(grid.shape, order="F"), plane)


def read_label(path: str, image: str, plane: str) -> np.ndarray:
    """Return a label's values in the form of `read_volume`. A DICOM SEG is read on the grid of its image."""
    if nifti.is_nifti(path) or not dicom.is_segmentation(Path(path)):
        return read_volume(path, plane)
    grid = read_grid(image)
    return grid.show(dicom.read_segmentation(Path(path), grid), plane)


def read_grid(path: str) -> Grid:
    """Return the grid of a volume, without reading its voxels.

    Raises:
        DataError: the volume has more than three dimensions, and its last axis is not of size 1.
    """
    if Path(path).is_dir():
        return dicom.read_series(Path(path)).grid
    header = nifti.read_header(Path(path))
    if header.shape[3:] not in ((), (1,)):
        raise DataError(
            f"{path}: {header.shape[3]} volumes in one file, as of a time series; allowed: one, so give each sequence a file"
        )
    return header.grid


def find_grid(image: str) -> Grid | None:
    """Return the grid of the volume that a slice's image belongs to; None if the file has no position, such as a TIFF."""
    return read_grid(image) if nifti.is_nifti(image) or Path(image).is_dir() else None


def make_dataset(
    name: str,
    found: Sequence[Scan],
    sequences: Sequence[str],
    channels: Sequence[str] | None,
    choices: Choices,
    exclude: Sequence[str] | str,
    intensity: str,
    verify: bool,
) -> Dataset:
    """Return the data set of the scans' slices. Each patient's slices are numbered through all scans of the patient.

    Only the files of `channels` are read, so that a network for FLAIR needs only FLAIR. `sequences` are the names of the
    sequences that the files have. The notes name patients that may be scans of one patient, and single slices whose thickness
    is assumed.

    Raises:
        DataError: no file has a sequence of `channels`; a scan lacks a sequence and `choices.missing` does not allow it; the
            files of a scan lie on different grids; the scans differ in plane and `choices.plane` is None.
    """
    ordered = sorted(found, key=lambda scan: (scan.patient, scan.name))
    rows = [Slice(scan.patient, 0, "", scan.label, scan.site, scan=scan.name) for scan in ordered]
    kept = {item.patient for item in drop_patients(rows, exclude)}
    scans = [scan for scan in ordered if scan.patient in kept]
    picked = choose_channels(channels or sequences, sequences)
    refuse(find_lacking(scans, picked, choices.missing))
    grids = read_grids(scans, picked)
    plane = choices.plane or find_plane(scans, grids)

    slices: list[Slice] = []
    for scan, grid in zip(scans, grids, strict=True):
        first = slices[-1].number + 1 if slices and slices[-1].patient == scan.patient else 1
        image, missing = scan.images[scan.stand_in(picked)], tuple(sorted(set(picked) - set(scan.images)))
        spacing = grid.spacing(plane)
        slices += [
            Slice(scan.patient, number, image, scan.label, scan.site, missing, scan.name, spacing)
            for number in range(first, first + grid.shown(plane).shape[0])
        ]
    source = Volumes({(scan.patient, scan.name): scan for scan in scans}, picked, choices, plane)
    return Dataset(
        name,
        tuple(slices),
        source,
        picked,
        picked,
        intensity,
        verify,
        notes=(*note_scans(scan.patient for scan in scans), *note_thickness(scans, picked, grids)),
        plane=plane,
        pixel_size=choices.pixel_size,
        dtype="float32",
    )


def find_lacking(scans: Sequence[Scan], sequences: Sequence[str], policy: str) -> list[str]:
    """Return a line for each scan that lacks more sequences than `policy` allows."""
    lacking = {scan.label: [name for name in sequences if name not in scan.images] for scan in scans}
    allowed = len(sequences) - 1 if policy != "refuse" else 0
    return [
        f"{label}: its scan has no {', '.join(names)}; allowed: data.channels without {'it' if len(names) == 1 else 'them'}, "
        f"data.missing=zero or copy where one sequence is there, or data.exclude"
        for label, names in lacking.items()
        if len(names) > allowed
    ]


def read_grids(scans: Sequence[Scan], sequences: Sequence[str]) -> list[Grid]:
    """Return the grid of each scan. Raise DataError if a scan's images and label do not share one grid."""
    grids: list[Grid] = []
    faults: list[str] = []
    for scan in scans:
        first, *others = scan.volumes(sequences)
        if not nifti.is_nifti(scan.label) and dicom.is_segmentation(Path(scan.label)):
            others.remove(scan.label)  # not compared, because each frame of a DICOM SEG has its own position
        try:
            grids.append(read_grid(first))
            differing = {path: grids[-1].differs(read_grid(path)) for path in others}
            faults += [
                f"{path}: lies on another grid than {first}: {told}; allowed: one grid a scan, so resample it"
                for path, told in differing.items()
                if told
            ]
        except DataError as error:
            faults.append(str(error))
    refuse(faults)
    return grids


def note_thickness(scans: Sequence[Scan], sequences: Sequence[str], grids: Sequence[Grid]) -> list[str]:
    """Return a line with the scans of one DICOM slice whose thickness is assumed, or nothing if there are none.

    Args:
        scans: the scans.
        sequences: the sequences that are used.
        grids: the grid of the first sequence of each scan.
    """
    firsts = [Path(scan.volumes(sequences)[0]) for scan in scans]
    assumed = [
        name_volume(scan.patient, scan.name)
        for scan, first, grid in zip(scans, firsts, grids, strict=True)
        if grid.shape[-1] == 1 and first.is_dir() and dicom.read_series(first).assumed
    ]
    told = f"one slice without SliceThickness, which counts as {dicom.THICKNESS:g} mm thick, so millilitres are a guess"
    return [f"{told}: {list_names(assumed)}"] if assumed else []


def find_plane(scans: Sequence[Scan], grids: Sequence[Grid]) -> str:
    """Return the plane across the axis with the largest spacing. Raise DataError if scans differ in this plane."""
    planes = [grid.plane for grid in grids]
    for (a, b), (one, other) in zip(pairwise(scans), pairwise(planes), strict=True):
        if one != other:
            raise DataError(
                f"{b.label}: its largest spacing is across {other} slices, of {a.label} across {one} ones; "
                "set data.axis to axial, coronal or sagittal"
            )
    return planes[0]
