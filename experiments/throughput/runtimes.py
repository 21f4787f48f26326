"""Prediction in each runtime that a network can be exported for, and what folding batch normalisation gains in it.

The networks have random weights, which compute as fast as trained ones. The images are noise.
"""

import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
from measure import Row, composed, hand_over, interleaved, ratios, row, seconds

from attnunet.config.objects import make
from attnunet.inference.formats import FORMATS
from attnunet.training import runtime

NETWORKS = ("conv", "separable")
ROUNDS = 9


def main() -> list[Row]:
    cfg = composed()
    size, batch = cfg.image_size, cfg.evaluation.batch_size
    runtime.configure(cfg.seed, runtime.available_threads(cfg.trainer.threads), cfg.trainer.precision)
    from attnunet.inference.plain import simplify
    from attnunet.inference.quantization import quantize

    warnings.filterwarnings("ignore", message=r"(?s).*tf.lite.Interpreter is deprecated")
    images = np.random.default_rng(0).integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    rows = []
    for name in NETWORKS:
        network = make(composed(f"model={name}").model, "model")(size, 3)
        folded = simplify(network)
        runs = {"Keras": network.predict_on_batch, "Keras, folded": folded.predict_on_batch}
        for run in runs.values():
            run(images)
        with tempfile.TemporaryDirectory() as folder:
            for key, form in FORMATS.items():
                for ending, written in (("", network), (", folded", folded)):
                    if key != "keras":
                        file = Path(folder) / f"{key}{ending}" / form.name
                        file.parent.mkdir()
                        form.write(written, file)
                        runs[f"{key}{ending}"] = form.load(file)
            quantize(network, images, Path(folder) / "int8.xml")
            runs["openvino-int8, folded"] = FORMATS["openvino"].load(Path(folder) / "int8.xml")

            def rate(run: Callable[[np.ndarray], np.ndarray]) -> Callable[[], float]:
                return lambda: batch / seconds(lambda: run(images))

            for run in runs.values():
                run(images)
            seen = interleaved({what: rate(run) for what, run in runs.items()}, ROUNDS)
        for what, rates in seen.items():
            rows.append(row("runtimes", f"{name} {what}", "images/s", rates))
            if what != "Keras":
                rows.append(row("runtimes", f"{name} {what} / Keras", "x", ratios(rates, seen["Keras"])))
    return rows


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    hand_over(main())
