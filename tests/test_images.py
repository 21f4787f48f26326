"""Image files are read whole and as they are stored, or refused by name: what three libraries write."""

import io
import itertools
import os
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from attnunet.data import images
from attnunet.data.images import read_image, read_mask, read_pages
from attnunet.data.slices import DataError
from attnunet.inference.volumes import Pages

ORIENTATION = 274


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def square() -> np.ndarray:
    """A mask of True in one corner, 4 of 48 pixels."""
    mask = np.zeros((6, 8), bool)
    mask[:2, :2] = True
    return mask


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **{"metadata": None, **options})
    return stream.getvalue()


def pillow(pixels: np.ndarray, form: str, mode: str | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(stream, form, **options)
    return stream.getvalue()


def opencv(pixels: np.ndarray, suffix: str, *options: int) -> bytes:
    written, data = cv2.imencode(suffix, pixels[..., ::-1] if pixels.ndim == 3 else pixels, options)
    assert written
    return data.tobytes()


def refused(path: Path, data: bytes, message: str, read: Callable[[str], object] = images.read) -> None:
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read(str(path))
    assert str(path) in str(caught.value)


# Masks and images where 0 stands for white


MASKS = {
    "bool": tiff(square()),
    "black is zero": tiff(square(), photometric="minisblack"),
    "ImageJ": tiff(square() * np.uint8(255), photometric="miniswhite"),
    "ImageJ, LZW": tiff(square() * np.uint8(255), photometric="miniswhite", compression="lzw", rowsperstrip=2),
    "0 and 1": tiff(square() * np.uint8(1)),
    "Pillow, TIFF": pillow(square(), "TIFF"),
    "Pillow, 1 bit": pillow(square(), "PNG"),
    "Pillow, PNG": pillow(square() * np.uint8(255), "PNG"),
    "OpenCV, TIFF": opencv(square() * np.uint8(255), ".tif"),
    "OpenCV, PNG": opencv(square() * np.uint8(255), ".png"),
}


@pytest.mark.parametrize("data", MASKS.values(), ids=MASKS)
def test_a_masks_lesion_is_what_is_stored_above_0(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "mask.tif"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_mask(str(path)), square().astype(np.uint8))


@pytest.mark.parametrize("value", [0, 255])
def test_an_empty_and_a_full_mask(tmp_path: Path, value: int) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(opencv(np.full((3, 4), value, np.uint8), ".png"))
    assert read_mask(str(path)).sum() == (12 if value else 0)


def test_an_images_brightness_is_what_the_file_says(tmp_path: Path) -> None:
    path, pixels = tmp_path / "a.tif", np.array([[0, 10], [200, 255]], np.uint8)
    path.write_bytes(tiff(pixels, photometric="miniswhite"))
    np.testing.assert_array_equal(read_image(str(path), 1)[..., 0], [[255, 245], [55, 0]])
    path.write_bytes(tiff(square()))
    np.testing.assert_array_equal(read_image(str(path), 1)[..., 0], np.where(square(), 0, 255))


# Whole files of a form that is not read


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[ORIENTATION] = orientation
    return tags


PAGES = [noise(8, 8), noise(8, 8, seed=1), noise(8, 8, seed=2)]
FORMS = {
    "an orientation in TIFF": (tiff(noise(8, 8), extratags=[(ORIENTATION, 3, 1, 6, True)]), "orientation tag 6"),
    "an orientation in PNG": (pillow(noise(8, 8), "PNG", exif=exif(3)), "orientation tag 3"),
    "an orientation in JPEG": (pillow(noise(8, 8), "JPEG", exif=exif(8)), "orientation tag 8"),
    "pages": (tiff(np.stack(PAGES), photometric="minisblack"), "3 pages"),
    "an ImageJ stack": (tiff(np.stack(PAGES), imagej=True, metadata={}), "3 pages"),
    "a stack behind one directory": (
        tiff(np.stack(PAGES), photometric="minisblack", metadata={}, truncate=True),
        "3 pages",
    ),
    "an animation": (
        pillow(PAGES[0], "PNG", save_all=True, append_images=[Image.fromarray(page) for page in PAGES[1:]]),
        "3 pages",
    ),
    "a palette in PNG": (pillow(noise(8, 8), "PNG", mode="P"), "palette"),
    "a palette in TIFF": (tiff(noise(8, 8), photometric="palette", colormap=noise(3, 256).astype(np.uint16)), "PALETTE"),
    "complex numbers": (
        tiff(noise(8, 8).astype(np.complex64)),
        "complex64 pixels; allowed: integers and real numbers of 8, 16",
    ),
    "4 bits": (tiff(noise(8, 8) // 16, bitspersample=4), "4-bit pixels; allowed"),
    "12 bits": (tiff(noise(8, 8).astype(np.uint16), bitspersample=12), "12-bit pixels; allowed"),
    "NaN": (tiff(np.array([[0, np.nan], [np.inf, 1]], np.float32)), r"2 value\(s\) are NaN or infinite"),
    "beyond float32": (tiff(np.full((2, 2), 1e300)), r"4 value\(s\) are NaN or infinite"),
    "real numbers of which 0 is white": (
        tiff(np.ones((2, 2), np.float32), photometric="miniswhite"),
        "0 is white in its float32",
    ),
    "CMYK in TIFF": (pillow(noise(8, 8, 3), "TIFF", mode="CMYK"), "SEPARATED"),
    "CMYK in JPEG": (pillow(noise(8, 8, 3), "JPEG", mode="CMYK"), "CMYK colours are not read"),
    "CIELab": (tiff(noise(8, 8, 3), photometric="cielab"), "CIELAB"),
    "JPEG in TIFF": (tiff(noise(16, 16), compression="jpeg"), "compression JPEG is not read; allowed: none, LZW, deflate"),
    "JPEG 2000 in TIFF": (tiff(noise(16, 16), compression="jpeg2000"), "compression JPEG2000 is not read"),
    "GIF": (pillow(noise(8, 8), "GIF"), "no TIFF, PNG or JPEG"),
    "a volume": (tiff(noise(16, 16, 16), volumetric=True, tile=(16, 16, 16), photometric="minisblack"), "axes ZYX"),
    "nothing": (b"", "no TIFF, PNG or JPEG"),
    "text": (b"not an image", "no TIFF, PNG or JPEG"),
}


@pytest.mark.parametrize(("data", "message"), FORMS.values(), ids=FORMS)
def test_a_form_that_is_not_read_is_refused_by_name(tmp_path: Path, data: bytes, message: str) -> None:
    refused(tmp_path / "a.img", data, message)


# Files of several pages


def appended(*stacks: np.ndarray, **options: object) -> bytes:
    """Return a TIFF file to which the stacks were written one after the other, every second one with a compression."""
    stream = io.BytesIO()
    with tifffile.TiffWriter(stream, ome=options.pop("ome", False)) as file:
        for stack, compression in zip(stacks, itertools.cycle([None, "zlib"])):
            file.write(stack, photometric="minisblack", compression=compression, **options)
    return stream.getvalue()


def keep_one_page(path: Path, stack: np.ndarray) -> None:
    """Write a stack as ImageJ writes one of more than 4 GB: a single page, which stands for all slices behind it."""
    data = bytearray(tiff(stack, imagej=True, metadata={"axes": "ZYX"}, byteorder=">"))
    place = int.from_bytes(data[4:8], "big")
    end = place + 2 + 12 * int.from_bytes(data[place : place + 2], "big")
    data[end : end + 4] = bytes(4)  # there is no next page
    path.write_bytes(data)


VOLUME = noise(5, 6, 8)
STACKS = {
    "pages": tiff(VOLUME, photometric="minisblack"),
    "described by tifffile": tiff(VOLUME, photometric="minisblack", metadata={}),
    "ImageJ": tiff(VOLUME, imagej=True, metadata={"axes": "ZYX"}),
    "ImageJ, without axes": tiff(VOLUME, photometric="minisblack", description="ImageJ=1.53t\nimages=5\nloop=false\n"),
    "OME": tiff(VOLUME, ome=True, metadata={"axes": "ZYX"}, photometric="minisblack"),
    "OME, one channel": tiff(VOLUME[None, :, None], ome=True, metadata={"axes": "TZCYX"}, photometric="minisblack"),
    "one after the other": appended(*VOLUME),
    "two compressions": appended(VOLUME[:3], VOLUME[3:], metadata=None),
}


@pytest.mark.parametrize("data", STACKS.values(), ids=STACKS)
def test_the_pages_of_a_stack_are_its_slices(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.tif").write_bytes(data)
    np.testing.assert_array_equal([page.pixels for page in read_pages(str(tmp_path / "a.tif"))], VOLUME)


@pytest.mark.parametrize("options", [{"metadata": None}, {}, {"planarconfig": "separate"}], ids=str)
def test_the_pages_of_a_stack_may_have_colours(tmp_path: Path, options: dict[str, object]) -> None:
    colours = noise(4, 6, 8, 3)
    stored = np.moveaxis(colours, -1, 1) if "planarconfig" in options else colours
    (tmp_path / "a.tif").write_bytes(tiff(stored, photometric="rgb", **options))
    np.testing.assert_array_equal([page.pixels for page in read_pages(str(tmp_path / "a.tif"))], colours)


HYPER = noise(4, 3, 6, 8)
HYPERSTACKS = {
    "ImageJ": (tiff(HYPER, imagej=True, metadata={"axes": "ZCYX"}), r"1 image\(s\) with the axes ZCYX \(4 x 3 x 6 x 8\)"),
    "ImageJ, times": (tiff(VOLUME, imagej=True, metadata={"axes": "TYX"}), "the axes TYX"),
    "ImageJ, channels": (tiff(VOLUME, imagej=True, metadata={"axes": "CYX"}), "the axes CYX"),
    "OME": (tiff(HYPER, ome=True, metadata={"axes": "ZCYX"}, photometric="minisblack"), "the axes ZCYX"),
    "two axes without names": (tiff(HYPER, photometric="minisblack", metadata={}), "the axes QQYX"),
    "OME, two volumes": (
        appended(VOLUME, VOLUME, ome=True, metadata={"axes": "ZYX"}),
        r"2 image\(s\) with the axes ZYX \(5 x 6 x 8\)",
    ),
    "two volumes": (appended(VOLUME, VOLUME), r"2 image\(s\) with the axes QYX"),
}


@pytest.mark.parametrize(("data", "axes"), HYPERSTACKS.values(), ids=HYPERSTACKS)
def test_a_hyperstack_is_refused_by_its_axes(tmp_path: Path, data: bytes, axes: str) -> None:
    path, message = tmp_path / "a.tif", rf"a\.tif: .*{axes}.*; allowed: one, with slices \(Z\), rows \(Y\), columns \(X\)"
    refused(path, data, message, read_pages)
    refused(path, data, message, lambda _: Pages((path,), Path()).look("axial"))


@pytest.mark.parametrize("form", ["ImageJ", "tifffile"])
def test_a_stack_behind_one_page_is_refused_and_not_cut(tmp_path: Path, form: str) -> None:
    path = tmp_path / "a.tif"
    keep_one_page(path, VOLUME)
    data = path.read_bytes() if form == "ImageJ" else tiff(VOLUME, photometric="minisblack", metadata={}, truncate=True)
    refused(path, data, r"a\.tif: 5 slices in 1 page\(s\); allowed: a page for each slice", read_pages)
    refused(path, data, "5 pages; allowed: one")


# Pixels of more than 8 bits

DEEP = noise(6, 5).astype(np.uint16) * 256 + noise(6, 5, seed=1)
COLOURS = noise(6, 5, 3).astype(np.uint16) * 256 + noise(6, 5, 3, seed=1)
NUMBERS: dict[str, tuple[bytes, np.ndarray, type]] = {
    "16 bits of grey in PNG": (pillow(DEEP, "PNG"), DEEP, np.uint16),
    "16 bits of colour in PNG": (opencv(COLOURS, ".png"), COLOURS, np.uint16),
    "16 bits in TIFF": (tiff(DEEP), DEEP, np.uint16),
    "big-endian": (tiff(DEEP, byteorder=">", compression="lzw", predictor=True), DEEP, np.uint16),
    "16 bits of colour in TIFF": (tiff(COLOURS, planarconfig="contig"), COLOURS, np.uint16),
    "signed": (tiff(DEEP.view(np.int16)), DEEP.view(np.int16), np.int16),
    "8 bits, signed": (tiff(noise(6, 5).view(np.int8)), noise(6, 5).view(np.int8), np.float32),
    "32 bits": (tiff(DEEP.astype(np.int32) - 40000), DEEP.astype(np.int32) - 40000, np.float32),
    "float16": (tiff((DEEP / 65536).astype(np.float16)), (DEEP / 65536).astype(np.float16), np.float32),
    "float32": (tiff(DEEP / np.float32(7), byteorder=">"), DEEP / np.float32(7), np.float32),
    "float64": (tiff(DEEP / 7), (DEEP / 7).astype(np.float32), np.float32),
    "real numbers, four channels": (tiff(noise(6, 5, 4) / np.float32(9), photometric="minisblack", planarconfig="contig"),
                                    noise(6, 5, 4) / np.float32(9), np.float32),
}  # fmt: skip


@pytest.mark.parametrize(("data", "expected", "dtype"), NUMBERS.values(), ids=NUMBERS)
def test_numbers_are_those_of_the_file(tmp_path: Path, data: bytes, expected: np.ndarray, dtype: type) -> None:
    path = tmp_path / "a.img"
    path.write_bytes(data)
    channels = expected.shape[2] if expected.ndim == 3 else 1
    image = read_image(str(path), channels)
    assert image.dtype == dtype
    np.testing.assert_array_equal(image, expected.reshape(6, 5, channels))


def test_the_brightness_of_16_bits_of_which_0_is_white(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(DEEP, photometric="miniswhite"))
    np.testing.assert_array_equal(read_image(str(path), 1)[..., 0], 65535 - DEEP)


@pytest.mark.parametrize("values", [(np.uint16, 65535), (np.int16, -1), (np.float32, 0.5), (np.int32, 7)])
def test_a_mask_may_have_any_numbers(tmp_path: Path, values: tuple[type, float]) -> None:
    path, (dtype, lesion) = tmp_path / "mask.tif", values
    path.write_bytes(tiff((square() * lesion).astype(dtype)))
    np.testing.assert_array_equal(read_mask(str(path)), square())


def test_labels_tell_which_values_of_a_mask_are_lesion(tmp_path: Path) -> None:
    path = tmp_path / "mask.png"
    path.write_bytes(pillow(np.array([[0, 1, 2, 4]], np.uint8), "PNG"))
    assert read_mask(str(path), [2, 4], [0, 1]).tolist() == [[0, 0, 1, 1]]
    with pytest.raises(DataError, match=r"found 0, 1, 2, 4; .*data\.labels"):
        read_mask(str(path))
    with pytest.raises(DataError, match=r"holds the values 0, 1, 2, 4; data\.labels=\[1\] are lesion, \[0\] background"):
        read_mask(str(path), [1])


# Alpha


def with_alpha(pixels: np.ndarray, alpha: float) -> np.ndarray:
    """The pixels, and an alpha channel that has the value `alpha` in one corner and is opaque elsewhere."""
    channel = np.full((*pixels.shape[:2], 1), np.iinfo(pixels.dtype).max if pixels.dtype != np.float32 else 1, pixels.dtype)
    channel[0, 0] = alpha
    return np.concatenate([pixels.reshape(*pixels.shape[:2], -1), channel], axis=2)


def grey_with_alpha(pixels: np.ndarray) -> bytes:
    return tiff(pixels, photometric="minisblack", planarconfig="contig", extrasamples=["unassalpha"])


ALPHA: dict[str, tuple[Callable[[np.ndarray], bytes], np.ndarray]] = {
    "RGBA in PNG": (lambda pixels: pillow(pixels, "PNG"), noise(6, 5, 3)),
    "RGBA in TIFF": (tiff, noise(6, 5, 3)),
    "RGBA of real numbers in TIFF": (lambda pixels: tiff(pixels, photometric="rgb"), noise(6, 5, 3).astype(np.float32)),
    "16 bits of RGBA in PNG": (imagecodecs.png_encode, COLOURS),
    "grey with alpha in PNG": (imagecodecs.png_encode, noise(6, 5)),
    "16 bits of grey with alpha in PNG": (imagecodecs.png_encode, DEEP),
    "grey with alpha in TIFF": (grey_with_alpha, noise(6, 5)),
}


@pytest.mark.parametrize(("write", "pixels"), ALPHA.values(), ids=ALPHA)
def test_an_opaque_alpha_channel_is_left_out_and_any_other_is_refused(
    tmp_path: Path, write: Callable[[np.ndarray], bytes], pixels: np.ndarray
) -> None:
    path, channels = tmp_path / "a.img", pixels.size // 30
    opaque = 1 if pixels.dtype == np.float32 else np.iinfo(pixels.dtype).max
    path.write_bytes(write(with_alpha(pixels, opaque)))
    np.testing.assert_array_equal(read_image(str(path), channels), pixels.reshape(6, 5, channels))
    refused(
        path, write(with_alpha(pixels, 0)), "alpha channel is not opaque everywhere; allowed: no alpha channel, or an opaque"
    )


def test_colours_are_no_mask_and_no_grey_image(tmp_path: Path) -> None:
    for colours in (noise(6, 5, 3), with_alpha(noise(6, 5, 3), 255)):
        refused(tmp_path / "a.png", pillow(colours, "PNG"), "a mask has 1 channel, found 3", read_mask)
        refused(tmp_path / "a.png", pillow(colours, "PNG"), r"3 channel\(s\), expected 1", lambda path: read_image(path, 1))


def test_the_slices_of_a_scan_have_one_size_and_one_type(tmp_path: Path) -> None:
    paths = [str(tmp_path / name) for name in ("1.png", "2.png")]
    for path, pixels in zip(paths, (DEEP, DEEP + 1), strict=True):
        Path(path).write_bytes(pillow(pixels, "PNG"))
    np.testing.assert_array_equal(images.read_stack(paths, 1)[..., 0], [DEEP, DEEP + 1])
    Path(paths[1]).write_bytes(pillow(noise(6, 5), "PNG"))
    with pytest.raises(
        DataError, match=r"2\.png: \(6, 5\) pixels of type uint8, but \S+1\.png beside it has .* of type uint16"
    ):
        images.read_stack(paths, 1)


def test_a_jpeg_mask_is_refused_with_the_way_out(tmp_path: Path) -> None:
    mask = np.kron(square() * np.uint8(255), np.ones((3, 3), np.uint8))
    refused(tmp_path / "a.jpg", opencv(mask, ".jpg"), "save masks as PNG", read_mask)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    for name, message in (("pipe.png", "no regular file"), (".", "no regular file"), ("gone.png", "No such file")):
        with pytest.raises(DataError, match=message):
            images.read(str(tmp_path / name))
    (tmp_path / "link.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"link\.png: cannot be read: No such file"):
        images.read(str(tmp_path / "link.png"))


# Damage


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")


def test_a_wrong_checksum_in_a_png_is_refused(tmp_path: Path) -> None:
    whole = opencv(noise(16, 16), ".png")
    place = whole.index(b"IDAT") + 12
    refused(tmp_path / "a.png", whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :], "damaged")
    beside = whole.index(b"IDAT") - 4
    text = chunk(b"tEXt", b"Comment\x00fine")
    (tmp_path / "b.png").write_bytes(whole[:beside] + text + whole[beside:])
    np.testing.assert_array_equal(images.read(str(tmp_path / "b.png")).pixels, noise(16, 16))
    refused(tmp_path / "a.png", whole[:beside] + text[:-1] + b"\x00" + whole[beside:], "damaged")


def test_a_jpeg_that_libjpeg_only_warns_of_is_refused(tmp_path: Path) -> None:
    whole = opencv(noise(64, 64), ".jpg")
    half = len(whole) // 2
    refused(tmp_path / "a.jpg", whole[:half], "damaged")
    refused(tmp_path / "a.jpg", whole[:half] + bytes(64) + whole[half + 64 :], "damaged")


def test_a_part_that_is_not_in_the_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(tiff(noise(16, 16), rowsperstrip=4, compression="deflate"))
    with tifffile.TiffFile(path, mode="r+b") as file:
        sizes = file.pages.first.tags["StripByteCounts"]
        sizes.overwrite([*sizes.value[:3], 0])  # a hole, which tifffile fills with zeros
    refused(path, path.read_bytes(), "a part of the pixels is not in the file")


def test_a_header_of_a_huge_picture_is_refused(tmp_path: Path) -> None:
    whole = opencv(noise(8, 8), ".png")
    size = (9000).to_bytes(4, "big") * 2
    header = chunk(b"IHDR", size + whole[24:29])
    refused(tmp_path / "a.png", whole[:8] + header + whole[33:], "9000 x 9000 pixels; allowed")


# What three libraries write, in the forms that they know

COMPRESSIONS = ["none", "lzw", "deflate", "packbits", "lzma", "zstd", "jpeg2000", "jpeg"]
READ = {"none", "lzw", "deflate", "packbits", "lzma", "zstd"}


@st.composite
def written(draw: st.DrawFn) -> tuple[bytes, np.ndarray | None, str]:
    """Draw a file, what an independent reader sees in it (None where it must be refused), and how it was made."""
    rows, columns = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    colours = draw(st.sampled_from([1, 3]))
    pixels = noise(*((rows, columns) if colours == 1 else (rows, columns, 3)), seed=draw(st.integers(0, 9)))
    library = draw(st.sampled_from(["tifffile", "Pillow TIFF", "Pillow PNG", "Pillow JPEG", "OpenCV TIFF", "OpenCV PNG"]))
    if library == "tifffile":
        compression = draw(st.sampled_from(COMPRESSIONS))
        options = {
            "compression": None if compression == "none" else compression,
            "byteorder": draw(st.sampled_from("<>")),
            "bigtiff": draw(st.booleans()),
            "photometric": "rgb" if colours == 3 else draw(st.sampled_from(["minisblack", "miniswhite"])),
            "predictor": draw(st.booleans()) and compression in ("lzw", "deflate", "zstd", "lzma"),
            **({"planarconfig": draw(st.sampled_from(["contig", "separate"]))} if colours == 3 else {}),
            **draw(st.sampled_from([{}, {"tile": (16, 32)}, {"rowsperstrip": 5}])),
        }
        if options.get("planarconfig") == "separate":
            pixels = np.moveaxis(pixels, -1, 0)
        pages = draw(st.sampled_from([1, 1, 1, 2]))
        orientation = draw(st.sampled_from([1, 1, 1, 3, 6]))
        data = tiff(
            np.stack([pixels] * pages) if pages > 1 else pixels, extratags=[(ORIENTATION, 3, 1, orientation, True)], **options
        )
        right = compression in READ and pages == 1 and orientation == 1
        shown = np.moveaxis(pixels, 0, -1) if options.get("planarconfig") == "separate" else pixels
        shown = 255 - shown if options["photometric"] == "miniswhite" else shown
        return data, shown if right else None, f"{library} {options} {pages} {orientation}"
    if library.startswith("Pillow"):
        form = library.split()[1]
        modes = {"JPEG": [None, "CMYK"], "PNG": [None, "1", "P", "LA", "RGBA"], "TIFF": [None, "1", "P", "LA", "RGBA", "CMYK"]}
        mode = draw(st.sampled_from(modes[form]))
        mode = None if mode == "CMYK" and colours == 1 else mode
        compressions = [None, "tiff_lzw", "tiff_adobe_deflate", "packbits"]
        options = {"compression": draw(st.sampled_from(compressions))} if form == "TIFF" else {}
        orientation = draw(st.sampled_from([1, 1, 6])) if form != "TIFF" else 1
        if orientation != 1:
            options["exif"] = exif(orientation)
        if mode in ("LA", "RGBA") and form == "TIFF" and options["compression"] == "packbits":
            mode = None
        data = pillow(pixels, form, mode, **options)
        with Image.open(io.BytesIO(data)) as image:
            image.load()
            seen = np.asarray(image)
        seen = seen * np.uint8(255) if seen.dtype == bool else seen
        seen = seen[..., 0] if mode == "LA" else seen[..., :3] if mode == "RGBA" else seen  # Pillow's alpha is opaque
        right = mode not in ("P", "CMYK") and orientation == 1
        return data, seen if right else None, f"{library} {mode} {options}"
    suffix = ".tif" if library.endswith("TIFF") else ".png"
    deep = draw(st.booleans())
    pixels = pixels.astype(np.uint16) * 251 if deep else pixels
    return opencv(pixels, suffix), pixels, f"{library} {deep}"


def check_written(folder: Path, case: tuple[bytes, np.ndarray | None, str]) -> None:
    data, expected, how = case
    path = folder / "a.img"
    path.write_bytes(data)
    if expected is None:
        with pytest.raises(DataError, match=r"a\.img"):
            images.read(str(path))
        return
    picture = images.read(str(path))
    np.testing.assert_array_equal(255 - picture.pixels if picture.white_is_zero else picture.pixels, expected, err_msg=how)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("images")


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=written())
def test_what_libraries_write_is_read_right_or_refused(folder: Path, case: tuple[bytes, np.ndarray | None, str]) -> None:
    check_written(folder, case)


@pytest.mark.slow
@settings(max_examples=3000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(case=written())
def test_three_thousand_files_are_read_right_or_refused(folder: Path, case: tuple[bytes, np.ndarray | None, str]) -> None:
    check_written(folder, case)


# The real sample


def test_the_real_samples_pixels_are_those_of_opencv(sample: Path) -> None:
    locked = (sample / "locked.txt").read_text().split()
    patients = sorted(path for path in sample.iterdir() if path.is_dir() and path.name not in locked)
    files = [path for patient in patients for path in sorted(patient.glob("*.tif"))[::8]]
    files += sorted((sample / "TCGA_CS_4944_20010208").glob("*.tif"))
    assert len(files) > 100
    for path in files:
        seen = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(images.read(str(path)).pixels, seen[..., ::-1] if seen.ndim == 3 else seen)
