"""The engine openvino-int8: a run's network in 8-bit integers, calibrated on its training slices and kept in the cache.

    cache/engines/<identity>/network.xml, network.bin    the network for OpenVINO
                             cost.json                   what the engine costs and gains; see `Cost`

`<identity>` is a hash of the checkpoint, the decision, and the versions of OpenVINO and NNCF.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path

import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.files import building, checksum, digest
from attnunet.data.slices import DataError
from attnunet.evaluation.decision import read_truth
from attnunet.evaluation.scoring import Selection, select_slices
from attnunet.evaluation.slices import spread
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.formats import FORMATS
from attnunet.inference.predictor import Predictor
from attnunet.inference.quantization import quantize
from attnunet.metrics.counts import concatenate, count_masks
from attnunet.metrics.decision import Trial, try_decision
from attnunet.tracking.models import Model
from attnunet.tracking.records import Record

CALIBRATION = 64
"""The number of training slices with a lesion that calibrate a network, and the number of slices of any kind.

Lesions are on few slices. With 64 slices of any kind alone, one trained network lost 0.047 of its Dice instead of 0.002.
"""
ROUNDS = 5
"""How often the speed is measured, in turn with Keras."""


@dataclass(frozen=True)
class Cost:
    """What an engine costs and gains, on the validation patients of the run.

    Attributes:
        keras, engine: the mean volumetric Dice of Keras and of the engine, with the same decision.
        patients: the number of patients whose Dice is defined.
        speed: how many times as many slices a second as Keras the engine computes, on the machine that built it.
    """

    keras: float
    engine: float
    patients: int
    speed: float

    def __str__(self) -> str:
        return (
            f"openvino-int8: Dice {self.engine:.4f} on {self.patients} validation patients, {self.engine - self.keras:+.4f} "
            f"to Keras; {self.speed:.2f} times the speed of Keras when it was built"
        )


def use_int8(model: Model, predictor: Predictor | Ensemble, say: Callable[[str], None]) -> Predictor | Ensemble:
    """Return the same predictor, whose networks compute with the engine. Engines that are not in the cache are built.

    Args:
        model: the runs of the predictor's networks.
        predictor: the predictor.
        say: is called with a text for each network, which tells the cost of its engine.

    Raises:
        DataError: an engine has to be built, and the data of its run cannot be read.
    """
    members = []
    for record, member in zip(model.records, predictor.members, strict=True):
        folder = record.store.root / "cache" / "engines" / identify(record, member)
        if not folder.is_dir():
            say(f"run {record.id}: building the engine, a matter of minutes; it is kept in {folder}")
            build(record, member, folder)
        cost = Cost(**json.loads((folder / "cost.json").read_text()))
        say(f"run {record.id}: {cost}")
        members.append(replace(member, engine=FORMATS["openvino"].load(folder / "network.xml")))
    return replace(predictor, predictors=tuple(members)) if isinstance(predictor, Ensemble) else members[0]


def identify(record: Record, predictor: Predictor) -> str:
    """Return the name of the folder of an engine."""
    with record.file("checkpoints") as folder:
        network = checksum(folder / "best.keras")
    packages = {name: metadata.version(name) for name in ("openvino", "nncf")}
    return digest([network, predictor.facts, CALIBRATION, packages])


def build(record: Record, predictor: Predictor, folder: Path) -> None:
    """Build the engine of a run, and measure it.

    Raises:
        DataError: the data of the run cannot be read.
    """
    try:
        calibrating = select_slices(record, predictor.preparation, None, None, "train")
        measured = select_slices(record, predictor.preparation, None, None, "val")
    except DataError as error:
        raise DataError(
            f"engine=openvino-int8: is calibrated on training slices of run {record.id}, whose data cannot be read: {error}"
        ) from error
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building(folder) as temporary:
        file = temporary / "network.xml"
        quantize(predictor.network, calibration_slices(calibrating), file)
        engine = replace(predictor, engine=FORMATS["openvino"].load(file))
        before, after = (score(each, measured.prepared, measured.indices) for each in (predictor, engine))
        speed = compare_speed(predictor, engine, spread(measured, predictor.batch_size))
        cost = Cost(before.dice, after.dice, before.patients, speed)
        (temporary / "cost.json").write_text(json.dumps(asdict(cost), indent=2))


def calibration_slices(selection: Selection) -> np.ndarray:
    """Return the images of a selection that calibrate a network (n, S, S, C)."""
    lesion = tuple(index for index in selection.indices if selection.prepared.lesion_pixels[index])
    chosen = [spread(replace(selection, indices=indices), CALIBRATION) for indices in (lesion, selection.indices) if indices]
    return np.concatenate(chosen)


def score(predictor: Predictor, prepared: Prepared, indices: Sequence[int]) -> Trial:
    """Return the mean volumetric Dice of a predictor, with its decision."""
    volumes = predictor.volumes(prepared, indices)
    masks = ((volume, predictor.decision(volume.probabilities)) for volume in volumes)
    counts = concatenate(count_masks(volume.name, mask, read_truth(prepared, volume)) for volume, mask in masks)
    return try_decision(predictor.decision, counts)


def compare_speed(predictor: Predictor, engine: Predictor, images: np.ndarray) -> float:
    """Return the median ratio of the seconds for the images, of both in turn."""
    ratios = []
    for _ in range(ROUNDS):
        seconds = []
        for each in (predictor, engine):
            start = time.perf_counter()
            each.logits(images)
            seconds.append(time.perf_counter() - start)
        ratios.append(seconds[0] / seconds[1])
    return statistics.median(ratios)
