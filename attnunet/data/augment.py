"""Augmentation of image and mask together, with albumentations (Buslaev et al. 2020, doi 10.3390/info11020125)."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import cv2
import numpy as np

from attnunet.data.samples import Augmentation, SampleError, augment_sample
from attnunet.data.slices import DataError
from attnunet.errors import first_line

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # otherwise the import asks a server for a newer version

import albumentations as A

cv2.setNumThreads(0)  # the pipeline has threads and processes of its own

SEEDS = range(8)  # before a run, each transform is checked with these seeds


class Augment:
    """A function (image, mask, seed) -> (image, mask). Its result depends on these three arguments only.

    See `samples.Augmentation` for the types of image and mask. Each element of `transforms` is a function that
    makes a transform. albumentations keeps the random state in the pipeline, so each thread builds a pipeline of its own and
    sets its seed for each sample. The pickle of an Augment holds only the functions in `transforms`.

    Raises:
        DataError: a transform does not know an argument (albumentations only warns of this); a transform does not accept an
            argument's value; a function in `transforms` makes something other than a transform.
    """

    def __init__(self, transforms: Sequence[Callable[[], A.BasicTransform]] = ()) -> None:
        self.transforms = tuple(transforms)
        self.local = threading.local()
        self.pipeline()  # a bad argument raises its error here, not in a worker

    def made(self) -> list[A.BasicTransform]:
        """Return newly made transforms."""
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="Argument")
            try:
                made = [make() for make in self.transforms]
            except (UserWarning, TypeError, ValueError) as error:
                raise DataError(f"augment.transforms: {error}") from error
        for place, transform in enumerate(made):
            if not isinstance(transform, A.BasicTransform | A.BaseCompose):
                found = type(transform).__name__
                raise DataError(f"augment.transforms.{place}: makes a {found}; allowed: a transform of albumentations")
        return made

    def pipeline(self) -> A.Compose:
        if not hasattr(self.local, "pipeline"):
            self.local.pipeline = A.Compose(self.made(), seed=0)
        return self.local.pipeline

    def parts(self) -> Iterator[tuple[str, Augmentation]]:
        """Yield the name of each transform, and an augmentation that always applies only this transform."""
        for place, transform in enumerate(self.made()):
            transform.p = 1.0
            yield f"transforms.{place} ({type(transform).__name__})", partial(draw_parameters, A.Compose([transform], seed=0))

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        return draw_parameters(self.pipeline(), image, mask, seed)

    def __reduce__(self) -> tuple:
        return Augment, (self.transforms,)


def draw_parameters(pipeline: A.Compose, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    pipeline.set_random_seed(seed)
    augmented = pipeline(image=image, mask=mask)
    return augmented["image"], augmented["mask"]


def sample(size: int, channels: int, image_type: str) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image with a bright rectangle, and the rectangle's mask."""
    image = np.random.default_rng(0).integers(0, 120, (size, size, channels), dtype=np.uint8)
    mask = np.zeros((size, size, 1), np.uint8)
    mask[size // 4 : size // 2 + 1, size // 3 : 2 * size // 3 + 1] = 1
    return (image + 120 * mask).astype(image_type), mask


def check_augmentation(augment: Augmentation, size: int, channels: int, image_type: str = "uint8") -> None:
    """Raise DataError if an augmentation fails on a sample of the run's size and type, or changes what it must not change.

    The transforms of an Augment are checked one by one, and then all together. Any other augmentation is checked as a whole.

    Raises:
        DataError: the augmentation changes the dtype or the shape, leaves values other than 0 and 1 in the mask, or raises an
            error. The message names the transform and the fault.
    """
    parts = augment.parts() if isinstance(augment, Augment) else ()
    for name, part in [*parts, ("all together", augment)]:
        for seed in SEEDS:
            image, mask = sample(size, channels, image_type)
            try:
                augment_sample(part, image, mask, seed)
            except SampleError as error:
                raise DataError(f"augment: {name}: {error}") from None
            except Exception as error:  # the transform may be code of the user, which can raise any error
                found = f"it fails on an image of shape {image.shape}: {first_line(error)}"
                raise DataError(f"augment: {name}: {found}") from None
