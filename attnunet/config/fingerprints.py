"""What a run is made of, as hashes: by them a finished run is found again, and an unfinished one goes on."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from attnunet.config import targets
from attnunet.config.targets import PACKAGE

if TYPE_CHECKING:
    from attnunet.data.split import Split

NO_EFFECT = (
    "study",
    "resume",
    "modules",
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
CODE = (
    "data",
    "models",
    "training",
    "metrics",
    "losses.py",
    "inference/predictor.py",
    "evaluation/decision.py",
    "evaluation/patients.py",
    "train.py",
)
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
    if any(own_module(target) for target in targets.find_targets(groups)):
        return ""
    settings = [cfg.trainer.precision, cfg.trainer.jit_compile, cfg.trainer.strategy, cfg.image_size, cfg.batch_size]
    return digest([groups, settings, cfg.evaluation.batch_size, channels, steps])


@cache
def versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in NUMERICAL}


def code(plain: dict) -> list[str]:
    """Hashes of the modules in CODE and of those of a user's own that `plain` names."""
    ours = [path for name in CODE for path in sorted((PACKAGE / name).rglob("*.py")) or [PACKAGE / name]]
    paths = [*ours, *sorted({path for target in targets.find_targets(plain) if (path := own_module(target))})]
    return [syntax(path, path.stat().st_mtime_ns) for path in paths]


@cache
def syntax(path: Path, modified: int) -> str:
    """A module's syntax tree without docstrings, hashed; read once a process, since the jobs of a sweep share it."""
    tree = ast.dump(without_docstrings(ast.parse(path.read_text())))
    return hashlib.blake2b(tree.encode(), digest_size=16).hexdigest()


def own_module(target: str) -> Path | None:
    """The file of a target's module; None for ours, whose code is hashed anyway, and for an installed package's, whose
    version is."""
    package = target.split(".", maxsplit=1)[0]
    spec = find_spec(package)
    if package == PACKAGE.name or spec is None or spec.origin is None or "site-packages" in spec.origin:
        return None
    module = find_spec(target.rpartition(".")[0])
    return Path(module.origin) if module and module.origin else None


def without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and ast.get_docstring(node) is not None:
            node.body = node.body[1:]
    return tree
