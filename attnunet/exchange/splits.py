"""Writes a split for other tools: nnU-Net's splits_final.json, MONAI's datalist, and the YAML file of split=manifest."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from attnunet.data.slices import DataError, Slice
from attnunet.data.split import PARTS

Fold = Mapping[str, Sequence[str]]
"""Maps the name of each part to the patients of that part."""


def find_patients(parts: Mapping[str, Collection[tuple[str, int]]], slices: Sequence[Slice]) -> Fold:
    """Return the patients of each part. `parts` holds a part's slices as pairs of the patient and the slice's number.

    Raises:
        DataError: a part has only some slices of a patient, or a scan has a name. Other tools expect that a
            patient is one volume and lies in one part.
    """
    if scans := sorted({s.volume for s in slices if s.scan}):
        told = f"data: {', '.join(scans[:5])} are scans with a name, but other tools know patients only"
        raise DataError(f"{told}; allowed: one scan of each patient, without a name")
    fold: dict[str, list[str]] = {}
    for part in PARTS:
        held = set(parts[part])
        fold[part] = sorted({patient for patient, _ in held})
        if cut := sorted({s.patient for s in slices if s.patient in fold[part] and (s.patient, s.number) not in held}):
            raise DataError(
                f"split: {part} has some slices of {', '.join(cut[:5])}, and lacks others; other tools divide whole patients: "
                "allowed is a split by patient, with split.train_slices=null"
            )
    return fold


def write_splits_final(folds: Sequence[Fold]) -> str:
    """Return nnU-Net's JSON: for each fold, the patients of `train` and of `val`. It does not list the test patients."""
    return json.dumps([{part: list(fold[part]) for part in ("train", "val")} for fold in folds], indent=1)


def write_manifest(fold: Fold) -> str:
    """Return YAML text with the lists train, val and test. `split=manifest` reads such a file."""
    return yaml.safe_dump({part: list(fold[part]) for part in PARTS}, allow_unicode=True, sort_keys=False)


def write_datalist(folds: Sequence[Fold], place: int, files: Callable[[str, int], Mapping[str, Any]]) -> str:
    """Return MONAI's datalist of one fold: JSON with the lists training, validation and test.

    Each entry of a list names the image and the label of a patient. If there are several folds, the entry's `fold` is the
    number of the fold that tests the patient.

    Args:
        folds: all folds.
        place: the index in `folds` of the fold to write.
        files: a function that takes a patient and the fold's index, and returns the patient's image and label.
    """
    tested = {patient: number for number, fold in enumerate(folds) for patient in fold["test"]} if len(folds) > 1 else {}
    lists = {
        name: [
            {**files(patient, place), **({"fold": tested[patient]} if patient in tested else {})}
            for patient in folds[place][part]
        ]
        for name, part in zip(("training", "validation", "test"), PARTS, strict=True)
    }
    return json.dumps(lists, indent=1)
