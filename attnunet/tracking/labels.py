"""The names, parameters and descriptions that MLflow's page shows for runs."""

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from omegaconf import DictConfig, OmegaConf

from attnunet.config import format_override
from attnunet.config.fingerprints import FREE
from attnunet.config.targets import is_within
from attnunet.data.files import digest
from attnunet.data.split import Split
from attnunet.tracking.redaction import redact

UNREAD = ("study", "resume", "modules", "tracking", "trainer.figures", "data.verify", "data.download")
"""The settings that change no result and that nobody looks for among the columns. config.yaml has them."""

BASE = ("model", "loss", "split", "image_size", "seed")
"""The keys whose values each name of a run holds."""
TOP = {*BASE, "batch_size", "epochs", "budget_images", "monitor"}
"""The keys without a group. The last part of another key must not be taken for one of them."""
HIDDEN = ("data", *(key for key in FREE if key != "split"))
"""The keys that do not tell a run from others. They change no result, or MLflow's column Dataset shows their values."""
LONGEST = 200
"""The most characters of a name. MLflow's database takes 250."""
NOTE = "mlflow.note.content"
"""The tag that MLflow's page shows as the description."""


def told_overrides(overrides: Sequence[str], swept: Iterable[str] | None) -> dict[str, str]:
    """Return the keys and values that tell a run from the other runs of its study.

    For a job of a sweep, these are the keys in `swept`. For any other run, `swept` is None, and these are all keys of the
    command line but those in HIDDEN.
    """
    typed = dict(override.lstrip("+").partition("=")[::2] for override in overrides)
    if swept is not None:
        return {key: typed[key] for key in swept if key in typed}
    return {key: value for key, value in typed.items() if not is_within(key, HIDDEN)}


def format_overrides(told: Mapping[str, str]) -> str:
    """Return overrides as text, such as "dice=0.5 learning_rate=0.001"; see `shorten_keys`."""
    short = shorten_keys(told)
    return " ".join(f"{short[key]}={value}" if value else key for key, value in told.items())


def shorten_keys(keys: Collection[str]) -> dict[str, str]:
    """Return a short name for each key: its last part, if no other of the keys and no key of TOP ends with it."""
    ends = Counter(key.rpartition(".")[2] for key in {*TOP, *keys})
    return {key: end if ends[end := key.rpartition(".")[2]] == 1 else key for key in keys}


def name_run(cfg: DictConfig, choices: Mapping[str, str], told: Mapping[str, str], leaking: bool) -> str:
    """Return the name of a run: what `told_overrides` tells, then the values of BASE.

    The name begins with LEAKING if the split of the run leaks.
    """
    base = "-".join([choices["model"], choices["loss"], choices["split"], str(cfg.image_size), f"seed{cfg.seed}"])
    shown = format_overrides({key: value for key, value in told.items() if key not in BASE})
    return bound_name(" ".join(filter(None, ["LEAKING" if leaking else "", shown, base])))


def name_sweep(told: Mapping[str, str]) -> str:
    """Return the name of the parent run of a sweep, from the overrides that have several values."""
    return bound_name(f"sweep {format_overrides(told)}")


def bound_name(name: str) -> str:
    """Return a name of at most LONGEST characters. In place of what is cut off, the name ends with a hash of it."""
    name = redact(name)
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 7]}~{digest(name)[:6]}"


def describe_run(cfg: DictConfig, choices: Mapping[str, str], told: Mapping[str, str], parts: Mapping[str, str]) -> str:
    """Return the first line of a run's description: its data, network and settings.

    `parts` holds a text for each part of the split, such as its number of patients.
    """
    sizes = ", ".join(f"{part} {size}" for part, size in parts.items())
    settings = f"{cfg.image_size}x{cfg.image_size} pixels, seed {cfg.seed}"
    shown = format_overrides({key: value for key, value in told.items() if key not in BASE})
    network = f"network {choices['model']}, loss {choices['loss']}, {settings}{f', {shown}' if shown else ''}"
    return f"Lesions of {choices['data']} ({sizes}; split {choices['split']}): {network}."


class Summarized(Protocol):
    """Scores with a summary, such as `attnunet.evaluation.patients.Scores`."""

    @property
    def summary(self) -> Mapping[str, float]: ...


def describe_scores(scores: Mapping[str, Summarized]) -> str:
    """Return the second line of a run's description: the mean Dice of each part with its interval."""
    summaries = {part: found.summary for part, found in scores.items()}
    return "; ".join(
        f"{part} Dice {values['dice']:.3f} (95 % interval {values['dice_ci_low']:.3f} to {values['dice_ci_high']:.3f}, "
        f"{values['dice_patients']:.0f} patients)"
        for part, values in summaries.items()
    )


def note(study: str, what: str, reached: str, run_id: str | None = None) -> dict[str, str]:
    """Return the tag with a description of three lines: what a run is, what it reached, and how to go on.

    `run_id` is the id of a run that can be scored again; None for a sweep.
    """
    told = f"`python -m attnunet.compare {format_override('study', study)}` compares all runs of the study"
    if run_id:
        told += f"; `python -m attnunet.evaluate {format_override('run', run_id[:8])}` scores this run in another way"
    return {NOTE: f"{what}\n\n{reached}\n\n{told}."}


@dataclass(frozen=True)
class Label:
    """What MLflow's page shows of a run.

    Attributes:
        name, parameters: the name and the parameters.
        told: the overrides that tell the run from others; see `told_overrides`.
        study: the name of the study.
        what: the first line of the description.
    """

    name: str
    parameters: Mapping[str, Any]
    told: Mapping[str, str]
    study: str
    what: str

    def describe(self, run_id: str, reached: str = "") -> dict[str, str]:
        """Return the tag with the description of the run. `reached` is its second line."""
        return note(self.study, self.what, reached or "It has no scores.", run_id)


def label_run(
    cfg: DictConfig, choices: Mapping[str, str], overrides: Sequence[str], swept: Sequence[str] | None, split: Split
) -> Label:
    """Return the label of a run. See `told_overrides` for `swept`."""
    told = told_overrides(overrides, swept)
    sizes = {part: f"{len(patients)} patients" for part, patients in split.patients.items()}
    what = describe_run(cfg, choices, told, sizes)
    return Label(name_run(cfg, choices, told, split.leaking), list_parameters(cfg, choices), told, cfg.study, what)


def list_parameters(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Return the choice of each group and the value of each setting, without UNREAD, under the keys of the command line."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return {name: value for name, value in {**choices, **flatten(plain)}.items() if not is_within(name, UNREAD)}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings as one flat dictionary with the keys of the command line: {"loss.weights.dice": 1.0, ...}.

    A list of `_target_`s gets a key for each item. The value of this key is the item in the form of `format_call`. Keys that
    begin with "_" are left out, because they belong to Hydra.
    """
    values: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            values |= flatten(value, f"{prefix}{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            values |= {f"{prefix}{name}.{place}": format_call(item) for place, item in enumerate(value)}
        elif not str(name).startswith("_"):
            values[f"{prefix}{name}"] = value
    return values


def format_call(node: Mapping[str, Any]) -> str:
    """Return a `_target_` and its arguments in the form of a call in code: HorizontalFlip(p=0.5)."""
    arguments = (f"{name}={value}" for name, value in node.items() if not name.startswith("_"))
    return f"{node['_target_'].rpartition('.')[2]}({', '.join(arguments)})"
