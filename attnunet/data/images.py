"""Image files as pixels: read whole and as they are stored, or refused by name.

TIFF is read by tifffile, PNG by Pillow, JPEG by libjpeg-turbo in its strict mode, since OpenCV hands over what it has of a
damaged file. What kind of file it is, its first bytes tell.
"""

import logging
import math
import stat
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from attnunet.data.slices import DataError
from attnunet.errors import first_line

MOST_PIXELS = 2**26
"""8192 x 8192; more is a damaged header, or no slice."""
COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
"""Of TIFF: those that lose nothing, and whose decoders tell of damage."""
PHOTOMETRICS = {0: "white is zero", 1: "black is zero", 2: "RGB"}
ORIENTATION = 274
"""The tag of TIFF and EXIF by which a viewer turns a picture; 1 is as it is stored."""

strict: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether what tifffile logs as an error is one."""


class Strict(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Raise what tifffile would log of a damaged file, and go on from; be silent about the rest."""
        if strict.get() and record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())
        return not strict.get()


logging.getLogger("tifffile").addFilter(Strict())


class UnreadableForm(ValueError):
    """A whole file of a form that is not read; the message says what was found and what is allowed."""


@dataclass(frozen=True)
class Picture:
    """A file's pixels, uint8 (h, w) or (h, w, channels), as they are stored; in some files 0 stands for white."""

    pixels: np.ndarray
    white_is_zero: bool = False


def read_image(path: str, channels: int) -> np.ndarray:
    """Return an image's brightness, uint8 (h, w, channels), in the file's order of channels.

    Where a TIFF says that 0 is white, brightness is 255 less the stored value. Of a file with one bit a pixel it is 0 or 255.

    Raises:
        DataError: a file that is damaged, or of a form that is not read.
    """
    picture = read(path)
    image = 255 - picture.pixels if picture.white_is_zero else picture.pixels
    found = 1 if image.ndim == 2 else image.shape[2]
    if found != channels:
        named = "as many as data.file_channels has names, [grey] for grey images"
        raise DataError(f"{path}: {found} channel(s), expected {channels}: {named}")
    return image[..., None] if image.ndim == 2 else image


def read_mask(path: str) -> np.ndarray:
    """Return a mask, uint8 (h, w) of 0 and 1: a pixel is lesion where its stored value is above 0.

    So it is where a TIFF says that 0 is white, too: scikit-image, tifffile and ImageJ store masks like that, with 1 or 255
    in the lesion. A mask of one value is empty if that is 0, else full.

    Raises:
        DataError: a file that is damaged, or of a form that is not read; more than one channel, or more than two values.
    """
    mask = read(path).pixels
    if mask.ndim != 2:
        raise DataError(f"{path}: a mask has 1 channel, found {mask.shape[2]}")
    lesion = mask > 0
    if (mask[lesion] != mask.max()).any():
        values = np.unique(mask)[:5].tolist()
        raise DataError(f"{path}: a mask has the values 0 and one other, found {values}; save masks as PNG, JPEG blurs them")
    return lesion.astype(np.uint8)


def read(path: str) -> Picture:
    """Return a file's 8-bit pixels.

    Raises:
        DataError: no file, or none that can be read whole; 16 bits; a palette; several pages; an orientation tag.
    """
    data = read_bytes(path)
    decode = next((reader for signature, reader in READERS.items() if data.startswith(signature)), None)
    if decode is None:
        raise DataError(f"{path}: cannot be decoded; it is no TIFF, PNG or JPEG file")
    try:
        picture = decode(data)
    except UnreadableForm as refused:
        raise DataError(f"{path}: {refused}") from None
    except Exception as error:  # a damaged file meets any of the decoders' errors
        raise DataError(f"{path}: cannot be decoded; it is damaged: {type(error).__name__}: {first_line(error)}") from error
    return picture


