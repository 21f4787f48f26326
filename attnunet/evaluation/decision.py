"""The choice of a predictor's decision on validation patients."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from attnunet.data.cache import Prepared
from attnunet.inference.predictor import Predictor, Volume
from attnunet.metrics.decision import Case, Choice, decide


def choose_decision(
    predictor: Predictor,
    prepared: Prepared,
    indices: Sequence[int],
    *,
    thresholds: Sequence[float],
    smallest_lesions: Sequence[int],
    fill_holes: Sequence[bool],
) -> tuple[Predictor, Choice, list[Volume]]:
    """Choose the decision on these validation slices.

    Returns:
        The predictor with the chosen decision, what it was chosen from, and the volumes of the slices. All volumes stay in
        memory, at 4 bytes a pixel.
    """
    volumes = list(predictor.volumes(prepared, indices))
    cases = [Case(v.name, v.probabilities, read_truth(prepared, v)) for v in volumes]
    choice = decide(cases, thresholds, smallest_lesions, fill_holes)
    return replace(predictor, decision=choice.decision), choice, volumes


def read_truth(prepared: Prepared, volume: Volume) -> np.ndarray:
    """Return the reference masks of a volume, uint8 (D, h, w)."""
    return np.stack([prepared.mask(index) for index in volume.indices])
