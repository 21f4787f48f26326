"""Brain-like slices in the folder layout of the LGG data set, so that training and its tests need no download.

A head is drawn in 3-D from a few implicit surfaces (scalp, skull, brain, ventricles, sulci). A smooth random field warps
these surfaces. Each tissue has one intensity for each sequence. A bias field and Rician noise corrupt the result.

Lesions and distractors have the same range of intensity, size and place in all three sequences. A single pixel and its
smoothed neighbourhood do not show the difference between a lesion and a distractor. A lesion is ragged and mottled. A
distractor is homogeneous and has a regular outline (ellipsoid, shell, periventricular cap, cortical band).

The unit of length in the plane is half the image width, so that an image of any size spans [-1, 1]. z spans [-1, 1] from
the skull base to the vertex, for any number of slices.
"""

import hashlib
import math
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import cv2
import numpy as np
from annotated_types import Ge, Gt, Le, Len, Lt
from filelock import FileLock
from numpy.typing import NDArray
from scipy import fft

from attnunet.data.files import naming
from attnunet.data.lgg import CHANNELS, find_slices
from attnunet.data.pictures import Pictures
from attnunet.data.slices import Dataset, choose_channels, drop_patients

Volume: TypeAlias = NDArray[np.floating[Any]]

# Site -> exponent of the intensity. Sites differ in it because scanners and protocols differ in contrast.
SITES = {"AA": 0.95, "BB": 1.0, "CC": 1.05}

# Relative intensity of pre-contrast T1, FLAIR and post-contrast T1. The brightest tissue has about 1.
SCALP = (0.85, 0.75, 0.90)
BONE = (0.08, 0.06, 0.08)
FLUID = (0.20, 0.12, 0.20)
GREY = (0.40, 0.48, 0.44)
WHITE = (0.52, 0.40, 0.55)
PATHOLOGY = (0.44, 0.85, 0.48)

HEAD_AXES = (0.62, 0.76)  # half axes in x and y of the largest slice
SKULL_DEPTH, FLUID_DEPTH, BRAIN_DEPTH = 0.06, 0.11, 0.14  # depths below the skin, in units of the head's radius

LESION_AREA = (0.012, 0.065)  # share of the image's area, in the lesion's largest slice
LESION_SHARE = (0.24, 0.48)  # share of the slices
DISTRACTORS = 6  # candidates per patient; a candidate that would touch the lesion is left out
MISSING_SEQUENCE = 0.1  # share of the patients that lack a sequence
NOISE = 0.025  # standard deviation, in units of relative intensity
WHITE_LEVEL = 230.0  # grey value of intensity 1


@dataclass(frozen=True)
class Head:
    """Coordinates of a patient's voxels. Each array has the shape (slices, size, size) or broadcasts to it."""

    x: Volume  # distance from the midline
    y: Volume  # from front to back
    z: Volume  # (slices, 1, 1), from the skull base to the vertex
    depth: Volume  # depth below the skin, in units of the head's radius; negative outside the head

    @property
    def shape(self) -> tuple[int, int, int]:
        slices, height, width = self.depth.shape
        return slices, height, width

    def soft(self, distance: Volume) -> Volume:
        """Return an anti-aliased membership in [0, 1]. It is a ramp one pixel wide around the surface `distance` = 0."""
        return np.clip(0.5 + distance * (self.shape[1] / 2), 0, 1).astype(np.float32)

    def brain(self) -> Volume:
        return self.soft(self.depth - BRAIN_DEPTH)


def random_field(rng: np.random.Generator, shape: tuple[int, int, int], sigma: tuple[float, float]) -> Volume:
    """Return a Gaussian random field of zero mean and unit variance.

    The field is smoothed white noise. `sigma` is the width of the smoothing (along z, in the plane) in pixels.
    """
    spectrum = fft.rfftn(rng.standard_normal(shape, dtype=np.float32))
    for axis, (length, s) in enumerate(zip(shape, (sigma[0], sigma[1], sigma[1]), strict=True)):
        frequency = fft.rfftfreq(length) if axis == 2 else fft.fftfreq(length)
        gain = np.exp(-2 * (np.pi * s * frequency) ** 2).astype(np.float32)
        spectrum *= gain.reshape([-1 if a == axis else 1 for a in range(3)])
    field: Volume = fft.irfftn(spectrum, s=shape)
    return (field - field.mean()) / field.std()


