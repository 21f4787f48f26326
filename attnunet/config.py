"""Where the configuration is, what it may hold, and what a run is made of.

Imported by every command at once, so it imports only Hydra; pydantic, NumPy and the data modules come with the first check.
"""

from __future__ import annotations

import ast
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from attnunet.errors import UserError
from attnunet.processes import check_shared_memory

if TYPE_CHECKING:
    from pydantic import BaseModel

    from attnunet.data.prepare import Prepared
    from attnunet.data.split import Split

PACKAGE = Path(__file__).parent
CONF = str(next(path for path in (PACKAGE / "conf", PACKAGE.parent / "conf") if path.is_dir()))
"""In a wheel conf/ lies in the package, in a checkout beside it."""


SUPPLIED = {"model": ("image_size", "channels"), "optimizer": ("steps",), "split": ("subjects",)}
"""The arguments that the code hands to a group's target; they cannot be configured."""


class ConfigError(UserError):
    """The configuration is not one that can run; the message names key, value and what is allowed, a line each."""


def own(cfg: DictConfig) -> DictConfig:
    """A command's configuration without Hydra's."""
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def ready(cfg: DictConfig) -> None:
    """Everything that can be wrong before TensorFlow is imported: keys and values, files, split, augmentation."""
    check(cfg)
    data_and_split(cfg)
    make(cfg.augment)()


def check(cfg: DictConfig) -> None:
    """Every key, type, range and combination of a run, without importing what the `_target_`s name.

    Raises:
        ConfigError: with one line for each thing that is wrong.
    """
    from attnunet.schema import Train

    plain = check_keys(cfg, Train)
    if wrong := list(check_combinations(plain)):
        raise ConfigError("\n".join(wrong))


def check_keys(cfg: DictConfig, schema: type[BaseModel]) -> dict[str, Any]:
    """Every key, type and range of a command's configuration, and the arguments of what it names; -> it as plain values.

    Raises:
        ConfigError: with one line for each thing that is wrong.
    """
    try:
        plain: Any = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)
    except OmegaConfBaseException as error:
        raise ConfigError(str(error)) from error
    if wrong := list(complaints(schema, plain, "")) or list(check_targets(plain, "")):
        raise ConfigError("\n".join(wrong))
    return plain


def complaints(schema: Any, values: dict, prefix: str) -> Iterator[str]:
    """One line for each error that a pydantic model finds in `values`."""
    from pydantic import ValidationError

    try:
        schema.model_validate(values, strict=True)
    except ValidationError as invalid:
        for error in invalid.errors():
            key = prefix + ".".join(path(error["loc"], values))
            if error["type"] == "extra_forbidden":
                yield f"{key}={error['input']}: no such key; allowed: {', '.join(allowed(schema, error['loc'][:-1]))}"
            elif not key:  # of a combination of keys
                yield error["msg"]
            elif error["type"] == "secret":
                yield f"{key}: {error['msg']}"
            else:
                yield f"{key}={error['input']}: {error['msg']}"


def path(location: tuple, values: Any) -> Iterator[str]:
    """The keys that lead to an error's place in `values`; pydantic puts the names of a union's types among them."""
    for part in location:
        inside = values if isinstance(values, dict) else dict(enumerate(values)) if isinstance(values, list) else {}
        if part in inside:
            yield str(part)
            values = inside[part]


def allowed(schema: Any, location: tuple) -> list[str]:
    """The keys of a pydantic model, or of the one that lies at `location` in it."""
    for part in location:
        schema = schema.model_fields[part].annotation
    return list(schema.model_fields)


def check_targets(node: Any, key: str) -> Iterator[str]:
    """The arguments of every `_target_` of ours below `node` against its signature."""
    if isinstance(node, list):
        node = dict(enumerate(node))
    if not isinstance(node, dict):
        return
    target = str(node.get("_target_", ""))
    if target.startswith(f"{__package__}."):
        yield from check_target(node, key)
    elif target and find_spec(target.split(".", maxsplit=1)[0]) is None:
        yield f"{key}._target_={target}: no such package"
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
    # What is itself a target is checked on its own.
    fields: Any = {
        name: (Any if isinstance(given.get(name), dict) and "_target_" in given[name] else annotation, None)
        for name, annotation in parameters.items()
        if name not in SUPPLIED.get(key, ())
    }
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    yield from complaints(create_model(key, __config__=config, **fields), given, f"{key}.")


