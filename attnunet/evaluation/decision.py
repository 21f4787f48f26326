"""The choice of the decision of a predictor, from validation patients."""

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
    """Choose the decision of a predictor by its scores on validation slices.

    Returns:
        The predictor with the chosen decision, the choice with all trials, and the volumes of the slices with their
        probabilities. All volumes stay in memory and take 4 bytes for each pixel.
    """
    volumes = list(predictor.volumes(prepared, indices))
    cases = [Case(v.name, v.probabilities, read_truth(prepared, v)) for v in volumes]
    choice = decide(cases, thresholds, smallest_lesions, fill_holes)
    return replace(predictor, decision=choice.decision), choice, volumes


def read_truth(prepared: Prepared, volume: Volume) -> np.ndarray:
    """Return the reference masks of all slices of a volume, uint8 (D, h, w)."""
    return np.stack([prepared.mask(index) for index in volume.indices])
