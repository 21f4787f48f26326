"""The predictor: the same numbers whichever way slices come in, and what it refuses."""

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Literal

import keras
import numpy as np
import pytest
import tifffile

from attnunet.data.cache import Prepared, prepare
from attnunet.data.frames import make_frame, resize
from attnunet.data.images import read_image
from attnunet.data.lgg import lgg as read
from attnunet.data.table import table as read_table
from attnunet.evaluation.patients import Rows, score_patients
from attnunet.evaluation.pictures import find_examples
from attnunet.inference.inputs import find
from attnunet.inference.predictor import Predictor, Preparation, load_network, sigmoid
from attnunet.metrics.decision import Decision
from attnunet.models.attention_resunet import attention_resunet
from attnunet.training.build import take_images
from tests.conftest import ROUNDING, write_patient

lgg = partial(read, intensity="raw")  # pixels as in the files, unless a test asks otherwise

# Keras 3.15 saves its variables through an __array__ of TensorFlow's that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZE, NATIVE, SLICES = 16, 24, 5  # 5 slices fill one batch of 4 and begin another
PATIENTS = {"TCGA_CS_4000_20000101": 1, "TCGA_DU_4001_20000101": 2}


def tiny(channels: int = 3, gate: str = "additive") -> keras.Model:
    """A network whose weights and running statistics are random, so that every part shows in its logits."""
    network = attention_resunet(SIZE, channels, [4, 8], keras.layers.Conv2D, gate=gate)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    network.set_weights(
        [rng.uniform(0.1, 0.6, w.shape) * (w.ndim < 2 or rng.choice([-1, 1], w.shape)) for w in network.get_weights()]
    )
    return network


@pytest.fixture(scope="module")
def network() -> keras.Model:
    return tiny()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("inference") / "kaggle_3m"
    for patient, seed in PATIENTS.items():
        write_patient(root, patient, slices=SLICES, size=NATIVE, seed=seed)
    return root


def prepared_as(root: Path, **settings: object) -> Prepared:
    return prepare(lgg(str(root), **settings), SIZE, root.parent / "cache")  # type: ignore[arg-type]


def predictor_for(prepared: Prepared, network: keras.Model, threshold: float = 0.5) -> Predictor:
    """With the threshold in the middle of what this network says, so that masks hold both values."""
    preparation = Preparation(SIZE, prepared.file_channels, prepared.channels, prepared.intensity)
    return Predictor(network, preparation, Decision(threshold), batch_size=4)


@pytest.fixture(scope="module")
def prepared(root: Path) -> Prepared:
    return prepared_as(root)


@pytest.fixture(scope="module")
def predictor(prepared: Prepared, network: keras.Model) -> Predictor:
    predictor = predictor_for(prepared, network)
    return replace(predictor, decision=Decision(middle(predictor, prepared)))


def middle(predictor: Predictor, prepared: Prepared) -> float:
    return float(np.median(list(predictor.probabilities(prepared, range(len(prepared.slices))))))


def volume(prepared: Prepared, patient: str) -> np.ndarray:
    """The patient's slices as its files hold them."""
    return np.stack([read_image(s.image, 3) for s in prepared.slices if s.patient == patient])


def test_logits_of_a_partial_batch_are_those_of_the_full_one(predictor: Predictor, prepared: Prepared) -> None:
    full = predictor.logits(prepared.images[:4])
    assert full.shape == (4, SIZE, SIZE, 1)
    assert full.dtype == np.float32
    assert len(np.unique(full)) > 100  # a constant network would pass everything below
    for size in (1, 2, 3):
        np.testing.assert_allclose(predictor.logits(prepared.images[:size]), full[:size], rtol=0, atol=ROUNDING)


def test_logits_of_a_slice_do_not_depend_on_its_place(predictor: Predictor, prepared: Prepared) -> None:
    full = predictor.logits(prepared.images[:4])
    np.testing.assert_array_equal(predictor.logits(prepared.images[[3, 1, 2, 0]]), full[[3, 1, 2, 0]])


