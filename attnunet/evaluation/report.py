"""What a finished run shows: its scores, its pictures, what it prints."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import keras
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet import figures
from attnunet.data.cache import Prepared
from attnunet.data.files import write_csv
from attnunet.data.slices import name_volume
from attnunet.inference.predictor import Predictor, Volume
from attnunet.metrics.calibration import Calibration, calibration, near_lesions, pool
from attnunet.metrics.counts import concatenate, count, count_masks
from attnunet.metrics.decision import Case, Choice, decide
from attnunet.metrics.lesions import lesion_scores
from attnunet.metrics.scores import mean_columns, mean_dice_by_threshold, patient_rows, summarize
from attnunet.metrics.strata import group_patients
from attnunet.metrics.surfaces import distances
from attnunet.models.blocks import gate_maps

Rows = list[dict[str, float | str]]


@dataclass(frozen=True)
class Scores:
    """The scores of some patients.

    summary: metric -> value, as logged below final/<part>/.
    rows: of patients.csv, a patient each, in alphabetical order; see `scored`.
    calibration: of the pixels near lesions.
    strata: of strata.csv, a group of patients each.
    """

    summary: dict[str, float]
    rows: Rows
    calibration: Calibration
    strata: Rows

    @property
    def nothing(self) -> bool:
        """Whether not a pixel was predicted as lesion."""
        return not any(row["tp"] or row["fp"] for row in self.rows)


def choose_decision(
    predictor: Predictor,
    prepared: Prepared,
    indices: Sequence[int],
    *,
    thresholds: Sequence[float],
    smallest_lesions: Sequence[int],
    fill_holes: Sequence[bool],
) -> tuple[Predictor, Choice, list[Volume]]:
    """The predictor with the decision that suits these validation slices best, how it was chosen, their volumes.

    The volumes of all patients stay in memory, 4 bytes a pixel.
    """
    volumes = list(predictor.volumes(prepared, indices))
    cases = [Case(v.name, v.probabilities, read_truth(prepared, v)) for v in volumes]
    choice = decide(cases, thresholds, smallest_lesions, fill_holes)
    return replace(predictor, decision=choice.decision), choice, volumes


def score_patients(
    predictor: Predictor,
    prepared: Prepared,
    indices: Sequence[int],
    part: str,
    *,
    resamples: int,
    tolerance: float,
    volumes: Iterable[Volume] | None = None,
) -> Scores:
    """The predictor's scores on some slices, scan by scan, so that memory does not grow with their number.

    Rows and means are over scans. Intervals are over patients: all scans of a patient are resampled together.

    The summary holds what `attnunet.metrics.scores.summary` gives, the means over patients of what `volume_scores`
    gives, the decision (threshold, smallest_lesion, fill_holes), dice_at_0.5 (of the threshold 0.5 without post-processing)
    and the expected calibration error near lesions (ece) and over all pixels (ece_all_pixels).

    Args:
        predictor: with its decision.
        prepared: the data set.
        indices: the slices.
        part: of the split, as rows name it.
        resamples: of the bootstrap over patients.
        tolerance: of surface Dice, in mm, or in pixels where the spacing is not known.
        volumes: what the predictor says of these slices, where it was asked before.
    """
    counts, at_half, everywhere, around = [], [], [], []
    scores: dict[str, dict[str, float]] = {}
    for volume in volumes if volumes is not None else predictor.volumes(prepared, indices):
        reference, prediction = read_truth(prepared, volume), predictor.decision(volume.probabilities)
        counts.append(count_masks(volume.name, prediction, reference))
        at_half.append(count([volume.name] * len(reference), volume.probabilities, reference, [0.5]))
        scores[volume.name] = score_volume(reference, prediction, tolerance, prepared.spacing_of(volume.indices[0]))
        everywhere.append(calibration(volume.probabilities, reference))
        region = near_lesions(reference, prediction)
        around.append(calibration(volume.probabilities[region], reference[region]))

    decision = {
        "threshold": predictor.decision.threshold,
        "smallest_lesion": predictor.decision.smallest_lesion,
        "fill_holes": int(predictor.decision.fill_holes),
    }
    slices = {s.volume: s for s in prepared.slices}
    rows: Rows = [
        {
            "part": part,
            "site": slices[name].site,
            "missing": " ".join(slices[name].missing),
            **decision,
            **row,
            "patient": slices[name].patient,
            "scan": slices[name].scan,
            **scores[name],
        }
        for row in patient_rows(concatenate(counts))
        for name in [str(row["patient"])]
    ]
    owners = {name: slices[name].patient for name in scores}
    values = {
        **summarize(concatenate(counts), resamples, owners),
        **mean_columns({name: np.array([row[name] for row in rows], float) for name in next(iter(scores.values()))}),
        **decision,
        "dice_at_0.5": float(mean_dice_by_threshold(concatenate(at_half))[0]),
        "ece": pool(around).ece,
        "ece_all_pixels": pool(everywhere).ece,
    }
    return Scores(values, rows, pool(around), [{"part": part, **row} for row in group_patients(rows, resamples)])


def read_truth(prepared: Prepared, volume: Volume) -> np.ndarray:
    """The reference masks of a volume, uint8 (D, h, w)."""
    return np.stack([prepared.mask(index) for index in volume.indices])


def score_volume(
    reference: np.ndarray, prediction: np.ndarray, tolerance: float, spacing: Sequence[float] | None
) -> dict[str, float]:
    """What counts of pixels do not give, of two masks (D, h, w): distances of surfaces, and lesions.

    hd95 and assd, and both with their worst-case value where they are not defined (hd95_worst, assd_worst), surface_dice (at
    `tolerance`), unmatched_slices: see `attnunet.metrics.surfaces`; lesions, lesions_found, lesions_false, lesion_recall,
    lesion_precision, lesion_f1: see `attnunet.metrics.lesions`.
    """
    surfaces = distances(reference, prediction, spacing)
    return {
        "hd95": surfaces.hd95,
        "assd": surfaces.assd,
        "hd95_worst": surfaces.or_worst(surfaces.hd95),
        "assd_worst": surfaces.or_worst(surfaces.assd),
        "surface_dice": surfaces.surface_dice(tolerance),
        "unmatched_slices": surfaces.unmatched_slices,
        **lesion_scores(reference, prediction),
    }


def draw_scores(predictor: Predictor, prepared: Prepared, indices: Sequence[int], found: Scores) -> dict[str, Figure]:
    """The figures of what was `scored` on these slices, by name; those that there is something for."""
    drawn = draw_charts(found)
    if shown := find_examples(predictor, prepared, found.rows, indices):
        drawn["predictions"] = figures.predictions(shown)
        if shown[0].gates:
            drawn["gates"] = figures.gate_maps(shown)
    return drawn


def volume_of(row: Mapping[str, float | str]) -> str:
    """Return the name of the volume that a row scores; rows of earlier versions know no scans."""
    return name_volume(str(row["patient"]), str(row.get("scan", "")))


def draw_charts(found: Scores) -> dict[str, Figure]:
    """The figures that need no slices."""
    values = found.summary
    drawn = {}
    if values["dice_patients"]:
        interval = (values["dice_ci_low"], values["dice_ci_high"])
        names, scores = zip(*((volume_of(row), float(row["dice"])) for row in found.rows), strict=True)
        label = f"Dice, {found.rows[0]['part']} patients"
        drawn["patients"] = figures.patients(names, scores, values["dice"], interval, label)
    if found.calibration.pixels.any():
        drawn["reliability"] = figures.reliability(found.calibration)
    return drawn


def find_examples(predictor: Predictor, prepared: Prepared, table: Rows, indices: Sequence[int]) -> list[figures.Example]:
    """The slice with the largest lesion of the worst, the median and the best patient in `table`, by Dice.

    Patients whose Dice is not defined do not take part; of none, nothing is shown.
    """
    ranked = sorted((r for r in table if not np.isnan(float(r["dice"]))), key=lambda r: r["dice"])
    places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1) if ranked else ())
    names = ("worst", "median", "best") if len(places) == 3 else ("worst", "best")
    maps = gate_maps(predictor.network)
    return [
        example(predictor, maps, prepared, ranked[place], name, indices) for place, name in zip(places, names, strict=False)
    ]


def example(
    predictor: Predictor,
    maps: keras.Model | None,
    prepared: Prepared,
    row: Mapping[str, float | str],
    name: str,
    indices: Sequence[int],
) -> figures.Example:
    (volume,) = predictor.volumes(prepared, [i for i in indices if prepared.slices[i].volume == volume_of(row)])
    place = int(np.argmax(prepared.lesion_pixels[volume.indices]))
    index = volume.indices[place]
    frame, image = prepared.frame(index), prepared.images[index]
    channel = prepared.channels.index("flair") if "flair" in prepared.channels else 0
    gates = maps(image[None]) if maps is not None else {}  # called, since tracing takes a second and three images little
    return figures.Example(
        f"{name}: {volume_of(row)}",
        frame.restore(np.ascontiguousarray(image[..., channel])),
        prepared.mask(index),
        predictor.decision(volume.probabilities)[place],
        {gate: frame.restore(np.asarray(weights)[0, ..., 0]) for gate, weights in gates.items()},
        f"slice {prepared.slices[index].number}, Dice of the patient {row['dice']:.3f}",
    )


SHOWN = {
    "dice": "Dice, mean over patients",
    "ci": "  95 % interval",
    "dice_median": "Dice, median",
    "dice_at_0.5": "Dice at threshold 0.5",
    "dice_pooled": "Dice, pixels pooled",
    "dice_slice_lesion": "Dice, slices with lesion",
    "dice_slice_empty_one": "Dice, slices, empty counts 1",
    "dice_all_background": "  a prediction of nothing",
    "iou": "IoU, mean over patients",
    "sensitivity": "sensitivity",
    "precision": "precision",
    "hd95": "HD95, where defined",
    "hd95_worst": "  undefined as the worst",
    "surface_dice": "surface Dice",
    "lesion_f1": "lesions, F1",
    "ece": "calibration error near lesions",
    "threshold": "threshold",
    "smallest_lesion": "smallest lesion, voxels",
    "fill_holes": "holes filled",
}


def format_cell(values: Mapping[str, float], name: str) -> str:
    """As it is shown; nothing for what folds that were joined do not have."""
    if name == "ci":
        return f"{values['dice_ci_low']:.3f} to {values['dice_ci_high']:.3f}"
    value = values.get(name, "")
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def tables(choice: Choice, scores: Mapping[str, Scores]) -> dict[str, str]:
    """The CSV artifacts by name: what was tried for the decision, a row a patient, a row a group of patients."""
    return {
        "decision.csv": write_csv(choice.rows()),
        "patients.csv": write_csv(row for found in scores.values() for row in found.rows),
        "strata.csv": write_csv(row for found in scores.values() for row in found.strata),
    }


def print_scores(console: Console, scores: Mapping[str, Scores], title: str | None = None) -> None:
    """A table of the scores, a column a part, and of the strata where there is more than one.

    Groups' names are printed as they are, not as rich's markup.
    """
    empty = [f"{part}: no lesion is predicted anywhere, a prediction of nothing" for part in scores if scores[part].nothing]
    table = Table(title=title, caption="\n".join(empty) or None)
    table.add_column("score")
    for part, found in scores.items():
        table.add_column(f"{part} ({found.summary['dice_patients']:.0f} patients)", justify="right")
    for name, label in SHOWN.items():
        if any(cells := [format_cell(found.summary, name) for found in scores.values()]):
            table.add_row(label, *cells)
    groups: dict[float | str, set[float | str]] = {}
    for found in scores.values():
        for row in found.strata:
            groups.setdefault(row["by"], set()).add(row["stratum"])
    for by, names in groups.items():
        for group in sorted(names, key=str) if len(names) > 1 else ():
            table.add_row(Text(f"Dice, {by}: {group}"), *(format_stratum(found, by, group) for found in scores.values()))
    console.print(table)


def format_stratum(found: Scores, by: float | str, name: float | str) -> str:
    """The mean Dice of a group and how many patients have one; nothing where a part has no such group."""
    rows = [row for row in found.strata if (row["by"], row["stratum"]) == (by, name)]
    return "".join(f"{row['dice']:.3f} ({row['dice_patients']})" for row in rows)
