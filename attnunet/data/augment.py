"""Augmentation with albumentations (Buslaev et al. 2020, doi 10.3390/info11020125), image and mask together."""

import os
import threading
import warnings
from collections.abc import Callable, Sequence

import cv2
import numpy as np

from attnunet.data.slices import DataError

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")  # else the import asks a server for a newer version

import albumentations as A

cv2.setNumThreads(0)  # the pipeline has threads and processes of its own


class Augment:
    """(image, mask, seed) -> (image, mask): uint8 (H, W, C) and (H, W, 1) in, the same out, a pure function of the three.

    Each of `transforms` makes one. albumentations keeps its random state in the pipeline, so each thread builds its own
    and reseeds it for each sample; pickled, an Augment is its makers.

    Raises:
        DataError: an argument that a transform does not know, which albumentations only warns of, or cannot take; a transform
            instead of its maker.
    """

    def __init__(self, transforms: Sequence[Callable[[], A.BasicTransform]] = ()) -> None:
        self.transforms = tuple(transforms)
        if made := [t for t in self.transforms if isinstance(t, A.BasicTransform)]:
            raise DataError(f"augment.transforms: {type(made[0]).__name__} needs `_partial_: true`")
        self.local = threading.local()
        self.pipeline()  # bad arguments show here, not in a worker

    def pipeline(self) -> A.Compose:
        if not hasattr(self.local, "pipeline"):
            with warnings.catch_warnings():
                warnings.filterwarnings("error", message="Argument")
                try:
                    self.local.pipeline = A.Compose([make() for make in self.transforms], seed=0)
                except (UserWarning, TypeError, ValueError) as error:
                    raise DataError(f"augment.transforms: {error}") from error
        return self.local.pipeline

    def __call__(self, image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        pipeline = self.pipeline()
        pipeline.set_random_seed(seed)
        augmented = pipeline(image=image, mask=mask)
        return augmented["image"], augmented["mask"]

    def __reduce__(self) -> tuple:
        return Augment, (self.transforms,)
