"""The same network in PyTorch, channels last: what `step.py` measures ours against. Runs in an environment of its own.

python torch_rival.py THREADS WEIGHTS.npz ...     one file a network: `<layer>/<place>` as Keras's get_weights has them

Then it answers lines of its standard input with a line each:

    train NETWORK STEPS       seconds of so many training steps on one batch
    predict NETWORK STEPS     seconds of so many predictions of one batch
    logits NETWORK FILE.npy   the path of FILE.npy, which then holds the logits of the batch

The batch is the array `images` of the first file, its masks `masks`.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

FILTERS = (16, 32, 64, 128, 256)
BOTTOM = len(FILTERS) - 1


class Separable(nn.Module):
    def __init__(self, before: int, after: int) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(before, before, 3, padding=1, groups=before, bias=False)
        self.pointwise = nn.Conv2d(before, after, 1, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.pointwise(self.depthwise(x))


def convolution(before: int, after: int) -> nn.Module:
    return nn.Conv2d(before, after, 3, padding=1, bias=False)


class Network(nn.Module):
    """Layers under the names that they have in Keras."""

    def __init__(self, block_convolution: type[nn.Module] | object) -> None:
        super().__init__()
        self.layers = nn.ModuleDict()
        before = 3
        for level in range(BOTTOM):
            self.add_block(f"encoder_{level}", before, FILTERS[level], block_convolution)
            before = FILTERS[level]
        self.add_block("bottleneck", before, FILTERS[-1], block_convolution)
        for level in range(BOTTOM):
            skip, below = FILTERS[level], FILTERS[level + 1]
            self.layers[f"gate_{level}_theta"] = nn.Conv2d(skip, skip, 2, stride=2, bias=False)
            self.layers[f"gate_{level}_phi"] = nn.Conv2d(below, skip, 1)
            self.layers[f"gate_{level}_psi"] = nn.Conv2d(skip, 1, 1)
            self.add_block(f"decoder_{level}", below + skip, skip, block_convolution)
        self.layers["logits"] = nn.Conv2d(FILTERS[0], 1, 1)

    def add_block(self, name: str, before: int, after: int, block_convolution) -> None:  # noqa: ANN001
        self.layers[f"{name}_conv1"] = block_convolution(before, after)
        self.layers[f"{name}_conv2"] = block_convolution(after, after)
        self.layers[f"{name}_shortcut"] = nn.Conv2d(before, after, 1, bias=False)
        for place in ("bn1", "bn2", "shortcut_bn"):
            self.layers[f"{name}_{place}"] = nn.BatchNorm2d(after, eps=1e-3, momentum=0.1)

    def block(self, name: str, x: torch.Tensor) -> torch.Tensor:
        layers = self.layers
        y = F.relu(layers[f"{name}_bn1"](layers[f"{name}_conv1"](x)), inplace=True)
        y = layers[f"{name}_bn2"](layers[f"{name}_conv2"](y))
        return F.relu(y + layers[f"{name}_shortcut_bn"](layers[f"{name}_shortcut"](x)), inplace=True)

    def gate(self, name: str, skip: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
        layers = self.layers
        joined = F.relu(layers[f"{name}_theta"](skip) + layers[f"{name}_phi"](below), inplace=True)
        weight = torch.sigmoid(layers[f"{name}_psi"](joined))
        return skip * F.interpolate(weight, scale_factor=2, mode="bilinear", align_corners=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        x = images.float().div(255).contiguous(memory_format=torch.channels_last)
        skips = []
        for level in range(BOTTOM):
            skips.append(self.block(f"encoder_{level}", x))
            x = F.max_pool2d(skips[-1], 2)
        x = self.block("bottleneck", x)
        for level in reversed(range(BOTTOM)):
            skip = self.gate(f"gate_{level}", skips[level], x)
            x = self.block(f"decoder_{level}", torch.cat([F.interpolate(x, scale_factor=2, mode="nearest"), skip], 1))
        return self.layers["logits"](x)

    @torch.no_grad()
    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Give every layer Keras's weights."""
        for name, layer in self.layers.items():
            given = [torch.from_numpy(weights[f"{name}/{place}"]) for place in range(4) if f"{name}/{place}" in weights]
            if isinstance(layer, nn.BatchNorm2d):
                own = [layer.weight, layer.bias, layer.running_mean, layer.running_var]
            elif isinstance(layer, Separable):
                own = [layer.depthwise.weight, layer.pointwise.weight]
                given = [given[0].permute(2, 3, 0, 1), given[1].permute(3, 2, 0, 1)]
            else:
                own = list(layer.parameters())
                given = [given[0].permute(3, 2, 0, 1), *given[1:]]
            for parameter, value in zip(own, given, strict=True):
                parameter.copy_(value)


def loss(z: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Focal (gamma 2) and Dice, as conf/loss/focal_dice.yaml."""
    p = torch.sigmoid(z)
    focal = ((1 - torch.where(y > 0, p, 1 - p)) ** 2 * F.binary_cross_entropy_with_logits(z, y, reduction="none")).mean()
    return focal + 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def main(threads: int, files: list[Path]) -> None:
    torch.set_num_threads(threads)
    first = np.load(files[0])
    images = torch.from_numpy(first["images"]).permute(0, 3, 1, 2)  # memory stays channels last
    masks = torch.from_numpy(first["masks"]).permute(0, 3, 1, 2).float()
    networks, optimizers = {}, {}
    for file in files:
        network = Network(Separable if file.stem == "separable" else convolution)
        network.load(np.load(file))
        networks[file.stem] = network.to(memory_format=torch.channels_last)
        optimizers[file.stem] = torch.optim.Adam(network.parameters(), fused=True)

    def train(name: str) -> None:
        networks[name].train()
        optimizers[name].zero_grad(set_to_none=True)
        loss(networks[name](images), masks).backward()
        optimizers[name].step()

    @torch.inference_mode()
    def predict(name: str) -> torch.Tensor:
        return networks[name].eval()(images)

    for line in sys.stdin:
        what, name, argument = line.split()
        if what == "logits":
            np.save(argument, predict(name).permute(0, 2, 3, 1).numpy())
            print(argument, flush=True)
            continue
        work = train if what == "train" else predict
        start = time.perf_counter()
        for _ in range(int(argument)):
            work(name)
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), [Path(name) for name in sys.argv[2:]])
