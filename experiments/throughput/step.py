"""The bare train step and prediction, on one batch from memory: ours, and the same network in PyTorch."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import TracebackType

import numpy as np
from measure import Row, composed, hand_over, interleaved, ratios, row, seconds

from attnunet.config.objects import make
from attnunet.training import runtime

STEPS = {"train": 4, "predict": 8}
WANTED = {"conv": ">= 1.3", "separable": ">= 1.6"}
TORCH = "torch==2.13.0"
ENVIRONMENT = Path(__file__).parents[2] / ".bench-venv"


def rival_python() -> Path:
    """The interpreter of PyTorch's own environment, made on the first call; PyTorch is no dependency of attnunet."""
    python = ENVIRONMENT / "bin" / "python"
    if not (ENVIRONMENT / "installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", ENVIRONMENT], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", TORCH, "numpy"], check=True)
        (ENVIRONMENT / "installed").touch()
    return python


class Rival:
    """The process of torch_rival.py; it sleeps while we are measured."""

    def __init__(self, threads: int, weights: list[Path]) -> None:
        command = [rival_python(), Path(__file__).with_name("torch_rival.py"), str(threads), *weights]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Rival":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.process.stdin.close()
        self.process.wait()

    def ask(self, *words: object) -> str:
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()


def operations(network) -> int:  # noqa: ANN001
    """Multiplications and additions of the convolutions for one image; a training step takes three times that."""
    total = 0
    for layer in network.layers:
        kernels = [weight for weight in layer.trainable_weights if len(weight.shape) == 4]
        total += sum(2 * int(np.prod(kernel.shape)) * int(np.prod(layer.output.shape[1:3])) for kernel in kernels)
    return total


def main() -> list[Row]:
    cfg = composed()
    size, batch = cfg.image_size, cfg.batch_size
    threads = runtime.available_threads(cfg.trainer.threads)
    runtime.configure(cfg.seed, threads, cfg.trainer.precision)
    import tensorflow as tf

    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (batch, size, size, 3), dtype=np.uint8)
    masks = (images[..., :1] > 200).astype(np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        networks, files = {}, []
        for name in WANTED:
            own = composed(f"model={name}")
            networks[name] = network = make(own.model, "model")(size, 3)
            network.compile(make(own.optimizer, "optimizer")(1000), make(own.loss, "loss")(), jit_compile=False)
            for layer in network.layers:  # running means and variances as after a training, not 0 and 1
                if "bn" in layer.name:
                    layer.set_weights([rng.uniform(0.5, 1.5, weight.shape) for weight in layer.get_weights()])
            weights = {f"{la.name}/{i}": value for la in network.layers for i, value in enumerate(la.get_weights())}
            files.append(Path(folder) / f"{name}.npz")
            np.savez(files[-1], images=images, masks=masks, **weights)

        with Rival(threads, files) as rival:
            for name, network in networks.items():
                theirs = np.load(rival.ask("logits", name, Path(folder) / "logits.npy"))
                difference = np.abs(theirs - network.predict_on_batch(images)).max()
                print(f"{name}: logits of PyTorch differ by at most {difference:.1e}")
                assert difference < 1e-4

            def ours(network, what: str) -> None:  # noqa: ANN001
                for _ in range(STEPS[what]):
                    network.train_on_batch(images, masks) if what == "train" else network.predict_on_batch(images)

            def rate(what: str, work: Callable[[], object]) -> Callable[[], float]:
                return lambda: STEPS[what] * batch / seconds(work)

            square = tf.random.normal((2048, 2048))
            measures: dict[str, Callable[[], float]] = {"matmul": lambda: 8 * 2 * 2048**3 / seconds(lambda: product(8)) / 1e9}

            def product(times: int) -> None:
                for _ in range(times):
                    tf.matmul(square, square).numpy()

            for name, network in networks.items():
                for what, steps in STEPS.items():
                    measures[f"{what} {name}"] = rate(what, partial(ours, network, what))
                    measures[f"{what} {name} PyTorch"] = rate(what, partial(rival.ask, what, name, steps))
            for measure in measures.values():
                measure()  # traced, and warm
            seen = interleaved(measures)

    rows = [row("step", "matrix multiplication, float32", "GFLOP/s", seen["matmul"])]
    for name, network in networks.items():
        for what in STEPS:
            mine, theirs = seen[f"{what} {name}"], seen[f"{what} {name} PyTorch"]
            flops = operations(network) * (3 if what == "train" else 1) / 1e9
            share = ratios([rate * flops for rate in mine], seen["matmul"])
            rows += [
                row("step", f"{what} {name}", "images/s", mine),
                row("step", f"{what} {name}, PyTorch", "images/s", theirs),
                row("step", f"{what} {name} / PyTorch", "x", ratios(mine, theirs), WANTED[name]),
                row("step", f"{what} {name}, share of the matrix multiplication's rate", "x", share),
            ]
    return rows


if __name__ == "__main__":
    os.environ.pop("OMP_NUM_THREADS", None)
    hand_over(main())
