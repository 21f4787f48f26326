"""The LGG MRI segmentation data set (Buda, Saha, Mazurowski 2019, doi 10.1016/j.compbiomed.2019.05.002)."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le, Len

from attnunet.data.slices import DataError, Dataset, Slice, chosen, without

CHANNELS = ("pre", "flair", "post")
HANDLE = "mateuszbuda/lgg-mri-segmentation"
WHERE = f"""data=lgg needs data.root, the folder that holds one folder a patient (TCGA_CS_4941_19960909, ...).
Get the data set (CC BY-NC-SA 4.0) from kaggle.com/datasets/{HANDLE} and unpack it, then give
  data.root=PATH/TO/kaggle_3m
or, with a network and `pip install attnunet[kaggle]`, let it be downloaded: data.download=true"""


def lgg(
    root: str | None = None,
    download: bool = False,
    exclude: list[str | int] | str = (),  # type: ignore[assignment]
    channels: list[str] = CHANNELS,  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """The data set in its own layout: `<patient>/<patient>_<number>.tif` and `<patient>/<patient>_<number>_mask.tif`.

    Images are 8-bit with three channels (pre-contrast, FLAIR, post-contrast), masks 8-bit with one channel and at most
    two values. Other files and folders are passed over.

    Raises:
        DataError: no root, no patients in it, an image without mask, a mask without image, two scans of a patient.
    """
    if root is None:
        if not download:
            raise DataError(WHERE)
        root = downloaded()
    slices = without(find(Path(root)), exclude)
    refuse_second_scans(slices)
    picked = chosen(channels, CHANNELS)
    return Dataset("lgg", slices, CHANNELS, picked, intensity, verify, tuple(spacing) if spacing else None)


def refuse_second_scans(slices: Sequence[Slice]) -> None:
    """Two folders of one TCGA patient (TCGA_CS_4941_19960909, TCGA_CS_4941_19970101) would leak across a split."""
    scans: dict[str, str] = {}
    for folder in dict.fromkeys(s.patient for s in slices):
        person = re.sub(r"^(TCGA_\w\w_\w{4})_\d{8}$", r"\1", folder)
        if person in scans:
            raise DataError(f"{scans[person]} and {folder} are scans of one patient: leave one out with data.exclude")
        scans[person] = folder


def downloaded() -> str:
    """The folder of the data set, fetched through kagglehub on the first call."""
    try:
        import kagglehub
    except ImportError:
        raise DataError("data.download=true needs kagglehub: pip install 'attnunet[kaggle]'") from None
    try:
        return kagglehub.dataset_download(HANDLE)
    except Exception as error:  # kagglehub raises what requests, its own client or the file system raise
        raise DataError(f"data.download=true: {HANDLE} could not be downloaded: {error}\n\n{WHERE}") from error


def find(root: Path) -> list[Slice]:
    """Every slice below `root`, or below the `kaggle_3m` in it."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder\n\n{WHERE}")
    nested = [path for path in (root / "kaggle_3m", root / "lgg-mri-segmentation" / "kaggle_3m") if path.is_dir()]
    slices = [s for folder in sorted((nested or [root])[0].iterdir()) if folder.is_dir() for s in patient(folder)]
    if not slices:
        raise DataError(f"data.root={root}: no patients in this folder\n\n{WHERE}")
    return slices


def patient(folder: Path) -> list[Slice]:
    """The slices of one patient's folder; none if it is not a patient's."""
    pattern = re.compile(re.escape(folder.name) + r"_(\d+)(_mask)?\.tif")
    found: tuple[dict[int, Path], dict[int, Path]] = ({}, {})
    for path in folder.iterdir():
        if match := pattern.fullmatch(path.name):
            found[match[2] is not None][int(match[1])] = path
    images, masks = found
    for number in sorted(images.keys() ^ masks.keys()):
        there, lacking = (images, "mask") if number in images else (masks, "image")
        raise DataError(f"{there[number]}: there is no {lacking} for it")
    return [Slice(folder.name, n, str(images[n]), str(masks[n]), site(folder.name)) for n in sorted(images)]


def site(patient: str) -> str:
    """The tissue source site, second field of a TCGA barcode: TCGA_DU_5852_19950709 -> DU."""
    fields: Sequence[str] = patient.split("_")
    return fields[1] if len(fields) > 2 else ""
