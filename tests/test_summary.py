"""The lines at the start of a run, by hand."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from attnunet.data.split import Split
from attnunet.evaluation.summary import describe_start


def prepared(lesion_pixels: list[int]) -> Any:
    return SimpleNamespace(lesion_pixels=np.array(lesion_pixels))


def test_each_part_has_its_patients_slices_and_lesions() -> None:
    owners = {0: "a", 1: "a", 2: "b", 3: "c", 4: "d", **dict.fromkeys(range(5, 1105), "e")}
    split = Split((0, 1, *range(5, 1105)), (2, 3), (4,), owners)
    shown = describe_start(prepared([9, 0, 1, 0, 7, *[3] * 50, *[0] * 1050]), split, "x86_64, an H100", "")
    assert shown.splitlines() == [
        "train   2 patients, 1,102 slices, 51 with a lesion",
        "val     2 patients,     2 slices,  1 with a lesion",
        "test    1 patients,     1 slices,  1 with a lesion",
        "device  x86_64, an H100",
    ]


def test_a_run_without_validation_has_no_line_for_it() -> None:
    split = Split((0,), (), (1,), {0: "a", 1: "b"})
    assert describe_start(prepared([1, 0]), split, "x86_64, 2 threads", "no NVIDIA GPU found").splitlines() == [
        "train   1 patients, 1 slices, 1 with a lesion",
        "test    1 patients, 1 slices, 0 with a lesion",
        "device  x86_64, 2 threads; no NVIDIA GPU found",
    ]
