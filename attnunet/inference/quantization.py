"""Turns a network into one of 8-bit integers for OpenVINO, which is faster and a little less exact."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from attnunet.inference.formats import as_openvino
from attnunet.inference.plain import simplify

if TYPE_CHECKING:
    import keras


def quantize(network: keras.Model, images: np.ndarray, path: Path) -> None:
    """Write a network of 8-bit integers for OpenVINO: an XML file with the graph, and a file .bin beside it with the weights.

    `images` (n, S, S, C) calibrate the network: they show the ranges of its features, each of which is divided into 256 steps
    (Nagel et al. 2021, arXiv 2106.08295). Ranges that hold negative values need not be symmetric.

    Raises:
        ModuleNotFoundError: OpenVINO or NNCF is not installed.
    """
    plain = simplify(network)
    plain.predict_on_batch(images[:1])  # Keras cannot export a network that was never called
    model = as_openvino(plain)

    import nncf
    import openvino

    nncf.set_log_level(logging.ERROR)
    calibration = nncf.Dataset([image[None] for image in images])
    preset = nncf.QuantizationPreset.MIXED
    quantized = nncf.quantize(model, calibration, preset=preset, subset_size=len(images))
    openvino.save_model(quantized, path)
