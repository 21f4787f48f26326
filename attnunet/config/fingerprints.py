"""The identities: hashes by which data, splits, runs and comparisons are found again.

Each is 16 hexadecimal digits of `attnunet.data.files.digest`.

identity      is made of                                          leaves out
------------  --------------------------------------------------  ----------------------------------------------------
content       names and bytes of images and masks, patients,      folder, size, time of change: a copy is the same data
              sites
preparation   content, image_size, channels, intensity            augmentation: it is drawn later
split         the slices of each part, whether it leaks           how it was drawn: a manifest gives the same
code          the definitions that CORE and the run's             other losses, networks, readers; figures, tables,
              `_target_`s reach (attnunet.config.reach), the      commands, the record; docstrings and messages: no
              versions of Python and the NUMERICAL packages       result depends on them
recipe        configuration, preparation, split, code, whether    the keys FREE: no result depends on them, or another
              the test is scored                                  part says it better
run           recipe, threads, settings of numerical libraries    the machine: a tag names it, and a resumed run says
                                                                  where it changes
metrics       for each metric the definitions that compute it     the other metrics: a new one makes no run stale, a
                                                                  changed one those that have it
computation   model, loss, optimizer, shapes, precision, steps    data and weights: jobs of one process that are equal
                                                                  in this share what TensorFlow traced
comparison    the keys of attnunet.compare and the store          the runs: they may become more

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
"""What a result does not depend on."""
# That, and what `data`, `split` and `arithmetic` below say better.
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
"""What every run computes, whatever its `_target_`s."""
CATALOG, MASKS = "attnunet.metrics.catalog", "attnunet.metrics.masks.Masks"
LEFT_OUT = (CATALOG, *(f"attnunet.{name}" for name in ("errors", "figures", "config", "tracking", "sweeps")))
"""What CORE reaches but no result depends on, and the table of metrics, of which each entry has an identity of its own."""
NUMERICAL = ("tensorflow", "keras", "numpy", "scipy", "opencv-python", "albumentations", "grain", "focal-loss")


@dataclass(frozen=True)
class Identity:
    """What tells a run from all others.

    Attributes:
        recipe: differs where a run's result could.
        arithmetic: threads and settings of libraries, on which only the last bits depend.
        metrics: the identity of each metric.
    """

    recipe: str
    arithmetic: Mapping[str, str]
    metrics: Mapping[str, str]

    @property
    def fingerprint(self) -> str:
        """Differs where a run's last bits could."""
        return digest([self.recipe, dict(self.arithmetic)])

    @property
    def tags(self) -> dict[str, str]:
        """The tags of a run, by which it is found again."""
        metrics = json.dumps(dict(self.metrics))
        return {"fingerprint": self.fingerprint, "recipe": self.recipe, **self.arithmetic, "metrics": metrics}

    def changed_metrics(self, tags: Mapping[str, str]) -> list[str]:
        """Return the metrics of a run with these tags that are computed by other code now."""
        before = json.loads(tags.get("metrics", "{}"))
        return [name for name, now in self.metrics.items() if before.get(name, now) != now]


def recipe(cfg: DictConfig, preparation: str, split: Split, score_test: bool) -> str:
    """Return the identity of a run but for the last bits."""
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
    """Return the identity of each metric by its name: of the functions in its entry and of all that they reach."""
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
    """Equal for runs of one process whose steps of training and prediction are the same computation on the same shapes.

    "" where a user's own module has a part in it, which may keep what is no Keras variable.

    Args:
        channels: of the images.
        steps: of the run, which the learning rate follows.
    """
    groups = [OmegaConf.to_container(cfg[name], resolve=True) for name in ("model", "loss", "optimizer")]
    if any(is_own(target) for target in targets.find_targets(groups)):
        return ""
    settings = [cfg.trainer.precision, cfg.trainer.jit_compile, cfg.trainer.strategy, cfg.image_size, cfg.batch_size]
    return digest([groups, settings, cfg.evaluation.batch_size, channels, steps])


def is_own(target: str) -> bool:
    """Return whether a target is a user's own."""
    package = target.partition(".")[0]
    return package != targets.PACKAGE.name and own_root(package) is not None


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python, whose sum() rounds floats otherwise since 3.12, and of the numerical packages."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"python": python, **{name: metadata.version(name) for name in NUMERICAL}}