def draw_head(rng: np.random.Generator, slices: int, size: int) -> Head:
    """Return a head of random pose and size. A smooth displacement of a few percent warps its outline."""
    shape = (slices, size, size)
    z = np.linspace(-1, 1, slices, dtype=np.float32)[:, None, None]
    y, x = np.meshgrid(*2 * [(np.arange(size, dtype=np.float32) + 0.5) * 2 / size - 1], indexing="ij")
    x, y = x - rng.uniform(-0.06, 0.06), y - rng.uniform(-0.06, 0.06)
    tilt = rng.normal(0, 0.07)
    x, y = math.cos(tilt) * x + math.sin(tilt) * y, math.cos(tilt) * y - math.sin(tilt) * x
    warp_x, warp_y = (0.03 * random_field(rng, shape, (slices / 4, size / 6)) for _ in range(2))
    x, y = x[None] + warp_x, y[None] + warp_y
    # A vertical section of the head is an ellipse too. It is widest a little above the skull base and narrow at the vertex.
    scale = np.sqrt(1 - ((z + 0.2) / 1.35) ** 2) * rng.uniform(0.94, 1.06)
    radius = np.hypot(x / HEAD_AXES[0], y / HEAD_AXES[1])
    return Head(x, y, z, (scale - radius).astype(np.float32))


def ventricles(head: Head, width: float) -> Volume:
    """Return the signed distance to the two lateral ventricles, positive inside.

    Each ventricle has the half width `width` and bends outwards at the front and at the back.
    """
    half_width = (width + 0.03) * (1 - (head.y / 0.36) ** 2) * (1 - ((head.z - 0.05) / 0.6) ** 2) - 0.03
    outside = (np.abs(head.y) > 0.36) | (np.abs(head.z - 0.05) > 0.6)
    return np.where(outside, -1, half_width - np.abs(np.abs(head.x) - 0.075 - 0.9 * head.y**2)).astype(np.float32)


def ellipsoid(head: Head, centre: Sequence[float], axes: Sequence[float], angle: float) -> Volume:
    """Return 1 - q, where q is the normalised radius: 1 at the centre, 0 on the surface, negative outside."""
    dx, dy, dz = head.x - centre[0], head.y - centre[1], head.z - centre[2]
    u, v = math.cos(angle) * dx + math.sin(angle) * dy, math.cos(angle) * dy - math.sin(angle) * dx
    return 1 - np.sqrt((u / axes[0]) ** 2 + (v / axes[1]) ** 2 + (dz / axes[2]) ** 2)


def paint(image: Volume, membership: Volume, intensity: Sequence[float]) -> None:
    """Paint a region with membership m in [0, 1] into each of the three sequences, in place.

    sequence <- (1 - m) sequence + m intensity.
    """
    for sequence, value in zip(image, intensity, strict=True):
        sequence += membership * (value - sequence)


def paint_anatomy(rng: np.random.Generator, head: Head, ventricle: Volume) -> Volume:
    """Return healthy tissue in relative intensities, (3, slices, size, size). `ventricle` is a signed distance."""
    size = head.shape[1]
    image = np.zeros((3, *head.shape), np.float32)
    paint(image, head.soft(head.depth), SCALP)
    paint(image, head.soft(head.depth - SKULL_DEPTH), BONE)
    paint(image, head.soft(head.depth - FLUID_DEPTH), FLUID)
    brain = head.brain()
    paint(image, brain, WHITE)
    # Sulci are the zero crossings of a random field near the surface. Grey matter lines the surface and the sulci.
    folds = np.abs(random_field(rng, head.shape, (1.5, size / 36)))
    shallow = np.clip((0.34 - head.depth) / 0.06, 0, 1)
    cortex = np.maximum(head.depth < BRAIN_DEPTH + 0.045, folds < 0.5) * shallow
    nuclei = [ellipsoid(head, (side * 0.2, 0.02, 0.0), (0.09, 0.16, 0.35), -side * 0.3) for side in (-1, 1)]
    paint(image, brain * np.maximum(cortex, head.soft(0.1 * np.maximum(*nuclei))), GREY)
    fissure = head.soft(0.012 - np.abs(head.x)) * (np.abs(head.y) > 0.3)
    sulci = np.maximum(shallow * np.clip(1.5 - folds / 0.12, 0, 1), fissure)
    paint(image, brain * np.maximum(sulci, head.soft(ventricle)), FLUID)
    return image


