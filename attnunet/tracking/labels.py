"""The name and the parameters that MLflow's page shows for a run."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from attnunet.config.targets import is_within

UNREAD = ("study", "resume", "modules", "tracking", "trainer.figures", "data.verify", "data.download")
"""The settings that change no result and that nobody looks for among the columns. config.yaml has them."""


def name_run(cfg: DictConfig, choices: Mapping[str, str], leaking: bool) -> str:
    """Return the name of a run. The name begins with LEAKING if the split of the run leaks."""
    name = "-".join([choices["model"], choices["loss"], choices["split"], str(cfg.image_size), f"seed{cfg.seed}"])
    return f"LEAKING {name}" if leaking else name


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
