"""The augmentation sets, as conf/augment composes them."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import cv2
import numpy as np
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from attnunet import config
from attnunet.config import objects
from attnunet.data.augment import Augment, SequenceDropout, check_augmentation, sample
from attnunet.data.samples import SampleError, augment_sample
from attnunet.data.slices import DataError

SETS = ("none", "light", "mri")
SEEDS = range(60)


def composed(name: str) -> Augment:
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return objects.make(compose("train", overrides=[f"augment={name}"]).augment, "augment")()


@pytest.fixture(scope="module", params=SETS)
def augment(request: pytest.FixtureRequest) -> Augment:
    return composed(request.param)


@pytest.fixture(scope="module", params=("light", "mri"))
def random_augment(request: pytest.FixtureRequest) -> Augment:
    return composed(request.param)


def square(channels: int = 3, size: int = 96) -> tuple[np.ndarray, np.ndarray]:
    """A bright square off the centre, and its mask."""
    mask = np.zeros((size, size, 1), np.uint8)
    mask[20:60, 30:70] = 1
    return np.repeat(np.where(mask, np.uint8(230), np.uint8(20)), channels, axis=2), mask


def results(augment: Augment, channels: int = 3) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    image, mask = square(channels)
    return (augment(image, mask, seed) for seed in SEEDS)


def equal(a: tuple[np.ndarray, np.ndarray], b: tuple[np.ndarray, np.ndarray]) -> bool:
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_types_and_shapes_are_kept(augment: Augment, channels: int) -> None:
    for image, mask in results(augment, channels):
        assert (image.dtype, image.shape) == (np.uint8, (96, 96, channels))
        assert (mask.dtype, mask.shape) == (np.uint8, (96, 96, 1))
        assert set(np.unique(mask)) == {0, 1}


def test_the_mask_goes_with_the_image(augment: Augment) -> None:
    for image, mask in results(augment):
        # Otsu's threshold, since brightness and contrast change too.
        _, bright = cv2.threshold(np.ascontiguousarray(image[..., 1]), 0, 1, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
        assert 2 * (bright & mask[..., 0]).sum() / (bright.sum() + mask.sum()) > 0.9


def test_the_random_sets_move_and_the_empty_one_does_not() -> None:
    _, original = square()
    moved = {name: np.mean([not np.array_equal(mask, original) for _, mask in results(composed(name))]) for name in SETS}
    assert moved["none"] == 0
    assert moved["light"] > 0.6
    assert moved["mri"] > 0.6


def test_mri_changes_intensities_of_all_channels_alike() -> None:
    """Channels are sequences: nothing that shifts hue. Noise is drawn per channel, so that means are compared."""
    means = np.array([image.mean(axis=(0, 1)) for image, _ in results(composed("mri"))])
    assert np.ptp(means, axis=1).max() < 1
    assert np.ptp(means[:, 0]) > 20


@pytest.mark.parametrize(("name", "moved"), [("sequence_dropout", "light"), ("mri_dropout", "mri")])
def test_a_dropout_of_sequences_comes_after_the_other_changes(name: str, moved: str) -> None:
    """FLAIR is as without dropout, and a quarter of the images have an exact copy of it, with its noise, in each channel."""
    image, mask = square()
    image[..., 0] = 255 - image[..., 1]
    dropped, kept = ([augment(image, mask, seed)[0] for seed in SEEDS] for augment in (composed(name), composed(moved)))
    assert all(np.array_equal(a[..., 1], b[..., 1]) for a, b in zip(dropped, kept, strict=True))
    copied = np.mean([np.array_equal(a[..., 0], a[..., 1]) for a in dropped])
    assert 0.1 < copied < 0.4
    assert not any(np.array_equal(a[..., 0], a[..., 1]) for a in kept)


def test_the_input_is_left_as_it_was(random_augment: Augment) -> None:
    image, mask = square()
    for seed in SEEDS:
        random_augment(image, mask, seed)
    assert equal((image, mask), square())


def test_a_seed_gives_the_same_bits_and_another_seed_others(random_augment: Augment) -> None:
    first, again = list(results(random_augment)), list(results(random_augment))
    assert all(map(equal, first, again))
    image, mask = square()
    # What was drawn before does not matter.
    assert equal(first[7], random_augment(image, mask, 7))
    distinct = {a.tobytes() + b.tobytes() for a, b in first}
    assert len(distinct) > 0.75 * len(first)  # a few are left as they are, or only flipped


def test_threads_do_not_disturb_each_other(random_augment: Augment) -> None:
    image, mask = square()
    with ThreadPoolExecutor(2) as pool:
        parallel = list(pool.map(lambda seed: random_augment(image, mask, seed), SEEDS))
    assert all(map(equal, parallel, results(random_augment)))


def test_pickled_it_is_the_same(random_augment: Augment) -> None:
    assert all(map(equal, results(pickle.loads(pickle.dumps(random_augment))), results(random_augment)))


def made(name: str = "albumentations.Affine", **arguments: Any) -> Augment:
    transform = {"_target_": name, "_partial_": True, **arguments}
    node = OmegaConf.create({"_target_": "attnunet.data.augment.Augment", "transforms": [transform]})
    return objects.make(node, "augment")()


# As outside pytest: Augment must make an error of what albumentations only warns of, from the module that calls it.
@pytest.mark.filterwarnings("default::UserWarning:hydra._internal.target_policy")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"rotat": 5}, "'rotat' are not valid for transform Affine"),
        ({"scale": "big"}, "scale"),
        ({"p": 3}, "p\n.*less than or equal to 1"),
        ({"rotate": [1, 2, 3]}, "rotate"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], message: str) -> None:
    assert made(rotate=5)
    with pytest.raises(DataError, match=rf"(?s)augment\.transforms: .*{message}"):
        made(**arguments)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "image_type"), [(16, "uint8"), (33, "uint8"), (128, "uint8"), (33, "float16")])
def test_the_sets_of_conf_hold_what_the_network_needs(augment: Augment, size: int, channels: int, image_type: str) -> None:
    check_augmentation(augment, size, channels, image_type)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        # p=0.01: a transform that seldom fires is looked at too.
        (
            {"name": "albumentations.Rotate", "limit": 45, "border_mode": 0, "fill_mask": 255, "p": 0.01},
            r"transforms.0 \(Rotate\): the mask of 0 and 1 holds 255; allowed: 0 and 1",
        ),
        ({"name": "albumentations.Normalize"}, r"transforms.0 \(Normalize\): the image became float32; allowed: uint8"),
        (
            {"name": "albumentations.RandomCrop", "height": 16, "width": 16},
            r"transforms.0 \(RandomCrop\): the image of shape \(32, 32, 3\) became \(16, 16, 3\); allowed: the same shape",
        ),
        (
            {"name": "albumentations.RandomCrop", "height": 64, "width": 64},
            r"transforms.0 \(RandomCrop\): it fails on an image of shape \(32, 32, 3\): ",
        ),
        ({"name": "albumentations.ToGray", "num_output_channels": 1}, r"transforms.0 \(ToGray\): the image of shape"),
    ],
)
def test_what_a_transform_makes_is_looked_at_before_a_run(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"augment: {message}"):
        check_augmentation(made(**transform), 32, 3)


@pytest.mark.parametrize(
    ("transform", "message"),
    [
        ({"name": "albumentations.Normalize"}, r"\(Normalize\): the image of numbers from 0 to 1 holds -.* allowed: 0 to 1"),
        ({"name": "albumentations.FromFloat", "dtype": "uint8"}, r"\(FromFloat\): the image became uint8; allowed: float32"),
    ],
)
def test_real_numbers_stay_real_numbers_from_0_to_1(transform: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=f"augment: transforms.0 {message}"):
        check_augmentation(made(**transform), 32, 3, "float16")


def test_an_image_that_becomes_nan_is_refused() -> None:
    with pytest.raises(SampleError, match="the image of numbers from 0 to 1 holds nan to nan"):
        augment_sample(lambda image, mask, _: (image * np.float32(np.nan), mask), *sample(8, 1, "float16"), 0)


def test_transforms_are_named_by_their_place() -> None:
    transforms = [{"_target_": f"albumentations.{name}", "_partial_": True} for name in ("HorizontalFlip", "Normalize")]
    node = OmegaConf.create({"_target_": "attnunet.data.augment.Augment", "transforms": transforms})
    with pytest.raises(DataError, match=r"transforms.1 \(Normalize\)"):
        check_augmentation(objects.make(node, "augment")(), 32, 3)


def test_a_class_that_albumentations_removed_is_refused() -> None:
    with pytest.raises(config.ConfigError, match=r"augment: _target_=albumentations\.Flip: there is no such function"):
        made("albumentations.Flip")


def test_what_is_no_transform_is_refused() -> None:
    with pytest.raises(DataError, match=r"augment\.transforms\.0: makes a BboxParams; allowed: a transform of albumentations"):
        made("albumentations.BboxParams", format="coco")


def whitened(image: np.ndarray, mask: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An augmentation of a user's own."""
    return image, mask * np.uint8(255 if seed == 3 else 1)


