"""The keys of each command, with types and ranges. The signature of a `_target_` gives the keys of its group."""

from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from annotated_types import Ge, Gt, Le, Len, Lt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from attnunet.inference.formats import FORMATS
from attnunet.metrics import catalog

Positive = Annotated[int, Gt(0)]
Seed = Annotated[int, Ge(0), Lt(2**32)]
Resamples = Annotated[int, Ge(100), Le(1_000_000)]
Share = Annotated[float, Ge(0), Le(1)]
Text = Annotated[str, Len(1)]
Run = Annotated[
    Annotated[Text, Tag("text")] | Annotated[list[Text], Len(1), Tag("list")],
    Discriminator(lambda value: "list" if isinstance(value, list) else "text"),
]
"""One run, or the runs of an ensemble; see FORMS in attnunet/tracking/models.py."""
FROZEN = Annotated[Literal["frozen"], Tag("frozen")]
"""Stands for the setting that a run chose."""
OR_FROZEN = Discriminator(lambda value: "frozen" if value == "frozen" else "value")


Name = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
"""A name that can be part of the name of a metric or folder."""


def require_target(node: dict[str, Any]) -> dict[str, Any]:
    if "_target_" not in node:
        raise PydanticCustomError("target", "lacks `_target_`, the function or class that the group's choice names")
    return node


Target = Annotated[dict[str, Any], AfterValidator(require_target)]


def check_study(study: str) -> str:
    """Return the name of a study. Raise an error if an MLflow experiment or a folder cannot have this name."""
    if study in (".", "..") or study != study.strip() or not study.isprintable() or set(study) & set("/\\"):
        raise PydanticCustomError("study", "allowed: letters, digits, signs except / and \\, and blanks inside")
    if len(study.encode()) > 200:
        raise PydanticCustomError("study", "is too long; allowed: 200 bytes as UTF-8")
    return study


Study = Annotated[str, Len(1), AfterValidator(check_study)]


def check_score(score: str) -> str:
    """Return the name of a metric. Raise an error if the metric does not tell which run is better."""
    if score not in catalog.rankings():
        allowed = {"names": ", ".join(catalog.rankings())}
        raise PydanticCustomError("score", "does not tell which run is better; allowed: {names}", allowed)
    return score


Score = Annotated[str, AfterValidator(check_score)]


def check_format(form: str) -> str:
    """Return the name of an export format. Raise an error if there is no such format."""
    if form not in FORMATS:
        raise PydanticCustomError("format", "there is no such format; allowed: {names}", {"names": ", ".join(FORMATS)})
    return form


Format = Annotated[str, AfterValidator(check_format), WithJsonSchema({"enum": [*FORMATS]})]
Module = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)*$")]


