"""Slices that have two files each: an image with all channels, and a mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from attnunet.data.images import read_image, read_mask, read_stack
from attnunet.data.slices import DataError, Slice


@dataclass(frozen=True)
class Pictures:
    """The source of slices that have an image file and a mask file.

    Attributes:
        channels: the number of channels of each image.
        labels: the values of a mask that are lesion; see `labels.mark_lesion`.
        background: the values of a mask that are background.
    """

    channels: int
    labels: tuple[int, ...] | None = None
    background: tuple[int, ...] = (0,)

    @property
    def settings(self) -> list[Any]:
        # Empty for the default, so that data sets that were prepared before there were labels stay the same.
        return [self.labels, self.background] if (self.labels, self.background) != (None, (0,)) else []

    def files(self, slices: Sequence[Slice]) -> list[str]:
        return [path for item in slices for path in (item.image, item.mask)]

    def pixels(self, slices: Sequence[Slice]) -> "Stack":
        return Stack(slices, self)


@dataclass(frozen=True)
class Stack:
    """The slices of a scan, which are read one by one."""

    items: Sequence[Slice]
    source: Pictures

    def slices(self) -> Iterator[tuple[np.ndarray, np.ndarray] | DataError]:
        for item in self.items:
            try:
                mask = read_mask(item.mask, self.source.labels, self.source.background)
                yield read_image(item.image, self.source.channels), mask
            except DataError as error:
                yield error

    def sequence(self, channel: int) -> np.ndarray:
        return self.images[..., channel]

    @cached_property
    def images(self) -> np.ndarray:
        """The images of all slices, (slices, h, w, channels)."""
        return read_stack([item.image for item in self.items], self.source.channels)
