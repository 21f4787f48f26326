"""The ensemble: several predictors whose probabilities are averaged."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Unpack

from attnunet.data.cache import Prepared
from attnunet.inference.predictor import Predictor, Volume
from attnunet.inference.stream import Segmenter, Settings, check_members, divide, mean
from attnunet.metrics.decision import Decision


@dataclass(frozen=True)
class Ensemble(Segmenter):
    """Predictors whose probabilities are averaged at native size (Lakshminarayanan et al. 2017, arXiv 1612.01474).

    The members take the same volumes. They may differ in image size, channels, intensity and pixel size. Their own decisions
    are not used.

    Raises:
        UserError: the members take different volumes; see `check_members`.
    """

    predictors: tuple[Predictor, ...]
    decision: Decision

    def __post_init__(self) -> None:
        check_members({f"member {n}": asdict(member.preparation) for n, member in enumerate(self.predictors, 1)})

    @property
    def members(self) -> tuple[Predictor, ...]:
        return self.predictors

    def taking(self, channels: Sequence[str]) -> "Ensemble":
        return replace(self, predictors=tuple(member.taking(channels) for member in self.members))

    def adjusted(self, **settings: Unpack[Settings]) -> "Ensemble":
        own, decision = divide(settings)
        predictors = tuple(replace(member, **own) for member in self.predictors)
        return replace(self, predictors=predictors, decision=replace(self.decision, **decision))

    def volumes(self, prepared: Sequence[Prepared], indices: Sequence[int]) -> Iterator[Volume]:
        """Yield one volume for each scan with slices in `indices`, in the order of patients and scans.

        Args:
            prepared: the same data set, prepared for each member.
            indices: the indices of the slices.
        """
        streams = [member.volumes(data, indices) for member, data in zip(self.members, prepared, strict=True)]
        for same in zip(*streams, strict=True):
            yield same[0]._replace(probabilities=mean([volume.probabilities for volume in same]))
