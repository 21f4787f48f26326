"""Writes a data set as a raw folder of nnU-Net v2, in the format of nnU-Net's documentation/dataset_format.md."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from nibabel import orientations

from attnunet.data.cache import Prepared, map_parallel
from attnunet.data.decoders import nifti
from attnunet.data.grids import PLANES, Grid
from attnunet.data.slices import Dataset, refuse
from attnunet.data.volumes import find_grid
from attnunet.exchange.splits import Fold

ENDING = ".nii.gz"


class RawFolder:
    """Says which folder of nnU-Net's raw format holds which patient.

    imagesTr holds every patient that some fold uses for training or validation. imagesTs holds the test patients. If there
    are several folds, each fold has its own folder of test patients (imagesTs_fold0, ...), because other folds train on
    these patients. The labels lie in labelsTr and labelsTs in the same way.
    """

    def __init__(self, name: str, folds: Sequence[Fold], channels: int) -> None:
        """
        Args:
            name: the folder's name, in the form DatasetNNN_Name.
            folds: the patients for training, validation and testing in each fold.
            channels: the number of images of a patient.

        Raises:
            DataError: a patient's name cannot be used as the name of a file.
        """
        self.name, self.folds, self.channels = name, folds, channels
        self.trained = {patient for fold in folds for part in ("train", "val") for patient in fold[part]}
        patients = sorted(self.trained | {patient for fold in folds for patient in fold["test"]})
        refuse([f"patient {name!r}: is no name for a file; rename it" for name in patients if not is_file_name(name)])
        self.places = {patient: list(self.find_places(patient)) for patient in patients}

    def find_places(self, patient: str) -> Iterator[str]:
        """Yield the endings of the names of the folders that hold a patient's files, for example Tr."""
        if patient in self.trained:
            yield "Tr"
        yield from (self.test_ending(number) for number, fold in enumerate(self.folds) if patient in fold["test"])

    def test_ending(self, fold: int) -> str:
        return "Ts" if len(self.folds) == 1 else f"Ts_fold{fold}"

    def files(self, patient: str, fold: int) -> dict[str, Any]:
        """Return the paths of a patient's images (one for each channel) and label, relative to the folder given to `write`."""
        ending = self.test_ending(fold) if patient in self.folds[fold]["test"] else "Tr"
        images = [f"{self.name}/images{ending}/{patient}_{channel:04}{ENDING}" for channel in range(self.channels)]
        return {"image": images, "label": f"{self.name}/labels{ending}/{patient}{ENDING}"}

    def write(self, dataset: Dataset, prepared: Prepared, folder: Path) -> None:
        """Write DatasetNNN_Name into a folder. Each volume has its native size and the values of the data set's own files."""
        root = folder / self.name
        for ending in {ending for endings in self.places.values() for ending in endings}:
            for kind in ("images", "labels"):
                (root / f"{kind}{ending}").mkdir(parents=True)

        def write_patient(patient: str) -> None:
            first, *others = self.places[patient]
            for path in write_case(dataset, prepared, patient, root / f"images{first}", root / f"labels{first}"):
                kind = path.parent.name.removesuffix(first)
                for ending in others:
                    shutil.copyfile(path, root / f"{kind}{ending}" / path.name)

        map_parallel(write_patient, self.places)
        described = {
            "channel_names": {str(place): name for place, name in enumerate(dataset.channels)},
            "labels": {"background": 0, "lesion": 1},
            "numTraining": len(self.trained),
            "file_ending": ENDING,
        }
        (root / "dataset.json").write_text(json.dumps(described, indent=1))


def is_file_name(name: str) -> bool:
    return name.isprintable() and not name.startswith(".") and not set(name) & set("/\\")


def write_case(dataset: Dataset, prepared: Prepared, patient: str, images: Path, labels: Path) -> Iterator[Path]:
    """Write a patient's images, one file for each channel, and then the label. Yield the path of each file.

    Volumes keep their places in the world, so that a mask of another tool can be compared with the reference.
    """
    indices = prepared.patients[patient]
    label = np.stack([prepared.mask(index) for index in indices])
    given = find_grid(dataset.slices[indices[0]].image)
    grid = (
        reverse(given.shown(dataset.plane))
        if given
        else make_grid(label.shape, prepared.spacing_of(indices[0]), dataset.plane)
    )
    pixels = dataset.source.pixels([dataset.slices[index] for index in indices])
    for place, name in enumerate(dataset.channels):
        path = images / f"{patient}_{place:04}{ENDING}"
        write_volume(path, pixels.sequence(dataset.file_channels.index(name)), grid)
        yield path
    path = labels / f"{patient}{ENDING}"
    write_volume(path, label, grid)
    yield path


def write_volume(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write values (slices, rows, columns). Values of 64 bits become float32, because few tools read 64 bits."""
    narrow = values if values.dtype.itemsize < 8 else values.astype(np.float32)
    nifti.write(path, narrow.transpose(), grid)


def reverse(grid: Grid) -> Grid:
    """Return the grid with its axes in the reverse order: columns, rows and slices instead of slices, rows and columns."""
    return Grid(grid.shape[::-1], grid.affine[:, [2, 1, 0, 3]])


def make_grid(shape: Sequence[int], spacing: Sequence[float] | None, plane: str) -> Grid:
    """Return a grid for slices without a position. Its axes are columns, rows and slices, in the directions of `PLANES`.

    Args:
        shape: the numbers of slices, rows and columns.
        spacing: the distances in mm between slices, between rows and between columns. None stands for 1 mm each.
        plane: the plane of the slices.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for place, (axis, direction) in enumerate(orientations.axcodes2ornt(PLANES[plane][::-1])):
        affine[int(axis), place] = direction * (spacing or (1, 1, 1))[::-1][place]
    return Grid(tuple(shape[::-1]), affine)
