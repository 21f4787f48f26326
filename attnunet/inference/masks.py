"""Finds masks that another tool made by their names, and checks that they fit the reference: their size and their position."""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np

from attnunet.data import listing
from attnunet.data.cache import Prepared
from attnunet.data.decoders import nifti
from attnunet.data.images import read_mask
from attnunet.data.sequences import stem
from attnunet.data.slices import DataError, Dataset, refuse
from attnunet.data.volumes import find_grid, read_grid
from attnunet.inference.predictor import Volume
from attnunet.metrics.decision import Decision


@dataclass(frozen=True)
class GivenMasks:
    """The masks of volumes. They can be scored like a predictor whose probabilities are all 0 or 1.

    Attributes:
        files: maps the name of each volume to a single NIfTI file, or to one image for each slice.
    """

    files: Mapping[str, Sequence[Path]]
    decision = Decision()

    def volumes(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[Volume]:
        """Yield the volumes of these slices. Raise DataError if a file is no mask, or has another shape than the reference."""
        for name, members in group_volumes(prepared, indices).items():
            mask = read_masks(self.files[name], prepared.plane)
            if mask.shape != (expected := (len(members), *prepared.facts["shapes"][members[0]])):
                raise DataError(
                    f"{self.files[name][0]}: slices, rows and columns are {mask.shape}; allowed: those of the reference of "
                    f"{name}, {expected}"
                )
            yield Volume(name, members, mask.astype(np.float32))


def group_volumes(prepared: Prepared, indices: Sequence[int]) -> dict[str, list[int]]:
    """Return a dictionary from the name of each volume to the indices of its slices."""
    groups = groupby(sorted(indices), key=lambda index: prepared.slices[index].volume)
    return {name: list(members) for name, members in groups}


def find_masks(root: Path, dataset: Dataset, prepared: Prepared, indices: Sequence[int]) -> tuple[GivenMasks, list[str]]:
    """Return the masks that lie below a folder for the volumes of these slices, and the names of the volumes without a mask.

    A NIfTI file has the name of its patient, CASE.nii.gz. The mask image of a slice has the name of the slice's image or mask
    in the data set. If several files have this name, the name of their folder decides: it must be the name of the folder of
    the slice's image. A file in the folder of another image with the same name belongs to that image.

    The data set is read for the names of its files and for the positions of its volumes.

    Raises:
        DataError: the folder does not exist, a volume or slice has two files, a file fits two slices, only some slices of a
            volume have a mask, or a NIfTI file lies elsewhere than its volume (see `find_displacement`).
    """
    if not root.is_dir():
        raise DataError(f"masks={root}: no such folder")
    there, faults = listing.list_files(root)
    by_name: dict[tuple[bool, str], list[Path]] = {}
    for path in there:
        by_name.setdefault((nifti.is_nifti(path.name), stem(path) if nifti.is_nifti(path.name) else path.stem), []).append(
            path
        )

    homes: dict[str, set[str]] = {}
    for item in dataset.slices:
        for file in (item.image, item.mask):
            homes.setdefault(Path(file).stem, set()).add(Path(item.image).parent.name)

    found: dict[str, list[Path]] = {}
    lacking: list[str] = []
    for name, members in group_volumes(prepared, indices).items():
        volumes = by_name.get((True, name.replace("/", "_")), [])
        images = [] if volumes else [dataset.slices[index] for index in members]
        slices = [find_slice(by_name, homes, item.image, item.mask) for item in images]
        faults += [f"{paths[1]}: a second mask beside {paths[0]}; keep one" for paths in (volumes, *slices) if len(paths) > 1]
        if volumes or all(slices):
            found[name] = volumes or [paths[0] for paths in slices]
            faults += find_displacement(volumes[0], dataset.slices[members[0]].image) if volumes else []
        elif any(slices):
            first = dataset.slices[members[[bool(paths) for paths in slices].index(False)]].image
            faults.append(f"masks={root}: {name} has masks for some slices, and none for {first}")
        else:
            lacking.append(name)
    refuse([*faults, *find_shared(found)])
    return GivenMasks(found), lacking


def find_shared(files: Mapping[str, Sequence[Path]]) -> list[str]:
    """Return a line for each file that stands for two slices or volumes. `files` maps the name of each volume to its files."""
    owners: dict[Path, list[str]] = {}
    for name, paths in files.items():
        for path in paths:
            owners.setdefault(path, []).append(name)
    allowed = "a folder for each, with the name of the folder of its images, or NIfTI files PATIENT.nii.gz"
    return [
        f"{path}: fits {' and '.join(sorted(set(names)))} by its name, {len(names)} times; allowed: {allowed}"
        for path, names in owners.items()
        if len(names) > 1
    ]


def find_displacement(mask: Path, image: str) -> list[str]:
    """Return a line if a NIfTI mask lies on another grid than its volume's image. The axes may be in any order.

    Only the size of the mask can be checked if the image has no position. `GivenMasks` does so.
    """
    try:
        grid = find_grid(image)
        told = grid and grid.differs(read_grid(str(mask)))
    except DataError as error:
        return [str(error)]
    allowed = "the same grid up to a tenth of a voxel, with the axes in any order, so resample it"
    return [f"{mask}: lies on another grid than {image}: {told}; allowed: {allowed}"] if told else []


def find_slice(
    by_name: Mapping[tuple[bool, str], list[Path]], homes: Mapping[str, Set[str]], image: str, mask: str
) -> list[Path]:
    """Return the files with the name of a slice's image. If there are none, return the files with the name of its mask.

    Files in a folder with the name of the image's folder come first. `homes` maps a name to the names of the folders of all
    images with this name. Files in another of these folders belong to another image.
    """
    for name in (Path(image).stem, Path(mask).stem):
        paths = by_name.get((False, name), [])
        own = [path for path in paths if path.parent.name == Path(image).parent.name]
        if found := own or [path for path in paths if path.parent.name not in homes[name]]:
            return found
    return []


def read_masks(files: Sequence[Path], plane: str) -> np.ndarray:
    """Return the mask of a volume as uint8 (slices, rows, columns) of 0 and 1.

    A NIfTI file is turned to `plane` by its affine. Images of slices are stacked as they are.
    """
    if not nifti.is_nifti(files[0].name):
        slices = [read_mask(str(path)) for path in files]
        refuse(
            [
                f"{path}: {mask.shape} pixels, but {files[0]} of the same volume has {slices[0].shape}"
                for path, mask in zip(files, slices, strict=True)
                if mask.shape != slices[0].shape
            ]
        )
        return np.stack(slices)
    image = nifti.read(files[0])
    if image.values.size != np.prod(image.grid.shape):
        raise DataError(f"{files[0]}: {image.values.shape} voxels; allowed: one volume of three axes")
    if len(values := np.unique(image.values)) > 2 or values.min() < 0 or (len(values) == 2 and values.min() > 0):
        found = ", ".join(f"{value:g}" for value in values[:5])
        raise DataError(f"{files[0]}: a mask has the values 0 and one other, found {found}")
    lesion = image.values.reshape(image.grid.shape, order="F") > 0
    return image.grid.show(lesion.astype(np.uint8), plane)
