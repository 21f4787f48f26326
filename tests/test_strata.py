"""Groups of patients and their mean Dice, worked by hand."""

import math
from typing import Any

import numpy as np

from attnunet.metrics.statistics import mean_interval
from attnunet.metrics.strata import group_patients


def row(site: str, missing: str, volume: int, dice: float) -> dict[str, Any]:
    cells = {"site": site, "missing": missing, "tp": volume // 3, "fn": volume - volume // 3, "dice": dice}
    return {"patient": str(cells), **cells}  # no two alike


ROWS = [
    row("DU", "", 600, 0.9),
    row("CS", "pre", 10, 0.1),
    row("CS", "", 300, 0.5),
    row("CS", "post pre", 0, math.nan),
    row("DU", "", 20, 0.3),
    row("", "pre", 200, 0.7),
]


def groups(by: str) -> dict[str, tuple[int, int, float]]:
    return {
        r["stratum"]: (r["patients"], r["dice_patients"], round(r["dice"], 9))  # type: ignore[misc]
        for r in group_patients(ROWS, 99)
        if r["by"] == by
    }


def test_patients_are_grouped_by_site_by_what_is_missing_and_by_size() -> None:
    assert groups("site") == {"CS": (3, 2, 0.3), "DU": (2, 2, 0.6), "unknown": (1, 1, 0.7)}
    assert groups("missing")["none"] == (3, 3, round(1.7 / 3, 9))
    assert groups("missing")["pre"] == (2, 2, 0.4)
    assert groups("missing")["post pre"][:2] == (1, 0)
    assert math.isnan(groups("missing")["post pre"][2])
    assert groups("lesion size") == {"1st third": (2, 1, 0.1), "2nd third": (2, 2, 0.5), "3rd third": (2, 2, 0.7)}


def test_the_groups_of_one_kind_hold_all_patients() -> None:
    for by in ("site", "missing", "lesion size"):
        assert sum(patients for patients, _, _ in groups(by).values()) == len(ROWS)


def test_each_group_has_its_interval_and_its_range_of_volumes() -> None:
    found = next(r for r in group_patients(ROWS, 99) if r["stratum"] == "DU")
    assert (found["dice_ci_low"], found["dice_ci_high"]) == mean_interval(np.array([0.9, 0.3]), 99)
    assert (found["voxels_low"], found["voxels_high"]) == (20, 600)
    alone = next(r for r in group_patients(ROWS, 99) if r["stratum"] == "unknown")
    assert math.isnan(float(alone["dice_ci_low"]))


def test_equal_volumes_are_of_one_third() -> None:
    found = group_patients([row("A", "", 50, dice) for dice in (0.1, 0.5, 0.6)], 99)
    assert [(r["stratum"], r["patients"]) for r in found] == [("A", 3), ("none", 3), ("1st third", 3)]
