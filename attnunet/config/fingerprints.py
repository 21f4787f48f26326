"""The identities: hashes by which stored data, splits, runs and comparisons are found again.

Each is 16 hexadecimal digits of `attnunet.data.files.digest`.

identity      includes                                            leaves out
------------  --------------------------------------------------  ----------------------------------------------------
content       names and bytes of images and masks, patients,      folder, size, time of change: a copy is the same data
              sites
preparation   content, image_size, channels, intensity            augmentation: it is drawn later
split         the slices of each part, whether it leaks           how it was drawn: a manifest of it is the same split
code          the definitions that CORE and the run's             other losses, networks, readers; figures, tables,
              `_target_`s reach (attnunet.config.reach), the      commands, tracking; docstrings and messages: they
              versions of Python and the NUMERICAL packages       change no result
recipe        configuration, preparation, split, code, whether    the keys FREE: they change no result, or another
              the test is scored                                  identity covers them
run           recipe, threads, settings of numerical libraries    the machine: a tag names it, and a resumed run warns
                                                                  if it is another one
metrics       for each metric the definitions that compute it     the other metrics: a new metric makes no run stale
computation   model, loss, optimizer, shapes, precision, steps    data and weights: jobs of a process with the same
                                                                  computation share the graph that TensorFlow traced
comparison    the keys of attnunet.compare and the store          the runs: a study may get more of them

A run's tags hold the recipe, the run (`fingerprint`) and the metrics; its split.json holds the preparation (`fingerprint`)
and the split; the content is a folder's name below mlruns/cache/; a comparison.json holds the comparison.
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
# These, and the keys that the hashes of the data, the split and the arithmetic cover.
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
"""The code that every run executes, whatever its `_target_`s."""
CATALOG, MASKS = "attnunet.metrics.catalog", "attnunet.metrics.masks.Masks"
LEFT_OUT = (CATALOG, *(f"attnunet.{name}" for name in ("errors", "figures", "config", "tracking", "sweeps")))
"""The code that CORE reaches but that changes no result; and the table of metrics, since each metric has its own identity."""
NUMERICAL = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "albumentations", "grain", "focal-loss")


@dataclass(frozen=True)
class Identity:
    """The identity of a run.

    Attributes:
        recipe: a hash of everything that can change more of a result than its last bits.
        arithmetic: threads and settings of libraries, which can change the last bits.
        metrics: the identity of each metric.
    """

    recipe: str
    arithmetic: Mapping[str, str]
    metrics: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """The hash of recipe and arithmetic: of everything but the machine that can change a result."""
        return digest([self.recipe, dict(self.arithmetic)])

    @property
    def tags(self) -> dict[str, str]:
        """The tags by which a stored run is found again."""
        metrics = json.dumps(dict(self.metrics))
        return {"fingerprint": self.fingerprint, "recipe": self.recipe, **self.arithmetic, "metrics": metrics}

    def changed_metrics(self, tags: Mapping[str, str]) -> list[str]:
        """Return the metrics whose code has changed since a run with these tags was scored."""
        before = json.loads(tags.get("metrics", "{}"))
        return [name for name, now in self.metrics.items() if before.get(name, now) != now]


def recipe(cfg: DictConfig, preparation: str, split: Split, score_test: bool) -> str:
    """Return the hash of everything that can change more of a run's result than its last bits."""
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    code = reach([*CORE, *targets.find_targets(plain)], LEFT_OUT)
    for key in FREE:
        *parents, name = key.split(".")
        node = plain
        for parent in parents:
            node = node[parent]
        node.pop(name, None)
    return digest([plain, preparation, split.parts, split.leaking, code, versions(), score_test])


@cache
def metrics() -> dict[str, str]:
    """Return the identity of each metric by its name: a hash of its entry's functions and of the code that they reach."""
    module = read_module(CATALOG)
    (table,) = module.definitions["METRICS"]
    found = {}
    for entry in (node for node in ast.walk(table) if isinstance(node, ast.Call) and ast.unparse(node.func) == "Metric"):
        given = {keyword.arg: keyword.value for keyword in entry.keywords}
        functions = [given[key] for key in ("compute", "overlap") if key in given]
        names = (node.id for function in functions for node in ast.walk(function) if isinstance(node, ast.Name))
        reached = reach([MASKS, *(f"{CATALOG}.{name}" for name in names)], LEFT_OUT[1:])
        found[ast.literal_eval(given["name"])] = digest([as_plain(functions), reached])
    return found


def computation(cfg: DictConfig, channels: int, steps: int) -> str:
    """Return a hash that is equal for runs with the same training and prediction steps on the same shapes.

    Return "" if a user's own module takes part: it may keep state outside of Keras variables.

    Args:
        channels: the number of channels of an image.
        steps: the number of steps of the run; the learning rate depends on it.
    """
    groups = [OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "loss", "optimizer")]
    if any(is_own(target) for target in targets.find_targets(groups)):
        return ""
    settings = [cfg.trainer.precision, cfg.trainer.jit_compile, cfg.trainer.strategy, cfg.image_size, cfg.batch_size]
    return digest([groups, settings, cfg.evaluation.batch_size, channels, steps])


def is_own(target: str) -> bool:
    """Return whether a target is defined in a user's own module."""
    package = target.partition(".")[0]
    return package != targets.PACKAGE.name and own_root(package) is not None


@cache
def versions() -> dict[str, str]:
    """Return the versions of the numerical packages and of Python, whose sum() rounds floats differently since 3.12."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: metadata.version(name) for name in NUMERICAL}}
