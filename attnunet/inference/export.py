"""Exports a predictor as a bundle: its network for another runtime, what a mask depends on, and a script that makes masks.

network.onnx        or another name, see attnunet.inference.formats.FORMATS
predictor.json      see `describe`
predict.py          makes masks from raw images, without attnunet
requirements.txt    the packages that predict.py needs
"""

import inspect
import json
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.data.files import building
from attnunet.errors import UserError
from attnunet.inference import script
from attnunet.inference.formats import FORMATS, Format
from attnunet.inference.plain import simplify, to_float32
from attnunet.inference.predictor import Predictor, sigmoid

TOLERANCE = 1e-4
"""The tolerance for a logit x of the network: the file's logit may differ from it by TOLERANCE * (1 + |x|)."""
RULES = {
    "intensity": "scaled for each scan and sequence over all its slices, clipped to 0 to 255, as uint8 rounded half to even",
    "resize": "area averaging if no side grows, else bilinear (OpenCV's INTER_AREA and INTER_LINEAR); float16 as float32",
    "pixel_size": "null: squeezed into the square; else resampled to so many mm, and cut or padded with 0 around the centre",
    "neighbors": "after a slice's own channels, these of the slice before, then of the slice after it; at an end its own",
    "input": "image_type (batch, image_size, image_size, channels), without any further scaling",
    "output": "logits float32 (batch, image_size, image_size, 1)",
    "probability": "1 / (1 + exp(-logit)) in float32; with flip, the mean with the result of the mirrored image (columns)",
    "restore": "the probability, not the logit, is resized to the size of the slice, by the same rule",
    "threshold": "lesion where probability >= threshold, compared in float32",
    "fill_holes": "true: background without a path along rows and columns to the border of its slice becomes lesion",
    "smallest_lesion": "then 26-connected components of the volume with fewer voxels are removed",
}
"""The steps that are the same for every predictor, in the words of predictor.json."""


@dataclass(frozen=True)
class Check:
    """How closely a written network agrees with the network.

    Attributes:
        rounding: the largest difference between the logits of the network in float32 and in the precision of its training.
        pixels: the number of pixels of the checked slices.
        changed: the number of these pixels that get another value by the threshold.
    """

    rounding: float
    pixels: int
    changed: int


def describe(predictor: Predictor, network: str) -> dict[str, Any]:
    """Return what predictor.json of a bundle holds: the file of the network, the facts of the predictor, and the rules."""
    facts = json.loads(predictor.facts)
    del facts["modules"]
    return {"network": network, **facts, "rules": RULES}


def assemble(form: Format) -> str:
    """Return the text of predict.py: the module `script`, and the function that loads a network of this format."""
    start = f'if __name__ == "__main__":\n    main({form.load.__name__}(Path(__file__).with_name("{form.name}")))\n'
    return "\n\n".join([inspect.getsource(script), inspect.getsource(form.load), start])


def requirements(form: Format) -> str:
    """Return the text of requirements.txt, with the installed versions where they are known."""
    lines = []
    for package in ("numpy", "scipy", "opencv-python-headless", "tifffile", "imagecodecs", *form.packages):
        try:
            lines.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            lines.append(package)
    return "\n".join(lines) + "\n"


def export_predictor(predictor: Predictor, name: str, folder: Path, images: np.ndarray) -> tuple[Path, Check]:
    """Write the bundle of a predictor in a format. Return the path of its network, and how closely the network agrees.

    The folder appears only after a check that the written network gives the same logits as the predictor's network in
    float32 for `images` (n, S, S, C) with n <= batch_size.

    Raises:
        UserError: the format needs a package that is not installed, or the file gives other logits.
    """
    form, network = FORMATS[name], simplify(predictor.network)
    expected = to_float32(predictor.network).predict_on_batch(images)
    rounding = np.abs(expected - predictor.network.predict_on_batch(images)).max()
    network.predict_on_batch(images)  # Keras cannot export a network that was never called
    folder.parent.mkdir(parents=True, exist_ok=True)
    with building(folder) as temporary:
        try:
            form.write(network, temporary / form.name)
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message=r"(?s).*tf.lite.Interpreter is deprecated")  # if it is all there is
                found = form.load(temporary / form.name)(images)
        except ModuleNotFoundError as error:
            raise UserError(f"format={name} needs the package {error.name}: pip install {error.name}") from error
        if not np.allclose(found, expected, rtol=TOLERANCE, atol=TOLERANCE):
            distance = np.abs(found - expected).max()
            raise UserError(f"format={name}: the file's logits differ by up to {distance:.2g} from the network's")
        facts = json.dumps(describe(predictor, form.name), indent=2)
        (temporary / "predictor.json").write_text(f"{facts}\n")
        (temporary / "predict.py").write_text(assemble(form))
        (temporary / "requirements.txt").write_text(requirements(form))
    threshold = np.float32(predictor.decision.threshold)
    changed = (sigmoid(found) >= threshold) != (sigmoid(expected) >= threshold)
    return folder / form.name, Check(float(rounding), changed.size, int(changed.sum()))
