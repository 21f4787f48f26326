"""Image files as pixels. A file is read completely and as it is stored, or refused with an error that names it.

tifffile reads TIFF, Pillow reads PNG, and libjpeg-turbo in its strict mode reads JPEG. OpenCV is not used, because it
returns a part of the pixels of a damaged file without an error. The first bytes of a file tell its format.
"""

import logging
import math
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

from attnunet.data.labels import mark_lesion
from attnunet.data.slices import DataError
from attnunet.errors import first_line

MOST_PIXELS = 2**26
"""8192 x 8192 pixels. An image with more has a damaged header, or is no slice."""
COMPRESSIONS = {1: "none", 5: "LZW", 8: "deflate", 32946: "deflate", 32773: "PackBits", 34925: "LZMA", 50000: "Zstandard"}
"""The allowed compressions of TIFF. They are lossless, and their decoders detect damage."""
PHOTOMETRICS = {0: "white is zero", 1: "black is zero", 2: "RGB"}
KEPT = (np.uint8, np.uint16, np.int16)
"""The types of pixels that stay as they are stored. All other numbers become float32."""
ALPHA = {1, 2}
"""The values of TIFF's tag ExtraSamples that mean an alpha channel. A channel with another value is one of the image."""
ORIENTATION = 274
"""The tag of TIFF and EXIF that tells a viewer how to turn a picture. 1 means that the picture is not turned."""

strict: ContextVar[bool] = ContextVar("strict", default=False)
"""Whether a message that tifffile logs as an error is raised as an exception."""


