"""What `scored` says of patients whose masks and probabilities are made up, and what is printed of it."""

import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from attnunet import report
from attnunet.data.slices import Slice
from attnunet.evaluation.decision import Case, decide
from attnunet.inference import Volume


def blobs(rng: np.random.Generator, shape: tuple[int, int, int], share: float) -> np.ndarray:
    """A smooth random field (D, h, w) that is above 0 in a share of the voxels."""
    field = ndimage.gaussian_filter(rng.standard_normal(shape, dtype=np.float32), (1, 12, 12))
    return (field - np.quantile(field, 1 - share)) / field.std()


def random_patients(patients: int, slices: int) -> tuple[Any, list[Volume]]:
    """Lesions on a third of the slices, and probabilities that know them through noise."""
    rng = np.random.default_rng(0)
    masks, volumes, items = [], [], []
    for patient in range(patients):
        depth = slices // patients + (patient < slices % patients)
        truth = blobs(rng, (depth, 256, 256), 0.02)
        truth[: depth // 3] = truth[depth - depth // 3 :] = -1
        noise = ndimage.gaussian_filter(rng.standard_normal(truth.shape, dtype=np.float32), (0, 2, 2)) * 2
        probabilities = 1 / (1 + np.exp(-3 * truth - noise))
        indices = list(range(len(items), len(items) + depth))
        volumes.append(Volume(f"p{patient:02}", indices, probabilities.astype(np.float32)))
        items += [Slice(f"p{patient:02}", number, "", "", "AB"[patient % 2]) for number in range(depth)]
        masks += [(plane > 0).astype(np.uint8) for plane in truth]
    return SimpleNamespace(slices=items, mask=lambda index: masks[index], spacing=None), volumes


@pytest.mark.slow
@pytest.mark.parametrize("spacing", [None, (3, 1, 1)], ids=["in slices", "in volumes"])
def test_all_scores_of_thirty_patients_take_less_than_a_minute(spacing: Any) -> None:
    prepared, volumes = random_patients(30, 1100)
    prepared.spacing = spacing
    started = time.perf_counter()
    cases = [Case(v.patient, v.probabilities, report.truth(prepared, v)) for v in volumes]
    choice = decide(cases, [t / 20 for t in range(1, 20)], [0, 10, 30, 100, 300], [False, True])
    print("decide", time.perf_counter() - started)
    started = time.perf_counter()
    predictor: Any = SimpleNamespace(decision=choice.decision)
    found = report.scored(predictor, prepared, [], "test", resamples=9999, tolerance=2, volumes=volumes)
    seconds = time.perf_counter() - started
    print(choice.decision, seconds, found.summary)
    assert seconds < 60
