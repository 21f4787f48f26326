"""The table of all metrics: the formula, the names and the meaning of each.

To add a metric, add an entry to METRICS and a function that computes the score. Scoring, the printed table, comparisons,
joined folds, figures and docs/scores.md read the metrics from this table. Name the metric in LOGGED to see it in MLflow's
columns too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from attnunet.metrics.counts import Counts
from attnunet.metrics.scores import dice, iou, precision, sensitivity, specificity, volume_error

if TYPE_CHECKING:
    from attnunet.metrics.masks import Masks

LENGTH = "mm, or pixels without spacing"
DICE = "Dice 1945, doi 10.2307/1932409"
JACCARD = "Jaccard 1912, doi 10.1111/j.1469-8137.1912.tb05611.x"
TAHA = "Taha and Hanbury 2015, doi 10.1186/s12880-015-0068-x"
HUTTENLOCHER = "Huttenlocher et al. 1993, doi 10.1109/34.232073"
HEIMANN = "Heimann et al. 2009, doi 10.1109/TMI.2009.2013851"
NIKOLOV = "Nikolov et al. 2018, arXiv 1809.04430"
ISENSEE = "Isensee et al. 2020, arXiv 2011.00848"
COMMOWICK = "Commowick et al. 2018, doi 10.1038/s41598-018-31911-7"


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A score of a patient, which is a column of patients.csv.

    Attributes:
        name: the name of the column. The summary of a run has the mean over patients under the same name.
        label: the metric's name in figures.
        compute: the function that returns the score from a patient's masks. It returns NaN if the score is undefined.
        meaning: a formula with the voxel counts tp, fp, fn and tn, or a description in words.
        unit: the unit of the score; empty for a share.
        better: 1 if the largest score is best, -1 if the score nearest to 0 is best, 0 if the score does not rank runs.
        undefined: when the score is NaN; empty if it is always defined.
        source: the paper that defines the score; empty if no paper does.
        needs: the settings on which the score depends in addition to the masks.
        worst: the name of the metric that replaces this one in comparisons if a patient's score is undefined. If it is empty,
            comparisons leave the patient out.
        printed: the name of the metric's row in the printed table; empty for no row.
        averaged: whether the summary of a run has the mean over patients.
        overlap: the formula on counts, or None. If there is a formula, the summary also has the median, the interval, the
            means over slices, and the score of all pixels counted together.
    """

    name: str
    label: str
    compute: Callable[[Masks], np.ndarray | float]
    meaning: str
    unit: str
    better: int
    undefined: str
    source: str
    needs: str = ""
    worst: str = ""
    printed: str = ""
    averaged: bool = True
    overlap: Callable[[Counts], np.ndarray] | None = None

    @property
    def settings(self) -> list[str]:
        """The names of the settings in `needs`."""
        return re.findall("`(.+?)`", self.needs)

    @property
    def axis(self) -> str:
        """The label of an axis that shows the metric in a figure, with the unit."""
        return f"{self.label} ({self.unit})" if self.unit else self.label


@dataclass(frozen=True, kw_only=True)
class Statistic:
    """A value of a run's summary that is not the mean of a metric over patients.

    Attributes:
        names: the statistic's names in the summary; an interval has two.
        meaning: the value in words.
        printed: the name of the statistic's row in the printed table; empty for no row.
        metric: the name of the metric below which the statistic is printed. If it is empty, the statistic is printed at the
            end of the table.
    """

    names: tuple[str, ...]
    meaning: str
    printed: str = ""
    metric: str = ""


