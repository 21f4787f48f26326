"""A predictor without a network, for the tests of everything around it: lesion is where one channel is bright."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np

from attnunet.data.frames import Frame, make_frame
from attnunet.inference.stream import Segmenter
from attnunet.metrics.decision import Decision
from tests.scans import SEQUENCES


@dataclass(frozen=True)
class Same:
    """A preparation that keeps the sizes of square slices, and rounds values to bytes."""

    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    plane: str

    def __call__(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        places = [self.file_channels.index(name) for name in self.channels]
        return np.clip(volume[..., places], 0, 255).astype(np.uint8)

    def frame(self, native: Sequence[int], spacing: Sequence[float] | None = None) -> Frame:
        return make_frame(native, native[0])


@dataclass(frozen=True)
class Bright(Segmenter):
    """The probability is a voxel's FLAIR, divided by 255."""

    preparation: Same = Same(SEQUENCES, SEQUENCES, "axial")
    decision: Decision = field(default_factory=Decision)
    batch_size: int = 4

    @property
    def members(self) -> tuple["Bright"]:
        return (self,)

    def taking(self, channels: Sequence[str]) -> "Bright":
        raise NotImplementedError

    def adjusted(self, **settings: Any) -> "Bright":
        raise NotImplementedError

    def views(self, images: np.ndarray) -> list[np.ndarray]:
        return [images[..., self.preparation.channels.index("flair")].astype(np.float32) / 255]


def write_model(folder: Path, channels: Sequence[str] = SEQUENCES, file_channels: Sequence[str] = SEQUENCES) -> Path:
    """A folder that can be the key `run`. Its network is never loaded."""
    folder.mkdir(parents=True, exist_ok=True)
    preparation = {"file_channels": [*file_channels], "channels": [*channels], "plane": "axial", "intensity": "zscore"}
    facts = {"preparation": preparation, "decision": {"threshold": 0.5}, "flip": False, "batch_size": 4}
    (folder / "predictor.json").write_text(json.dumps(facts))
    ZipFile(folder / "best.keras", "w").close()
    return folder
