"""The prediction of many volumes: the networks get full batches, while one thread prepares and another makes masks.

Each of the three stages is a generator over the volumes, in order:

    prepare    in a thread of its own, up to AHEAD volumes before the networks need them
    segment    in the calling thread: runs the networks on batches that hold slices of several volumes
    finish     in a thread of its own, for up to AHEAD volumes: resizes probabilities to native size and makes the masks

So memory does not grow with the number of volumes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, Literal, NamedTuple, Protocol, Self, TypedDict, TypeVar, Unpack

import numpy as np

from attnunet.data.frames import Frame
from attnunet.errors import UserError
from attnunet.metrics.decision import Decision

AHEAD = 2
"""The number of volumes that wait before the networks, and the number that wait behind them."""

Scan = tuple[np.ndarray, Sequence[float] | None]
"""A volume of numbers (D, h, w, file channels), and the distances in mm between slices, rows and columns, or None."""
Item = Scan | Callable[[], Scan] | Exception
"""A scan, a function that reads one, or the error with which the reading of a scan failed."""
A = TypeVar("A")
B = TypeVar("B")
Frozen = Literal["frozen"]


class Settings(TypedDict, total=False):
    """The settings of a predictor that a user may replace. "frozen" keeps a setting, like a setting that is not given."""

    flip: bool | Frozen
    batch_size: int | Frozen
    threshold: float | Frozen
    smallest_lesion: int | Frozen
    fill_holes: bool | Frozen


class Prediction(NamedTuple):
    """The prediction for a volume (D, h, w).

    Attributes:
        probabilities: the lesion's probability, float32 (D, h, w) in [0, 1]: the mean over members, each the mean over an
            image and its mirror image if the member flips.
        mask: uint8 (D, h, w) of 0 and 1.
        uncertainty: float32 (D, h, w) in [0, 0.5]: the standard deviation (divisor n) of the n probabilities of a voxel, one
            for each member, or two if the member flips. It is 0 where n is 1. None if it was not asked for. The spread of an
            ensemble is a measure of the networks' own uncertainty (Lakshminarayanan et al. 2017, arXiv 1612.01474); the
            spread over flips is one of the image's (Wang et al. 2019, doi 10.1016/j.neucom.2019.01.103).
    """

    probabilities: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray | None = None


class Member(Protocol):
    """A network with its preparation, as `attnunet.inference.predictor.Predictor` is one."""

    @property
    def preparation(self) -> Any: ...

    @property
    def batch_size(self) -> int: ...

    def views(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the probabilities float32 (n, S, S) of images (n, S, S, C), for each view of the images."""


