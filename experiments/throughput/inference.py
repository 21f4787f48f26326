"""1,000 slices in volumes of 40 through `Predictor.predict`, beside the same network on full batches from memory."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
from measure import Row, composed, hand_over, interleaved, memory, ratios, row, seconds

from attnunet.config.objects import make
from attnunet.training import runtime

VOLUMES, DEPTH, NATIVE = 25, 40, 256
NETWORKS = (("separable", 128, ""), ("separable", 256, ">= 0.9"), ("conv", 256, ">= 0.9"))
REPEATS = 3


def scan(number: int) -> np.ndarray:
    """Return a volume uint8 (DEPTH, NATIVE, NATIVE, 3): a dark background, a noisy head, and a bright ball in it."""
    rng = np.random.default_rng(number)
    z, y, x = np.ogrid[:DEPTH, :NATIVE, :NATIVE]
    middle, place = (DEPTH / 2, NATIVE / 2, NATIVE / 2), rng.uniform(0.4, 0.6, 3) * (DEPTH, NATIVE, NATIVE)

    def ball(centre: tuple[float, ...], radius: float) -> np.ndarray:
        return (4 * (z - centre[0])) ** 2 + (y - centre[1]) ** 2 + (x - centre[2]) ** 2 < radius**2

    noise = rng.integers(0, 10, (DEPTH, NATIVE, NATIVE, 3), dtype=np.uint8)
    return noise + np.uint8(100) * ball(middle, 110)[..., None] + np.uint8(80) * ball(tuple(place), 25)[..., None]


def segment_ball(network, images: np.ndarray) -> np.ndarray:  # noqa: ANN001
    """Run the network, and return logits above 0 in the bright ball instead of the network's own.

    An untrained network scatters its lesions, and post-processing would take much longer than with one ball.
    """
    network.predict_on_batch(images)
    return images[..., 1:2].astype(np.float32) / 32 - 6


def streamed(predictor, scans: list[np.ndarray], grown: list[float]) -> float:  # noqa: ANN001
    """Return the slices a second of a stream. Append to `grown` the MB that the process grew after the fifth volume."""
    start, seen = time.perf_counter(), []
    for _ in predictor.predict((volume, None) for volume in scans):
        seen.append(memory())
    grown.append(max(seen[5:]) - max(seen[:5]))
    return VOLUMES * DEPTH / (time.perf_counter() - start)


def alone(network, batch: np.ndarray) -> float:  # noqa: ANN001
    """Return the slices a second of the network on full batches."""
    times = VOLUMES * DEPTH // len(batch)
    return times * len(batch) / seconds(lambda: [network.predict_on_batch(batch) for _ in range(times)])


def main() -> list[Row]:
    cfg = composed()
    runtime.configure(cfg.seed, runtime.available_threads(cfg.trainer.threads), cfg.trainer.precision)
    from attnunet.inference.predictor import Predictor, Preparation
    from attnunet.metrics.decision import Decision

    names = ("pre", "flair", "post")
    scans = [scan(number) for number in range(VOLUMES)]
    rows: list[Row] = []
    for name, size, wanted in NETWORKS:
        network = make(composed(f"model={name}").model, "model")(size, 3)
        preparation = Preparation(size, names, names, "zscore")
        predictor = Predictor(network, preparation, Decision(0.5, 100, True), engine=partial(segment_ball, network))
        batch = preparation(scans[0])[: predictor.batch_size]
        grown: list[float] = []
        measures: dict[str, Callable[[], float]] = {
            "stream": lambda p=predictor, g=grown: streamed(p, scans, g),
            "alone": lambda n=network, b=batch: alone(n, b),
        }
        for part in (batch, batch[:8]):
            network.predict_on_batch(part)  # traced
        seen = interleaved(measures, REPEATS)
        what = f"{name}, {size}x{size}"
        rows += [
            row("inference", f"1,000 slices in volumes of {DEPTH}, {what}", "slices/s", seen["stream"]),
            row("inference", f"the network alone, {what}", "slices/s", seen["alone"]),
            row("inference", f"stream / network alone, {what}", "x", ratios(seen["stream"], seen["alone"]), wanted),
            row("inference", f"memory growth after 200 slices, {what}", "MB", grown, "<= 50"),
        ]
    return rows


if __name__ == "__main__":
    hand_over(main())