def test_logits_are_those_of_the_network_in_inference(predictor: Predictor, prepared: Prepared) -> None:
    expected = predictor.network(prepared.images[:4], training=False).numpy()
    np.testing.assert_allclose(predictor.logits(prepared.images[:4]), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("indices", [[0], [7, 2, 5], list(range(10)), []])
def test_probabilities_are_the_resized_sigmoid(predictor: Predictor, prepared: Prepared, indices: list[int]) -> None:
    maps = list(predictor.probabilities(prepared, indices))
    assert len(maps) == len(indices)
    for index, probability in zip(indices, maps, strict=True):
        logits = predictor.logits(prepared.images[[index]])[0, ..., 0].astype(np.float64)
        expected = resize((1 / (1 + np.exp(-logits))).astype(np.float32), (NATIVE, NATIVE))
        assert probability.dtype == np.float32
        np.testing.assert_allclose(probability, expected, atol=1e-6)


@pytest.mark.parametrize("shape", [(SIZE, SIZE), (37, 29), (7, 11), (9, 40)])
def test_probabilities_at_native_size_stay_between_zero_and_one(shape: tuple[int, int]) -> None:
    logits = np.random.default_rng(0).choice([-1e4, -3.0, 0.0, 2.0, 1e4], (SIZE, SIZE, 1)).astype(np.float32)
    probability = make_frame(shape, SIZE).restore(sigmoid(logits))
    assert probability.shape == shape
    assert probability.dtype == np.float32
    assert 0 <= probability.min() < 0.3
    assert 0.7 < probability.max() <= 1


@pytest.mark.parametrize("z", [-1e30, -5.0, 0.0, 5.0, 1e30])
def test_the_sigmoid_is_keras(z: float) -> None:
    expected = keras.ops.convert_to_numpy(keras.ops.sigmoid(np.float32(z)))
    np.testing.assert_allclose(sigmoid(np.full((2, 2, 1), z, np.float32)), expected, rtol=1e-6, atol=1e-30)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"intensity": "percentile"},
        {"intensity": "zscore"},
        {"channels": ["flair"]},
        {"channels": ["post", "pre"], "intensity": "zscore"},
    ],
    ids=["raw", "percentile", "zscore", "one channel", "two channels reversed"],
)
def test_segment_equals_the_thresholded_probabilities_of_prepared(root: Path, settings: dict[str, object]) -> None:
    """A volume from outside goes the way that training's slices went."""
    prepared = prepared_as(root, **settings)
    predictor = predictor_for(prepared, tiny(len(prepared.channels)))
    predictor = replace(predictor, decision=Decision(middle(predictor, prepared)))
    for patient, indices in prepared.patients.items():
        expected = np.stack(list(predictor.probabilities(prepared, indices))) >= predictor.decision.threshold
        found = predictor.segment(volume(prepared, patient))
        assert found.dtype == np.uint8
        assert 0.05 < expected.mean() < 0.95
        np.testing.assert_array_equal(found, expected.astype(np.uint8))


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
def test_intensity_changes_what_the_network_sees(root: Path, intensity: str) -> None:
    """Else the test above would pass with a predictor that forgets it."""
    assert not np.array_equal(prepared_as(root).images, prepared_as(root, intensity=intensity).images)


@pytest.mark.parametrize("intensity", ["percentile", "zscore"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32])
def test_slices_of_any_numbers_train_predict_and_are_served_by_the_same_values(
    dtype: type, intensity: Literal["percentile", "zscore"], tmp_path: Path
) -> None:
    rng, rows = np.random.default_rng(0), ["patient,image,mask"]
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "mask.tif", np.zeros((20, 24), np.uint8))
    for number in range(3):
        pixels = rng.integers(0, 250, (20, 24)) if dtype == np.uint8 else rng.integers(-9000, 9000, (20, 24)) * 3.3
        tifffile.imwrite(tmp_path / "in" / f"{number}.TIF", (pixels + 30000 if dtype == np.uint16 else pixels).astype(dtype))
        rows.append(f"p,in/{number}.TIF,mask.tif")
    (tmp_path / "table.csv").write_text("\n".join(rows))
    trained = prepare(read_table(str(tmp_path / "table.csv"), ["grey"], intensity=intensity), SIZE, tmp_path / "cache")
    preparation = Preparation(SIZE, ("grey",), ("grey",), intensity, dtype=trained.dtype)
    (source,) = find(tmp_path / "in").volumes
    new = source.read(1, "axial")
    assert new.dtype == dtype
    np.testing.assert_array_equal(preparation(new), trained.images)
    np.testing.assert_array_equal(preparation(new.astype(preparation.dtype)), trained.images)