def read_bytes(path: str) -> bytes:
    """Return the bytes of a regular file; a pipe would be waited for."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{path}: is no regular file; allowed: a TIFF, PNG or JPEG file")
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_tiff(data: bytes) -> Picture:
    token = strict.set(True)
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            page = file.pages.first
            planes = sum(series.size for series in file.series) // page.size if file.is_imagej or file.is_shaped else 1
            refuse_pages(max(len(file.pages), planes))
            refuse_orientation(page.tags.valueof(ORIENTATION, 1))
            if page.compression not in COMPRESSIONS:
                allowed = ", ".join(dict.fromkeys(COMPRESSIONS.values()))
                raise UnreadableForm(f"the TIFF compression {tag_name(page.compression)} is not read; allowed: {allowed}")
            if page.photometric not in PHOTOMETRICS:
                allowed = ", ".join(PHOTOMETRICS.values())
                raise UnreadableForm(f"the TIFF colours {tag_name(page.photometric)} are not read; allowed: {allowed}")
            refuse_depth(page.bitspersample, page.dtype)
            refuse_size(page.imagewidth, page.imagelength)
            if page.axes not in ("YX", "YXS", "SYX"):
                raise UnreadableForm(f"the axes {page.axes} are not read; allowed: rows and columns, with channels or without")
            segments = list(zip(page.dataoffsets, page.databytecounts, strict=True))
            there = all(start and size and start + size <= len(data) for start, size in segments)
            if not there or len(segments) != math.prod(page.chunked):
                raise ValueError("a part of the pixels is not in the file")
            pixels = page.asarray(maxworkers=1)  # threads of tifffile's own would only log what they meet
            pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
            return Picture(as_bytes(pixels), page.photometric == 0)
    finally:
        strict.reset(token)


def read_png(data: bytes) -> Picture:
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        image.verify()  # the checksum of each chunk; the image must be opened anew
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        refuse_pages(getattr(image, "n_frames", 1))
        refuse_size(*image.size)
        if data[24] == 16:  # the depth, of which Pillow drops a half where there are colours
            refuse_depth(16, np.dtype(np.uint16))
        if image.mode == "P":
            raise UnreadableForm("the colours of a palette are not read; allowed: grey values, or RGB")
        image.load()
        refuse_orientation(image.getexif().get(ORIENTATION, 1))  # it may stand behind the pixels
        return Picture(as_bytes(np.asarray(image)))


def read_jpeg(data: bytes) -> Picture:
    with Image.open(BytesIO(data), formats=["JPEG"]) as image:
        refuse_pages(getattr(image, "n_frames", 1))
        refuse_size(*image.size)
        refuse_orientation(image.getexif().get(ORIENTATION, 1))
        if image.mode not in ("L", "RGB"):
            raise UnreadableForm(f"{image.mode} colours are not read; allowed: grey values, or RGB")
        grey = image.mode == "L"
    pixels = simplejpeg.decode_jpeg(data, "GRAY" if grey else "RGB", strict=True)
    return Picture(pixels[..., 0] if grey else pixels)


READERS: dict[bytes, Callable[[bytes], Picture]] = {
    b"II*\x00": read_tiff,
    b"MM\x00*": read_tiff,
    b"II+\x00": read_tiff,
    b"MM\x00+": read_tiff,
    b"\x89PNG\r\n\x1a\n": read_png,
    b"\xff\xd8\xff": read_jpeg,
}
"""By a file's first bytes."""


def as_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 pixels; of one bit each, 0 and 255."""
    return np.ascontiguousarray(pixels * np.uint8(255) if pixels.dtype == bool else pixels)


def tag_name(tag: int) -> str:
    """Return the name of a tag's value, where tifffile knows one."""
    return str(getattr(tag, "name", tag))


def refuse_pages(pages: int) -> None:
    if pages != 1:
        raise UnreadableForm(f"{pages} pages; allowed: one, so save each as a file of its own")


def refuse_orientation(orientation: int) -> None:
    if orientation != 1:
        raise UnreadableForm(f"its orientation tag {orientation} turns the picture; allowed: 1, so turn the pixels themselves")


def refuse_depth(bits: int, dtype: np.dtype | None) -> None:
    if bits not in (1, 8) or dtype not in (np.bool_, np.uint8):
        found = f"{bits}-bit pixels" if dtype is None or dtype.itemsize * 8 != bits else f"{dtype} pixels"
        raise UnreadableForm(f"{found}; only 8-bit files are read, so rescale it to 0 to 255 first")


def refuse_size(width: int, height: int) -> None:
    if not 0 < width * height <= MOST_PIXELS:
        raise UnreadableForm(f"{width} x {height} pixels; allowed: up to {MOST_PIXELS}")
