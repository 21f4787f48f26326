"""The predictor: an object that joins preparation, network and decision, and turns a patient's volume into a mask."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import groupby, islice
from pathlib import Path
from typing import NamedTuple, Unpack

import keras
import numpy as np

from attnunet.data.cache import Prepared
from attnunet.data.frames import Frame, make_frame
from attnunet.data.intensity import prepare_volume
from attnunet.data.neighbors import find_neighbors, join_neighbors
from attnunet.errors import UserError, first_line
from attnunet.inference.stream import Segmenter, Settings, divide, mean
from attnunet.metrics.decision import Decision
from attnunet.models import blocks  # noqa: F401 - registers the layers that Keras needs to load a network


@dataclass(frozen=True)
class Preparation:
    """Prepares a volume for the network; see `attnunet.data.intensity.prepare_volume`.

    `plane` is the plane of the slices. `dtype` holds the values of the training files. `image_type` is the type of the
    network's input.
    """

    image_size: int
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    intensity: str
    plane: str = "axial"
    pixel_size: float | None = None
    dtype: str = "uint8"
    image_type: str = "uint8"
    neighbors: tuple[str, ...] = ()

    @property
    def input_channels(self) -> int:
        """The number of channels of the network's input."""
        return len(self.channels) + 2 * len(self.neighbors)

    def __call__(self, volume: np.ndarray, spacing: Sequence[float] | None = None) -> np.ndarray:
        """Return the network's input for a volume (D, h, w, file channels).

        The input is uint8 or float16 (D, image_size, image_size, C), from 0 to 255. C is the number of channels, and twice the
        number of channels of which the network also sees the neighbouring slices.

        `spacing` holds the distances in mm between slices, between rows and between columns. It is needed if `pixel_size` is
        set.

        Raises:
            ValueError: the volume has another shape or type, or is empty.
            ValuesError, DataError: see `prepare_volume`.
        """
        as_needed = volume.ndim == 4 and volume.shape[-1] == len(self.file_channels) and volume.dtype.kind in "iuf"
        if not as_needed or volume.size == 0:
            raise ValueError(
                f"a volume is numbers (slices, height, width, {len(self.file_channels)}: {', '.join(self.file_channels)}), "
                f"found {volume.dtype} {volume.shape}"
            )
        wanted = [self.file_channels.index(name) for name in self.channels]
        sequences = [volume[..., channel] for channel in wanted]
        images = prepare_volume(sequences, self.image_size, self.intensity, self.pixel_size, spacing, self.image_type)
        if not self.neighbors:
            return images
        before, after = find_neighbors([0] * len(images))
        return join_neighbors(images, images[before], images[after], [self.channels.index(name) for name in self.neighbors])

    def frame(self, native: Sequence[int], spacing: Sequence[float] | None = None) -> Frame:
        """Return the frame of the slices of a volume, whose numbers of rows and columns are `native`."""
        return make_frame(native, self.image_size, self.pixel_size, spacing)

    def taking(self, channels: Sequence[str]) -> "Preparation":
        """Return the preparation of volumes that hold just these channels, in this order; see `Segmenter.taking`."""
        if lacking := [name for name in self.channels if name not in channels]:
            raise ValueError(f"the network takes the channels {', '.join(self.channels)}; lacking: {', '.join(lacking)}")
        return replace(self, file_channels=tuple(channels))


class Volume(NamedTuple):
    """A scan's name, the indices of its D slices in order, and the lesion's probability, float32 (D, h, w) in [0, 1]."""

    name: str
    indices: list[int]
    probabilities: np.ndarray