def test_a_network_of_float16_images_has_the_same_layers_and_weights(network: keras.Model, tmp_path: Path) -> None:
    changed = take_images(network, "float16")
    assert (network.inputs[0].dtype, changed.inputs[0].dtype, changed.name) == ("uint8", "float16", network.name)
    assert take_images(network, "uint8") is network
    assert take_images(changed, "float16") is changed
    images = np.random.default_rng(0).integers(0, 256, (2, SIZE, SIZE, 3)).astype(np.float16)
    logits = np.asarray(changed(images))
    np.testing.assert_array_equal(logits, network(images.astype(np.uint8)))
    assert not np.array_equal(logits, changed(images + np.float16(0.25)))
    changed.save(tmp_path / "network.keras")
    np.testing.assert_array_equal(load_network(tmp_path / "network.keras")(images), logits)


def test_a_predictor_of_float16_images_prepares_as_its_training_did(root: Path, network: keras.Model, tmp_path: Path) -> None:
    prepared = prepare(read(str(root)), SIZE, tmp_path / "cache", "float16")
    predictor = predictor_for(prepared, network)
    predictor = replace(predictor, preparation=replace(predictor.preparation, image_type="float16"))
    predictor.save(tmp_path / "saved")
    preparation = Predictor.load(tmp_path / "saved").preparation
    for patient, indices in prepared.patients.items():
        np.testing.assert_array_equal(preparation(volume(prepared, patient)), prepared.images[indices])


def test_a_slice_is_a_volume_of_depth_one(predictor: Predictor, prepared: Prepared) -> None:
    patient = volume(prepared, next(iter(PATIENTS)))
    whole = predictor.segment(patient)
    for number in (0, 3):
        alone = predictor.segment(patient[number : number + 1])
        assert alone.shape == (1, NATIVE, NATIVE)
        np.testing.assert_array_equal(alone[0], whole[number])


def test_a_volume_need_not_be_square(predictor: Predictor) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (2, 20, 31, 3), dtype=np.uint8)
    found = predictor.segment(pixels)
    assert found.shape == (2, 20, 31)
    assert set(np.unique(found)) <= {0, 1}


@pytest.mark.parametrize(
    ("shape", "dtype"),
    [
        ((2, 8, 8, 1), np.uint8),
        ((2, 8, 8, 4), np.uint8),
        ((8, 8, 3), np.uint8),
        ((2, 8, 8), np.uint8),
        ((1, 2, 8, 8, 3), np.uint8),
        ((2, 8, 8, 3), bool),
        ((2, 8, 8, 3), np.complex64),
        ((0, 8, 8, 3), np.uint8),
    ],
)
def test_other_volumes_are_refused(predictor: Predictor, shape: tuple[int, ...], dtype: type) -> None:
    with pytest.raises(ValueError, match=r"numbers \(slices, height, width, 3: pre, flair, post\), found") as raised:
        predictor.segment(np.zeros(shape, dtype))
    assert str(raised.value).endswith(f"found {np.dtype(dtype)} {shape}")


def test_save_and_load_give_the_same_bits(predictor: Predictor, prepared: Prepared, tmp_path: Path) -> None:
    predictor = replace(predictor, decision=Decision(predictor.decision.threshold, 20, True), flip=True)
    predictor.save(tmp_path / "new" / "folder")
    loaded = Predictor.load(tmp_path / "new" / "folder")
    assert replace(loaded, network=predictor.network) == predictor
    assert {path.name for path in (tmp_path / "new" / "folder").iterdir()} == {"best.keras", "predictor.json"}
    np.testing.assert_array_equal(loaded.logits(prepared.images[:3]), predictor.logits(prepared.images[:3]))
    pixels = volume(prepared, next(iter(PATIENTS)))
    np.testing.assert_array_equal(loaded.segment(pixels), predictor.segment(pixels))


