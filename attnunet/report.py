"""What a finished run shows: its scores, its pictures, what it prints."""

import csv
import io
from collections.abc import Mapping, Sequence

import keras
import numpy as np
from rich.console import Console
from rich.table import Table

from attnunet.data.prepare import Prepared, resize
from attnunet.evaluation.counts import Counts, count
from attnunet.evaluation.figures import Example
from attnunet.evaluation.scores import mean_dice_by_threshold, patient_rows, summary
from attnunet.inference import Predictor
from attnunet.models.blocks import gate_maps

Rows = list[dict[str, float | str]]


def counted(predictor: Predictor, prepared: Prepared, indices: Sequence[int], thresholds: Sequence[float]) -> Counts:
    """The counts of the predictor on some slices, at native size."""
    return count(
        [prepared.slices[index].patient for index in indices],
        predictor.probabilities(prepared, indices),
        (prepared.mask(index) for index in indices),
        thresholds,
    )


def scored(counts: Counts, threshold: float, resamples: int) -> dict[str, float]:
    """The summary at the frozen threshold, with the threshold and the Dice at 0.5 beside it."""
    (at_half,) = mean_dice_by_threshold(counts.at(0.5))
    return {**summary(counts.at(threshold), resamples), "threshold": threshold, "dice_at_0.5": float(at_half)}


def rows(counts: Counts, threshold: float, part: str, prepared: Prepared) -> Rows:
    """A row a patient: who, from where, which sequences are missing, its scores and counts."""
    slices = {s.patient: s for s in prepared.slices}
    return [
        {
            "part": part,
            "site": slices[str(row["patient"])].site,
            "missing": " ".join(slices[str(row["patient"])].missing),
            "threshold": threshold,
            **row,
        }
        for row in patient_rows(counts.at(threshold))
    ]


def examples(predictor: Predictor, prepared: Prepared, table: Rows, indices: Sequence[int]) -> list[Example]:
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
) -> Example:
    candidates = [i for i in indices if prepared.slices[i].patient == row["patient"]]
    index = max(candidates, key=lambda i: prepared.lesion_pixels[i])
    truth = prepared.mask(index)
    image = prepared.images[index]
    channel = prepared.channels.index("flair") if "flair" in prepared.channels else 0
    (probability,) = predictor.probabilities(prepared, [index])
    gates = maps.predict_on_batch(image[None]) if maps is not None else {}
    return Example(
        f"{name}: {row['patient']}\nslice {prepared.slices[index].number}, Dice of the patient {row['dice']:.3f}",
        resize(np.ascontiguousarray(image[..., channel]), truth.shape),
        truth,
        (probability >= predictor.threshold).astype(np.uint8),
        {gate: resize(weights[0, ..., 0], truth.shape) for gate, weights in gates.items()},
    )


def as_csv(table: Rows) -> str:
    """patients.csv."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(table[0]))
    writer.writeheader()
    writer.writerows(table)
    return stream.getvalue()


def show(console: Console, scores: Mapping[str, Mapping[str, float]], leaking: bool) -> None:
    """A table of the scores, a column a part."""
    table = Table(title="LEAKING split: patients on both sides, scores flatter" if leaking else None)
    table.add_column("score")
    for part, values in scores.items():
        table.add_column(f"{part} ({values['dice_patients']:.0f} patients)", justify="right")
    for name, label in (
        ("dice", "Dice, mean over patients"),
        ("ci", "  95 % interval"),
        ("dice_median", "Dice, median"),
        ("dice_at_0.5", "Dice at threshold 0.5"),
        ("dice_pooled", "Dice, pixels pooled"),
        ("dice_slice_lesion", "Dice, slices with lesion"),
        ("dice_slice_empty_one", "Dice, slices, empty counts 1"),
        ("dice_all_background", "  a prediction of nothing"),
        ("iou", "IoU, mean over patients"),
        ("sensitivity", "sensitivity"),
        ("precision", "precision"),
        ("threshold", "threshold"),
    ):
        cells = [
            f"{v['dice_ci_low']:.3f} to {v['dice_ci_high']:.3f}" if name == "ci" else f"{v[name]:.3f}" for v in scores.values()
        ]
        table.add_row(label, *cells)
    console.print(table)
