"""Slices that have two files each: an image with all channels, and a mask."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from attnunet.data.images import read_image, read_mask
from attnunet.data.slices import DataError, Slice


@dataclass(frozen=True)
class Pictures:
    """The source of slices that have an image file and a mask file. `channels` is the number of channels of each image."""

    channels: int

    @property
    def settings(self) -> list[Any]:
        return []

    def files(self, slices: Sequence[Slice]) -> list[str]:
        return [path for item in slices for path in (item.image, item.mask)]

    def pixels(self, slices: Sequence[Slice]) -> "Stack":
        return Stack(slices, self.channels)


@dataclass(frozen=True)
class Stack:
    """The slices of a scan, which are read one by one."""

    items: Sequence[Slice]
    channels: int

    def slices(self) -> Iterator[tuple[np.ndarray, np.ndarray] | DataError]:
        for item in self.items:
            try:
                yield read_image(item.image, self.channels), read_mask(item.mask)
            except DataError as error:
                yield error

    def sequence(self, channel: int) -> np.ndarray:
        return self.images[..., channel]

    @cached_property
    def images(self) -> np.ndarray:
        """The images of all slices, uint8 (slices, h, w, channels)."""
        return np.stack([read_image(item.image, self.channels) for item in self.items])
