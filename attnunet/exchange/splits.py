"""A split as other tools read it: nnU-Net's splits_final.json, MONAI's datalist, and the YAML of split=manifest."""

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import yaml

from attnunet.data.slices import DataError, Slice
from attnunet.data.split import PARTS

Fold = Mapping[str, Sequence[str]]
"""The patients of each part, by part."""


def find_patients(parts: Mapping[str, Collection[tuple[str, int]]], slices: Sequence[Slice]) -> Fold:
    """Return the patients of each part, whose slices are given by patient and number.

    Raises:
        DataError: a part has some slices of a patient and lacks others, or a patient has two scans; to other tools a patient
            is one volume.
    """
    if scans := sorted({s.volume for s in slices if s.scan}):
        raise DataError(f"data: {', '.join(scans[:5])} are scans among several; allowed: one scan a patient")
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
    """Return nnU-Net's JSON: a list of folds with the cases of `train` and `val`. The test patients are in neither."""
    return json.dumps([{part: list(fold[part]) for part in ("train", "val")} for fold in folds], indent=1)


def write_manifest(fold: Fold) -> str:
    """Return YAML with the lists train, val and test; `split=manifest` reads it back."""
    return yaml.safe_dump({part: list(fold[part]) for part in PARTS}, allow_unicode=True, sort_keys=False)


def write_datalist(folds: Sequence[Fold], place: int, files: Callable[[str, int], Mapping[str, Any]]) -> str:
    """Return MONAI's datalist of one fold: the lists training, validation and test, whose entries have image and label.

    Among several folds, `fold` of an entry is the fold that tests the patient.

    Args:
        folds: all of them.
        place: of the fold.
        files: returns the image and the label of a patient in the fold.
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