@dataclass(frozen=True)
class Predictor(Segmenter):
    """A trained network, together with everything on which its predictions depend.

    Attributes:
        flip: whether a prediction is the mean of two: for the image, and for its mirror image (left and right exchanged).
        batch_size: the number of slices in a batch of the network.
        modules: the user's own modules that define parts of the network. Keras can load the network only after they are
            imported.
        engine: computes the logits float32 (n, S, S, 1) of images (n, S, S, C) instead of Keras. It is not saved.
    """

    network: keras.Model
    preparation: Preparation
    decision: Decision = field(default_factory=Decision)
    flip: bool = False
    batch_size: int = 32
    modules: tuple[str, ...] = ()
    engine: Callable[[np.ndarray], np.ndarray] | None = None

    @property
    def members(self) -> tuple["Predictor"]:
        return (self,)

    def taking(self, channels: Sequence[str]) -> "Predictor":
        return replace(self, preparation=self.preparation.taking(channels))

    def adjusted(self, **settings: Unpack[Settings]) -> "Predictor":
        own, decision = divide(settings)
        return replace(self, decision=replace(self.decision, **decision), **own)

    def logits(self, images: np.ndarray) -> np.ndarray:
        """Return the logits float32 (n, S, S, 1) of images (n, S, S, C), with n <= batch_size.

        The network runs on 2^k images at once, for example on 16 and 4 if n is 20. So no image is computed in vain, and a
        slice gets the same bits in every batch. This was measured for TensorFlow with oneDNN and AVX-512, Conv2D and
        SeparableConv2D, and 1, 2, 4, ... 32 images of 64x64 to 256x256 pixels. Other numbers of images, such as 3 or 31,
        give other last bits (up to 4e-7), as a single image of 32x32 pixels does. On a processor without AVX-512, and with
        another engine, any number does.

        Raises:
            FloatingPointError: a logit is infinite or not a number.
        """
        run = self.network.predict_on_batch if self.engine is None else self.engine
        logits = np.concatenate([run(part) for part in split(images)])
        if not np.isfinite(logits).all():
            raise FloatingPointError("the network's logits are not finite: lower optimizer.learning_rate")
        return logits

    def batches(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[tuple[list[int], np.ndarray]]:
        """Yield the batches in order: the indices of a batch's slices, and the images of these slices (n, S, S, C)."""
        for start in range(0, len(indices), self.batch_size):
            batch = list(indices[start : start + self.batch_size])
            yield batch, prepared.inputs(batch)

    def predict_batch(self, images: np.ndarray) -> np.ndarray:
        """Return the lesion's probability float32 (n, S, S) for images (n, S, S, C), with n <= batch_size."""
        return mean(self.views(images))

    def views(self, images: np.ndarray) -> list[np.ndarray]:
        """Return the lesion's probabilities float32 (n, S, S) for the images and, if `flip` is set, for their mirror images.

        The probabilities for a mirror image are turned back.
        """
        plain = sigmoid(self.logits(images))
        if not self.flip:
            return [plain]
        mirrored = sigmoid(self.logits(images[:, :, ::-1]))
        return [plain, np.ascontiguousarray(mirrored[:, :, ::-1])]

    def probabilities(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[np.ndarray]:
        """Yield the lesion's probability in each slice at native size, float32 (h, w) in [0, 1]."""
        for batch, images in self.batches(prepared, indices):
            for index, probability in zip(batch, self.predict_batch(images), strict=True):
                yield prepared.frame(index).restore(probability)

    def volumes(self, prepared: Prepared, indices: Sequence[int]) -> Iterator[Volume]:
        """Yield one volume for each scan with slices in `indices`, in the order of patients and scans.

        A batch can hold slices of several scans. Each slice is predicted once. If `indices` holds only some slices of a scan,
        the volume consists of these slices, as if they were neighbours.
        """
        ordered = sorted(indices)  # a prepared data set is sorted by patient and slice
        probabilities = self.probabilities(prepared, ordered)
        for name, group in groupby(ordered, key=lambda index: prepared.slices[index].volume):
            members = list(group)
            yield Volume(name, members, np.stack(list(islice(probabilities, len(members)))))

    @property
    def facts(self) -> str:
        """The text of predictor.json. It holds all parts of the predictor except the network."""
        facts = {
            "preparation": asdict(self.preparation),
            "decision": asdict(self.decision),
            "flip": self.flip,
            "batch_size": self.batch_size,
            "modules": self.modules,
        }
        return json.dumps(facts, indent=2)

    def save(self, folder: Path) -> None:
        """Write best.keras and predictor.json, the two files that a run's folder of checkpoints holds too."""
        folder.mkdir(parents=True, exist_ok=True)
        self.network.save(folder / "best.keras")
        (folder / "predictor.json").write_text(self.facts)

    @classmethod
    def load(cls, folder: Path) -> "Predictor":
        """Return the predictor that is stored in best.keras and predictor.json.

        This function does not import the modules that the file names, because a file must not decide which code runs. The
        caller must import these `modules` first, if it trusts them.

        Raises:
            UserError: a file does not belong to a model of attnunet. The message names the file.
        """
        try:
            facts = json.loads((folder / "predictor.json").read_text())
            lists = {name: tuple(value) for name, value in facts["preparation"].items() if isinstance(value, list)}
            preparation = Preparation(**{**facts["preparation"], **lists})
            rest = Decision(**facts["decision"]), facts["flip"], facts["batch_size"], tuple(facts.get("modules", ()))
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UserError(f"{folder / 'predictor.json'}: does not describe a model of attnunet ({error!r})") from error
        network = load_network(folder / "best.keras")
        size = preparation.image_size
        shapes = ((None, size, size, preparation.input_channels), (None, size, size, 1))
        if (network.input_shape, network.output_shape) != shapes:
            raise UserError(
                f"{folder / 'best.keras'}: maps {network.input_shape} to {network.output_shape}; allowed: a network "
                f"for lesions that maps {shapes[0]} to {shapes[1]}, as predictor.json beside it tells"
            )
        return cls(network, preparation, *rest)

    def check_loadable(self) -> None:
        """Raise UserError if Keras cannot load the network again. Only a network with a user's own modules is checked.

        Keras cannot load a network, for example, if one of its layers is not registered.
        """
        try:
            if self.modules:
                keras.models.model_from_json(self.network.to_json())
        except (TypeError, ValueError, NotImplementedError) as error:
            reason = str(error).strip().splitlines()[-1].partition(". ")[0]  # the reason follows pages of configuration
            raise UserError(
                f"model: Keras could not load this network again ({reason}); each layer of your own needs "
                "@keras.saving.register_keras_serializable(package=...) and, with arguments, get_config"
            ) from error


def load_network(path: Path) -> keras.Model:
    """Return a checkpoint's network without optimizer and loss. Keras does not run code from the file.

    Raises:
        UserError: Keras cannot load the file.
    """
    try:
        return keras.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # for a damaged file, Keras raises many kinds of errors
        raise UserError(f"{path}: Keras cannot load this network: {first_line(error)}") from error


def split(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the images in parts whose sizes are powers of two, the largest first."""
    while len(images):
        size = 1 << (len(images).bit_length() - 1)
        yield images[:size]
        images = images[size:]


def sigmoid(logits: np.ndarray) -> np.ndarray:
    """Return the probabilities (...) for float32 logits (..., 1)."""
    return 1 / (1 + np.exp(-np.clip(logits[..., 0], -80, 80, dtype=np.float32)))