class Keys(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Trainer(Keys):
    """The keys of `trainer`; conf/trainer/default.yaml explains them."""

    precision: Literal["float32", "mixed_float16", "mixed_bfloat16"]
    jit_compile: bool
    strategy: Literal["mirrored"] | None
    threads: Annotated[int, Gt(0), Le(1024)] | None
    workers: Annotated[int, Ge(0), Le(128)]
    lesion_share: Share | None
    early_stopping: Annotated[int, Gt(0), Le(100_000)] | None
    mean_of_last: Annotated[int, Gt(0), Le(1000)] | None
    keep: Literal["all", "best", "none"]
    figures: bool


class Evaluation(Keys):
    """The keys of `evaluation`; conf/evaluation/default.yaml explains them."""

    thresholds: Annotated[list[Annotated[float, Gt(0), Lt(1)]], Len(1)]
    smallest_lesions: Annotated[list[Annotated[int, Ge(0), Le(10**9)]], Len(1, 100)]
    fill_holes: Annotated[list[bool], Len(1, 2)]
    flip: bool
    tolerance: Annotated[float, Ge(0), Le(1000)]
    resamples: Resamples
    batch_size: Annotated[int, Gt(0), Le(4096)]


class Tracking(Keys):
    """The keys of `tracking`; the files of conf/tracking explain them."""

    root: Text
    uri: Text | None
    patience: Annotated[float, Ge(0), Le(604_800)]

    @field_validator("uri")
    @classmethod
    def address_of_a_server(cls, uri: str | None) -> str | None:
        if "@" in (uri or ""):
            raise PydanticCustomError(
                "secret", "holds credentials; give them by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
        if uri is not None and not is_web_address(uri):
            raise PydanticCustomError(
                "uri", "allowed: http://HOST:PORT or https://HOST, or null for SQLite below tracking.root"
            )
        return uri


def is_web_address(uri: str) -> bool:
    try:
        parts = urlsplit(uri)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0 and " " not in uri
    except ValueError:  # the port is not a number
        return False


class Train(Keys):
    """The keys of a training run; conf/train.yaml explains them."""

    seed: Seed
    image_size: Annotated[int, Gt(0), Le(4096)]
    first_sizes: Annotated[list[Annotated[int, Gt(0), Le(4096)]], Len(0, 10)]
    image_type: Literal["uint8", "float16"]
    neighbors: Annotated[list[Text], Len(0, 100)]
    batch_size: Annotated[int, Gt(0), Le(65_536)]
    epochs: Annotated[int, Gt(0), Le(100_000)] | None
    budget_images: Annotated[int, Gt(0), Le(10**10)] | None
    monitor: Literal["val/dice", "val/iou", "val/dice_at_0.5", "val/loss", "train/loss"]
    study: Study
    init: Text | None
    resume: Literal["auto", "never"]
    modules: list[Module]
    model: Target
    loss: Target
    data: Target
    split: Target
    augment: Target
    sampler: Target
    optimizer: Target
    trainer: Trainer
    evaluation: Evaluation
    tracking: Tracking


class Evaluate(Keys):
    """The keys of attnunet.evaluate; conf/evaluate.yaml explains them."""

    run: Run | None
    study: Study | None
    part: Literal["train", "val", "test", "all"]
    data: Target | None = None
    split: Target | None = None
    flip: bool | None
    threshold: Annotated[float, Gt(0), Lt(1)] | None
    smallest_lesion: Annotated[int, Ge(0), Le(10**9)] | None
    fill_holes: bool | None
    name: Name | None
    masks: Text | None
    allow_training_patients: bool
    modules: list[Module]
    tracking: Tracking

    @model_validator(mode="after")
    def one_of_two(self) -> Self:
        if (self.run is None) == (self.study is None):
            raise value_error(f"run={self.run}, study={self.study}: set one of the two, a run to score or a study to join")
        if self.masks is not None and (not isinstance(self.run, str) or self.name is None):
            raise value_error(f"masks={self.masks}: needs run=RUN_ID, whose patients are scored, and name=NAME of the tool")
        keys = ["data", "split", "flip", "threshold", "smallest_lesion", "fill_holes", *(["name"] if self.study else [])]
        idle = [key for key in keys if getattr(self, key) is not None]
        idle += ["part"] if self.part != "test" else []
        idle += ["allow_training_patients"] if self.allow_training_patients else []
        if self.masks is not None and idle:
            raise value_error(f"masks={self.masks}: are scored as the run was, without {', '.join(idle)}")
        if self.study is not None and idle:
            raise value_error(
                f"study={self.study}: joins stored scores, and takes no {', '.join(idle)}; allowed: these with run=RUN_ID"
            )
        return self


class Predict(Keys):
    """The keys of attnunet.predict; conf/predict.yaml explains them."""

    run: Run
    input: Text
    output: Text
    channels: Annotated[dict[str, Text], Len(1)] | None
    ignore: list[Text]
    flip: Annotated[Annotated[bool, Tag("value")] | FROZEN, OR_FROZEN]
    threshold: Annotated[Annotated[float, Gt(0), Lt(1), Tag("value")] | FROZEN, OR_FROZEN]
    smallest_lesion: Annotated[Annotated[int, Ge(0), Le(10**9), Tag("value")] | FROZEN, OR_FROZEN]
    fill_holes: Annotated[Annotated[bool, Tag("value")] | FROZEN, OR_FROZEN]
    any_plane: bool
    probabilities: bool
    uncertainty: bool
    overlays: Literal["none", "worst", "all"]
    existing: Literal["refuse", "skip", "overwrite"]
    on_error: Literal["continue", "stop"]
    dry_run: bool
    batch_size: Annotated[int, Gt(0), Le(4096)]
    engine: Literal["auto", "keras", "openvino-int8"]
    modules: list[Module]
    tracking: Tracking


class Export(Keys):
    """The keys of attnunet.export; conf/export.yaml explains them."""

    run: Text
    format: Format
    output: Text
    modules: list[Module]
    tracking: Tracking


class ExportSplit(Keys):
    """The keys of attnunet.export_split; conf/export_split.yaml explains them."""

    run: Text | None
    data: Target | None = None
    split: Target | None = None
    dataset: Annotated[str, StringConstraints(pattern=r"^Dataset\d{3}_[A-Za-z0-9_-]+$")]
    output: Text
    modules: list[Module]
    tracking: Tracking

    @model_validator(mode="after")
    def one_of_two(self) -> Self:
        given = [name for name in ("run", "data", "split") if getattr(self, name) is not None]
        if given not in (["run"], ["data", "split"]):
            found = ", ".join(given) or "nothing"
            raise value_error(f"{found} given; allowed: run=RUN_ID, or both data=NAME and split=NAME")
        return self


class Audit(Keys):
    """The keys of attnunet.audit; conf/audit.yaml explains them."""

    data: Target
    study: Study | None
    modules: list[Module]
    tracking: Tracking


def value_error(message: str) -> PydanticCustomError:
    """Return pydantic's error for a combination of keys that is not allowed."""
    return PydanticCustomError("combination", "{message}", {"message": message})


class Compare(Keys):
    """The keys of attnunet.compare; conf/compare.yaml explains them."""

    study: Study | None
    sweep: Text | None
    runs: Annotated[list[Text], Len(1)] | None
    test: bool
    top: Positive | None
    score: Score
    margin: Annotated[float, Ge(0), Le(1000)]
    alpha: Annotated[float, Gt(0), Lt(0.5)]
    resamples: Resamples
    seed: Seed
    output: Text | None
    register_: Literal["best"] | None = Field(alias="register")  # pydantic's models have a method `register`
    modules: list[Module]
    tracking: Tracking

    @model_validator(mode="after")
    def one_of_three(self) -> Self:
        given = {"study": self.study, "sweep": self.sweep, "runs": self.runs}
        if sum(value is not None for value in given.values()) != 1:
            text = ", ".join(f"{key}={value}" for key, value in given.items())
            raise value_error(f"{text}: set one of the three, a study, a sweep's parent run or a list of runs")
        return self
