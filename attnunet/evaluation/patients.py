"""The scores of a predictor on patients."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from attnunet.data.cache import Prepared
from attnunet.data.slices import name_volume
from attnunet.evaluation.decision import read_truth
from attnunet.inference.predictor import Volume
from attnunet.metrics import catalog
from attnunet.metrics.calibration import Calibration, calibration, near_lesions, pool
from attnunet.metrics.counts import concatenate, count
from attnunet.metrics.decision import Decision
from attnunet.metrics.masks import Masks
from attnunet.metrics.scores import mean_dice_by_threshold
from attnunet.metrics.strata import group_patients
from attnunet.metrics.summary import has_repeats, score_patient, summarize_patients, summarize_slices

Rows = list[dict[str, float | str]]


class Scored(Protocol):
    """A predictor, an ensemble, or the masks of another tool."""

    @property
    def decision(self) -> Decision: ...

    def volumes(self, prepared: Prepared, indices: Sequence[int]) -> Iterable[Volume]: ...


@dataclass(frozen=True)
class Scores:
    """The scores of a group of patients, such as the test patients.

    Attributes:
        summary: the values by name. summary.csv has all of them; MLflow has those of `catalog.LOGGED` as metrics.
        rows: the rows of patients.csv, one for each scan of a patient, in alphabetical order.
        calibration: the calibration over the pixels near lesions.
        strata: the rows of strata.csv, one for each group of patients.
    """

    summary: dict[str, float]
    rows: Rows
    calibration: Calibration
    strata: Rows

    def metrics(self, prefix: str) -> dict[str, float]:
        """Return the values that are metrics in MLflow, for example final/test/dice with the prefix final/test."""
        return {f"{prefix}/{name}": self.summary[name] for name in catalog.LOGGED if name in self.summary}

    def tables(self, part: str) -> dict[str, Rows]:
        """Return the rows of patients.csv, strata.csv and summary.csv, by the name of the file."""
        return {"patients.csv": self.rows, "strata.csv": self.strata, "summary.csv": summary_rows(part, self.summary)}

    @property
    def nothing(self) -> bool:
        """Whether no pixel of any patient is predicted as lesion."""
        return not any(row["tp"] or row["fp"] for row in self.rows)

    @property
    def repeated(self) -> bool:
        """Whether a patient has several scans."""
        return has_repeats(self.rows)


def summary_rows(part: str, summary: Mapping[str, float]) -> Rows:
    """Return the rows of summary.csv, one for each value of a summary. `Record.summary` reads them."""
    return [{"part": part, "score": name, "value": float(value)} for name, value in summary.items()]


def volume_of(row: Mapping[str, float | str]) -> str:
    """Return the name of the volume that a row scores. In a row of an earlier version, the scan is missing."""
    return name_volume(str(row["patient"]), str(row.get("scan", "")))


def score_patients(
    predictor: Scored,
    prepared: Prepared,
    indices: Sequence[int],
    part: str,
    *,
    resamples: int,
    tolerance: float,
    volumes: Iterable[Volume] | None = None,
) -> Scores:
    """Return the scores of a predictor on the given slices.

    Scans are scored one after the other, so that memory does not grow with the number of scans. The summary holds every
    metric and statistic of `attnunet.metrics.catalog`.

    Args:
        predictor: a predictor or an ensemble with its decision, or the masks of another tool.
        prepared: the data set.
        indices: the indices of the slices.
        part: the part of the split; each row contains its name.
        resamples: the number of resamples of the bootstrap over patients.
        tolerance: the tolerance of surface Dice, in mm; in pixels if the spacing is unknown.
        volumes: the predicted probabilities for these slices; None if they still have to be computed.
    """
    decision = {
        "threshold": predictor.decision.threshold,
        "smallest_lesion": predictor.decision.smallest_lesion,
        "fill_holes": int(predictor.decision.fill_holes),
    }
    rows: Rows = []
    counts, at_half, everywhere, around = [], [], [], []
    for volume in volumes if volumes is not None else predictor.volumes(prepared, indices):
        reference, prediction = read_truth(prepared, volume), predictor.decision(volume.probabilities)
        last = prepared.slices[volume.indices[-1]]
        masks = Masks(last.patient, reference, prediction, tolerance, prepared.spacing_of(volume.indices[-1]))
        scanned = {"site": last.site, "scan": last.scan, "missing": " ".join(last.missing)}
        rows.append({"part": part, **scanned, **decision, **score_patient(masks)})
        counts.append(masks.slices)
        at_half.append(count([volume.name] * len(reference), volume.probabilities, reference, [0.5]))
        everywhere.append(calibration(volume.probabilities, reference))
        region = near_lesions(reference, prediction)
        around.append(calibration(volume.probabilities[region], reference[region]))
    rows.sort(key=volume_of)
    summary = {
        **summarize_patients(rows, resamples),
        **summarize_slices(concatenate(counts)),
        **decision,
        "dice_at_0.5": float(mean_dice_by_threshold(concatenate(at_half))[0]),
        "ece": pool(around).ece,
        "ece_all_pixels": pool(everywhere).ece,
    }
    return Scores(summary, rows, pool(around), [{"part": part, **row} for row in group_patients(rows, resamples)])
