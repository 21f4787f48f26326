"""The name and the parameters of a run on MLflow's page."""

from collections.abc import Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf


def name_run(cfg: DictConfig, choices: Mapping[str, str], leaking: bool) -> str:
    """Return the name of a run, which says when its split leaks."""
    name = "-".join([choices["model"], choices["loss"], choices["split"], str(cfg.image_size), f"seed{cfg.seed}"])
    return f"LEAKING {name}" if leaking else name


def list_parameters(cfg: DictConfig, choices: Mapping[str, str]) -> dict[str, Any]:
    """Return the choices of the groups and all values, by their keys on the command line."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    return {**choices, **flatten(plain)}


def flatten(config: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested settings by their keys on the command line, {"loss.weights.dice": 1.0, ...}, without Hydra's keys."""
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
    """Return a `_target_` with its arguments as it reads in code: HorizontalFlip(p=0.5)."""
    arguments = (f"{name}={value}" for name, value in node.items() if not name.startswith("_"))
    return f"{node['_target_'].rpartition('.')[2]}({', '.join(arguments)})"