class Strict(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Raise ValueError in strict mode for an error that tifffile would only log. Drop all other messages in that mode."""
        if strict.get() and record.levelno >= logging.ERROR:
            raise ValueError(record.getMessage())
        return not strict.get()


logging.getLogger("tifffile").addFilter(Strict())


class UnreadableForm(ValueError):
    """An undamaged file has a form that is not supported. The message tells what was found and what is allowed."""


@dataclass(frozen=True)
class Picture:
    """A file's pixels as they are stored, (h, w) or (h, w, channels). In some files 0 stands for white.

    The type of the pixels is one of KEPT, or float32.
    """

    pixels: np.ndarray
    white_is_zero: bool = False


def read_image(path: str, channels: int) -> np.ndarray:
    """Return the brightness of an image's pixels (h, w, channels), in the file's order of channels.

    Pixels of 8 and 16 bits keep their type. All other numbers become float32. In a file with one bit per pixel, the brightness
    is 0 or 255. If a TIFF declares that 0 is white, the brightness is the largest value of the type minus the stored value.

    Raises:
        DataError: the file is damaged, has a form that is not supported, or has another number of channels.
    """
    return brightness(path, read(path), channels)


def brightness(path: str, picture: Picture, channels: int) -> np.ndarray:
    """Return the brightness of a picture's pixels (h, w, channels); see `read_image`."""
    image = np.iinfo(picture.pixels.dtype).max - picture.pixels if picture.white_is_zero else picture.pixels
    found = 1 if image.ndim == 2 else image.shape[2]
    if found != channels:
        named = "as many as data.file_channels has names, [grey] for grey images"
        raise DataError(f"{path}: {found} channel(s), expected {channels}: {named}")
    return image[..., None] if image.ndim == 2 else image


def read_pages(path: str) -> list[Picture]:
    """Return the pages of a TIFF file, which have the same size and type.

    Raises:
        DataError: a page is damaged or has a form that is not supported; two pages differ in size or type; the pages are no
            stack of slices, see `refuse_hyperstack`.
    """
    data = read_bytes(path)
    with naming_faults(path), open_tiff(data) as file:
        pages = [read_page(page, len(data)) for page in file.pages]
        if len({(page.pixels.shape, page.pixels.dtype, page.white_is_zero) for page in pages}) > 1:
            raise UnreadableForm("its pages differ in size or type; allowed: pages of one size and type")
        refuse_hyperstack(file)
    for page in pages:
        refuse_infinite(path, page)
    return pages


def count_pages(path: str) -> int:
    """Return the number of pages of a TIFF file; 1 for any other file, and for one that cannot be opened."""
    try:
        with tifffile.TiffFile(path) as file:
            return len(file.pages)
    except Exception:  # `read` tells what is wrong with the file
        return 1


def read_stack(paths: Sequence[str], channels: int) -> np.ndarray:
    """Return the brightness of the slices of a scan, (slices, h, w, channels); see `read_image`.

    Raises:
        DataError: a file cannot be read; see `read_image`. Two slices differ in size or in the type of their pixels.
    """
    images = [read_image(path, channels) for path in paths]
    first = images[0]
    for path, image in zip(paths, images, strict=True):
        if image.shape != first.shape or image.dtype != first.dtype:
            found, expected = (f"{array.shape[:2]} pixels of type {array.dtype}" for array in (image, first))
            raise DataError(f"{path}: {found}, but {paths[0]} beside it has {expected}")
    return np.stack(images)


def read_mask(path: str, labels: Sequence[int] | None = None, background: Sequence[int] = (0,)) -> np.ndarray:
    """Return a mask, uint8 (h, w) of 0 and 1.

    A pixel is lesion if `mark_lesion` marks its stored value. This also holds for a TIFF that declares that 0 is white,
    because scikit-image, tifffile and ImageJ store masks in that way, with 1 or 255 in the lesion. A mask with a single value
    is empty if the value is 0, else it is full.

    Raises:
        DataError: the file is damaged or has a form that is not supported; it has more than one channel; `mark_lesion` does
            not allow a value.
    """
    mask = read(path).pixels
    if mask.ndim != 2:
        raise DataError(f"{path}: a mask has 1 channel, found {mask.shape[2]}")
    return mark_lesion(path, mask, labels, background)


def read(path: str) -> Picture:
    """Return a file's pixels. An alpha channel is left out.

    Raises:
        DataError: the file is missing or damaged; a pixel is NaN or infinite; the file has a palette, several pages, an alpha
            channel that is not opaque, or an orientation tag that turns the picture.
    """
    data = read_bytes(path)
    decode = next((reader for signature, reader in READERS.items() if data.startswith(signature)), None)
    if decode is None:
        raise DataError(f"{path}: cannot be decoded; it is no TIFF, PNG or JPEG file")
    with naming_faults(path):
        picture = decode(data)
    refuse_infinite(path, picture)
    return picture


@contextmanager
def naming_faults(path: str) -> Iterator[None]:
    """Turn every error of a decoder, during a `with` block, into a DataError that names the file."""
    try:
        yield
    except UnreadableForm as refused:
        raise DataError(f"{path}: {refused}") from None
    except Exception as error:  # a damaged file can cause any error in a decoder
        raise DataError(f"{path}: cannot be decoded; it is damaged: {type(error).__name__}: {first_line(error)}") from error


def refuse_infinite(path: str, picture: Picture) -> None:
    if picture.pixels.dtype.kind == "f" and (wrong := int((~np.isfinite(picture.pixels)).sum())):
        raise DataError(f"{path}: {wrong} value(s) are NaN or infinite; allowed: numbers, so give those a value")


def read_bytes(path: str) -> bytes:
    """Return the bytes of a regular file. Raise DataError for any other path, because reading a pipe may wait forever."""
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            raise DataError(f"{path}: is no regular file; allowed: a TIFF, PNG or JPEG file")
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_tiff(data: bytes) -> Picture:
    with open_tiff(data) as file:
        page = file.pages.first
        planes = count_planes(file) if file.is_imagej or file.is_shaped else 1
        refuse_pages(max(len(file.pages), planes))
        return read_page(page, len(data))


@contextmanager
def open_tiff(data: bytes) -> Iterator[tifffile.TiffFile]:
    """Yield a TIFF file. During the `with` block, a message that tifffile logs as an error is raised."""
    token = strict.set(True)
    try:
        with tifffile.TiffFile(BytesIO(data)) as file:
            yield file
    finally:
        strict.reset(token)


def read_page(page: tifffile.TiffPage, size: int) -> Picture:
    """Return the pixels of a page of a TIFF file with so many bytes.

    Raises:
        UnreadableForm: the page has a form that is not supported.
        ValueError: a part of the page is not in the file.
    """
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
    there = all(start and length and start + length <= size for start, length in segments)
    if not there or len(segments) != math.prod(page.chunked):
        raise ValueError("a part of the pixels is not in the file")
    pixels = page.asarray(maxworkers=1)  # one thread: tifffile's own threads would only log errors
    pixels = np.moveaxis(pixels, 0, -1) if page.axes == "SYX" else pixels
    shown = as_numbers(drop_alpha(pixels) if set(page.extrasamples[-1:]) & ALPHA else pixels)
    if page.photometric == 0 and shown.dtype.kind != "u":
        raise UnreadableForm(f"0 is white in its {page.dtype} pixels; allowed: that 0 is black")
    return Picture(shown, page.photometric == 0)


def read_png(data: bytes) -> Picture:
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        image.verify()  # compares each chunk's checksum; then the image must be opened again
    with Image.open(BytesIO(data), formats=["PNG"]) as image:
        refuse_pages(getattr(image, "n_frames", 1))
        refuse_size(*image.size)
        if image.mode == "P":
            raise UnreadableForm("the colours of a palette are not read; allowed: grey values, or RGB")
        image.load()
        refuse_orientation(image.getexif().get(ORIENTATION, 1))  # after `load`: the tag may follow the pixels
        # The byte 24 is the bit depth. For 16-bit colours, Pillow would drop the lower 8 bits.
        pixels = imagecodecs.png_decode(data) if data[24] == 16 and image.mode != "I;16" else np.asarray(image)
        return Picture(as_numbers(drop_alpha(pixels) if pixels.shape[2:] in ((2,), (4,)) else pixels))


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
"""The reader for each format, by the first bytes of a file."""


def as_numbers(pixels: np.ndarray) -> np.ndarray:
    """Return pixels in this machine's byte order. Pixels of one bit become 0 and 255. See KEPT for the types."""
    if pixels.dtype == bool:
        return pixels * np.uint8(255)
    native = pixels.dtype.newbyteorder("=")
    with np.errstate(over="ignore"):  # a value too large for float32 becomes infinite, and `read` refuses it
        return np.ascontiguousarray(pixels, native if native in KEPT else np.float32)


def drop_alpha(pixels: np.ndarray) -> np.ndarray:
    """Return pixels (h, w, channels) without the last channel, which is alpha. If one channel is left, the result is (h, w).

    Raises:
        UnreadableForm: the alpha channel is not opaque everywhere, so that viewers show other values than those stored.
    """
    opaque = np.iinfo(pixels.dtype).max if pixels.dtype.kind in "iu" else 1
    if (pixels[..., -1] != opaque).any():
        raise UnreadableForm("its alpha channel is not opaque everywhere; allowed: no alpha channel, or an opaque one")
    return pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :-1]


