"""What a logged model answers to a request: the mask of the predictor, or a sentence."""

import base64
import io
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.served import RequestError, Served, encode
from attnunet.metrics.decision import Decision
from attnunet.tracking.answers import Answers, BadRequest
from tests.test_inference import SIZE, tiny

NAMES = ("pre", "flair", "post")
SHAPE = (3, 20, 24, 3)
VOLUME = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    predictor = Predictor(tiny(), Preparation(SIZE, NAMES, NAMES, "zscore"), batch_size=4)
    middle = float(np.median(predictor.probabilities_of(VOLUME)))
    return replace(predictor, decision=Decision(middle))


@pytest.fixture(scope="module")
def served(predictor: Predictor) -> Served:
    return Served(predictor)


def as_json(volume: np.ndarray) -> np.ndarray:
    """The volume as MLflow's server passes JSON's lists on."""
    return np.array(json.loads(json.dumps(volume.tolist())), dtype=object)


def as_text(volume: np.ndarray) -> np.ndarray:
    return np.array(encode(volume), dtype=object)


def decoded(text: Any) -> np.ndarray:
    return np.load(io.BytesIO(base64.b64decode(text, validate=True)))


VOLUMES = {
    "uint8": VOLUME,
    "int16": VOLUME.astype(np.int16) * 20 - 900,
    "uint16": VOLUME.astype(np.uint16) * 250,
    "int64": VOLUME.astype(np.int64) * 2**33,
    "float32": VOLUME / np.float32(256),
    "float64": VOLUME / 3.7,
    "float16": (VOLUME / 256).astype(np.float16),
    ">f4": (VOLUME / 256).astype(">f4"),
}


@pytest.mark.parametrize("kind", VOLUMES)
@pytest.mark.parametrize("form", [np.asarray, as_json, as_text, lambda volume: as_text(np.asfortranarray(volume))])
def test_every_type_and_form_gets_the_mask_of_the_predictor(
    kind: str, form: Callable[[np.ndarray], np.ndarray], predictor: Predictor, served: Served
) -> None:
    volume = VOLUMES[kind]
    expected = predictor.segment(volume)
    assert 0.05 < expected.mean() < 0.95
    answer = served.predict(form(volume))
    np.testing.assert_array_equal(decoded(answer) if isinstance(answer, str) else answer, expected)


def test_the_mask_has_the_form_of_the_volume(served: Served) -> None:
    assert isinstance(served.predict(as_json(VOLUME)), np.ndarray)
    mask = decoded(served.predict(as_text(VOLUME)))
    assert (mask.shape, mask.dtype) == (SHAPE[:3], np.uint8)


def test_values_from_0_to_1_get_the_mask_of_values_from_0_to_255(served: Served) -> None:
    """A network of uint8 images used to round such values to 0, and to answer with an empty mask."""
    np.testing.assert_array_equal(served.predict(as_json(VOLUME / 256)), served.predict(VOLUME))


def test_raw_intensities_refuse_values_from_0_to_1(predictor: Predictor) -> None:
    raw = Answers(Served(replace(predictor, preparation=replace(predictor.preparation, intensity="raw"))))
    with pytest.raises(BadRequest, match=r"data.intensity=raw: values from 0 to 0\.99.*; allowed: whole numbers"):
        raw.predict(as_json(VOLUME / 256))


def test_sequences_may_come_in_any_order_and_with_others_between(predictor: Predictor, served: Served) -> None:
    shuffled = np.stack([VOLUME[..., 2], VOLUME[..., 0] * 0, VOLUME[..., 1], VOLUME[..., 0]], axis=-1)
    mask = served.predict(shuffled, {"sequences": ["post", "t2", "flair", "pre"]})
    np.testing.assert_array_equal(mask, predictor.segment(VOLUME))
    assert not np.array_equal(mask, served.predict(shuffled[..., [0, 2, 3]]))


def test_only_what_the_network_uses_is_needed(predictor: Predictor) -> None:
    one = replace(predictor, network=tiny(1), preparation=replace(predictor.preparation, channels=("flair",)))
    one = replace(one, decision=Decision(float(np.median(one.probabilities_of(VOLUME)))))
    mask = Served(one).predict(VOLUME[..., 1:2], {"sequences": ["flair"]})
    np.testing.assert_array_equal(mask, one.segment(VOLUME))


