"""Samplers: the order in which a training draws its slices. Each order is a function of the seed and the draw alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Protocol

import numpy as np
from annotated_types import Ge, Le


class Order(Protocol):
    """An endless order of slices."""

    def slice_at(self, draw: int) -> int:
        """Return the index of the slice of a draw. Draws count from 0."""


class Sampler(Protocol):
    """Makes an order of the training slices.

    Args:
        indices: the indices of the training slices.
        patients: the patient of each of these slices.
        lesion_pixels: the number of lesion pixels in each of these slices.
        batch_size: the number of slices in a batch. Draw i is in batch i // batch_size.
        seed: the seed of the order.
    """

    def __call__(
        self, indices: np.ndarray, patients: Sequence[str], lesion_pixels: np.ndarray, batch_size: int, seed: int
    ) -> Order: ...


@lru_cache(maxsize=8)
def permutation(seed: int, stratum: int, cycle: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, stratum, cycle]).permutation(size)


def at(seed: int, stratum: int, ordinal: int, size: int) -> int:
    """Return a number below `size`. Each `size` successive ordinals give each number once, in an order of their own."""
    cycle, place = divmod(ordinal, size)
    return int(permutation(seed, stratum, cycle, size)[place])


@dataclass(frozen=True)
class TwoStrata:
    """The order of `strata`. The first `share` slices of a batch come from `first`, the others from `second`."""

    first: np.ndarray
    second: np.ndarray
    share: int
    batch_size: int
    seed: int

    def slice_at(self, draw: int) -> int:
        step, position = divmod(draw, self.batch_size)
        if position < self.share:
            return int(self.first[at(self.seed, 0, step * self.share + position, len(self.first))])
        ordinal = step * (self.batch_size - self.share) + position - self.share
        return int(self.second[at(self.seed, 1, ordinal, len(self.second))])


def strata(
    indices: np.ndarray,
    patients: Sequence[str],
    lesion_pixels: np.ndarray,
    batch_size: int,
    seed: int,
    lesion_share: Annotated[float, Ge(0), Le(1)] | None = 0.5,
) -> TwoStrata:
    """Return an order with the same share of lesions in each batch.

    The slices with a lesion are one stratum and the slices without a lesion are another. The first
    round(lesion_share * batch_size) slices of each batch come from the stratum with lesions. The other slices come from the
    other stratum. If `lesion_share` is None, or one stratum would be empty, all slices are one stratum.

    Each time a stratum is used up, it starts again in a new order.
    """
    lesion = lesion_pixels > 0
    if lesion_share is None or lesion.all() or not lesion.any():
        return TwoStrata(indices, indices[:0], batch_size, batch_size, seed)
    return TwoStrata(indices[lesion], indices[~lesion], round(lesion_share * batch_size), batch_size, seed)


@dataclass(frozen=True)
class PatientFirst:
    """The order of `patient_first`.

    Attributes:
        slices: the indices of each patient's slices.
        cumulated: for each of these slices, the chance that a draw of the patient takes the slice or one before it.
        seed: the seed of the order.
    """

    slices: tuple[np.ndarray, ...]
    cumulated: tuple[np.ndarray, ...]
    seed: int

    def slice_at(self, draw: int) -> int:
        patient = at(self.seed, 0, draw, len(self.slices))
        # The seeds of the permutations have a stratum, 0 or 1, in this place, and those of the augmentation have a 2.
        chance = np.random.default_rng([self.seed, 3, draw]).random()
        return int(self.slices[patient][np.searchsorted(self.cumulated[patient], chance, side="right")])


def patient_first(
    indices: np.ndarray,
    patients: Sequence[str],
    lesion_pixels: np.ndarray,
    batch_size: int,
    seed: int,
    power: Annotated[float, Ge(0), Le(10)] = 0.5,
    floor: Annotated[float, Ge(0.001), Le(1000)] = 0.15,
) -> PatientFirst:
    """Return an order that draws a patient first, and then one of the patient's slices.

    All patients are drawn once before any of them is drawn again. So a patient with many slices counts no more than a patient
    with few slices. The chance of a slice with A lesion pixels is proportional to

        floor + (A / A_max) ^ power

    A_max is the largest A of the patient. `floor` is the weight of a slice without a lesion.
    """
    names = np.array(patients)
    groups = [np.flatnonzero(names == name) for name in dict.fromkeys(patients)]

    def cumulate(pixels: np.ndarray) -> np.ndarray:
        weights = floor + np.where(pixels > 0, (pixels / max(pixels.max(), 1)) ** power, 0)
        total = np.cumsum(weights / weights.sum())
        total[-1] = 1  # rounding may leave it below the largest chance that can be drawn
        return total

    return PatientFirst(
        tuple(indices[group] for group in groups), tuple(cumulate(lesion_pixels[group]) for group in groups), seed
    )