def check_combinations(plain: dict) -> Iterator[str]:
    """What no single key can tell."""
    if (plain["epochs"] is None) == (plain["budget_images"] is None):
        yield f"epochs={plain['epochs']}, budget_images={plain['budget_images']}: set one of the two, the other null"
    if isinstance(filters := plain["model"].get("filters"), list):
        divisor = 2 ** (len(filters) - 1)
        if plain["image_size"] % divisor:
            yield (
                f"image_size={plain['image_size']}: {len(filters)} model.filters halve the image {len(filters) - 1} "
                f"times, so it must be a multiple of {divisor}"
            )
    if "terms" in plain["loss"] and set(plain["loss"]["terms"]) != set(plain["loss"].get("weights") or ()):
        terms, weights = sorted(plain["loss"]["terms"]), sorted(plain["loss"].get("weights") or ())
        yield f"loss.weights={weights}: must name exactly loss.terms, {terms}"
    share, batch_size = plain["trainer"]["lesion_share"], plain["batch_size"]
    if share not in (None, 0, 1) and round(share * batch_size) in (0, batch_size):
        lesions = round(share * batch_size)
        yield (
            f"trainer.lesion_share={share}: of batch_size={batch_size} it gives {lesions} slices with lesion; "
            "allowed: a share that leaves some of both, or null for the data's own"
        )
    thresholds = plain["evaluation"]["thresholds"]
    if any(high - low < 1e-4 for low, high in itertools.pairwise(thresholds)):
        yield f"evaluation.thresholds={thresholds}: must ascend, by 0.0001 at least"


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

    prepared = prepare(make(cfg.data)(), cfg.image_size, Path(cfg.tracking.root) / "cache")
    split, pixels = divided(cfg.split, prepared), prepared.lesion_pixels
    for part in ("train", "val"):
        if not pixels[list(split.parts[part])].any():
            raise DataError(f"split: no slice of {part} shows a lesion ({', '.join(split.patients[part])})")
    if len(split.train) < cfg.batch_size:
        raise DataError(f"batch_size={cfg.batch_size}: only {len(split.train)} slices train; allowed up to that number")
    check_shared_memory(cfg.trainer.workers, cfg.batch_size * cfg.image_size**2 * (len(prepared.channels) + 1))
    return prepared, split


def divided(split: DictConfig, prepared: Prepared) -> Split:
    """The split of the prepared data that a group's `_target_` makes."""
    from attnunet.data.split import Subject

    pixels, slices = prepared.lesion_pixels, prepared.slices
    subjects = [
        Subject(patient, slices[indices[0]].site, int(pixels[indices].sum()), tuple(indices))
        for patient, indices in prepared.patients.items()
    ]
    # The owners are ours whatever the split says, so that one from elsewhere cannot leak unmarked either.
    return replace(make(split)(subjects), owners={i: item.patient for i, item in enumerate(slices)})


NO_EFFECT = (
    "study",
    "resume",
    "tracking",
    "trainer.workers",
    "trainer.keep",
    "trainer.figures",
    "data.verify",
    "data.download",
)
"""What a result does not depend on."""
# That, and what `data`, `split` and `arithmetic` below say better.
FREE = (*NO_EFFECT, "trainer.threads", "data.root", "data.file", "data.exclude", "split")
CODE = ("data", "models", "training", "evaluation", "losses.py", "inference.py", "report.py", "train.py")
NUMERICAL = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "albumentations", "grain", "focal-loss")


def fingerprint(recipe: str, arithmetic: Mapping[str, str]) -> str:
    """Return 16 hexadecimal digits that differ where a run's last bits could: of its recipe, threads, libraries' settings."""
    return digest([recipe, dict(arithmetic)])


def digest(parts: list) -> str:
    return hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()


def recipe(cfg: DictConfig, data: str, split: Split, score_test: bool) -> str:
    """16 hexadecimal digits that differ where a run's result could.

    They hash the resolved configuration less what is free, the prepared data, the slices of each part, the code that
    trains and scores (without docstrings and comments; a user's own modules that a `_target_` names too), the numerical
    packages, and whether the test is scored.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    for key in FREE:
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    parts = [plain, data, split.parts, split.leaking, code(plain), versions(), score_test]
    return digest(parts)


def computation(cfg: DictConfig, channels: int, steps: int) -> str:
    """Equal for runs of one process whose steps of training and prediction are the same computation on the same shapes.

    "" where a user's own module has a part in it, which may keep what is no Keras variable.

    Args:
        channels: of the images.
        steps: of the run, which the learning rate follows.
    """
    groups = [OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "loss", "optimizer")]
    if any(own_module(target) for target in targets(groups)):
        return ""
    settings = [cfg.trainer.precision, cfg.trainer.jit_compile, cfg.trainer.strategy, cfg.image_size, cfg.batch_size]
    return digest([groups, settings, cfg.evaluation.batch_size, channels, steps])


@cache
def versions() -> dict[str, str]:
    from importlib import metadata

    return {name: metadata.version(name) for name in NUMERICAL}


def code(plain: dict) -> list[str]:
    """Hashes of the modules in CODE and of those of a user's own that `plain` names."""
    ours = [path for name in CODE for path in sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / name]]
    paths = [*ours, *sorted({path for target in targets(plain) if (path := own_module(target))})]
    return [syntax(path, path.stat().st_mtime_ns) for path in paths]


@cache
def syntax(path: Path, modified: int) -> str:
    """A module's syntax tree without docstrings, hashed; read once a process, since the jobs of a sweep share it."""
    tree = ast.dump(without_docstrings(ast.parse(path.read_text())))
    return hashlib.blake2b(tree.encode(), digest_size=16).hexdigest()


def targets(node: Any) -> Iterator[str]:
    """Every `_target_` in a configuration."""
    if isinstance(node, dict):
        yield from ([str(node["_target_"])] if "_target_" in node else [])
        node = list(node.values())
    if isinstance(node, list):
        for value in node:
            yield from targets(value)


def own_module(target: str) -> Path | None:
    """The file of a target's module; None for ours, whose code is hashed anyway, and for an installed package's, whose
    version is."""
    package = target.split(".", maxsplit=1)[0]
    spec = find_spec(package)
    if package == __package__ or spec is None or spec.origin is None or "site-packages" in spec.origin:
        return None
    module = find_spec(target.rpartition(".")[0])
    return Path(module.origin) if module and module.origin else None


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