def test_a_network_of_a_pixel_size_takes_the_spacing(predictor: Predictor) -> None:
    sized = replace(predictor, preparation=replace(predictor.preparation, pixel_size=1.0))
    mask = Served(sized).predict(VOLUME, {"spacing": [5.0, 0.8, 0.6]})
    expected = sized.decision(sized.probabilities_of(VOLUME, (5.0, 0.8, 0.6)))
    np.testing.assert_array_equal(mask, expected)
    assert not np.array_equal(mask, sized.decision(sized.probabilities_of(VOLUME, (5.0, 1.0, 1.0))))
    with pytest.raises(RequestError, match=r"spacing: is missing, but the network was trained on pixels of 1 mm; allowed"):
        Served(sized).predict(VOLUME)


def test_requests_that_arrive_together_get_their_own_masks(served: Served) -> None:
    volumes = [np.roll(VOLUME, shift, axis=2) for shift in range(6)]
    with ThreadPoolExecutor(6) as pool:
        masks = list(pool.map(served.predict, volumes))
    for volume, mask in zip(volumes, masks, strict=True):
        np.testing.assert_array_equal(mask, served.predict(volume))


@pytest.mark.parametrize(
    ("request_", "params", "sentence"),
    [
        (VOLUME[0], {}, r"volume: uint8 \(20, 24, 3\); allowed: numbers \(slices, height, width, 3: pre, flair, post\)"),
        (VOLUME[..., :2], {}, r"volume: uint8 \(3, 20, 24, 2\); allowed"),
        (VOLUME[:0], {}, r"volume: uint8 \(0, 20, 24, 3\); allowed"),
        (VOLUME > 9, {}, "volume: bool"),
        (VOLUME * 1j, {}, "volume: complex128"),
        (np.array([[[["a", "b", "c"]]]], dtype=object), {}, "volume: <U1"),
        (np.array([[[[None, 1, 2]]]], dtype=object), {}, "volume: object"),
        (np.array([[1], [1, 2]], dtype=object), {}, "volume: its lists differ in length; allowed: lists of equal length"),
        (np.array(5, dtype=object), {}, r"volume: uint8 \(\); allowed"),
        (np.full(SHAPE, np.nan), {}, "volume: holds values that are NaN or infinite; allowed: numbers"),
        (as_json(np.full(SHAPE, np.inf)), {}, "volume: holds values that are NaN or infinite"),
        (np.array("no?", dtype=object), {}, "volume: is text, but not base64"),
        (np.array("bm8=", dtype=object), {}, "volume: cannot be read as a .npy file"),
        (np.array(encode(VOLUME)[:-80], dtype=object), {}, "volume: cannot be read as a .npy file"),
        (np.array(encode(VOLUME) + "AAAA", dtype=object), {}, "volume: is text, but not base64"),
        (as_text(np.array([[[["a"]]]])), {}, "volume: <U1"),
        (VOLUME, {"sequences": ["pre", "t2", "post"]}, "sequences: pre, t2, post; allowed: one name for each"),
        (VOLUME, {"sequences": ["pre", "flair", "post", "pre"]}, "sequences: pre, flair, post, pre; allowed: one name"),
        (VOLUME, {"spacing": [1.0, 1.0]}, r"spacing: \[1.0, 1.0\]; allowed: the distances in mm"),
        (VOLUME, {"spacing": [1.0, 0.0, 1.0]}, "spacing: .*; allowed"),
        (VOLUME, {"spacing": [1.0, float("inf"), 1.0]}, "spacing: .*; allowed"),
    ],
)  # fmt: skip
def test_another_request_gets_a_sentence(request_: np.ndarray, params: dict[str, Any], sentence: str, served: Served) -> None:
    with pytest.raises(RequestError, match=sentence):
        served.predict(request_, params)


def test_a_pickle_in_a_npy_file_is_not_run(served: Served) -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([[[[{}]]]], dtype=object), allow_pickle=True)
    text = base64.b64encode(stream.getvalue()).decode()
    with pytest.raises(RequestError, match=r"volume: cannot be read as a \.npy file"):
        served.predict(np.array(text, dtype=object))


def test_a_refusal_does_not_repeat_the_request(served: Served) -> None:
    """MLflow's server writes the whole request, which can have 10 MB of text, in front of an error's message."""
    with pytest.raises(BadRequest) as raised:
        Answers(served).predict(as_text(VOLUME[0]))
    raised.value.message = f"Failed to predict data '{encode(VOLUME)}'"
    assert raised.value.get_http_status_code() == 400
    body = json.loads(raised.value.serialize_as_json())
    assert body["error_code"] == "INVALID_PARAMETER_VALUE"
    assert body["message"].startswith("volume: uint8 (20, 24, 3); allowed: numbers")
