"""The script of an exported bundle: the same masks as the predictor, without attnunet."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import keras
import numpy as np
import pytest
import tifffile
from keras import layers
from PIL import Image

from attnunet.data.images import read_image
from attnunet.data.slices import DataError
from attnunet.inference import script
from attnunet.inference.export import assemble, describe, export_predictor
from attnunet.inference.formats import FORMATS, Format
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.metrics.decision import Decision
from attnunet.models.attention_resunet import attention_resunet
from tests.test_images import keep_one_page


def load_brightness(_: Path) -> Callable[[np.ndarray], np.ndarray]:
    def logits(images: np.ndarray) -> np.ndarray:
        first, last = images[..., :1].astype(np.float32), images[..., -1:].astype(np.float32)
        return (first - np.roll(last, 1, axis=2) / 4 - 96) / 16

    return logits


class Brightness:
    """Stands for a network. The logit depends on the first channel of a pixel and the last of its left neighbour."""

    def predict_on_batch(self, images: np.ndarray) -> np.ndarray:
        return load_brightness(Path())(images)


RNG = np.random.default_rng(0)
FILE, SIZE = ("a", "b", "c"), (20, 30)
VOLUMES = {
    "uint8": RNG.integers(0, 256, (5, *SIZE, 3), dtype=np.uint8),
    "uint16": RNG.integers(0, 4096, (5, *SIZE, 3), dtype=np.uint16),
    "int16": RNG.integers(-1000, 3000, (5, *SIZE, 3)).astype(np.int16),
    "float32": RNG.normal(0, 1e-3, (5, *SIZE, 3)).astype(np.float32),
    "float64": RNG.normal(1e6, 10, (5, *SIZE, 3)),
    "constant": np.full((2, *SIZE, 3), 7, np.int16),
    "zero": np.zeros((2, *SIZE, 3), np.uint8),
}
CASES: dict[str, tuple[str, dict[str, Any], Predictor]] = {}


def case(name: str, volume: str, intensity: str = "zscore", size: int = 16, **settings: Any) -> None:
    preparation = {key: settings.pop(key) for key in ("pixel_size", "image_type", "neighbors") if key in settings}
    ready = Preparation(size, FILE, ("c", "a"), intensity, **preparation)
    CASES[name] = (volume, {}, Predictor(Brightness(), ready, batch_size=2, **settings))  # type: ignore[arg-type]


for of in VOLUMES:
    for how in ("zscore", "percentile"):
        case(f"{of} {how}", of, how)
case("uint8 raw", "uint8", "raw")
case("it grows", "uint8", size=40)
case("one side grows", "uint8", size=24)
case("nothing is resized", "uint8", size=20)
for of in ("uint16", "float64", "constant"):
    case(f"{of} float16", of, image_type="float16")
case("uint8 raw float16", "uint8", "raw", image_type="float16")
case("float16 is padded", "int16", "percentile", size=64, pixel_size=1.3, image_type="float16")
case("flipped", "uint8", flip=True)
case("with neighbours", "int16", neighbors=("a",))
case("with all neighbours as float16", "float32", image_type="float16", neighbors=("a", "c"))
case("post-processed", "uint8", "raw", decision=Decision(0.4, 9, True))
case("padded", "int16", size=64, pixel_size=1.3)
case("cut", "int16", size=8, pixel_size=0.7)


@pytest.mark.parametrize("name", CASES)
def test_the_script_gives_the_bits_of_the_predictor(name: str) -> None:
    volume, _, predictor = CASES[name]
    facts = json.loads(json.dumps(describe(predictor, "network.onnx")))
    spacing = [3.0, 0.9, 1.1]
    expected = predictor.decision(predictor.probabilities_of(VOLUMES[volume], spacing))
    found = script.segment(VOLUMES[volume], facts, predictor.network.predict_on_batch, spacing)
    assert (found.dtype, found.shape) == (np.uint8, VOLUMES[volume].shape[:3])
    np.testing.assert_array_equal(found, expected)
    assert volume in ("constant", "zero") or 0 < expected.mean() < 1


PREDICTOR = Predictor(
    Brightness(),  # type: ignore[arg-type]
    Preparation(16, FILE, ("c", "a"), "zscore"),
    Decision(0.4, 3, True),
)


def write_bundle(folder: Path) -> None:
    """Write a bundle whose network is a function in its script."""
    facts, form = describe(PREDICTOR, "none"), Format("none", print, load_brightness, ())  # type: ignore[arg-type]
    (folder / "predictor.json").write_text(json.dumps(facts))
    (folder / "predict.py").write_text(assemble(form))


def start(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Start the script of a bundle where attnunet, TensorFlow and Keras cannot be imported."""
    lines = "import sys, runpy; sys.modules.update(dict.fromkeys(sys.argv.pop(1).split(',')))"
    lines += "; sys.argv.pop(0); runpy.run_path(sys.argv[0], run_name='__main__')"
    lacking = "attnunet,tensorflow,keras"
    command = [sys.executable, "-c", lines, lacking, folder / "predict.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)


def test_the_script_reads_raw_images_and_writes_their_masks(tmp_path: Path) -> None:
    """Slices are in natural order, channels as they are stored; masks and hidden files are left out."""
    volume, expected = VOLUMES["uint8"], PREDICTOR.segment(VOLUMES["uint8"])
    write_bundle(tmp_path)
    (tmp_path / "in").mkdir()
    names = ["s_1.png", "s_2.TIF", "s_9.tiff", "s_10.png", "s_11.tif"]
    for name, image in zip(names, volume, strict=True):
        cv2.imwrite(str(tmp_path / "in" / name), image[..., ::-1])
    for name in ("s_1_mask.png", "._s_1.png", "notes.txt"):
        (tmp_path / "in" / name).write_text("not an image")
    result = start(tmp_path, tmp_path / "in", tmp_path / "out")
    assert (result.returncode, result.stderr) == (0, "")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(names)
    found = [cv2.imread(str(tmp_path / "out" / name), cv2.IMREAD_UNCHANGED) for name in names]
    np.testing.assert_array_equal(found, expected * 255)
    assert 0 < expected.mean() < 1


GREY, COLOUR = RNG.integers(0, 60_000, SIZE, np.uint16), RNG.integers(0, 60_000, (*SIZE, 3), np.uint16)
TIFF = {
    "grey": (GREY, {"photometric": "minisblack"}),
    "white is zero": (GREY, {"photometric": "miniswhite"}),
    "white is zero in 8 bits": (GREY.astype(np.uint8), {"photometric": "miniswhite"}),
    "one bit": (GREY > 30_000, {"photometric": "minisblack"}),
    "one bit, white is zero": (GREY > 30_000, {"photometric": "miniswhite"}),
    "negative numbers": (GREY.astype(np.int16), {"photometric": "minisblack"}),
    "real numbers": (GREY.astype(np.float32), {"photometric": "minisblack"}),
    "colours": (COLOUR, {"photometric": "rgb"}),
    "colours in planes": (np.moveaxis(COLOUR, -1, 0), {"photometric": "rgb", "planarconfig": "separate"}),
    "compressed": (COLOUR, {"photometric": "rgb", "compression": "lzw", "predictor": True}),
    "two channels": (COLOUR[..., :2], {"photometric": "minisblack", "planarconfig": "contig"}),
    "big-endian": (GREY, {"photometric": "miniswhite", "byteorder": ">"}),
    "32 bits": (GREY.astype(np.uint32) * 9999, {"photometric": "minisblack"}),
    "8 bits with a sign": (GREY.astype(np.int8), {"photometric": "minisblack"}),
    "real numbers of 64 bits": (GREY / 7, {"photometric": "minisblack", "byteorder": ">"}),
    "a stack of ImageJ with one slice": (GREY[None], {"imagej": True}),
}


@pytest.mark.parametrize("form", TIFF)
def test_the_script_reads_the_pixels_that_training_reads(form: str, tmp_path: Path) -> None:
    pixels, tags = TIFF[form]
    tifffile.imwrite(tmp_path / "s.tif", pixels, **tags)
    (found,), names = script.read(tmp_path)
    expected = read_image(str(tmp_path / "s.tif"), found.shape[2])
    assert (names, found.dtype) == (["s.tif"], expected.dtype)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "pixels", [GREY, GREY.astype(np.uint8), COLOUR, COLOUR.astype(np.uint8)], ids=lambda a: f"{a.ndim}{a.dtype}"
)
def test_the_script_reads_png_as_training_reads_it(pixels: np.ndarray, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "s.png"), pixels[..., ::-1] if pixels.ndim == 3 else pixels)
    (found,), _ = script.read(tmp_path)
    np.testing.assert_array_equal(found, read_image(str(tmp_path / "s.png"), found.shape[2]))
    np.testing.assert_array_equal(found, pixels.reshape(found.shape))


