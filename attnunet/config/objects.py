"""What a configuration names, made: objects from their `_target_`s, the prepared data, the split."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf

from attnunet.config import targets
from attnunet.config.checks import ConfigError, check, check_folder, check_targets
from attnunet.data.workers import check_shared_memory

if TYPE_CHECKING:
    from attnunet.data.cache import Prepared
    from attnunet.data.split import Split


def check_run(cfg: DictConfig) -> None:
    """Check everything that can be wrong before TensorFlow is imported: keys and values, files, split, augmentation."""
    check(cfg)
    check_folder("tracking.root", cfg.tracking.root)
    prepared, _ = prepare_data(cfg)

    from attnunet.data.augment import check_augmentation

    check_augmentation(make(cfg.augment, "augment")(), cfg.image_size, len(prepared.channels))


def make(node: DictConfig, group: str) -> Callable[..., Any]:
    """Return the `_target_` of a group with its arguments, to be called with what the code adds.

    Called like this, and not by `instantiate`, its errors come as they were raised.

    Raises:
        ConfigError: the group may not name what a `_target_` in it does, or not with these arguments.
    """
    if not isinstance(node, DictConfig) or "_target_" not in node:
        raise ConfigError(f"{group}: lacks `_target_`, the function or class that the group's choice names")
    check_objects(OmegaConf.to_container(node, resolve=True), group, group)
    return instantiate(node, _partial_=True, _convert_="all")


def check_objects(plain: Any, key: str, group: str) -> None:
    """Check every `_target_` below a key, with its arguments, and import it: what a group may name is where it says.

    Raises:
        ConfigError: the group may not name it, it is not there, or it does not take these arguments.
    """
    if wrong := list(check_targets(plain, key, group)):
        raise ConfigError("\n".join(wrong))
    try:
        for target in targets.find_targets(plain):
            targets.check_identity(target, group)
    except targets.TargetError as error:
        raise ConfigError(f"{key}: {error}") from error


def prepare_data(cfg: DictConfig) -> tuple[Prepared, Split]:
    """The prepared arrays and who is in which part; imports no TensorFlow.

    Raises:
        DataError: the message names the file, the patient or the key.
    """
    from attnunet.data.cache import prepare
    from attnunet.data.slices import DataError

    prepared = prepare(make(cfg.data, "data")(), cfg.image_size, Path(cfg.tracking.root) / "cache")
    split, pixels = divide(cfg.split, prepared), prepared.lesion_pixels
    for part in ("train", "val"):
        if not pixels[list(split.parts[part])].any():
            raise DataError(f"split: no slice of {part} shows a lesion ({', '.join(split.patients[part])})")
    if len(split.train) < cfg.batch_size:
        raise DataError(f"batch_size={cfg.batch_size}: only {len(split.train)} slices train; allowed up to that number")
    check_shared_memory(cfg.trainer.workers, cfg.batch_size * cfg.image_size**2 * (len(prepared.channels) + 1))
    return prepared, split


def divide(split: DictConfig, prepared: Prepared) -> Split:
    """The split of the prepared data that a group's `_target_` makes."""
    from attnunet.data.checks import refuse_copies
    from attnunet.data.split import Subject

    pixels, slices = prepared.lesion_pixels, prepared.slices
    subjects = [
        Subject(patient, slices[indices[0]].site, int(pixels[indices].sum()), tuple(indices))
        for patient, indices in prepared.patients.items()
    ]
    # The owners are ours whatever the split says, so that one from elsewhere cannot leak unmarked either.
    made = replace(make(split, "split")(subjects), owners={i: item.patient for i, item in enumerate(slices)})
    refuse_copies(prepared, made)
    return made
