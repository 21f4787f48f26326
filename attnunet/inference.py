"""The predictor: preparation, network and threshold as one object, from a patient's volume to its mask."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import keras
import numpy as np

from attnunet.data.prepare import Prepared, prepare_volume, resize


@dataclass(frozen=True)
class Preparation:
    """What is done to a volume before the network sees it; see `attnunet.data.prepare.prepare_volume`."""

    image_size: int
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str

    def __call__(self, volume: np.ndarray) -> np.ndarray:
        """uint8 (D, h, w, file channels) -> uint8 (D, image_size, image_size, channels), D >= 1."""
        as_needed = volume.ndim == 4 and volume.shape[-1] == len(self.file_channels) and volume.dtype == np.uint8
        if not as_needed or volume.size == 0:
            raise ValueError(
                f"a volume is uint8 (slices, height, width, {len(self.file_channels)}: {', '.join(self.file_channels)}), "
                f"found {volume.dtype} {volume.shape}"
            )
        wanted = [self.file_channels.index(name) for name in self.channels]
        return prepare_volume(volume[..., wanted], self.image_size, self.intensity)


@dataclass(frozen=True)
class Predictor:
    """A trained network with all that its predictions depend on."""

    network: keras.Model
    preparation: Preparation
    threshold: float = 0.5
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
        """(indices of a batch's slices, their logits (n, S, S, 1)), in order."""
        for start in range(0, len(indices), self.batch_size):
            batch = list(indices[start : start + self.batch_size])
            yield batch, self.logits(prepared.images[batch])

    def probabilities(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """The lesion's probability at native size, float32 (h, w) in [0, 1], slice by slice."""
        for batch, logits in self.batches(prepared, indices):
            for index, values in zip(batch, logits, strict=True):
                yield to_native(values, prepared.mask(index).shape)

    def segment(self, volume: np.ndarray) -> np.ndarray:
        """A patient's volume uint8 (D, h, w, file channels) -> mask uint8 (D, h, w) of 0 and 1. A slice is D = 1."""
        images = self.preparation(volume)
        starts = range(0, len(images), self.batch_size)
        logits = np.concatenate([self.logits(images[start : start + self.batch_size]) for start in starts])
        native = np.stack([to_native(values, volume.shape[1:3]) for values in logits])
        return (native >= self.threshold).astype(np.uint8)

    def save(self, folder: Path) -> None:
        """network.keras and predictor.json."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder / "network.keras")
        facts = {"preparation": asdict(self.preparation), "threshold": self.threshold, "batch_size": self.batch_size}
        (folder / "predictor.json").write_text(json.dumps(facts, indent=2))

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        facts = json.loads((folder / "predictor.json").read_text())
        lists = {name: tuple(value) for name, value in facts["preparation"].items() if isinstance(value, list)}
        network = load_network(folder / "network.keras")
        return cls(network, Preparation(**{**facts["preparation"], **lists}), facts["threshold"], facts["batch_size"])


def load_network(path: Path) -> keras.Model:
    """A checkpoint's network, without optimizer and loss."""
    return keras.models.load_model(path, compile=False)


def to_native(logits: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """float32 logits (S, S, 1) -> probabilities (*shape): the sigmoid, then resized."""
    probability = 1 / (1 + np.exp(-np.clip(logits[..., 0], -80, 80, dtype=np.float32)))
    return resize(probability, shape)
