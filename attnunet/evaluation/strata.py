"""Scores of groups of patients: a mean over all can hide that one site, or small lesions, go badly."""

from collections.abc import Mapping, Sequence

import numpy as np

from attnunet.evaluation.scores import mean
from attnunet.evaluation.statistics import mean_interval

Row = Mapping[str, float | str]


def strata(rows: Sequence[Row], resamples: int) -> list[dict[str, float | str]]:
    """A row a group of patients, from their rows of patients.csv.

        by, stratum                      what groups them, and the group's name
        patients, dice_patients          how many there are, and how many of them have a Dice
        dice, dice_ci_low, dice_ci_high  their mean volumetric Dice and its 95 % bootstrap interval

    Patients are grouped by site, by the sequences that are missing, and by thirds of the lesions' volume in the reference.
    `resamples` is the number of the bootstrap's.
    """
    groupings = {
        "site": [str(row["site"]) or "unknown" for row in rows],
        "missing": [str(row["missing"]) or "none" for row in rows],
        "lesion size": thirds([float(row["tp"]) + float(row["fn"]) for row in rows]),
    }
    scores = np.array([row["dice"] for row in rows], float)
    return [
        {"by": by, "stratum": name, **of_group(scores[np.array(names) == name], resamples)}
        for by, names in groupings.items()
        for name in sorted(set(names))
    ]


def of_group(scores: np.ndarray, resamples: int) -> dict[str, float | str]:
    defined = scores[~np.isnan(scores)]
    low, high = mean_interval(defined, resamples)
    return {
        "patients": len(scores),
        "dice_patients": len(defined),
        "dice": mean(defined),
        "dice_ci_low": low,
        "dice_ci_high": high,
    }


def thirds(volumes: Sequence[float]) -> list[str]:
    """Each volume's third, by the terciles of all; equal volumes are in the same."""
    low, high = np.quantile(volumes, [1 / 3, 2 / 3])
    names = (f"1: up to {low:,.0f} voxels", f"2: up to {high:,.0f} voxels", f"3: above {high:,.0f} voxels")
    return [names[int(volume > low) + int(volume > high)] for volume in volumes]