def random_shape(rng: np.random.Generator) -> tuple[list[float], list[float]]:
    """Return the centre and the half axes (x, y, z) of a lesion-sized ellipsoid inside the brain."""
    angle, distance = rng.uniform(0, 2 * math.pi), rng.uniform(0.35, 0.62)
    centre = [
        distance * HEAD_AXES[0] * math.cos(angle),
        distance * HEAD_AXES[1] * math.sin(angle),
        rng.uniform(-0.5, 0.4),
    ]
    # The image has the area 4, and the volume has the height 2. So a lesion's half height is its share of the slices.
    radius = 2 * math.sqrt(math.exp(rng.uniform(*np.log(LESION_AREA))) / math.pi)
    stretch = rng.uniform(0.8, 1.25)
    return centre, [radius * stretch, radius / stretch, rng.uniform(*LESION_SHARE)]


def draw_lesion(rng: np.random.Generator, head: Head, ventricle: Volume) -> NDArray[np.bool_]:
    """Return a ragged lesion over a share of consecutive slices. In one patient of four it has a satellite."""
    size = head.shape[1]
    centre, axes = random_shape(rng)
    surface = ellipsoid(head, centre, axes, rng.uniform(0, math.pi))
    if rng.random() < 0.25:
        satellite = [c + a * rng.uniform(-1, 1) for c, a in zip(centre, axes, strict=True)]
        surface = np.maximum(surface, ellipsoid(head, satellite, [a / 2 for a in axes], 0.0))
    coarse, fine = random_field(rng, head.shape, (1, size / 24)), random_field(rng, head.shape, (0.7, size / 50))
    ragged = surface + 0.1 + 0.18 * coarse + 0.10 * fine > 0
    return ragged & (np.abs(head.z - centre[2]) < axes[2]) & (head.depth > BRAIN_DEPTH) & (ventricle < 0)


def draw_distractors(rng: np.random.Generator, head: Head, width: float) -> list[Volume]:
    """Return the memberships in [0, 1] of bright regions that are no lesion. `width` is the ventricles' half width."""
    brain = head.brain()
    bend = 0.12 * random_field(rng, head.shape, (2, head.shape[1] / 12))  # too smooth to make an outline ragged
    regions = [head.soft(ventricles(head, width + rng.uniform(0, 0.06))) * (np.abs(head.y) > 0.1)]
    direction = rng.uniform(0, 2 * math.pi)
    sector = np.cos(np.arctan2(head.y, head.x) - direction) > 0.8
    band = rng.uniform(0.04, 0.08) - np.abs(head.depth - BRAIN_DEPTH - 0.05)
    regions.append(head.soft(band) * sector * (np.abs(head.z - rng.uniform(-0.6, 0.6)) < 0.4))
    for _ in range(DISTRACTORS):
        centre, axes = random_shape(rng)
        surface = ellipsoid(head, centre, axes, rng.uniform(0, math.pi)) + bend
        if rng.random() < 0.25:  # a shell
            surface = np.minimum(surface, 0.5 - surface)
        regions.append(np.clip(surface / 0.35, 0, 1))  # the region fades out over a third of its radius
    return [region * brain for region in regions]


def corrupt(rng: np.random.Generator, image: Volume) -> Volume:
    """Return the image with a bias field and noise.

    Each sequence is multiplied by a smooth gain of about +-15 %, the bias field. Then the Rician noise of magnitude images
    turns a value s into |s + n1 + i n2|.
    """
    _, slices, size, _ = image.shape
    for sequence in image:
        sequence *= np.exp(0.08 * random_field(rng, sequence.shape, (slices / 4, size / 5)))
    real, imaginary = NOISE * rng.standard_normal((2, *image.shape), dtype=np.float32)
    return np.hypot(image + real, imaginary)


