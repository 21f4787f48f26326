"""Make the objects that a configuration names: its `_target_`s, the prepared data and the split."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from attnunet.config import targets
from attnunet.config.checks import check, check_targets
from attnunet.config.entry import ConfigError, check_folder
from attnunet.data.cache import Prepared, prepare
from attnunet.data.checks import refuse_copies
from attnunet.data.slices import DataError, Dataset
from attnunet.data.split import Split, Subject
from attnunet.data.workers import check_shared_memory


def check_run(cfg: DictConfig) -> None:
    """Check the keys, values, files, split and augmentation of a run, without importing TensorFlow."""
    check(cfg)
    check_folder("tracking.root", cfg.tracking.root)
    prepared, _ = prepare_data(cfg)

    from attnunet.data.augment import check_augmentation  # last, because the import takes a second

    check_augmentation(make(cfg.augment, "augment")(), cfg.image_size, prepared.input_channels, cfg.image_type)


def make(node: DictConfig, group: str) -> Callable[..., Any]:
    """Return a function that calls the `_target_` of a group with the configured arguments.

    The caller passes the other arguments to this function. An error in that call keeps its type; `instantiate` would change
    the type.

    Raises:
        ConfigError: the group has no `_target_`, names a `_target_` that it may not name, or sets wrong arguments.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{group}: lacks `_target_`, the function or class that the group's choice names")
    check_objects(OmegaConf.to_container(node, resolve=True), group, group)
    return instantiate(node, _partial_=True, _convert_="all")


def check_objects(plain: Any, key: str, group: str) -> None:
    """Import every `_target_` below a key; check that the group may name it and that it takes its arguments.

    Raises:
        ConfigError: the group may not name a target, the target does not exist, or it does not take its arguments.
    """
    if wrong := list(check_targets(plain, key, group)):
        raise ConfigError("\n".join(wrong))
    try:
        for target in targets.find_targets(plain):
            targets.check_identity(target, group)
    except targets.TargetError as error:
        raise ConfigError(f"{key}: {error}") from error


def open_data(data: DictConfig, cache: Path) -> tuple[Dataset, Prepared]:
    """Return the data set of a group `data`, and its masks at native size without prepared images.

    Raises:
        DataError: the message names the file, the patient or the key.
    """
    dataset = make(data, "data")()
    return dataset, prepare(dataset, None, cache)


def prepare_data(cfg: DictConfig) -> tuple[Prepared, Split]:
    """Return the prepared arrays and the split of the patients, without importing TensorFlow.

    Raises:
        DataError: the message names the file, the patient or the key.
    """
    prepared = prepare(make(cfg.data, "data")(), cfg.image_size, Path(cfg.tracking.root) / "cache", cfg.image_type)
    if set(cfg.neighbors) - set(prepared.channels):
        raise DataError(f"neighbors={list(cfg.neighbors)}: allowed: some of the channels {', '.join(prepared.channels)}")
    prepared = replace(prepared, neighbors=tuple(cfg.neighbors))
    split, pixels = divide(cfg.split, prepared), prepared.lesion_pixels
    for part in ("train", "val") if split.val else ("train",):
        if not pixels[list(split.parts[part])].any():
            raise DataError(f"split: no slice of {part} shows a lesion ({', '.join(split.patients[part])})")
    if not split.val:
        check_unvalidated(cfg)
    if len(split.train) < cfg.batch_size:
        raise DataError(
            f"batch_size={cfg.batch_size}: the split has only {len(split.train)} training slices; allowed: at most that number"
        )
    sample = prepared.inputs([0]).nbytes + cfg.image_size**2  # an image and its mask
    check_shared_memory(cfg.trainer.workers, cfg.batch_size * sample)
    return prepared, split


def check_unvalidated(cfg: DictConfig) -> None:
    """Raise DataError if a setting needs validation patients. It is called for a split in which nobody validates."""
    lists = ("thresholds", "smallest_lesions", "fill_holes")
    open_lists = [f"evaluation.{name}" for name in lists if len(cfg.evaluation[name]) > 1]
    needed = {
        f"monitor={cfg.monitor}, allowed: monitor=train/loss": cfg.monitor.startswith("val/"),
        "trainer.mean_of_last=null, allowed: a number of epochs": cfg.trainer.mean_of_last is None,
        f"{', '.join(open_lists)} with several values, allowed: one value each": open_lists,
    }
    if wrong := [text for text, lacks in needed.items() if lacks]:
        raise DataError("\n".join(f"split: nobody validates, but {text}" for text in wrong))


def divide(split: DictConfig, prepared: Prepared) -> Split:
    """Return the split of the prepared data, which the `_target_` of the group `split` makes."""
    pixels, slices = prepared.lesion_pixels, prepared.slices
    subjects = [
        Subject(patient, slices[indices[0]].site, int(pixels[indices].sum()), tuple(indices))
        for patient, indices in prepared.patients.items()
    ]
    # The owner of each slice comes from the data, so that a leak is marked even if a user's own code makes the split.
    made = replace(make(split, "split")(subjects), owners={i: item.patient for i, item in enumerate(slices)})
    refuse_copies(prepared, made)
    return made