def test_the_script_refuses_slices_that_it_would_misread(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    folder = tmp_path / "in"
    folder.mkdir()
    told = {}
    for form, pixels, tags in [
        ("several types", GREY, {}),
        ("negative, white is zero", GREY.astype(np.int16), {"photometric": "miniswhite"}),
        ("palette", GREY.astype(np.uint8), {"photometric": "palette", "colormap": np.zeros((3, 256), np.uint16)}),
    ]:
        tifffile.imwrite(folder / "s_1.tif", pixels, **tags)
        if not tags:
            cv2.imwrite(str(folder / "s_2.png"), pixels.astype(np.uint8))
        result = start(tmp_path, folder, tmp_path / "out")
        assert result.returncode == 1
        told[form] = result.stderr
        (folder / "s_2.png").unlink(missing_ok=True)
    assert told["several types"] == f"{folder}: needed: slices (TIFF or PNG) of one size and type\n"
    assert "MINISWHITE" in told["negative, white is zero"]
    assert "PALETTE" in told["palette"]
    assert all(line.endswith("needed: RGB, or grey where black is zero\n") for line in [*told.values()][1:])
    assert not (tmp_path / "out").exists()


TURNED = {"photometric": "minisblack", "extratags": [(274, 3, 1, 6, True)]}
STACK = np.stack([GREY, GREY + 1])


def write_palette(path: Path) -> None:
    Image.fromarray(GREY.astype(np.uint8)).convert("P").save(path)


REFUSED: dict[str, tuple[str, Callable[[Path], None], str]] = {
    "orientation": (
        "s.tif",
        lambda path: tifffile.imwrite(path, GREY, **TURNED),
        "its orientation tag 6 turns the picture; needed: 1, so turn the pixels",
    ),
    "palette": ("s.png", write_palette, "has the colours of a palette; needed: RGB, or grey"),
    "stack of ImageJ in one page": (
        "s.tif",
        lambda path: keep_one_page(path, STACK),
        "has several pages; needed: a file for each slice, or a .npy",
    ),
    "stack of tifffile in one page": (
        "s.tif",
        lambda path: tifffile.imwrite(path, STACK, photometric="minisblack", truncate=True),
        "has several pages; needed: a file for each slice, or a .npy",
    ),
    "uint32, white is zero": (
        "s.tif",
        lambda path: tifffile.imwrite(path, GREY.astype(np.uint32), photometric="miniswhite"),
        "<PHOTOMETRIC.MINISWHITE: 0> of uint32; needed: RGB, or grey where black is zero",
    ),
}


@pytest.mark.parametrize("form", REFUSED)
def test_the_script_refuses_what_training_refuses(form: str, tmp_path: Path) -> None:
    name, write, told = REFUSED[form]
    write(tmp_path / name)
    with pytest.raises(SystemExit) as refused:
        script.read(tmp_path)
    assert str(refused.value) == f"{name}: {told}"
    with pytest.raises(DataError, match=str(tmp_path / name)):
        read_image(str(tmp_path / name), 1)


@pytest.mark.parametrize("value", [np.nan, 1e300])
def test_the_script_refuses_values_that_are_no_numbers(value: float, tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "in").mkdir()
    tifffile.imwrite(tmp_path / "in" / "s.tif", np.full((*SIZE, 3), value), photometric="rgb")
    result = start(tmp_path, tmp_path / "in", tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.endswith(f"{tmp_path / 'in'}: has values that are NaN or infinite; needed: numbers\n")
    assert not (tmp_path / "out").exists()


def test_the_script_refuses_images_of_several_pages(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "in").mkdir()
    cv2.imwritemulti(str(tmp_path / "in" / "pages.tif"), [*VOLUMES["uint8"]])
    result = start(tmp_path, tmp_path / "in", tmp_path / "out")
    told = "pages.tif: has several pages; needed: a file for each slice, or a .npy\n"
    assert (result.returncode, result.stderr) == (1, told)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_script_segments_a_numpy_volume_and_says_what_it_lacks(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    np.save(tmp_path / "v.npy", VOLUMES["int16"])
    assert start(tmp_path, tmp_path / "v.npy", tmp_path / "out").returncode == 0
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v.npy"), PREDICTOR.segment(VOLUMES["int16"]))
    np.save(tmp_path / "v.npy", VOLUMES["int16"][..., :2])
    result = start(tmp_path, tmp_path / "v.npy", tmp_path / "out")
    assert result.returncode == 1
    needed = "needed: the channels ['a', 'b', 'c'], and a spacing for pixel_size"
    assert result.stderr == f"found (5, 20, 30, 2) and spacing []; {needed}\n"


@pytest.mark.slow
@pytest.mark.parametrize("form", [pytest.param(form, marks=[pytest.mark.ci] if form == "onnx" else []) for form in FORMATS])
def test_a_bundle_needs_only_its_requirements(form: str, tmp_path: Path) -> None:
    """In a new environment with the packages of requirements.txt, the script gives the mask of the predictor."""
    keras.utils.set_random_seed(0)
    network = attention_resunet(16, 2, [4, 8], convolution=layers.SeparableConv2D)
    predictor = Predictor(network, Preparation(16, FILE, ("c", "a"), "zscore"), Decision(0.5, 3, True), flip=True)
    volume = VOLUMES["int16"]
    middle = float(np.median(predictor.probabilities_of(volume)))
    predictor = replace(predictor, decision=Decision(middle, 3, True))
    export_predictor(predictor, form, tmp_path / "bundle", predictor.preparation(volume))
    np.save(tmp_path / "v.npy", volume)

    python = tmp_path / "venv" / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    install = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "-r", "bundle/requirements.txt"]
    subprocess.run(install, cwd=tmp_path, check=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    command = [python, "bundle/predict.py", "v.npy", "out"]
    result = subprocess.run(command, cwd=tmp_path, env=clean, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    np.testing.assert_array_equal(np.load(tmp_path / "out" / "v.npy"), predictor.segment(volume))
    absent = subprocess.run([python, "-c", "import attnunet"], cwd=tmp_path, env=clean, capture_output=True, check=False)
    assert absent.returncode == 1