def test_a_process_that_only_predicts_knows_our_layers(predictor: Predictor, tmp_path: Path) -> None:
    predictor.save(tmp_path)
    imports = "from pathlib import Path; from attnunet.inference.predictor import Predictor"
    code = f"{imports}; Predictor.load(Path({str(tmp_path)!r}))"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_load_network_leaves_the_optimizer_out(tmp_path: Path) -> None:
    network = tiny()
    network.compile("adam", loss="mse")
    network.save(tmp_path / "network.keras")
    loaded = load_network(tmp_path / "network.keras")
    assert not loaded.compiled
    for found, saved in zip(loaded.get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(found, saved)


# Volumes.


def test_volumes_are_patients_with_their_slices_in_order(predictor: Predictor, prepared: Prepared) -> None:
    shuffled = [7, 0, 9, 4, 5, 1, 6]
    found = list(predictor.volumes(prepared, shuffled))
    assert [(v.name, v.indices) for v in found] == list(zip(PATIENTS, ([0, 1, 4], [5, 6, 7, 9]), strict=True))
    for volume_ in found:
        assert volume_.probabilities.dtype == np.float32
        alone = list(predictor.probabilities(prepared, volume_.indices))
        np.testing.assert_allclose(volume_.probabilities, alone, rtol=0, atol=ROUNDING)
    assert list(predictor.volumes(prepared, [])) == []


def test_volumes_are_predicted_once_in_full_batches_and_as_late_as_possible(
    predictor: Predictor, prepared: Prepared, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    plain = Predictor.logits
    monkeypatch.setattr(Predictor, "logits", lambda self, images: sizes.append(len(images)) or plain(self, images))
    volumes = predictor.volumes(prepared, range(10))
    next(volumes)
    assert sizes == [4, 4]  # five slices need two batches of four; the second patient has not been asked for
    assert len(list(volumes)) == 1
    assert sizes == [4, 4, 2]


def test_flip_is_the_mean_of_an_image_and_its_mirror_image(predictor: Predictor, prepared: Prepared) -> None:
    both = replace(predictor, flip=True)
    plain, mirrored = (predictor.logits(images)[..., 0] for images in (prepared.images[:3], prepared.images[:3, :, ::-1]))
    expected = [(1 / (1 + np.exp(-z)) + 1 / (1 + np.exp(-m[:, ::-1]))) / 2 for z, m in zip(plain, mirrored, strict=True)]
    np.testing.assert_allclose(both.predict_batch(prepared.images[:3]), expected, atol=1e-6)
    assert np.abs(both.predict_batch(prepared.images[:3]) - predictor.predict_batch(prepared.images[:3])).max() > 0.01
    other_way_round = both.predict_batch(prepared.images[:3, :, ::-1])[:, :, ::-1]
    np.testing.assert_allclose(other_way_round, both.predict_batch(prepared.images[:3]), atol=1e-6)


def test_post_processing_is_part_of_segment(predictor: Predictor, prepared: Prepared) -> None:
    pixels = volume(prepared, next(iter(PATIENTS)))
    plain = predictor.segment(pixels)
    tidy = replace(predictor, decision=replace(predictor.decision, smallest_lesion=20, fill_holes=True))
    expected = tidy.decision(predictor.probabilities_of(pixels))
    np.testing.assert_array_equal(tidy.segment(pixels), expected)
    assert (expected != plain).any()


# What a run reports of the predictor.


def test_scored_equals_segment_against_the_masks(predictor: Predictor, prepared: Prepared) -> None:
    patient, indices = list(prepared.patients.items())[1]
    (row,) = score_patients(predictor, prepared, indices, "test", resamples=99, tolerance=1).rows
    assert (row["part"], row["patient"], row["slices"]) == ("test", patient, SLICES)
    truth = np.stack([prepared.mask(index) for index in indices]).astype(bool)
    found = predictor.segment(volume(prepared, patient)).astype(bool)
    assert truth.any()
    expected = [(truth & found).sum(), (~truth & found).sum(), (truth & ~found).sum(), (~truth & ~found).sum()]
    assert [row[cell] for cell in ("tp", "fp", "fn", "tn")] == expected


def table(scores: Sequence[float]) -> Rows:
    return [{"patient": patient, "dice": score} for patient, score in zip(PATIENTS, scores, strict=False)]


@pytest.mark.parametrize(
    ("scores", "names"),
    [((0.3, 0.9), ["worst", "best"]), ((0.9, 0.3), ["best", "worst"]), ((float("nan"), 0.2), [None, "worst"])],
)
def test_examples_are_ranked_by_dice(
    predictor: Predictor, prepared: Prepared, scores: tuple[float, float], names: list[str | None]
) -> None:
    shown = find_examples(predictor, prepared, table(scores), range(10))
    expected = {name: patient for name, patient in zip(names, PATIENTS, strict=True) if name}
    assert {e.title.split(":")[0]: e.title.split()[1] for e in shown} == expected
    assert shown[0].title.startswith("worst")


def test_an_example_is_the_slice_with_the_largest_lesion(predictor: Predictor, prepared: Prepared) -> None:
    (shown,) = find_examples(predictor, prepared, table([0.25]), range(10))
    index = int(np.argmax(prepared.lesion_pixels[:SLICES]))
    number = prepared.slices[index].number
    assert shown.title == f"worst: {next(iter(PATIENTS))}"
    assert shown.note == f"slice {number}, Dice of the patient 0.250"
    np.testing.assert_array_equal(shown.truth, prepared.mask(index))
    np.testing.assert_array_equal(shown.prediction, predictor.segment(volume(prepared, next(iter(PATIENTS))))[index])
    np.testing.assert_array_equal(shown.image, resize(prepared.images[index][..., 1].copy(), (NATIVE, NATIVE)))
    (weights,) = shown.gates.values()
    assert weights.shape == (NATIVE, NATIVE)
    assert 0 < weights.min() < weights.max() < 1


def test_nothing_is_shown_where_no_dice_is_defined(predictor: Predictor, prepared: Prepared) -> None:
    assert find_examples(predictor, prepared, table([float("nan")] * 2), range(10)) == []


def test_the_gates_of_all_levels_cover_the_slice(prepared: Prepared) -> None:
    predictor = predictor_for(prepared, attention_resunet(SIZE, 3, [4, 8, 8], keras.layers.Conv2D))  # type: ignore[arg-type]
    (shown,) = find_examples(predictor, prepared, table([0.25]), range(10))
    assert list(shown.gates) == ["gate_0_map", "gate_1_map"]  # the second has half the rows and columns of the first
    for weights in shown.gates.values():
        assert weights.shape == (NATIVE, NATIVE)
        assert weights.min() > 0.2  # new gates are near 0.5 everywhere, and a margin would be 0


def test_a_network_without_gates_shows_none(prepared: Prepared) -> None:
    predictor = predictor_for(prepared, tiny(gate="none"))
    (shown,) = find_examples(predictor, prepared, table([0.25]), range(10))
    assert shown.gates == {}


@pytest.mark.slow
@pytest.mark.ci
def test_a_stream_costs_little_more_than_its_network() -> None:
    """In processor time, which other processes change little. Volumes of 40 that are filled up to 64 would reach 0.62."""
    size, depth, count = 256, 40, 4
    network = attention_resunet(size, 3, [16, 32, 64, 128, 256], keras.layers.SeparableConv2D)
    predictor = Predictor(network, Preparation(size, ("a", "b", "c"), ("a", "b", "c"), "zscore"), Decision(0.5, 100, True))
    ball = np.fromfunction(lambda y, x: (y - 128) ** 2 + (x - 128) ** 2 < 90**2, (size, size))
    noise = np.random.default_rng(0).integers(0, 20, (depth, size, size, 3), dtype=np.uint8)
    volume = noise + np.uint8(100) * ball[..., None]
    # The decision gets one lesion. Those of an untrained network are scattered, and there can be any number of them.
    predictor = replace(predictor, engine=lambda images: (network.predict_on_batch(images), images[..., :1] / 32.0 - 5)[1])
    batch = predictor.preparation(volume)[:32]
    network.predict_on_batch(batch)  # traced; the volumes fill five such batches

    ratios = []
    for _ in range(3):  # in turn, since other processes share the memory
        start = time.process_time()
        for _ in range(depth * count // 32):
            network.predict_on_batch(batch)
        alone, start = time.process_time() - start, time.process_time()
        found = predictor.predict((volume, None) for _ in range(count))
        assert min(each.mask.sum() for each in found) > 100_000  # type: ignore[union-attr]
        ratios.append(alone / (time.process_time() - start))
    assert median(ratios) > 0.8