# fmt: off
METRICS: tuple[Metric, ...] = (
    Metric(name="dice", label="Dice", unit="", better=1, undefined="both empty", source=DICE,
           meaning="2 tp / (2 tp + fp + fn)", compute=lambda masks: dice(masks.volume), overlap=dice,
           printed="Dice, mean over patients"),
    Metric(name="iou", label="IoU", unit="", better=1, undefined="both empty", source=JACCARD,
           meaning="tp / (tp + fp + fn)", compute=lambda masks: iou(masks.volume), overlap=iou,
           printed="IoU, mean over patients"),
    Metric(name="sensitivity", label="sensitivity", unit="", better=1, undefined="empty reference", source=TAHA,
           meaning="tp / (tp + fn)", compute=lambda masks: sensitivity(masks.volume), printed="sensitivity"),
    Metric(name="specificity", label="specificity", unit="", better=1, undefined="full reference", source=TAHA,
           meaning="tn / (tn + fp)", compute=lambda masks: specificity(masks.volume)),
    Metric(name="precision", label="precision", unit="", better=1, undefined="empty prediction", source=TAHA,
           meaning="tp / (tp + fp)", compute=lambda masks: precision(masks.volume), printed="precision"),
    Metric(name="volume_error", label="volume error", unit="", better=-1, undefined="empty reference", source=TAHA,
           meaning="(fp - fn) / (tp + fn); comparisons take its size", compute=lambda masks: volume_error(masks.volume)),
    Metric(name="tp", label="true positives", unit="voxels", better=0, undefined="", source=TAHA, averaged=False,
           meaning="lesion in both masks", compute=lambda masks: masks.volume.tp),
    Metric(name="fp", label="false positives", unit="voxels", better=-1, undefined="", source=TAHA, averaged=False,
           meaning="lesion in the prediction alone", compute=lambda masks: masks.volume.fp),
    Metric(name="fn", label="false negatives", unit="voxels", better=-1, undefined="", source=TAHA, averaged=False,
           meaning="lesion in the reference alone", compute=lambda masks: masks.volume.fn),
    Metric(name="tn", label="true negatives", unit="voxels", better=0, undefined="", source=TAHA, averaged=False,
           meaning="lesion in neither mask", compute=lambda masks: masks.volume.tn),
    Metric(name="hd95", label="HD95", unit=LENGTH, better=-1, undefined="no distance", source=HUTTENLOCHER,
           meaning="the larger of the two directed 95th percentiles of surface distances", needs="`data.spacing`",
           compute=lambda masks: masks.surfaces.hd95, worst="hd95_worst", printed="HD95, where defined"),
    Metric(name="assd", label="ASSD", unit=LENGTH, better=-1, undefined="no distance", source=HEIMANN,
           meaning="the mean of both surfaces' distances", needs="`data.spacing`",
           compute=lambda masks: masks.surfaces.assd, worst="assd_worst"),
    Metric(name="hd95_worst", label="HD95 or worst case", unit=LENGTH, better=0, undefined="", source=ISENSEE,
           meaning="`hd95`; the worst case where it is undefined", needs="`data.spacing`",
           compute=lambda masks: masks.surfaces.or_worst(masks.surfaces.hd95), printed="  undefined as the worst"),
    Metric(name="assd_worst", label="ASSD or worst case", unit=LENGTH, better=0, undefined="", source=ISENSEE,
           meaning="`assd`; the worst case where it is undefined", needs="`data.spacing`",
           compute=lambda masks: masks.surfaces.or_worst(masks.surfaces.assd)),
    Metric(name="surface_dice", label="surface Dice", unit="", better=1, undefined="both empty", source=NIKOLOV,
           meaning="the share of both surfaces within the tolerance of the other", printed="surface Dice",
           needs="`data.spacing`, `evaluation.tolerance`",
           compute=lambda masks: masks.surfaces.surface_dice(masks.tolerance)),
    Metric(name="unmatched_slices", label="unmatched slices", unit="slices", better=-1, undefined="", source="",
           meaning="the slices for whose surface there is no distance", needs="`data.spacing`",
           compute=lambda masks: masks.surfaces.unmatched_slices),
    Metric(name="lesions", label="lesions", unit="lesions", better=0, undefined="", source=COMMOWICK,
           meaning="the lesions of the reference", compute=lambda masks: masks.lesions.reference),
    Metric(name="lesions_found", label="lesions found", unit="lesions", better=0, undefined="", source=COMMOWICK,
           meaning="those that the prediction finds", compute=lambda masks: masks.lesions.found),
    Metric(name="lesions_false", label="false lesions", unit="lesions", better=-1, undefined="", source=COMMOWICK,
           meaning="the predicted lesions where the reference has none", compute=lambda masks: masks.lesions.false),
    Metric(name="lesion_recall", label="lesion recall", unit="", better=1, undefined="empty reference", source=COMMOWICK,
           meaning="`lesions_found` / `lesions`", compute=lambda masks: masks.lesions.recall),
    Metric(name="lesion_precision", label="lesion precision", unit="", better=1, undefined="empty prediction",
           source=COMMOWICK, meaning="1 - `lesions_false` / predicted lesions",
           compute=lambda masks: masks.lesions.precision),
    Metric(name="lesion_f1", label="lesion F1", unit="", better=1, undefined="both empty", source=COMMOWICK,
           meaning="the harmonic mean of lesion recall and lesion precision; 0 where one of them is 0 or undefined",
           compute=lambda masks: masks.lesions.f1, printed="lesions, F1"),
)
STATISTICS: tuple[Statistic, ...] = (
    Statistic(names=("dice_ci_low", "dice_ci_high"), metric="dice", printed="  95 % interval",
              meaning="the 95 % BCa bootstrap interval of the mean over patients, at a level widened for few of them"),
    Statistic(names=("dice_median",), metric="dice", printed="Dice, median", meaning="the median over patients"),
    Statistic(names=("dice_at_0.5",), metric="dice", printed="Dice at threshold 0.5",
              meaning="the mean at the threshold 0.5 without post-processing, instead of the chosen decision"),
    Statistic(names=("dice_pooled",), metric="dice", printed="Dice, pixels pooled",
              meaning="all pixels of the split counted together"),
    Statistic(names=("dice_slice_lesion",), metric="dice", printed="Dice, slices with lesion",
              meaning="the mean over the slices with a lesion in the reference"),
    Statistic(names=("dice_slice_empty_one",), metric="dice", printed="Dice, slices, empty counts 1",
              meaning="the mean over all slices; a slice that is empty in both masks counts 1"),
    Statistic(names=("dice_all_background",), metric="dice", printed="  a prediction of nothing",
              meaning="what a prediction of nothing scores under the row above"),
    Statistic(names=("ece",), printed="calibration error near lesions", meaning="the calibration error near lesions"),
    Statistic(names=("ece_all_pixels",), meaning="the calibration error over all pixels"),
    Statistic(names=("threshold",), printed="threshold", meaning="the chosen threshold"),
    Statistic(names=("smallest_lesion",), printed="smallest lesion, voxels", meaning="the chosen smallest lesion, in voxels"),
    Statistic(names=("fill_holes",), printed="holes filled", meaning="1 if holes are filled, else 0"),
)
LOGGED = (
    "dice", "dice_ci_low", "dice_ci_high", "dice_median",
    "dice_pooled", "dice_slice_lesion", "dice_slice_empty_one", "dice_all_background",
    "iou", "sensitivity", "precision", "hd95", "hd95_worst", "surface_dice", "lesion_f1", "threshold",
)
"""The values of a summary that are metrics in MLflow too, to sort and to plot runs. The file summary.csv has all values."""
# fmt: on


def metric(name: str) -> Metric:
    """Return the metric whose name is `name`."""
    return next(entry for entry in METRICS if entry.name == name)


def rankings() -> list[str]:
    """Return the names of the metrics that can rank runs."""
    return [entry.name for entry in METRICS if entry.better]