def test_an_augmentation_of_the_users_own_is_looked_at_too() -> None:
    with pytest.raises(DataError, match="augment: all together: the mask of 0 and 1 holds 255"):
        check_augmentation(whitened, 32, 3)


def test_a_sequence_stands_in_for_others() -> None:
    """Each of two channels is replaced half the time: neither, one, the other and both have a quarter of the draws each."""
    image = np.arange(3, dtype=np.uint8) * np.ones((8, 8, 1), np.uint8)
    augment = Augment([partial(SequenceDropout, channel=1, p=1)])
    found = [tuple(augment(image, image[..., :1] * 0, seed)[0][0, 0].tolist()) for seed in range(400)]
    shares = {values: found.count(values) / 400 for values in sorted(set(found))}
    assert shares == pytest.approx({(0, 1, 1): 0.25, (0, 1, 2): 0.25, (1, 1, 1): 0.25, (1, 1, 2): 0.25}, abs=0.09)


def test_a_sequence_that_is_not_there_cannot_stand_in() -> None:
    with pytest.raises(
        DataError, match=r"transforms\.0 \(SequenceDropout\): .*channel=1: the image has 1 channels; allowed: 0 to 0"
    ):
        check_augmentation(Augment([partial(SequenceDropout, channel=1)]), 32, 1)
