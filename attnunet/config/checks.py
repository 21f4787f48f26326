"""Check the keys, types, ranges and combinations of a configuration. Its `_target_`s are not imported."""

import itertools
import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from attnunet.config import targets
from attnunet.config.entry import ConfigError, list_names
from attnunet.config.schema import Train
from attnunet.config.signatures import replace_targets, signature
from attnunet.config.targets import CONF
from attnunet.errors import explain_unknown, first_line

GROUPS = ("model", "loss", "data", "split", "augment", "sampler", "optimizer")
"""The groups that hold a `_target_`."""
SUPPLIED = {
    "model": ("image_size", "channels"),
    "optimizer": ("steps",),
    "split": ("subjects",),
    "sampler": ("indices", "patients", "lesion_pixels", "batch_size", "seed"),
}
"""The arguments that the code passes to the `_target_` of a group; a configuration cannot set them."""


def check(cfg: DictConfig) -> None:
    """Check every key, type, range and combination of a run, without importing its `_target_`s.

    Raises:
        ConfigError: the message has a line for each mistake.
    """
    plain = check_keys(cfg, Train)
    if wrong := list(check_combinations(plain)):
        raise ConfigError("\n".join(wrong))


def check_keys(cfg: DictConfig, schema: type[BaseModel]) -> dict[str, Any]:
    """Check every key, type and range of a command, and the arguments of its `_target_`s; return the plain configuration.

    Raises:
        ConfigError: the message has a line for each mistake.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(
            f"{error.full_key}: {first_line(error)}; allowed: a value, or ${{KEY}} of an existing key"
        ) from error
    if wrong := list(check_numbers(plain, "")) or list(find_errors(schema, plain, "")):
        raise ConfigError("\n".join(wrong))
    targets.allow(plain.get("modules", ()))
    if wrong := [line for group in GROUPS if plain.get(group) for line in check_targets(plain[group], group, group)]:
        raise ConfigError("\n".join(wrong))
    return plain


def check_numbers(node: Any, key: str) -> Iterator[str]:
    """Yield a line for each number below `node` that is infinite or not a number."""
    if isinstance(node, float) and not math.isfinite(node):
        yield f"{key}={node}: must be a finite number"
    for name, value in items_of(node):
        yield from check_numbers(value, f"{key}.{name}" if key else str(name))


def items_of(node: Any) -> Iterable[tuple[Any, Any]]:
    """Return the pairs of key and value in a dictionary, or of index and value in a list; no pair for any other value."""
    return node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()


REPHRASED = {
    "missing": "is missing",
    "callable_type": "must be a `_target_` with `_partial_: true`",
    "is_instance_of": "must be a `_target_`, without `_partial_: true`",
}
"""Messages in terms of the configuration, by pydantic's type of error. They replace messages in terms of Python's types."""


def find_errors(schema: Any, values: dict, prefix: str) -> Iterator[str]:
    """Yield one line for each error that a pydantic model finds in `values`."""
    try:
        schema.model_validate(values, strict=True)
    except ValidationError as invalid:
        for error in invalid.errors():
            key = prefix + ".".join(locate_keys(error["loc"], values))
            message = REPHRASED.get(error["type"], error["msg"])
            if error["type"] == "extra_forbidden":
                names = keys_at(schema, error["loc"][:-1])
                known = [*list_names(values, prefix), *(f"{key.rpartition('.')[0]}.{name}".lstrip(".") for name in names)]
                yield explain_unknown(f"{key}: unknown key", key, names, dict.fromkeys(known))
            elif error["type"] == "missing":
                lacking = str(error["loc"][-1])
                choices = ", ".join(sorted(file.stem for file in Path(CONF, lacking).glob("*.yaml")))
                key = lacking if not key else f"{key.rstrip('.')}.{lacking}"
                yield f"{key}: {message}; allowed: {choices}" if choices else f"{key}: {message}"
            elif not key:  # the error is in a combination of keys
                yield message
            elif error["type"] == "string_type" and isinstance(error["input"], int | float):
                yield f"{key}={error['input']}: {explain_number(key, error)}"
            elif error["type"] in ("secret", "target"):  # the value is secret, or a whole group
                yield f"{key}: {message}"
            else:
                yield f"{key}={error['input']}: {message}"


def explain_number(key: str, error: Any) -> str:
    """Return how to quote a text that was read as another type. For example, the text 1_2 is read as the number 12."""
    option = f'{key.rpartition(".")[0]}=["..."]' if isinstance(error["loc"][-1], int) else f'{key}="..."'
    kind = "true or false" if isinstance(error["input"], bool) else "a number"
    return f"is read as {kind}; quote a text twice: '{option}'"


def locate_keys(location: tuple, values: Any) -> Iterator[str]:
    """Yield the keys that lead to an error in `values`. Skip the names of types, which pydantic adds for a union."""
    for part in location:
        inside = dict(items_of(values))
        if part in inside:
            yield str(part)
            values = inside[part]


def keys_at(schema: Any, location: tuple) -> list[str]:
    """Return the keys of a pydantic model. If `location` is not empty, return the keys of the model at this place in it."""
    for part in location:
        schema = schema.model_fields[part].annotation
    return [field.alias or name for name, field in schema.model_fields.items()]


def check_targets(node: Any, key: str, group: str) -> Iterator[str]:
    """Yield a line for each `_target_` below `node` that the group may not name, and for each wrong argument."""
    if isinstance(node, dict) and "_target_" in node:
        try:
            targets.check(node["_target_"], group)
            yield from check_arguments(node, key)
        except targets.TargetError as error:
            yield f"{key}.{error}"
    for name, value in items_of(node):
        yield from check_targets(value, f"{key}.{name}", group)


def check_arguments(node: dict, key: str) -> Iterator[str]:
    """Yield a line for each wrong key or value beside a `_target_`.

    The arguments are checked only for targets of attnunet, whose signatures state types and ranges.
    """
    special = {name for name in node if str(name).startswith("_")} - {"_target_", "_partial_"}
    yield from (f"{key}.{name}: unknown key; allowed beside arguments: _target_, _partial_" for name in special)
    if "_partial_" in node and (key in GROUPS or not isinstance(node["_partial_"], bool)):
        where = "only beside a `_target_` that is an argument" if key in GROUPS else "true or false"
        yield f"{key}._partial_={node['_partial_']}: allowed: {where}"
    if (parameters := signature(node["_target_"])) is None:
        return
    given = {name: replace_targets(value) for name, value in node.items() if not str(name).startswith("_")}
    fields: Any = {name: field for name, field in parameters.items() if name not in SUPPLIED.get(key, ())}
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    yield from find_errors(create_model(key, __config__=config, **fields), given, f"{key}.")


def check_sizes(plain: dict) -> Iterator[str]:
    """Yield a line for each size of images that the network or the length of the run cannot have."""
    if isinstance(filters := plain["model"].get("filters"), list):
        divisor = 2 ** (len(filters) - 1)
        for key, size in (("image_size", plain["image_size"]), *(("first_sizes", size) for size in plain["first_sizes"])):
            if size % divisor:
                yield (
                    f"{key}={size}: {len(filters)} model.filters halve the image {len(filters) - 1} "
                    f"times, so it must be a multiple of {divisor}"
                )
        depths = plain["model"].get("depths")
        if isinstance(depths, list) and len(depths) != len(filters):
            allowed = f"a number for each of the {len(filters)} model.filters"
            yield f"model.depths={depths}: {len(depths)} levels; allowed: {allowed}"
    sizes = [*plain["first_sizes"], plain["image_size"]]
    if any(small >= large for small, large in itertools.pairwise(sizes)):
        yield f"first_sizes={sizes[:-1]}: must ascend and stay below image_size={sizes[-1]}"
    if plain["epochs"] and plain["epochs"] < len(sizes):
        yield f"first_sizes={sizes[:-1]}: {len(sizes)} sizes take as many epochs; allowed: epochs={len(sizes)} or more"
    if sizes[:-1] and plain["trainer"]["jit_compile"]:
        yield f"first_sizes={sizes[:-1]}: XLA compiles one size only; allowed: trainer.jit_compile=false, or first_sizes=[]"


def check_combinations(plain: dict) -> Iterator[str]:
    """Yield a line for each combination of keys that cannot run."""
    if (plain["epochs"] is None) == (plain["budget_images"] is None):
        yield f"epochs={plain['epochs']}, budget_images={plain['budget_images']}: give one of the two"
    yield from check_sizes(plain)
    terms, weights = plain["loss"].get("terms"), plain["loss"].get("weights")
    if isinstance(terms, dict) and isinstance(weights, dict):
        if set(terms) != set(weights):
            yield f"loss.weights={sorted(weights)}: must name exactly loss.terms, {sorted(terms)}"
        elif not any(weights.values()):
            yield f"loss.weights={weights}: no term has a weight; allowed: at least one weight above 0"
    channels = plain["data"].get("channels")
    if isinstance(channels, list) and len(set(map(str, channels))) < len(channels):
        yield f"data.channels={channels}: allowed: each channel once"
    share, batch_size = plain["sampler"].get("lesion_share"), plain["batch_size"]
    if share not in (None, 0, 1) and round(share * batch_size) in (0, batch_size):
        lesions = round(share * batch_size)
        key = (
            "trainer" if share == plain["trainer"]["lesion_share"] else "sampler"
        )  # the sampler takes the trainer's, or its own
        yield (
            f"{key}.lesion_share={share}: gives {lesions} slices with a lesion in a batch of batch_size={batch_size}; "
            "allowed: a share that gives slices with and without a lesion, or null for the share of the data"
        )
    thresholds = plain["evaluation"]["thresholds"]
    if any(high - low < 1e-4 for low, high in itertools.pairwise(thresholds)):
        yield f"evaluation.thresholds={thresholds}: must ascend by at least 0.0001"
