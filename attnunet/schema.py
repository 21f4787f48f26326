"""The keys of `conf/train.yaml` with types and ranges; groups that hold a `_target_` are checked by its signature."""

from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import BaseModel, ConfigDict

Positive = Annotated[int, Gt(0)]
Share = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, Len(1)]
Target = dict[str, Any]


class Keys(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Trainer(Keys):
    """precision: of the network's arithmetic. jit_compile: XLA. strategy: mirrored for a copy of the network on each GPU, null
    for one. threads: TensorFlow's, all cores if null. workers: processes that make batches, 0 for a thread. lesion_share: of a
    batch's slices, null for the data's own share. early_stopping: epochs without a better `monitor`, null for never. keep:
    which checkpoints go into the artifacts. figures: whether pictures do."""

    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    jit_compile: bool
    strategy: Literal["mirrored"] | None
    threads: Positive | None
    workers: Annotated[int, Ge(0)]
    lesion_share: Share | None
    early_stopping: Positive | None
    keep: Literal["all", "best", "none"]
    figures: bool


class Evaluation(Keys):
    """thresholds: one is chosen on the validation patients. resamples: of the bootstrap. batch_size: slices a prediction."""

    thresholds: Annotated[list[Annotated[float, Gt(0), Lt(1)]], Len(1)]
    resamples: Annotated[int, Ge(100)]
    batch_size: Positive


class Tracking(Keys):
    """root: folder of the store, the cache and Hydra's logs. uri: of an MLflow server, null for SQLite below root.
    patience: seconds that a run waits for a server that is away before it leaves its results on disk."""

    root: Text
    uri: Text | None
    patience: Annotated[float, Ge(0)]


class Train(Keys):
    """The configuration of one training run."""

    seed: Annotated[int, Ge(0), Lt(2**32)]
    image_size: Positive
    batch_size: Positive
    epochs: Positive | None
    budget_images: Positive | None
    monitor: Literal["val/dice", "val/iou", "val/dice_at_0.5", "val/loss"]
    study: Text
    resume: Literal["auto", "never"]
    model: Target
    loss: Target
    data: Target
    split: Target
    augment: Target
    optimizer: Target
    trainer: Trainer
    evaluation: Evaluation
    tracking: Tracking
