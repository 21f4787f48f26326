"""Many volumes through one network or several: full batches, errors in their place, bounded reading ahead, and means."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

from attnunet.data.slices import DataError
from attnunet.errors import UserError
from attnunet.inference.ensemble import Ensemble
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.stream import AHEAD, Prediction, Scan
from attnunet.metrics.decision import Decision

Engine = Callable[[np.ndarray], np.ndarray]
SIZE = 4


def logit(probability: np.ndarray | float) -> np.ndarray:
    return np.log(probability / (1 - np.asarray(probability, np.float64)))


def says(probability: float) -> Engine:
    """A network that gives each pixel the same probability."""
    return lambda images: np.full((*images.shape[:3], 1), logit(probability), np.float32)


def bright(images: np.ndarray) -> np.ndarray:
    """A network whose logit is the first channel, of which 100 becomes 0."""
    return images[..., :1].astype(np.float32) / 50 - 2


def predictor(engine: Engine = bright, batch_size: int = 4, size: int = SIZE, **preparation: object) -> Predictor:
    prepared = Preparation(size, ("a", "b"), ("a",), "raw", **preparation)  # type: ignore[arg-type]
    return Predictor(None, prepared, batch_size=batch_size, engine=engine)  # type: ignore[arg-type]


def volume(depth: int, seed: int = 0, shape: tuple[int, int] = (SIZE, SIZE)) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (depth, *shape, 2), dtype=np.uint8)


def scan(depth: int, seed: int = 0) -> Scan:
    return volume(depth, seed), None


def counting(sizes: list[int]) -> Engine:
    def engine(images: np.ndarray) -> np.ndarray:
        sizes.append(len(images))
        return bright(images)

    return engine


def predictions(found: Iterator[Prediction | Exception]) -> list[Prediction]:
    results = list(found)
    assert all(isinstance(each, Prediction) for each in results), results
    return results  # type: ignore[return-value]


def test_batches_are_full_across_volumes() -> None:
    sizes: list[int] = []
    found = predictions(predictor(counting(sizes)).predict([scan(3), scan(6, 1), scan(1, 2)]))
    assert sizes == [4, 4, 2]
    for seed, (depth, prediction) in enumerate(zip((3, 6, 1), found, strict=True)):
        expected = 1 / (1 + np.exp(-bright(volume(depth, seed))[..., 0]))
        np.testing.assert_allclose(prediction.probabilities, expected, atol=1e-6)
        assert prediction.probabilities.dtype == np.float32
        np.testing.assert_array_equal(prediction.mask, volume(depth, seed)[..., 0] >= 100)
        assert prediction.mask.dtype == np.uint8
        assert prediction.uncertainty is None


@pytest.mark.parametrize(("depth", "sizes"), [(1, [1]), (37, [32, 4, 1]), (40, [32, 8]), (64, [32, 32])])
def test_no_slice_is_computed_in_vain(depth: int, sizes: list[int]) -> None:
    seen: list[int] = []
    predictor(counting(seen), batch_size=32).segment(volume(depth))
    assert seen == sizes


def test_a_volume_has_the_same_prediction_alone_and_among_others() -> None:
    among = predictions(predictor().predict([scan(depth, depth) for depth in (5, 2, 9)]))
    for depth, found in zip((5, 2, 9), among, strict=True):
        alone = predictor().predict_one(*scan(depth, depth))
        np.testing.assert_array_equal(found.probabilities, alone.probabilities)
        np.testing.assert_array_equal(found.mask, alone.mask)


def test_an_empty_stream_has_no_predictions() -> None:
    assert list(predictor().predict([])) == []


def test_an_error_takes_the_place_of_its_volume_and_stops_no_other() -> None:
    def broken() -> Scan:
        raise DataError("b.nii: damaged")

    lost = OSError("gone")
    items = [scan(3), broken, lost, (volume(2)[..., :1], None), lambda: scan(2, 1), (volume(2).astype(float) + 0.5, None)]
    first, *errors, last, values = predictor().predict(items)
    assert isinstance(first, Prediction)
    assert isinstance(last, Prediction)
    np.testing.assert_array_equal(last.mask, predictor().segment(volume(2, 1)))
    assert [type(error) for error in errors] == [DataError, OSError, ValueError]
    assert str(errors[0]) == "b.nii: damaged"
    assert errors[1] is lost
    assert "a volume is numbers (slices, height, width, 2: a, b), found uint8 (2, 4, 4, 1)" in str(errors[2])
    assert "data.intensity=raw" in str(values)


def test_the_error_of_a_single_volume_is_raised() -> None:
    with pytest.raises(ValueError, match="a volume is numbers"):
        predictor().predict_one(volume(2)[..., :1])


def test_a_network_that_fails_ends_the_stream() -> None:
    endless = predictor(lambda images: np.full((*images.shape[:3], 1), np.inf, np.float32))
    with pytest.raises(FloatingPointError, match="logits are not finite"):
        list(endless.predict([scan(1)]))


def test_few_volumes_are_read_ahead() -> None:
    """So memory does not grow with their number."""
    read: list[int] = []

    def reader(number: int) -> Callable[[], Scan]:
        return lambda: (read.append(number), scan(4))[1]

    waiting = [len(read) - number for number, _ in enumerate(predictor().predict(reader(n) for n in range(40)))]
    assert len(waiting) == 40
    assert max(waiting) <= 2 * AHEAD + 2


def test_a_stream_that_is_left_reads_no_more_and_leaves_no_thread() -> None:
    read: list[int] = []
    before = threading.active_count()
    stream = predictor().predict(lambda: (read.append(0), scan(4))[1] for _ in range(40))
    next(stream)
    assert threading.active_count() > before
    stream.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
    assert len(read) < 10


# Channels and settings.


def test_a_network_takes_the_channels_that_it_uses() -> None:
    assert predictor().file_channels == ("a", "b")
    assert predictor().channels == ("a",)
    narrow = predictor().taking(["a"])
    np.testing.assert_array_equal(narrow.segment(volume(2)[..., :1]), predictor().segment(volume(2)))
    turned = predictor().taking(["b", "a"])
    np.testing.assert_array_equal(turned.segment(volume(2)[..., ::-1]), predictor().segment(volume(2)))
    with pytest.raises(ValueError, match="the network takes the channels a; lacking: a"):
        predictor().taking(["b"])


def test_settings_replace_what_was_frozen() -> None:
    frozen = replace(predictor(), decision=Decision(0.3, 7, True))
    assert frozen.adjusted() == frozen
    assert frozen.adjusted(flip="frozen", threshold="frozen", smallest_lesion="frozen", fill_holes="frozen") == frozen
    other = frozen.adjusted(flip=True, batch_size=8, threshold=0.9, fill_holes=False)
    assert (other.flip, other.batch_size, other.decision) == (True, 8, Decision(0.9, 7, False))
    joined = Ensemble((frozen, frozen), Decision()).adjusted(flip=True, batch_size=8, smallest_lesion=5)
    assert [(member.flip, member.batch_size) for member in joined.members] == [(True, 8)] * 2
    assert joined.decision == Decision(0.5, 5, False)


# Ensembles and flips.


def test_an_ensemble_is_the_mean_of_its_members() -> None:
    """0.2, 0.9 and 0.7 have the mean 0.6 and the standard deviation 0.294 (divisor 3)."""
    ensemble = Ensemble(tuple(predictor(says(p)) for p in (0.2, 0.9, 0.7)), Decision(0.55))
    found = ensemble.predict_one(volume(2), uncertainty=True)
    np.testing.assert_allclose(found.probabilities, 0.6, atol=1e-6)
    assert found.mask.all()
    assert found.uncertainty is not None
    np.testing.assert_allclose(found.uncertainty, np.sqrt((0.16 + 0.09 + 0.01) / 3), atol=1e-6)
    assert found.uncertainty.dtype == np.float32
    assert not ensemble.adjusted(threshold=0.65).segment(volume(2)).any()
    np.testing.assert_array_equal(found.probabilities, ensemble.probabilities_of(volume(2)))


def left(images: np.ndarray) -> np.ndarray:
    """A network that gives the probability 0.8 to the left half of an image, and 0.4 to the other half."""
    half = np.where(np.arange(images.shape[2]) < images.shape[2] // 2, logit(0.8), logit(0.4))
    return np.broadcast_to(half[:, None], (*images.shape[:3], 1)).astype(np.float32)


def test_flips_are_views_of_a_voxel() -> None:
    """Left and right get 0.8 and 0.4 each: mean 0.6, standard deviation 0.2."""
    flipped = predictor(left).adjusted(flip=True)
    found = flipped.predict_one(volume(1), uncertainty=True)
    np.testing.assert_allclose(found.probabilities, 0.6, atol=1e-6)
    assert found.uncertainty is not None
    np.testing.assert_allclose(found.uncertainty, 0.2, atol=1e-6)
    alone = predictor(left).predict_one(volume(1), uncertainty=True)
    assert alone.uncertainty is not None
    assert not alone.uncertainty.any()
    np.testing.assert_allclose(alone.probabilities[0, 0], [0.8, 0.8, 0.4, 0.4], atol=1e-6)


def test_members_of_other_image_sizes_are_averaged_at_native_size() -> None:
    small, large = predictor(left), predictor(left, size=8)
    whole = volume(3, shape=(6, 10))
    expected = (small.probabilities_of(whole) + large.probabilities_of(whole)) / 2
    found = Ensemble((small, large), Decision()).probabilities_of(whole)
    assert found.shape == (3, 6, 10)
    np.testing.assert_array_equal(found, expected)
    assert np.abs(found - small.probabilities_of(whole)).max() > 0.01


def test_members_with_one_preparation_share_the_prepared_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    prepared: list[int] = []
    plain = Preparation.__call__
    monkeypatch.setattr(Preparation, "__call__", lambda self, *given: prepared.append(self.image_size) or plain(self, *given))
    members = predictor(), predictor(says(0.5)), predictor(size=8)
    predictions(Ensemble(members, Decision()).predict([scan(2), scan(3)]))
    assert sorted(prepared) == [4, 4, 8, 8]


@pytest.mark.parametrize(
    ("key", "value", "told"),
    [
        ("file_channels", ("a", "c"), "file_channels is a, b in member 1, and a, c in member 2"),
        ("plane", "coronal", "plane is axial in member 1, and coronal in member 2"),
    ],
)
def test_members_that_take_other_volumes_are_refused(key: str, value: object, told: str) -> None:
    one = predictor()
    other = replace(one, preparation=replace(one.preparation, **{key: value}))
    with pytest.raises(UserError, match=told):
        Ensemble((one, other), Decision())