def tag_name(tag: int) -> str:
    """Return tifffile's name for the value of a tag, or the number as text if tifffile has no name for it."""
    return str(getattr(tag, "name", tag))


def refuse_pages(pages: int) -> None:
    if pages != 1:
        raise UnreadableForm(f"{pages} pages; allowed: one, so save each as a file of its own")


def refuse_hyperstack(file: tifffile.TiffFile) -> None:
    """Raise UnreadableForm if the pages of a TIFF file are not the slices of one volume, as in a hyperstack of ImageJ or OME.

    Besides rows, columns and colours (Y, X, S), a volume has one axis at most, which is none of channels or times (C, T).
    """
    for series in file.series:
        stacked = [axis for axis, length in zip(series.axes, series.shape, strict=True) if length > 1 and axis not in "YXS"]
        several = len(file.series) > 1 and stacked not in ([], ["I"])  # I: tifffile itself joined pages that are alike
        if several or len(stacked) > 1 or {"C", "T"} & {*stacked}:
            shape, allowed = " x ".join(map(str, series.shape)), "one, with slices (Z), rows (Y), columns (X) and colours (S)"
            found = f"{len(file.series)} image(s) with the axes {series.axes} ({shape})"
            raise UnreadableForm(
                f"{found}; allowed: {allowed}, so save each channel and each time as a file, or name the axis of slices Z"
            )
    if (planes := count_planes(file)) > len(file.pages):  # in a large stack of ImageJ, one page stands for all slices
        raise UnreadableForm(f"{planes} slices in {len(file.pages)} page(s); allowed: a page for each slice")


def count_planes(file: tifffile.TiffFile) -> int:
    """Return how many planes the description of a TIFF file tells of. One page may stand for several."""
    return sum(series.size for series in file.series) // file.pages.first.size


def refuse_orientation(orientation: int) -> None:
    if orientation != 1:
        raise UnreadableForm(f"its orientation tag {orientation} turns the picture; allowed: 1, so turn the pixels themselves")


def refuse_depth(bits: int, dtype: np.dtype | None) -> None:
    if bits != 1 and (dtype is None or dtype.kind not in "iuf" or dtype.itemsize * 8 != bits):
        found = f"{bits}-bit pixels" if dtype is None or dtype.itemsize * 8 != bits else f"{dtype} pixels"
        raise UnreadableForm(f"{found}; allowed: integers and real numbers of 8, 16, 32 or 64 bits, and one bit")


def refuse_size(width: int, height: int) -> None:
    if not 0 < width * height <= MOST_PIXELS:
        raise UnreadableForm(f"{width} x {height} pixels; allowed: up to {MOST_PIXELS}")
