"""Where the configuration is, what it may hold, and what a run is made of.

Imported by every command at once, so it imports only Hydra; pydantic, NumPy and the data modules come with the first check.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

if TYPE_CHECKING:
    from attnunet.data.prepare import Prepared
    from attnunet.data.split import Split

PACKAGE = Path(__file__).parent
CONF = str(next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()))
"""In a wheel conf/ lies in the package, in a checkout beside it."""


class ConfigError(ValueError):
    """The configuration is not one that can run; the message names key, value and what is allowed, a line each."""


def check(cfg: DictConfig) -> None:
    """Every key, type, range and combination, without importing what the `_target_`s name.

    Raises:
        ConfigError: with one line for each thing that is wrong.
    """
    from attnunet.schema import Train

    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    wrong = list(complaints(Train, plain, ""))
    if not wrong:
        wrong = [*check_targets(plain, ""), *check_combinations(plain)]
    if wrong:
        raise ConfigError("\n".join(wrong))


def complaints(schema: Any, values: dict, prefix: str) -> Iterator[str]:
    """One line for each error that a pydantic model finds in `values`."""
    from pydantic import ValidationError

    try:
        schema.model_validate(values, strict=True)
    except ValidationError as invalid:
        for error in invalid.errors():
            key = prefix + ".".join(str(part) for part in error["loc"])
            if error["type"] == "extra_forbidden":
                yield f"{key}={error['input']}: no such key; allowed: {', '.join(allowed(schema, error['loc'][:-1]))}"
            else:
                yield f"{key}={error['input']}: {error['msg']}"


def allowed(schema: Any, path: tuple) -> list[str]:
    """The keys of a pydantic model, or of the one that lies at `path` in it."""
    for part in path:
        schema = schema.model_fields[part].annotation
    return list(schema.model_fields)


def check_targets(node: Any, key: str) -> Iterator[str]:
    """The arguments of every `_target_` of ours below `node` against its signature."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    if str(node.get("_target_", "")).startswith(f"{__package__}."):
        yield from check_target(node, key)
    for name, value in node.items():
        yield from check_targets(value, f"{key}.{name}" if key else str(name))


def check_target(node: dict, key: str) -> Iterator[str]:
    from pydantic import ConfigDict, create_model

    from attnunet.signatures import signature

    parameters = signature(node["_target_"])
    if parameters is None:
        yield f"{key}._target_={node['_target_']}: no such function or class"
        return
    given = {name: value for name, value in node.items() if not name.startswith("_")}
    # What is itself a target is checked on its own; what has no default may be handed over by the code.
    fields: Any = {
        name: (Any if isinstance(given.get(name), dict) and "_target_" in given[name] else annotation, None)
        for name, annotation in parameters.items()
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    yield from complaints(create_model(key, __config__=config, **fields), given, f"{key}.")


def check_combinations(plain: dict) -> Iterator[str]:
    """What no single key can tell."""
    if (plain["epochs"] is None) == (plain["budget_images"] is None):
        yield f"epochs={plain['epochs']}, budget_images={plain['budget_images']}: set one of the two, the other null"
    if filters := plain["model"].get("filters"):
        divisor = 2 ** (len(filters) - 1)
        if plain["image_size"] % divisor:
            yield (
                f"image_size={plain['image_size']}: {len(filters)} model.filters halve the image {len(filters) - 1} "
                f"times, so it must be a multiple of {divisor}"
            )
    if "terms" in plain["loss"] and set(plain["loss"]["terms"]) != set(plain["loss"].get("weights") or ()):
        terms, weights = sorted(plain["loss"]["terms"]), sorted(plain["loss"].get("weights") or ())
        yield f"loss.weights={weights}: must name exactly loss.terms, {terms}"
    if "@" in (plain["tracking"]["uri"] or ""):
        yield "tracking.uri: holds credentials; give them by MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"


def make(node: DictConfig) -> Callable[..., Any]:
    """The `_target_` of a group with its arguments, to be called with what the code adds.

    Called like this, and not by `instantiate`, its errors come as they were raised.
    """
    return instantiate(node, _partial_=True, _convert_="all")


def data_and_split(cfg: DictConfig) -> tuple[Prepared, Split]:
    """The prepared arrays and who is in which part; imports no TensorFlow.

    Raises:
        DataError: the message names the file, the patient or the key.
    """
    from attnunet.data.prepare import prepare
    from attnunet.data.slices import DataError
    from attnunet.data.split import Subject

    dataset = make(cfg.data)()
    prepared = prepare(dataset, cfg.image_size, Path(cfg.tracking.root) / "cache")
    pixels, slices = prepared.lesion_pixels, prepared.slices
    subjects = [
        Subject(patient, slices[indices[0]].site, int(pixels[indices].sum()), tuple(indices))
        for patient, indices in prepared.patients.items()
    ]
    split = make(cfg.split)(subjects)
    for part in ("train", "val"):
        if not pixels[list(getattr(split, part))].any():
            raise DataError(f"split: no slice of {part} shows a lesion ({', '.join(split.patients[part])})")
    if len(split.train) < cfg.batch_size:
        raise DataError(f"batch_size={cfg.batch_size}: only {len(split.train)} slices train; allowed up to that number")
    return prepared, split


# What a run does not depend on: where it is kept, how it is watched, what is left of it, who draws its batches.
FREE = ("study", "tracking", "trainer.workers", "trainer.keep", "trainer.figures", "trainer.threads")
CODE = ("data", "models", "training", "evaluation", "losses.py", "inference.py", "train.py")
NUMERICAL = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "albumentations", "grain", "focal-loss")


def fingerprint(cfg: DictConfig, data: str, threads: int) -> str:
    """16 hexadecimal digits that differ where a run's result could: its resolved configuration less what is free, its
    data, the code that trains and scores (without docstrings and comments), numerical packages, threads."""
    import hashlib
    import json
    from importlib import metadata

    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    for key in FREE:
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    for key in ("root", "file", "verify", "download"):  # where the data lie; `data` says what they are
        plain["data"].pop(key, None)
    versions = {name: metadata.version(name) for name in NUMERICAL}
    parts = json.dumps([plain, data, code(), versions, threads], sort_keys=True)
    return hashlib.blake2b(parts.encode(), digest_size=8).hexdigest()


def code() -> list[str]:
    """The syntax trees of the modules in CODE without docstrings, in the order of their paths."""
    paths = [path for name in CODE for path in sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / name]]
    return [ast.dump(without_docstrings(ast.parse(path.read_text()))) for path in paths]


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
