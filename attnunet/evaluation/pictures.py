"""The figures that show a predictor's scores and examples of scored patients."""

from collections.abc import Mapping, Sequence

import keras
import numpy as np
from matplotlib.figure import Figure

from attnunet import figures
from attnunet.data.cache import Prepared
from attnunet.data.slices import shown_channel
from attnunet.evaluation.patients import Rows, Scores, volume_of
from attnunet.inference.gates import read_gates
from attnunet.inference.predictor import Predictor
from attnunet.metrics import catalog
from attnunet.models.blocks import gate_maps
from attnunet.training.fit import Fitted


def draw_scores(predictor: Predictor, prepared: Prepared, indices: Sequence[int], found: Scores) -> dict[str, Figure]:
    """Return the figures of the scores on the given slices, by name. A figure without content is left out."""
    drawn = draw_charts(found)
    if shown := find_examples(predictor, prepared, found.rows, indices):
        drawn["predictions"] = figures.predictions(shown)
        if shown[0].gates:
            drawn["gates"] = figures.gate_maps(shown)
    return drawn


def draw_charts(found: Scores) -> dict[str, Figure]:
    """Return the figures that need scores but no slices, by name. A figure without content is left out."""
    values = found.summary
    drawn = {}
    if values["dice_patients"]:
        interval = (values["dice_ci_low"], values["dice_ci_high"])
        names, scores = zip(*((volume_of(row), float(row["dice"])) for row in found.rows), strict=True)
        label = f"{catalog.metric('dice').label}, {found.rows[0]['part']} patients"
        drawn["patients"] = figures.patients(names, scores, values["dice"], interval, label)
    if found.calibration.pixels.any():
        drawn["reliability"] = figures.reliability(found.calibration)
    return drawn


def find_examples(predictor: Predictor, prepared: Prepared, table: Rows, indices: Sequence[int]) -> list[figures.Example]:
    """Return example slices of the worst, the median and the best patient in `table`, ranked by Dice.

    Each example is the patient's slice with the most lesion pixels. Patients whose Dice is undefined are left out. The list
    is empty if no patient has a defined Dice.
    """
    ranked = sorted((r for r in table if not np.isnan(float(r["dice"]))), key=lambda r: r["dice"])
    places = dict.fromkeys((0, len(ranked) // 2, len(ranked) - 1) if ranked else ())
    names = ("worst", "median", "best") if len(places) == 3 else ("worst", "best")
    maps = gate_maps(predictor.network)
    return [
        example(predictor, maps, prepared, ranked[place], name, indices) for place, name in zip(places, names, strict=False)
    ]


def draw_progress(prepared: Prepared, fitted: Fitted) -> dict[str, Figure]:
    """Return the figure of the watched slices over the epochs, by name; nothing if no slice was watched."""
    if not fitted.watched:
        return {}
    indices = list(next(iter(fitted.watched.values())))
    titles = [f"{prepared.slices[i].volume}, slice {prepared.slices[i].number}" for i in indices]
    images, truths = [show_slice(prepared, i) for i in indices], [prepared.mask(i) for i in indices]
    epochs = {epoch: [masks[i] for i in indices] for epoch, masks in fitted.watched.items()}
    return {"progress": figures.progress(titles, images, truths, epochs, fitted.epoch)}


def show_slice(prepared: Prepared, index: int) -> np.ndarray:
    """Return a slice as an image for figures, uint8 (h, w): flair if there is one, else the first channel."""
    image = prepared.inputs([index])[0]
    return prepared.frame(index).restore(np.rint(image[..., shown_channel(prepared.channels)]).astype(np.uint8))


def example(
    predictor: Predictor,
    maps: keras.Model | None,
    prepared: Prepared,
    row: Mapping[str, float | str],
    name: str,
    indices: Sequence[int],
) -> figures.Example:
    """Return an example of a patient: the slice with the most lesion pixels, with the gate weights on this slice."""
    (volume,) = predictor.volumes(prepared, [i for i in indices if prepared.slices[i].volume == volume_of(row)])
    place = int(np.argmax(prepared.lesion_pixels[volume.indices]))
    index = volume.indices[place]
    frame, image = prepared.frame(index), prepared.inputs([index])[0]
    return figures.Example(
        f"{name}: {volume_of(row)}",
        show_slice(prepared, index),
        prepared.mask(index),
        predictor.decision(volume.probabilities)[place],
        read_gates(maps, image, frame),
        f"slice {prepared.slices[index].number}, Dice of the patient {row['dice']:.3f}",
    )
