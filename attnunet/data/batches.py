"""Training batches. The slices of a batch depend on (seed, step) only. The augmentation of a draw depends on (seed, draw)."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache

import grain
import numpy as np
from absl import flags

from attnunet.data.cache import Prepared
from attnunet.data.samples import Augmentation, SampleError, augment_sample
from attnunet.data.slices import DataError
from attnunet.data.workers import end_with_parent

ENDLESS = 2**48  # steps; Keras would restart a finite data set with the same draws in each epoch


@lru_cache(maxsize=8)
def permutation(seed: int, stratum: int, cycle: int, size: int) -> np.ndarray:
    return np.random.default_rng([seed, stratum, cycle]).permutation(size)


@dataclass(frozen=True)
class Draws:
    """The endless sequence of training samples. Draw i is (image, mask): (S, S, C) and uint8 (S, S, 1).

    The image has the type of the prepared images.

    With a `lesion_share`, the slices with a lesion are one stratum and the slices without a lesion are another. The first
    round(lesion_share * batch_size) samples of each batch come from the stratum with lesions. The other samples come from the
    other stratum. If `lesion_share` is None, or one stratum would be empty, all slices are one stratum.

    Each time a stratum is used up, it starts again in a new order. `augment` gets a different seed for each draw.
    """

    prepared: Prepared
    indices: tuple[int, ...]
    batch_size: int
    seed: int
    lesion_share: float | None
    augment: Augmentation

    def __post_init__(self) -> None:
        if len(self.indices) < self.batch_size:
            raise ValueError(f"batch_size={self.batch_size}: there are only {len(self.indices)} training slices")

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches that the training slices make. The last partial batch is left out."""
        return len(self.indices) // self.batch_size

    @cached_property
    def strata(self) -> tuple[np.ndarray, np.ndarray, int]:
        """The indices of the first stratum, those of the second, and the number of the first's samples in a batch."""
        indices = np.array(self.indices)
        lesion = self.prepared.lesion_pixels[indices] > 0
        if self.lesion_share is None or lesion.all() or not lesion.any():
            return indices, indices[:0], self.batch_size
        return indices[lesion], indices[~lesion], round(self.lesion_share * self.batch_size)

    def slice_at(self, draw: int) -> int:
        """Return the index of the slice of a draw."""
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
        # The seeds of the permutations have the stratum, 0 or 1, in place of the 2. So the two kinds of seeds differ.
        seed = int(np.random.SeedSequence([self.seed, 2, draw]).generate_state(1)[0])
        try:
            return augment_sample(self.augment, image, mask[..., None], seed)
        except SampleError as error:
            raise DataError(f"augment: of slice {index}, drawn with seed {seed}, {error}") from None


@dataclass(frozen=True)
class Steps:
    """The endless sequence of batches. The batch of training step t has the batch_size draws from t * batch_size on.

    Grain reads batches instead of samples, because Grain spends 0.4 ms on each element. That is a third of the time of the
    augmentation of an image.
    """

    draws: Draws

    def __len__(self) -> int:
        return ENDLESS

    def __getitem__(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        first = int(step) * self.draws.batch_size
        images, masks = zip(*(self.draws[first + place] for place in range(self.draws.batch_size)), strict=True)
        return np.stack(images), np.stack(masks)


def batches(draws: Draws, workers: int, start_step: int = 0) -> grain.IterDataset:
    """Return endless batches (images, masks), (B, S, S, C) and uint8 (B, S, S, 1), from training step `start_step` on.

    `workers` is the number of processes that prepare batches in advance. With 0, a thread of this process does it. The
    batches do not depend on `workers`.
    """
    dataset = grain.MapDataset.source(Steps(draws))[start_step:]
    endless = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    if workers:
        # Grain starts its workers by "spawn". A job of joblib has another start method, which is unknown in Grain's workers.
        multiprocessing.set_start_method("spawn", force=True)
        flags.FLAGS.mark_as_parsed()  # if JAX is installed, Grain reads absl's flags, and only an absl program parses them
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=4)
        endless = endless.mp_prefetch(options, worker_init_fn=end_with_parent)
    return endless


def iterate(dataset: grain.IterDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of one pass. The worker processes end when the pass ends."""
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()
