"""The identities: hashes that are used to find stored data, splits, runs and comparisons again.

Each identity consists of 16 hexadecimal digits, which `attnunet.data.files.digest` returns.

identity      includes                                            leaves out
------------  --------------------------------------------------  ----------------------------------------------------
content       names and bytes of images and masks, patients,      folder, size, time of change: a copy is the same data
              sites
preparation   content, image_size, image_type, channels,          augmentation: it is applied later
              intensity
split         the slices of each part, whether the split leaks    how the slices were drawn: a manifest of a split has
                                                                  the same identity as the split
code          the definitions that CORE and the run's             other losses, networks, readers; figures, tables,
              `_target_`s reach (attnunet.config.reach), the      commands, tracking; docstrings and messages: they
              versions of Python and the NUMERICAL packages       change no result
recipe        configuration, preparation, split, code, whether    the keys FREE: they change no result, or another
              the test is scored                                  identity covers them
run           recipe, threads, settings of numerical libraries    the machine: a tag names it, and a run that resumes
                                                                  on another machine prints a warning
metrics       for each metric the definitions that compute it     the other metrics: a new metric makes no run stale
computation   model, loss, optimizer, shapes, precision, steps    data and weights: jobs of a process with the same
                                                                  computation share the graph that TensorFlow traced
comparison    the keys of attnunet.compare and the store          the runs: a study may get more of them

The tags of a run hold the identities code, recipe, run (under the name `fingerprint`) and metrics. Its split.json holds the
identities preparation (under the name `fingerprint`) and split. The identity content is the name of a folder in
mlruns/cache/. A comparison.json holds the identity comparison.
"""

from __future__ import annotations

import ast
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from attnunet.config import targets
from attnunet.config.reach import as_plain, own_root, reach, read_module
from attnunet.data.files import digest

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
"""The keys that change no result."""
# The keys in NO_EFFECT, and the keys that the hashes of the data, the split and the arithmetic cover.
FREE = (*NO_EFFECT, "trainer.threads", "data.root", "data.file", "data.exclude", "split")
CORE = (
    "attnunet.data.cache.prepare",
    "attnunet.data.split.Split",
    "attnunet.data.batches",
    "attnunet.training.runtime.configure",
    "attnunet.training.build",
    "attnunet.training.fit",
    "attnunet.training.callbacks.Validation",
    "attnunet.inference.predictor.Predictor",
    "attnunet.evaluation.decision.choose_decision",
    "attnunet.evaluation.patients.score_patients",
)
"""The code that every run executes, whatever `_target_`s it has."""
WARM_START = "attnunet.evaluation.warm_start.start_from"
"""The code that a run executes besides if it starts from another run's weights."""
CODE = "code"
"""The tag with the identity of the code."""
CATALOG, MASKS = "attnunet.metrics.catalog", "attnunet.metrics.masks.Masks"
SILENT = tuple(
    f"attnunet.{name}"
    for name in ("errors", "figures", "config", "tracking", "sweeps", "training.train_dice", "training.watch")
)
"""The code that CORE reaches and that changes no result."""
NUMERICAL = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "albumentations", "grain", "focal-loss")


@dataclass(frozen=True)
class Identity:
    """The identity of a run.

    Attributes:
        code: the hash of the code, see `code`. Runs of different code never share a row of a comparison.
        recipe: the hash of everything that can change a result beyond its last bits.
        arithmetic: the threads and the settings of libraries, which can change the last bits.
        metrics: the identity of each metric.
    """

    code: str
    recipe: str
    arithmetic: Mapping[str, str]
    metrics: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of `recipe` and `arithmetic`. It covers everything that can change a result, except the machine."""
        return digest([self.recipe, dict(self.arithmetic)])

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a stored run, which a later start uses to find the run."""
        metrics = json.dumps(dict(self.metrics))
        hashes = {"fingerprint": self.fingerprint, CODE: self.code, "recipe": self.recipe}
        return {**hashes, **self.arithmetic, "metrics": metrics}

    def changed_metrics(self, tags: Mapping[str, str]) -> list[str]:
        """Return the metrics whose code has changed since a run with these tags was scored."""
        before = json.loads(tags.get("metrics", "{}"))
        return [name for name, now in self.metrics.items() if before.get(name, now) != now]


def code(cfg: DictConfig) -> str:
    """Return the hash of the code that a run executes, and of the versions of Python and the numerical packages."""
    return digest([reach_code(cfg), versions()])


def reach_code(cfg: DictConfig) -> dict[str, str]:
    """Return the hash of each definition that a run executes. The entries of CATALOG have identities of their own."""
    names = [*CORE, *targets.find_targets(OmegaConf.to_container(cfg, resolve=True)), *([WARM_START] if cfg.init else [])]
    return reach(names, (*SILENT, CATALOG))


def recipe(cfg: DictConfig, preparation: str, split: Split, score_test: bool) -> str:
    """Return the hash of everything that can change a run's result beyond its last bits."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    reached = reach_code(cfg)
    for key in FREE:
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    return digest([plain, preparation, split.parts, split.leaking, reached, versions(), score_test])


@cache
def metrics() -> dict[str, str]:
    """Return the identity of each metric, by the name of the metric.

    The identity is a hash of the functions in the metric's entry in the catalog, and of the code that these functions reach.
    """
    module = read_module(CATALOG)
    (table,) = module.definitions["METRICS"]
    found = {}
    for entry in (node for node in ast.walk(table) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Metric"):
        given = {keyword.arg: keyword.value for keyword in entry.keywords}
        functions = [given[key] for key in ("compute", "overlap") if key in given]
        names = (node.id for function in functions for node in ast.walk(function) if isinstance(node, ast.Name))
        reached = reach([MASKS, *(f"{CATALOG}.{name}" for name in names)], SILENT)
        found[ast.literal_eval(given["name"])] = digest([as_plain(functions), reached])
    return found


def computation(cfg: DictConfig, channels: int, steps: int) -> str:
    """Return a hash that two runs share if their training and prediction steps are the same and work on the same shapes.

    Return "" if a `_target_` is in a user's own module, because that module may keep state outside of Keras variables.

    Args:
        channels: the number of channels of an image.
        steps: the number of steps of the run; the learning rate depends on it.
    """
    groups = [OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "loss", "optimizer")]
    if any(is_own(target) for target in targets.find_targets(groups)):
        return ""
    settings = [
        cfg.trainer.precision,
        cfg.trainer.jit_compile,
        cfg.trainer.strategy,
        cfg.image_size,
        bool(cfg.first_sizes),
        cfg.image_type,
        cfg.batch_size,
    ]
    return digest([groups, settings, cfg.evaluation.batch_size, channels, steps])


def is_own(target: str) -> bool:
    """Return whether a target is defined in a user's own module."""
    package = target.partition(".")[0]
    return package != targets.PACKAGE.name and (targets.is_within(target, targets.own) or own_root(package) is not None)


@cache
def versions() -> dict[str, str]:
    """Return the versions of the numerical packages and of Python. From Python 3.12 on, sum() rounds floats differently."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: metadata.version(name) for name in NUMERICAL}}