class Segmenter(ABC):
    """Turns volumes into masks: one network, or several whose probabilities are averaged."""

    decision: Decision

    @property
    @abstractmethod
    def members(self) -> Sequence[Member]:
        """The networks. They take volumes with the same channels."""

    @property
    def file_channels(self) -> tuple[str, ...]:
        """The channels of a volume that `predict` takes, in order."""
        return tuple(self.members[0].preparation.file_channels)

    @property
    def channels(self) -> tuple[str, ...]:
        """The channels that a network uses, in the order of `file_channels`."""
        used = {name for member in self.members for name in member.preparation.channels}
        return tuple(name for name in self.file_channels if name in used)

    @property
    def plane(self) -> str:
        """The plane of the slices."""
        return str(self.members[0].preparation.plane)

    @abstractmethod
    def taking(self, channels: Sequence[str]) -> Self:
        """Return a copy whose volumes hold these channels, in this order.

        Raises:
            ValueError: a network uses a channel that is not among them.
        """

    @abstractmethod
    def adjusted(self, **settings: Unpack[Settings]) -> Self:
        """Return a copy with other settings."""

    def predict(self, volumes: Iterable[Item], *, uncertainty: bool = False) -> Iterator[Prediction | Exception]:
        """Yield one prediction for each volume, in order. Batches are full across volumes.

        Volumes are read ahead, in a thread. A volume that cannot be read or prepared yields its error instead of a prediction
        and stops no other. A slice gets the same bits in every stream; see `Predictor.logits`.

        Args:
            volumes: scans, or functions that read them. A function is called in a thread, shortly before its scan is needed.
            uncertainty: whether predictions hold `uncertainty`.

        Raises:
            FloatingPointError: a network's logit is infinite or not a number.
            Exception: the iterable itself failed.
        """
        prepared = ahead(partial(prepare, self.members), volumes)
        return ahead(partial(finish, self.decision, uncertainty), run_networks(self.members, prepared))

    def predict_one(
        self, volume: np.ndarray, spacing: Sequence[float] | None = None, *, uncertainty: bool = False
    ) -> Prediction:
        """Return the prediction for a volume of numbers (D, h, w, file channels). A single slice is a volume with D = 1.

        Raises:
            ValueError: the volume has another shape or type, or is empty.
            DataError: the preparation does not accept the volume's values, or needs the spacing.
        """
        (found,) = self.predict([(volume, spacing)], uncertainty=uncertainty)
        if isinstance(found, Exception):
            raise found
        return found

    def probabilities_of(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        """Return the lesion's probability float32 (D, h, w) for a volume of numbers (D, h, w, file channels)."""
        return self.predict_one(volume, spacing).probabilities

    def segment(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        """Return the mask uint8 (D, h, w) of 0 and 1 for a volume of numbers (D, h, w, file channels)."""
        return self.predict_one(volume, spacing).mask


@dataclass(eq=False)
class Ready:
    """A volume that is prepared for the networks.

    Attributes:
        images: the slices uint8 or float16 (D, S, S, C), for each member. Members with the same preparation share an array.
        frames: the frame of the volume's slices, for each member.
        seen: for each slice that the networks have seen, the probabilities (S, S) by member and view.
    """

    images: list[np.ndarray]
    frames: list[Frame]
    seen: list[list[list[np.ndarray]]] = field(default_factory=list)

    @property
    def depth(self) -> int:
        return len(self.images[0])


def ahead(work: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """Yield the result of `work` for each item, in order. A thread works on up to AHEAD items before they are asked for."""
    thread = ThreadPoolExecutor(1)
    waiting: deque[Future[B]] = deque()
    try:
        for item in items:
            waiting.append(thread.submit(work, item))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        thread.shutdown(cancel_futures=True)


def prepare(members: Sequence[Member], item: Item) -> Ready | Exception:
    """Return a volume that is prepared for each member, or the error with which its reading or preparation failed."""
    try:
        if isinstance(item, Exception):
            return item
        volume, spacing = item() if callable(item) else item
        ready = {
            preparation: (preparation(volume, spacing), preparation.frame(volume.shape[1:3], spacing))
            for preparation in dict.fromkeys(member.preparation for member in members)
        }
        images, frames = zip(*(ready[member.preparation] for member in members), strict=True)
        return Ready(list(images), list(frames))
    except Exception as error:
        return error


def run_networks(members: Sequence[Member], volumes: Iterable[Ready | Exception]) -> Iterator[Ready | Exception]:
    """Yield each volume after the networks have seen all its slices, and each error, in order."""
    size = members[0].batch_size
    waiting: deque[Ready | Exception] = deque()
    slices: deque[tuple[Ready, int]] = deque()
    for volume in volumes:
        waiting.append(volume)
        if isinstance(volume, Ready):
            slices.extend((volume, place) for place in range(volume.depth))
        while len(slices) >= size:
            see(members, [slices.popleft() for _ in range(size)])
        while waiting and not (isinstance(waiting[0], Ready) and len(waiting[0].seen) < waiting[0].depth):
            yield waiting.popleft()
    if slices:
        see(members, slices)
    yield from waiting


def see(members: Sequence[Member], batch: Collection[tuple[Ready, int]]) -> None:
    """Run each network on a batch of slices, and hand the probabilities to the volumes of the slices."""
    found = []
    for number, member in enumerate(members):
        found.append(member.views(np.stack([volume.images[number][place] for volume, place in batch])))
    for place, (volume, _) in enumerate(batch):
        volume.seen.append([[view[place] for view in views] for views in found])


def finish(decision: Decision, uncertainty: bool, volume: Ready | Exception) -> Prediction | Exception:
    """Return the prediction for a volume that the networks have seen, or an error, for example if memory is too small."""
    if isinstance(volume, Exception):
        return volume
    try:
        shape = (volume.depth, *volume.frames[0].native)
        probabilities = np.empty(shape, np.float32)
        spread = np.empty(shape, np.float32) if uncertainty else None
        for place, members in enumerate(volume.seen):
            framed = list(zip(volume.frames, members, strict=True))
            probabilities[place] = mean([frame.restore(mean(views)) for frame, views in framed])
            if spread is not None:
                spread[place] = np.std([frame.restore(view) for frame, views in framed for view in views], axis=0)
        return Prediction(probabilities, decision(probabilities), spread)
    except Exception as error:
        return error


def divide(settings: Settings) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the given settings of a predictor, and those of its decision. "frozen" is not among them."""
    given = {name: value for name, value in settings.items() if value != "frozen"}
    decision = {field.name: given.pop(field.name) for field in fields(Decision) if field.name in given}
    return given, decision


def mean(maps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean of float32 arrays. They are summed in their order, so that the bits are the same wherever it is used."""
    return sum(maps[1:], maps[0]) / np.float32(len(maps))


SHARED = ("file_channels", "plane")
"""The parts of a preparation on which the members of an ensemble agree."""


def check_members(preparations: Mapping[str, Mapping[str, Any]]) -> None:
    """Check that the members of an ensemble take the same volumes.

    Args:
        preparations: the fields of `Preparation` of each member, by a name of the member.

    Raises:
        UserError: two members differ in a part that SHARED names.
    """
    (first, wanted), *others = preparations.items()
    for name, found in others:
        for key in SHARED:
            if list(found.get(key, "axial")) != list(wanted[key]):
                raise UserError(
                    f"an ensemble has members that take the same volumes: {key} is {show(wanted[key])} in {first}, "
                    f"and {show(found[key])} in {name}"
                )


def show(value: str | Sequence[str]) -> str:
    return value if isinstance(value, str) else ", ".join(value)