def draw_patient(
    rng: np.random.Generator, slices: int, size: int, exponent: float = 1.0
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return a patient's images and masks.

    The images are (slices, size, size, 3), with the channels pre, FLAIR and post. The masks are (slices, size, size), with
    the values 0 and 255.
    """
    head = draw_head(rng, slices, size)
    width = rng.uniform(0.03, 0.055)
    ventricle = ventricles(head, width)
    image = paint_anatomy(rng, head, ventricle)
    lesion = draw_lesion(rng, head, ventricle)
    pathology = rng.normal(PATHOLOGY, (0.08, 0.04, 0.08)).tolist()
    for region in draw_distractors(rng, head, width):
        if not (region * lesion).any():  # a region that touched the lesion would blur the lesion's outline
            paint(image, region * (ventricle < 0) * rng.uniform(0.6, 1.05), pathology)
    mottle = np.clip(0.85 + 0.35 * random_field(rng, head.shape, (0.4, size / 60)), 0.4, 1.2)
    paint(image, lesion * mottle, pathology)
    for sequence in image:
        sequence *= rng.uniform(0.8, 1.0)
    image = np.clip(corrupt(rng, image), 0, 1) ** exponent
    images = np.ascontiguousarray(np.moveaxis(np.round(image * WHITE_LEVEL).astype(np.uint8), 0, -1))
    if rng.random() < MISSING_SEQUENCE:
        images[..., rng.choice([0, 2])] = images[..., 1]
    return images, np.where(lesion, 255, 0).astype(np.uint8)


def write_phantom(root: Path, patients: int, slices: int, size: int, seed: int) -> None:
    """Write `root`/<patient>/<patient>_<n>.tif and <patient>_<n>_mask.tif, with n from 1.

    Patient i depends on `seed`, i, `slices` and `size` only. The folder is written beside `root` and then renamed, so that a
    killed process leaves no half phantom at `root`.

    Raises:
        FileExistsError: `root` exists.
    """
    if root.exists():
        raise FileExistsError(f"{root} exists")
    unfinished = root.with_name(f".{root.name}.{os.getpid()}")
    try:
        for index in range(patients):
            site = list(SITES)[index % len(SITES)]
            images, masks = draw_patient(np.random.default_rng([seed, index]), slices, size, SITES[site])
            folder = unfinished / f"PHANTOM_{site}_{index:04d}"
            folder.mkdir(parents=True)
            for number, (image, mask) in enumerate(zip(images, masks, strict=True), start=1):
                # OpenCV takes blue, green, red. The channels are reversed, so that red in the file is pre-contrast.
                for name, pixels in ((f"{number}", image[..., ::-1]), (f"{number}_mask", mask)):
                    path = folder / f"{folder.name}_{name}.tif"
                    with naming(path):  # OpenCV's own writer would not report a full disk
                        path.write_bytes(cv2.imencode(".tif", pixels)[1].tobytes())
        os.replace(unfinished, root)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def phantom(
    root: str,
    patients: Annotated[int, Gt(0), Le(10_000)] = 24,
    slices: Annotated[int, Gt(0), Le(1000)] = 20,
    size: Annotated[int, Ge(16), Le(1024)] = 128,
    seed: Annotated[int, Ge(0), Lt(2**32)] = 0,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    channels: list[str] = CHANNELS,  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """Return the phantom of these arguments below `root`. It is drawn if it is not there yet.

    Its files are read in the same way as `data=lgg` reads the LGG data set. The folder's name holds a hash of this module,
    so that a phantom drawn by another version of the module is not used by mistake.
    """
    drawn_by = hashlib.blake2b(Path(__file__).read_bytes(), digest_size=4).hexdigest()
    folder = Path(root) / f"{patients}x{slices}x{size}-seed{seed}-{drawn_by}"
    Path(root).mkdir(parents=True, exist_ok=True)
    with FileLock(Path(root) / ".lock"):
        if not folder.is_dir():
            write_phantom(folder, patients, slices, size, seed)
    found, notes = find_slices(folder)
    kept, picked = drop_patients(found, exclude), choose_channels(channels, CHANNELS)
    known = tuple(spacing) if spacing else None
    return Dataset("phantom", kept, Pictures(3), CHANNELS, picked, intensity, verify, known, tuple(notes))
