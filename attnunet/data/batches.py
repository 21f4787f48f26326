"""Training batches. The slices of a batch depend on (seed, step) only. The augmentation of a draw depends on (seed, draw)."""

import multiprocessing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import grain
import numpy as np
from absl import flags

from attnunet.data.cache import Prepared
from attnunet.data.frames import resize
from attnunet.data.samples import Augmentation, SampleError, augment_sample
from attnunet.data.sampling import Order, Sampler
from attnunet.data.slices import DataError
from attnunet.data.workers import start_worker

ENDLESS = 2**48  # steps; Keras would restart a finite data set with the same draws in each epoch


@dataclass(frozen=True)
class Draws:
    """The endless sequence of training samples. Draw i is (image, mask): (S, S, C) and uint8 (S, S, 1).

    The image has the type of the prepared images.

    `sampler` makes the order of the slices. `augment` gets a different seed for each draw.

    With `sizes`, the images of each epoch have another side S: epoch e, counted from 0, has sizes[e]. The images are shrunk
    after the augmentation, so that an augmentation in pixels does the same at each size.
    """

    prepared: Prepared
    indices: tuple[int, ...]
    batch_size: int
    seed: int
    sampler: Sampler
    augment: Augmentation
    sizes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if len(self.indices) < self.batch_size:
            raise ValueError(f"batch_size={self.batch_size}: there are only {len(self.indices)} training slices")

    @property
    def steps_per_epoch(self) -> int:
        """The number of full batches that the training slices make. The last partial batch is left out."""
        return len(self.indices) // self.batch_size

    @cached_property
    def order(self) -> Order:
        """The order of the slices."""
        indices, slices = np.array(self.indices), self.prepared.slices
        patients = [slices[index].patient for index in self.indices]
        return self.sampler(indices, patients, self.prepared.lesion_pixels[indices], self.batch_size, self.seed)

    def __getitem__(self, draw: int) -> tuple[np.ndarray, np.ndarray]:
        index = self.order.slice_at(draw)
        image = self.prepared.inputs([index])[0]
        mask = self.prepared.frame(index).show_mask(self.prepared.mask(index))
        # The seeds of the permutations have the stratum, 0 or 1, in place of the 2. So the two kinds of seeds differ.
        seed = int(np.random.SeedSequence([self.seed, 2, draw]).generate_state(1)[0])
        try:
            image, mask = augment_sample(self.augment, image, mask[..., None], seed)
        except SampleError as error:
            raise DataError(f"augment: of slice {index}, drawn with seed {seed}, {error}") from None
        if not self.sizes:
            return image, mask
        epoch = draw // (self.steps_per_epoch * self.batch_size)
        return shrink(image, mask, self.sizes[min(epoch, len(self.sizes) - 1)])  # batches are made ahead of the last epoch


def shrink(image: np.ndarray, mask: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (S, S, C) and its mask (S, S, 1) at a smaller size, (size, size, C) and (size, size, 1).

    A pixel of the image is the mean over its area. A pixel of the mask is lesion if at least half of its area is.
    """
    if size == len(image):
        return image, mask
    small = resize(image.astype(np.float32), (size, size))
    if image.dtype == np.uint8:
        small = np.rint(small)
    share = resize(mask.astype(np.float32), (size, size))
    return small.astype(image.dtype), (share >= 0.5).astype(np.uint8)


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
        endless = endless.mp_prefetch(options, worker_init_fn=start_worker)
    return endless


def iterate(dataset: grain.IterDataset) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield the batches of one pass. The worker processes end when the pass ends."""
    iterator = iter(dataset)
    try:
        yield from iterator
    finally:
        iterator.close()
