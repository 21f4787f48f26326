"""Answers requests for masks, as a logged model does. A request holds a volume in JSON's types, or as a NumPy array."""

import base64
import binascii
import io
import json
import math
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from attnunet.errors import UserError
from attnunet.inference.predictor import Predictor

JSON_TYPES = ("uint8", "int16", "uint16", "int32", "int64", "float32", "float64")
"""The types that numbers without a type can get, in the order in which they are tried."""


class RequestError(UserError):
    """A request cannot be answered. The message names the part of the request, what was found, and what is allowed."""


class Served:
    """Maps a volume (slices, height, width, sequences) to a mask uint8 (slices, height, width) of 0 and 1.

    Requests that arrive together are answered one after the other.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor
        self.turn = Lock()

    def predict(self, request: np.ndarray, params: dict[str, Any] | None = None) -> np.ndarray | str:
        """Return the mask. For a volume as text, the mask is text too: the content of a .npy file in base64.

        Args:
            request: the volume, which is an array of any numeric type, an array of JSON's numbers with the type object, or
                an array of no dimension that holds the content of a .npy file in base64.
            params: `spacing` holds the distances in mm between slices, between rows and between columns; it is empty if they
                are unknown. `sequences` names the sequences in the last axis of the volume; it is empty if they are those of
                the training files, in the same order.

        Raises:
            RequestError: the request has another form.
            ValuesError: the model has the intensity "raw", and a value is no whole number from 0 to 255.
        """
        text = request.item() if request.ndim == 0 and request.dtype.kind in "OU" else None
        volume = decode(text) if isinstance(text, str) else with_type(request)
        given = params or {}
        preparation = self.predictor.preparation
        named = tuple(given.get("sequences") or preparation.file_channels)
        check_sequences(named, preparation.channels)
        check_volume(volume, named)
        spacing = check_spacing(given.get("spacing") or (), preparation.pixel_size)
        with self.turn:
            mask = self.predictor.taking(named).segment(volume, spacing)
        return mask if text is None else encode(mask)


def decode(text: str) -> np.ndarray:
    """Return the array in the content of a .npy file, given in base64. Raise RequestError if the text is something else."""
    try:
        data = base64.b64decode(text.replace("\n", ""), validate=True)
        stream = io.BytesIO(data)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[np.lib.format.read_magic(stream)]
        shape, by_columns, dtype = read_header(stream)
        return np.frombuffer(data, dtype, offset=stream.tell()).reshape(shape, order="F" if by_columns else "C")
    except binascii.Error as error:
        raise RequestError(
            f"volume: is text, but not base64 ({error}); allowed: the content of a .npy file in base64"
        ) from error
    except Exception as error:  # for a damaged header NumPy raises TokenError, TypeError and other errors
        raise RequestError(f"volume: cannot be read as a .npy file ({error}); allowed: a NumPy array of numbers") from error


def encode(array: np.ndarray) -> str:
    """Return the content of a .npy file with this array, in base64."""
    stream = io.BytesIO()
    np.save(stream, array)
    return base64.b64encode(stream.getvalue()).decode()


def with_type(values: np.ndarray) -> np.ndarray:
    """Return an array of JSON's numbers with the first of JSON_TYPES that holds them exactly; return any other array as it is.

    Intensities are scaled in the precision of a volume's type. So the numbers of a volume give the same mask as its file.
    """
    if values.dtype != object:
        return values
    try:
        plain = np.array(values.tolist())
    except ValueError as error:
        raise RequestError("volume: its lists differ in length; allowed: lists of equal length") from error
    if plain.dtype.kind not in "iuf":
        return plain
    with np.errstate(over="ignore"):
        fitted = (plain.astype(name) for name in JSON_TYPES if name[0] == "f" or plain.dtype.kind != "f")
        return next((array for array in fitted if np.array_equal(array, plain)), plain)


def check_sequences(named: Sequence[str], needed: Sequence[str]) -> None:
    """Raise RequestError if a volume with these sequences lacks a sequence that the network needs, or names one twice."""
    if set(needed) - set(named) or len(set(named)) < len(named):
        raise RequestError(
            f"sequences: {', '.join(named)}; allowed: one name for each place in the last axis of the volume, "
            f"with {', '.join(needed)} among them"
        )


def check_volume(volume: np.ndarray, named: Sequence[str]) -> None:
    """Raise RequestError if a volume is not numbers (slices, height, width, sequences)."""
    fits = volume.ndim == 4 and volume.shape[-1] == len(named) and volume.dtype.kind in "iuf"
    if not fits or volume.size == 0:
        axes = f"slices, height, width, {len(named)}: {', '.join(named)}"
        raise RequestError(f"volume: {volume.dtype} {volume.shape}; allowed: numbers ({axes})")
    if not np.isfinite(volume).all():
        raise RequestError("volume: holds values that are NaN or infinite; allowed: numbers")


def check_spacing(spacing: Sequence[float], pixel_size: float | None) -> tuple[float, ...] | None:
    """Return the spacing, or None if it is empty. Raise RequestError if it is wrong, or missing although it is needed."""
    if not spacing and pixel_size is not None:
        raise RequestError(
            f"spacing: is missing, but the network was trained on pixels of {pixel_size:g} mm; "
            "allowed: the distances in mm between slices, rows and columns"
        )
    if spacing and not (len(spacing) == 3 and all(math.isfinite(mm) and mm > 0 for mm in spacing)):
        raise RequestError(f"spacing: {list(spacing)}; allowed: the distances in mm between slices, rows and columns")
    return tuple(spacing) or None


def load_served(folder: str) -> Served:
    """Return the predictor in a folder. MLflow calls this function for models of earlier versions.

    The function first imports the modules that the model needs, from the copy that was logged with the model. So only load
    a model that you trust.
    """
    for module in json.loads(Path(folder, "predictor.json").read_text()).get("modules", ()):
        import_module(module)
    return Served(Predictor.load(Path(folder)))


_load_pyfunc = load_served
"""The name by which MLflow finds the function, for models that an earlier version logged."""
