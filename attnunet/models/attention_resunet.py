"""The Attention Residual U-Net."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, Literal

import keras
from annotated_types import Ge, Gt, Le, Len, Lt
from keras import layers

from attnunet.models.blocks import Features, attention_gate, res_conv_block, supervise, upsampled_logits
from attnunet.models.normalization import NORMALIZATIONS


def attention_resunet(
    image_size: int,
    channels: int,
    filters: Annotated[list[Annotated[int, Gt(0), Le(4096)]], Len(2, 12)],
    convolution: Callable[..., layers.Layer],
    gate: Literal["additive", "concat", "none"] = "additive",
    residual: bool = True,
    dropout: Annotated[float, Ge(0), Lt(1)] = 0.0,
    bn_momentum: Annotated[float, Gt(0), Lt(1)] = 0.9,
    depths: Annotated[list[Annotated[int, Gt(0), Le(64)]], Len(1, 12)] | None = None,
    norm: Literal["batch", "group", "instance"] = "batch",
    deep_supervision: bool = False,
) -> keras.Model:
    """Return a network that maps uint8 images (B, S, S, channels) to float32 logits (B, S, S, 1), with S = image_size.

    The network is a U-Net (Ronneberger et al. 2015, arXiv 1505.04597). It consists of residual blocks and has an attention
    gate on every skip connection.

    Args:
        filters: the number of feature maps at each level. The last number belongs to the bottleneck. A list of n numbers
            halves the image n - 1 times, so image_size must be a multiple of 2 ** (n - 1).
        convolution: the layer class of the 3x3 convolutions in the blocks: Conv2D or SeparableConv2D.
        gate: how a gate combines the skip connection and the gating signal. "none" leaves out the gates.
        residual: whether each block has a shortcut.
        dropout: the share of a block's feature maps that a training step sets to zero.
        bn_momentum: the momentum of the running mean and variance. At 0.99, they have not converged after 100 steps.
        depths: the number of blocks in a row at each level of the encoder and in the bottleneck. None stands for one block
            each. The decoder always has one block at each level.
        norm: the normalisation after each convolution; see `attnunet.models.normalization`. `bn_momentum` belongs to "batch".
        deep_supervision: whether each level of the decoder has logits of its own for the training (Lee et al. 2015, arXiv
            1409.5185). The output is then (B, S, S, n - 1) for n levels: the logits, and those of the coarser levels, which
            are up-sampled. `blocks.prediction` leaves them out.

    Raises:
        ValueError: image_size is not a multiple of 2 ** (len(filters) - 1), or `depths` and `filters` differ in length.
    """
    depths = depths or [1] * len(filters)
    if len(depths) != len(filters):
        raise ValueError(f"depths={depths}: {len(depths)} levels; allowed: a number for each of the {len(filters)} filters")
    if image_size % 2 ** (len(filters) - 1):
        raise ValueError(f"image_size={image_size} does not divide by {2 ** (len(filters) - 1)}")

    normalize = partial(NORMALIZATIONS[norm], bn_momentum)

    def block(x: Features, level: int, name: str) -> keras.KerasTensor:
        return res_conv_block(x, filters[level], convolution, residual, dropout, normalize, name)

    def blocks(x: keras.KerasTensor, level: int, name: str) -> keras.KerasTensor:
        x = block(x, level, name)
        for place in range(1, depths[level]):
            x = block(x, level, f"{name}_{place}")
        return x

    def join(level: int) -> layers.Layer:
        layer = {"additive": layers.Add, "concat": layers.Concatenate}[gate]
        return layer(name=f"gate_{level}_join")

    bottom = len(filters) - 1
    inputs = keras.Input((image_size, image_size, channels), dtype="uint8", name="image")
    x = layers.Rescaling(1 / 255, name="rescaling")(inputs)

    skips = []
    for level in range(bottom):
        skips.append(blocks(x, level, f"encoder_{level}"))
        x = layers.MaxPooling2D(2, name=f"encoder_{level}_pool")(skips[-1])
    x = blocks(x, bottom, "bottleneck")

    coarse = []
    for level in reversed(range(bottom)):
        skip = skips[level]
        if gate != "none":
            skip = attention_gate(skip, x, filters[level], join(level), f"gate_{level}")
        x = block((x, skip), level, f"decoder_{level}")
        if deep_supervision and level > 0:
            coarse.append(upsampled_logits(x, 2**level, f"logits_{level}"))

    # The logits are float32 even in mixed precision, because losses and thresholds need the range of float32.
    logits = layers.Conv2D(1, 1, dtype="float32", name="logits")(x)
    outputs = supervise(logits, coarse[::-1]) if coarse else logits
    return keras.Model(inputs, outputs, name="attention_resunet")
