"""A data set as a raw folder of nnU-Net, version 2: see documentation/dataset_format.md there."""

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
from attnunet.exchange.splits import Fold

ENDING = ".nii.gz"


class RawFolder:
    """The folders of a data set's cases: imagesTr for patients that a fold trains on or validates, imagesTs for the others.

    Of several folds, each has an imagesTs of its own (imagesTs_fold0, ...), since its test patients train elsewhere. Labels
    lie in labelsTr and labelsTs in the same way.
    """

    def __init__(self, name: str, folds: Sequence[Fold], channels: int) -> None:
        """
        Args:
            name: DatasetNNN_Name.
            folds: who trains, validates and tests.
            channels: the number of images of a case.

        Raises:
            DataError: a patient's name is none that a file can have.
        """
        self.name, self.folds, self.channels = name, folds, channels
        self.trained = {patient for fold in folds for part in ("train", "val") for patient in fold[part]}
        patients = sorted(self.trained | {patient for fold in folds for patient in fold["test"]})
        refuse([f"patient {name!r}: is no name for a file; rename it" for name in patients if not is_file_name(name)])
        self.places = {patient: list(self.find_places(patient)) for patient in patients}

    def find_places(self, patient: str) -> Iterator[str]:
        """Yield the endings of the folders that a patient's files lie in."""
        if patient in self.trained:
            yield "Tr"
        yield from (self.test_ending(number) for number, fold in enumerate(self.folds) if patient in fold["test"])

    def test_ending(self, fold: int) -> str:
        return "Ts" if len(self.folds) == 1 else f"Ts_fold{fold}"

    def files(self, patient: str, fold: int) -> dict[str, Any]:
        """Return the paths of a patient's images, one for each channel, and label, below the folder that holds this one."""
        ending = self.test_ending(fold) if patient in self.folds[fold]["test"] else "Tr"
        images = [f"{self.name}/images{ending}/{patient}_{channel:04}{ENDING}" for channel in range(self.channels)]
        return {"image": images, "label": f"{self.name}/labels{ending}/{patient}{ENDING}"}

    def write(self, dataset: Dataset, prepared: Prepared, folder: Path) -> None:
        """Write DatasetNNN_Name into a folder: volumes at native size, of the values of the data set's own files."""
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
    """Write a patient's volumes, one file for each channel, and the label; yield the path of each."""
    indices = prepared.patients[patient]
    label = np.stack([prepared.mask(index) for index in indices])
    grid = make_grid(label.shape, prepared.spacing_of(indices[0]), dataset.plane)
    pixels = dataset.source.pixels([dataset.slices[index] for index in indices])
    for place, name in enumerate(dataset.channels):
        path = images / f"{patient}_{place:04}{ENDING}"
        write_volume(path, pixels.sequence(dataset.file_channels.index(name)), grid)
        yield path
    path = labels / f"{patient}{ENDING}"
    write_volume(path, label, grid)
    yield path


def write_volume(path: Path, values: np.ndarray, grid: Grid) -> None:
    """Write values (slices, rows, columns); those of 64 bits as float32, since few tools read them."""
    narrow = values if values.dtype.itemsize < 8 else values.astype(np.float32)
    nifti.write(path, narrow.transpose(), grid)


def make_grid(shape: Sequence[int], spacing: Sequence[float] | None, plane: str) -> Grid:
    """Return the grid of a file (columns, rows, slices), whose axes run as a reader sees the plane; without spacing of 1 mm.

    Args:
        shape: slices, rows and columns.
        spacing: the distance in mm between them.
        plane: of the slices.
    """
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for place, (axis, direction) in enumerate(orientations.axcodes2ornt(PLANES[plane][::-1])):
        affine[int(axis), place] = direction * (spacing or (1, 1, 1))[::-1][place]
    return Grid(tuple(shape[::-1]), affine)
