"""Training batches: which slice stands where is a function of (seed, step), how it is augmented of (seed, draw)."""

import multiprocessing
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import grain
import numpy as np
from absl import flags

from attnunet.data.cache import Prepared
from attnunet.data.samples import fault
from attnunet.data.slices import DataError
from attnunet.data.workers import end_with_parent

ENDLESS = 2**48  # steps; Keras would restart a finite data set with the same draws each epoch


@lru_cache(maxsize=8)
def permutation(seed: int, stratum: int, cycle: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, stratum, cycle]).permutation(size)


@dataclass(frozen=True)
class Draws:
    """The endless sequence of training samples: draw i is (image uint8 (S, S, C), mask uint8 (S, S, 1)).

    With a `lesion_share`, the first round(lesion_share * batch_size) samples of each batch hold a lesion and the others
    hold none; each of the two strata is gone through in a new order each time that it is used up. Without one, all
    slices are one stratum. `augment` gets a seed of its own for each draw.
    """

    prepared: Prepared
    indices: tuple[int, ...]
    batch_size: int
    seed: int
    lesion_share: float | None
    augment: Callable[[np.ndarray, np.ndarray, int], tuple[np.ndarray, np.ndarray]]

    def __post_init__(self) -> None:
        if len(self.indices) < self.batch_size:
            raise ValueError(f"batch_size={self.batch_size}: there are only {len(self.indices)} training slices")

    @property
    def steps_per_epoch(self) -> int:
        """An epoch is as many draws as there are training slices, less the last partial batch."""
        return len(self.indices) // self.batch_size

    @cached_property
    def strata(self) -> tuple[np.ndarray, np.ndarray, int]:
        """-> (first stratum, second stratum, samples of the first in a batch)."""
        indices = np.array(self.indices)
        lesion = self.prepared.lesion_pixels[indices] > 0
        if self.lesion_share is None or lesion.all() or not lesion.any():
            return indices, indices[:0], self.batch_size
        return indices[lesion], indices[~lesion], round(self.lesion_share * self.batch_size)

    def slice_at(self, draw: int) -> int:
        """The index of the slice that draw number `draw` shows."""
        first, second, share = self.strata
        step, position = divmod(draw, self.batch_size)
        if position < share:
            stratum, members, ordinal = 0, first, step * share + position
        else:
            stratum, members, ordinal = 1, second, step * (self.batch_size - share) + position - share
        cycle, place = divmod(ordinal, len(members))
        return int(members[permutation(self.seed, stratum, cycle, len(members))[place]])

    def __getitem__(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        index = self.slice_at(draw)
        image = np.array(self.prepared.images[index])
        mask = self.prepared.frame(index).show_mask(self.prepared.mask(index))
        # The 2 keeps these apart from the seeds of the permutations, which have a stratum, 0 or 1, in its place.
        seed = int(np.random.SeedSequence([self.seed, 2, draw]).generate_state(1)[0])
        image, mask = self.augment(image, mask[..., None], seed)
        if found := fault(image, mask, self.prepared.images.shape[1], self.prepared.images.shape[3]):
            raise DataError(f"augment: of slice {index}, drawn with seed {seed}, {found}")
        return image, mask


@dataclass(frozen=True)
class Steps:
    """The endless sequence of batches: that of training step t holds the draws from t * batch_size on.

    What Grain draws from. It spends 0.4 ms on each element, as much as a third of an image's augmentation.
    """

    draws: Draws

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        first = int(step) * self.draws.batch_size
        images, masks = zip(*(self.draws[first + place] for place in range(self.draws.batch_size)), strict=True)
        return np.stack(images), np.stack(masks)


def batches(draws: Draws, workers: int, start_step: int = 0) -> grain.IterDataset:
    """Endless batches (images (B, S, S, C), masks (B, S, S, 1)), uint8, from training step `start_step` on.

    The same for every number of `workers`: processes that draw ahead, or 0 for a thread of this one.
    """
    dataset = grain.MapDataset.source(Steps(draws))[start_step:]
    endless = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    if workers:
        multiprocessing.set_start_method("spawn", force=True)  # Grain's; a job of joblib has one that no worker of Grain knows
        flags.FLAGS.mark_as_parsed()  # where JAX is installed, Grain reads them, which only an absl program has parsed
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        endless = endless.mp_prefetch(options, worker_init_fn=end_with_parent)
    return endless


def iterate(dataset: grain.IterDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One pass, whose worker processes end with it."""
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()
