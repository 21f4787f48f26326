"""The predictor: preparation, network and decision as one object, from a patient's volume to its mask."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.frames import make_frame
from attnunet.data.intensity import prepare_volume
from attnunet.metrics.decision import Decision
from attnunet.models import blocks  # noqa: F401 - Keras loads layers of ours only where they are known


@dataclass(frozen=True)
class Preparation:
    """What is done to a volume before the network sees it; see `attnunet.data.intensity.prepare_volume`."""

    image_size: int
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str
    plane: str = "axial"
    pixel_size: float | None = None

    def __call__(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        """Return uint8 (D, image_size, image_size, channels) of a volume (D, h, w, file channels) of numbers, D >= 1.

        `spacing` is the distance in mm between its slices, rows and columns, which a `pixel_size` needs.
        """
        as_needed = volume.ndim == 4 and volume.shape[-1] == len(self.file_channels) and volume.dtype.kind in "iuf"
        if not as_needed or volume.size == 0:
            raise ValueError(
                f"a volume is numbers (slices, height, width, {len(self.file_channels)}: {', '.join(self.file_channels)}), "
                f"found {volume.dtype} {volume.shape}"
            )
        wanted = [self.file_channels.index(name) for name in self.channels]
        sequences = [volume[..., channel] for channel in wanted]
        return prepare_volume(sequences, self.image_size, self.intensity, self.pixel_size, spacing)


class Volume(NamedTuple):
    """A scan's name, the indices of its slices, in their order, and the lesion's probability, float32 (D, h, w) in [0, 1]."""

    name: str
    indices: list[int]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictor:
    """A trained network with all that its predictions depend on.

    `flip`: probabilities are the mean of an image's and of its mirror image's, left to right.
    """

    network: keras.Model
    preparation: Preparation
    decision: Decision = field(default_factory=Decision)
    flip: bool = False
    batch_size: int = 32

    def logits(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, S, S, C), n <= batch_size -> float32 (n, S, S, 1).

        A smaller batch is filled up with its first image: one shape is traced once, and gives one slice the same bits
        wherever it stands.

        Raises:
            FloatingPointError: a logit is no number, or infinite.
        """
        missing = self.batch_size - len(images)
        filled = np.concatenate([images, np.repeat(images[:1], missing, axis=0)]) if missing else images
        logits = self.network.predict_on_batch(filled)[: len(images)]
        if not np.isfinite(logits).all():
            raise FloatingPointError("the network's logits are not finite: lower optimizer.learning_rate")
        return logits

    def batches(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[tuple[list[int], np.ndarray]]:
        """(indices of a batch's slices, their images (n, S, S, C)), in order."""
        for start in range(0, len(indices), self.batch_size):
            batch = list(indices[start : start + self.batch_size])
            yield batch, prepared.images[batch]

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        """uint8 (n, S, S, C), n <= batch_size -> the lesion's probability, float32 (n, S, S)."""
        probability = sigmoid(self.logits(images))
        if self.flip:
            probability = (probability + sigmoid(self.logits(images[:, :, ::-1]))[:, :, ::-1]) / 2
        return probability

    def probabilities(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The lesion's probability at native size, float32 (h, w) in [0, 1], slice by slice."""
        for batch, images in self.batches(prepared, indices):
            for index, probability in zip(batch, self.predict_batch(images), strict=True):
                yield prepared.frame(index).restore(probability)

    def volumes(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[Volume]:
        """Yield the volumes in the order of patients and scans, the slices among `indices` stacked in their order.

        Batches are full across volumes, and each slice is predicted once. Where a split gives only some of a scan's
        slices, the volume is made of those, as if they were neighbours.
        """
        ordered = sorted(indices)  # a prepared data set is in the order of patients and slices
        probabilities = self.probabilities(prepared, ordered)
        for name, group in groupby(ordered, key=lambda index: prepared.slices[index].volume):
            members = list(group)
            yield Volume(name, members, np.stack(list(islice(probabilities, len(members)))))

    def probabilities_of(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        """A patient's volume (D, h, w, file channels) of numbers -> the lesion's probability float32 (D, h, w)."""
        images = self.preparation(volume, spacing)
        starts = range(0, len(images), self.batch_size)
        small = np.concatenate([self.predict_batch(images[start : start + self.batch_size]) for start in starts])
        frame = make_frame(volume.shape[1:3], self.preparation.image_size, self.preparation.pixel_size, spacing)
        return np.stack([frame.restore(probability) for probability in small])

    def segment(self, volume: np.ndarray) -> np.ndarray:
        """A patient's volume (D, h, w, file channels) of numbers -> mask uint8 (D, h, w) of 0 and 1. A slice is D = 1."""
        return self.decision(self.probabilities_of(volume))

    @property
    def facts(self) -> str:
        """predictor.json: all but the network."""
        facts = {
            "preparation": asdict(self.preparation),
            "decision": asdict(self.decision),
            "flip": self.flip,
            "batch_size": self.batch_size,
        }
        return json.dumps(facts, indent=2)

    def save(self, folder: Path) -> None:
        """best.keras and predictor.json, as they lie among a run's checkpoints."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder / "best.keras")
        (folder / "predictor.json").write_text(self.facts)

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """From best.keras and predictor.json."""
        facts = json.loads((folder / "predictor.json").read_text())
        lists = {name: tuple(value) for name, value in facts["preparation"].items() if isinstance(value, list)}
        return cls(
            load_network(folder / "best.keras"),
            Preparation(**{**facts["preparation"], **lists}),
            Decision(**facts["decision"]),
            facts["flip"],
            facts["batch_size"],
        )


def load_network(path: Path) -> keras.Model:
    """A checkpoint's network, without optimizer and loss. Keras runs no code that a file holds."""
    return keras.models.load_model(path, compile=False, safe_mode=True)


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """float32 logits (..., 1) -> probabilities (...)."""
    return 1 / (1 + np.exp(-np.clip(logits[..., 0], -80, 80, dtype=np.float32)))
