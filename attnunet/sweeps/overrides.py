"""Messages about the overrides that Hydra refuses: the reason and the allowed values."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, ValueType
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from attnunet.config import list_names, without_hydra
from attnunet.errors import explain_unknown, first_line

QUOTE = """write key=value; quote a value that holds brackets, accents, blanks, '~' or '=', twice: 'data.root="/s (new)"'"""


def explain_refusals(
    loader: ConfigLoader, name: str, search: Sequence[str], overrides: Sequence[str], sweep: bool
) -> list[str]:
    """Return a line for each override that Hydra refuses: the override, the reason and the allowed values.

    Args:
        name: the name of the configuration, such as train.
        search: overrides that set the search path.
        overrides: the other overrides, as they were typed.
        sweep: whether a key may have several values.
    """
    parser = OverridesParser.create(config_loader=loader)
    parsed, wrong = [], []
    for line in overrides:
        try:
            parsed.append(override := parser.parse_override(line))
            if not override.key_or_group:
                raise ValueError(line)
        except (HydraException, ValueError):
            wrong.append(f"{'tracking.uri' if 'tracking.uri=' in line else line}: cannot be read; {QUOTE}")
    return wrong or list(find_refused(loader, name, search, parsed, sweep))


def find_refused(
    loader: ConfigLoader, name: str, search: Sequence[str], parsed: Sequence[Override], sweep: bool
) -> Iterator[str]:
    several = [override for override in parsed if override.is_sweep_override()]
    if lone := [o for o in several if not sweep or o.key_or_group.startswith("hydra")]:
        hint = (
            "allowed: one value, since a sweep cannot vary Hydra's own keys"
            if sweep
            else "allowed: one value; several need -m, a list is [A,B]"
        )
        yield from (f"{display(override)}: {hint}" for override in lone)
        return
    choices: list[str] = []
    settings: list[Override] = []
    for override in parsed:
        groups = loader.get_group_options(override.key_or_group, config_name=name, overrides=list(search))
        alone = [*search, str(override.input_line)]
        if groups and override.is_delete() and isinstance(try_compose(loader, name, alone), Exception):
            yield f"{override.input_line}: the group is needed; allowed: {', '.join(groups)}"
        elif not groups or isinstance(override.value(), dict) or override.is_delete():
            settings.append(override)
        elif any(value not in groups for value in group_choices(override)):
            wrong = next(str(value) for value in group_choices(override) if value not in groups)
            yield explain_unknown(f"{override.input_line}: no such choice", wrong, groups)
        elif override.is_force_add():
            yield f"{override.input_line}: ++ is for keys; allowed: {override.key_or_group}=..., one of {', '.join(groups)}"
        else:
            choices.append(f"{override.get_key_element()}={next(iter(group_choices(override)), None)}")
    taken = [*search, *choices]
    cfg = try_compose(loader, name, taken)
    if not isinstance(cfg, DictConfig):
        return  # the choices fail only in combination; the caller prints Hydra's own message
    for override in settings:
        if override.is_sweep_override():
            continue  # the check of each job covers it
        found = try_compose(loader, name, [*taken, str(override.input_line)])
        if isinstance(found, DictConfig):
            taken, cfg = [*taken, str(override.input_line)], found
        else:
            yield explain_value(override, cfg, found)


def try_compose(loader: ConfigLoader, name: str, overrides: list[str]) -> DictConfig | Exception:
    """Return the composed configuration; if it cannot be composed, return the error."""
    try:
        return loader.load_configuration(name, overrides, RunMode.RUN)
    except Exception as error:  # an error of Hydra or OmegaConf, or ValueError
        return error


def display(override: Override) -> str:
    """Return the text of an override for a message. Leave out the address of a server, which may hold a password."""
    return str(override.input_line) if override.key_or_group != "tracking.uri" else override.key_or_group


def group_choices(override: Override) -> list[Any]:
    """Return the choices of a group that an override selects."""
    if override.value_type == ValueType.INTERVAL_SWEEP:
        return []
    if override.is_sweep_override():
        return list(override.sweep_iterator(transformer=lambda value: value))
    value: Any = override.value()
    return value if isinstance(value, list) else [value]


def explain_value(override: Override, cfg: DictConfig, error: Exception) -> str:
    """Return the message about an override of a value that cannot be applied to a configuration."""
    key, shown = override.key_or_group, display(override)
    *parents, name = key.split(".")
    parent = OmegaConf.select(cfg, ".".join(parents), throw_on_missing=False) if parents else cfg
    if isinstance(parent, DictConfig):
        keys = [str(key) for key in parent]  # `in` overlooks mandatory keys
        if name not in keys and not override.is_add():
            return explain_key(key, sorted(key for key in keys if not key.startswith("_")), cfg)
        if name in keys and override.is_add():
            return f"{shown}: is there already; allowed: {key}=... without +"
    elif isinstance(parent, ListConfig):
        return f"{shown}: {'.'.join(parents)} is a list; allowed: {'.'.join(parents)}.N, its N from 0 to {len(parent) - 1}"
    elif parent is None:
        return explain_key(key, sorted(map(str, cfg)), cfg)
    else:
        return f"{shown}: {'.'.join(parents)} holds no keys; allowed: {'.'.join(parents)}=..."
    said = first_line(error.__cause__ or error)
    if isinstance(override.value(), dict) and isinstance(node := OmegaConf.select(cfg, key), DictConfig):
        return f"{shown}: {said}; allowed in it: {', '.join(sorted(map(str, node)))}"
    return f"{shown}: {said}; allowed: ~{key} of an existing key" if override.is_delete() else f"{shown}: {said}"


def explain_key(key: str, allowed: Sequence[str], cfg: DictConfig) -> str:
    """Return the message about a key that a configuration lacks. Hydra's own keys are offered only for a key of Hydra."""
    groups = [group for group in cfg.hydra.runtime.choices if "@" not in group]
    names = list_names(OmegaConf.to_container(cfg if key.startswith("hydra.") else without_hydra(cfg)))
    return explain_unknown(f"{key}: unknown key", key, allowed, dict.fromkeys([*names, *groups]))
