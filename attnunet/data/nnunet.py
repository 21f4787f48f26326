"""A data set in nnU-Net's layout: DatasetNNN_Name with dataset.json, imagesTr/CASE_0000.nii.gz and labelsTr/CASE.nii.gz.

The format: nnU-Net's documentation/dataset_format.md, of version 1 and 2.
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
    """Every case of labelsTr is a patient. `labels` are the values that are lesion: all that dataset.json names if None.

    Raises:
        DataError: no dataset.json, or one that names no channels or labels; `labels` that it does not name; a case without
            label, or a label without case; see `volumes.make_dataset`.
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
    except ValueError as error:  # of the text's encoding, or of JSON
        raise DataError(f"{path}: is no JSON: {error}") from error
    if not isinstance(described, dict):
        raise DataError(f"{path}: holds no object of names and values")
    return described


def channel_names(described: dict[str, Any], path: Path) -> tuple[str, ...]:
    """Return the names of the files' endings _0000, _0001, ...: `channel_names` of version 2, `modality` of version 1."""
    found = described.get("channel_names", described.get("modality"))
    if not isinstance(found, dict) or sorted(found, key=str) != sorted(map(str, range(len(found)))) or not found:
        raise DataError(f'{path}: channel_names (or modality) is {found}; needed: names of "0", "1", ...')
    names = tuple(str(found[str(place)]) for place in range(len(found)))
    if len(set(names)) < len(names):
        raise DataError(f"{path}: channel_names (or modality) are {list(names)}; needed: names that differ")
    return names


def label_values(described: dict[str, Any], path: Path) -> set[int]:
    """Return the values above 0 of `labels`: by name in version 2, where a region is a list of them, by value in version 1."""
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
    """Return the cases of imagesTr and labelsTr, with the images that are there."""
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
