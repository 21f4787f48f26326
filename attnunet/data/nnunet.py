"""A data set in nnU-Net's layout: a folder DatasetNNN_Name with dataset.json, imagesTr and labelsTr.

The files are imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz. nnU-Net describes the format in
documentation/dataset_format.md, in version 1 and in version 2.
"""

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Gt, Le

from attnunet.data import listing
from attnunet.data.decoders.nifti import SUFFIXES, is_nifti
from attnunet.data.slices import DataError, Dataset, refuse
from attnunet.data.volumes import Choices, Scan, make_dataset


def nnunet(
    root: str | None = None,
    channels: list[str] | None = None,
    labels: list[int] | None = None,
    missing: Literal["refuse", "zero", "copy"] = "refuse",
    axis: Literal["axial", "coronal", "sagittal"] | None = None,
    pixel_size: Annotated[float, Gt(0), Le(100)] | None = None,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    verify: bool = False,
) -> Dataset:
    """Return the data set in nnU-Net's layout below `root`. Every case of labelsTr is a patient.

    `labels` are the values that mean lesion. If it is None, all values above 0 that dataset.json names mean lesion.

    Raises:
        DataError: there is no dataset.json; it names no channels or no labels; it does not name a value of `labels`; a case
            has no label; a label has no case; see `volumes.make_dataset`.
    """
    folder = Path(root or "")
    if root is None or not (folder / "dataset.json").is_file():
        raise DataError(f"data.root={root}: no dataset.json there; data=nnunet needs a folder DatasetNNN_Name of nnU-Net")
    described = read_json(folder / "dataset.json")
    names, values = channel_names(described, folder / "dataset.json"), label_values(described, folder / "dataset.json")
    if set(labels or ()) - values:
        raise DataError(f"data.labels={labels}: {folder / 'dataset.json'} has the labels {sorted(values)}; allowed: these")
    lesion = tuple(sorted(values) if labels is None else labels)
    choices = Choices(lesion, (0, *sorted(values - set(lesion))), missing, axis, pixel_size)
    return make_dataset("nnunet", find_cases(folder, described, names), names, channels, choices, exclude, intensity, verify)


def read_json(path: Path) -> dict[str, Any]:
    try:
        described = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # the text is no UTF-8, or no JSON
        raise DataError(f"{path}: is no JSON: {error}") from error
    if not isinstance(described, dict):
        raise DataError(f"{path}: holds no object of names and values")
    return described


def channel_names(described: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the names of the channels that the file suffixes _0000, _0001, ... stand for.

    nnU-Net v2 keeps them under `channel_names`, v1 under `modality`.

    Raises:
        DataError: the names are missing, are not numbered "0", "1", ..., or are not different.
    """
    found = described.get("channel_names", described.get("modality"))
    if not isinstance(found, dict) or sorted(found, key=str) != sorted(map(str, range(len(found)))) or not found:
        raise DataError(f'{path}: channel_names (or modality) is {found}; needed: names of "0", "1", ...')
    names = tuple(str(found[str(place)]) for place in range(len(found)))
    if len(set(names)) < len(names):
        raise DataError(f"{path}: channel_names (or modality) are {list(names)}; needed: names that differ")
    return names


def label_values(described: dict[str, Any], path: Path) -> set[int]:
    """Return the values above 0 that `labels` of dataset.json names.

    In version 2, `labels` maps a name to a value, or to a list of values for a region. In version 1, `labels` maps a value to
    a name.

    Raises:
        DataError: a value is no whole number; there is a label named ignore; no value is above 0.
    """
    found = described.get("labels")
    pairs = found.items() if isinstance(found, dict) else ()
    values: set[int] = set()
    for name, value in pairs:
        of_version_1 = str(name).isdecimal() and isinstance(value, str)
        for one in [name] if of_version_1 else value if isinstance(value, list) else [value]:
            if not str(one).isdecimal():
                raise DataError(f"{path}: labels name {one!r}; allowed: whole numbers")
            values.add(int(one))
        if name == "ignore":
            raise DataError(f"{path}: the label ignore is not supported; allowed: labels that are lesion or background")
    if not values - {0}:
        raise DataError(f"{path}: labels are {found}; needed: a value above 0")
    return values - {0}


def find_cases(folder: Path, described: dict[str, Any], names: tuple[str, ...]) -> list[Scan]:
    """Return the cases of imagesTr and labelsTr, each with the images that imagesTr has of it.

    Raises:
        DataError: the file suffix is not supported; a folder is missing; an image's name ends with no channel's suffix; a case
            has no label; a label has no image; there are no images.
    """
    ending = str(described.get("file_ending", ".nii.gz"))
    if ending not in SUFFIXES:
        raise DataError(f"{folder / 'dataset.json'}: file_ending is {ending}; allowed: {', '.join(SUFFIXES)}")
    faults: list[str] = []
    there: dict[str, dict[str, Path]] = {}
    for part in ("imagesTr", "labelsTr"):
        if not (folder / part).is_dir():
            raise DataError(f"{folder / part}: no such folder")
        files, wrong = listing.list_files(folder / part)
        there[part] = {path.name.removesuffix(ending): path for path in files if is_nifti(path.name)}
        faults += wrong
    endings = {f"_{place:04}": name for place, name in enumerate(names)}
    images: dict[str, dict[str, str]] = {}
    for stem, path in there["imagesTr"].items():
        if stem[-5:] in endings:
            images.setdefault(stem[:-5], {})[endings[stem[-5:]]] = str(path)
        else:
            faults.append(f"{path}: ends with none of {', '.join(endings)}, the channels that dataset.json names")
    labels = there["labelsTr"]
    faults += [f"{folder / 'labelsTr' / (case + ending)}: is not there" for case in images if case not in labels]
    faults += [f"{path}: has no image {case}_0000{ending} in imagesTr" for case, path in labels.items() if case not in images]
    refuse(faults)
    if not images:
        raise DataError(f"{folder / 'imagesTr'}: no files CASE_0000{ending}")
    return [Scan(case, "", "", found, str(labels[case])) for case, found in images.items()]
