"""Scores of groups of patients, because a mean over all patients can hide low scores at one site or for small lesions."""

from collections.abc import Mapping, Sequence

import numpy as np

from attnunet.metrics.scores import nan_mean
from attnunet.metrics.statistics import mean_interval

Row = Mapping[str, float | str]


def group_patients(rows: Sequence[Row], resamples: int) -> list[dict[str, float | str]]:
    """Return one row for each group of patients, from the rows of patients.csv.

        by, stratum                      the grouping and the name of the group
        patients, dice_patients          the number of patients, and of patients whose Dice is defined
        voxels_low, voxels_high          the smallest and the largest of the patients' lesion volumes, in the reference
        dice, dice_ci_low, dice_ci_high  the mean volumetric Dice and its 95 % interval, from `resamples` resamples

    There are three groupings: by site, by missing sequences, and by thirds of the lesion volume. Volumes are in voxels. Means
    are over scans. A patient with several scans may belong to several groups.
    """
    volumes = np.array([float(row["tp"]) + float(row["fn"]) for row in rows])
    scores = np.array([float(row["dice"]) for row in rows])
    patients = np.array([str(row["patient"]) for row in rows])
    groupings = {
        "site": [str(row["site"]) or "unknown" for row in rows],
        "missing": [str(row["missing"]) or "none" for row in rows],
        "lesion size": volume_thirds(volumes),
    }
    return [
        {"by": by, "stratum": name, **summarize_group(volumes[of_it], scores[of_it], patients[of_it], resamples)}
        for by, names in groupings.items()
        for name in sorted(set(names))
        for of_it in [np.array(names) == name]
    ]


def summarize_group(volumes: np.ndarray, scores: np.ndarray, patients: np.ndarray, resamples: int) -> dict[str, float | str]:
    """Return the columns of a group's row, from the lesion volumes and the Dice scores of its patients."""
    defined, owners = scores[~np.isnan(scores)], patients[~np.isnan(scores)]
    low, high = mean_interval(defined, resamples, clusters=owners)
    return {
        "patients": len(np.unique(patients)),
        "dice_patients": len(np.unique(owners)),
        "voxels_low": int(volumes.min()),
        "voxels_high": int(volumes.max()),
        "dice": nan_mean(defined),
        "dice_ci_low": low,
        "dice_ci_high": high,
    }


def volume_thirds(volumes: np.ndarray) -> list[str]:
    """Return the third to which each volume belongs. Terciles of all volumes are the limits. Equal volumes share a third."""
    terciles = np.quantile(volumes, [1 / 3, 2 / 3])
    names = ("1st third", "2nd third", "3rd third")
    return [names[place] for place in np.searchsorted(terciles, volumes)]
