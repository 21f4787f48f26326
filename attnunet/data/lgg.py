"""The LGG MRI segmentation data set (Buda, Saha, Mazurowski 2019, doi 10.1016/j.compbiomed.2019.05.002)."""

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Gt, Le, Len

from attnunet.data.listing import IMAGES, is_image, list_files
from attnunet.data.pictures import Pictures
from attnunet.data.sequences import note_gaps
from attnunet.data.slices import DataError, Dataset, Slice, choose_channels, drop_patients, number_through, refuse

CHANNELS = ("pre", "flair", "post")
DATED = re.compile(r"^(TCGA_\w\w_\w{4})_\d{8}$")
"""The pattern of a folder's name: a patient's barcode and the date of a scan."""
HANDLE = "mateuszbuda/lgg-mri-segmentation"
WHERE = f"""data=lgg needs data.root, the folder that holds one folder a patient (TCGA_CS_4941_19960909, ...).
Get the data set (CC BY-NC-SA 4.0) from kaggle.com/datasets/{HANDLE} and unpack it, then give
  data.root=PATH/TO/kaggle_3m
or, with a network and `pip install attnunet[kaggle]`, let it be downloaded: data.download=true"""


def lgg(
    root: str | None = None,
    download: bool = False,
    exclude: list[str] | str = (),  # type: ignore[assignment]
    channels: list[str] = CHANNELS,  # type: ignore[assignment]
    intensity: Literal["raw", "percentile", "zscore"] = "zscore",
    spacing: Annotated[list[Annotated[float, Gt(0), Le(1000)]], Len(3, 3)] | None = None,
    verify: bool = False,
) -> Dataset:
    """Return the LGG data set below `root`.

    A slice is `<patient>/<patient>_<number>.tif` with `<patient>/<patient>_<number>_mask.tif`. Images have three
    channels (pre-contrast, FLAIR, post-contrast). Masks have one channel and at most two values. PNG and JPEG files are read
    too. A suffix may have capital letters. All other files are skipped. The notes count the skipped images. With a `spacing`,
    they also name the missing slices.

    Raises:
        DataError: there is no root; it has no patients; an image has no mask; a mask has no image; two files have the same
            number; an image in a patient's folder is not named after the folder.
    """
    if root is None:
        if not download:
            raise DataError(WHERE)
        root = fetch()
    found, notes = find_slices(Path(root))
    kept = drop_patients(found, exclude)
    picked = choose_channels(channels, CHANNELS)
    known = tuple(spacing) if spacing else None
    notes += note_gaps(kept, known)
    return Dataset("lgg", join_scans(kept), Pictures(3), CHANNELS, picked, intensity, verify, known, tuple(notes))


def join_scans(slices: Sequence[Slice]) -> tuple[Slice, ...]:
    """Return the slices with one patient for all folders whose names differ only in the date.

    As two patients, such folders would leak across a split. For example, TCGA_CS_4941_19960909 and TCGA_CS_4941_19970101
    become the scans 19960909 and 19970101 of the patient TCGA_CS_4941. The numbers of the patient's slices continue from
    scan to scan.
    """
    folders: dict[str, list[str]] = {}
    for folder in dict.fromkeys(item.patient for item in slices):
        folders.setdefault(DATED.sub(r"\1", folder), []).append(folder)
    joined = {folder: person for person, dated in folders.items() if len(dated) > 1 for folder in dated}
    return number_through(
        replace(item, patient=joined[item.patient], scan=item.patient.rpartition("_")[2]) if item.patient in joined else item
        for item in slices
    )


def fetch() -> str:
    """Return the folder of the data set. kagglehub downloads it on the first call."""
    try:
        import kagglehub
    except ImportError:
        raise DataError("data.download=true needs kagglehub: pip install 'attnunet[kaggle]'") from None
    try:
        return kagglehub.dataset_download(HANDLE)
    except Exception as error:  # kagglehub passes on the errors of requests, its own client and the file system
        raise DataError(f"data.download=true: {HANDLE} could not be downloaded: {error}\n\n{WHERE}") from error


def find_slices(root: Path) -> tuple[list[Slice], list[str]]:
    """Return all slices below `root`, or below its folder `kaggle_3m`, and a line for each folder with skipped images."""
    if not root.is_dir():
        raise DataError(f"data.root={root}: no such folder\n\n{WHERE}")
    nested = [path for path in (root / "kaggle_3m", root / "lgg-mri-segmentation" / "kaggle_3m") if path.is_dir()]
    base = (nested or [root])[0]
    images: dict[tuple[str, int], Path] = {}
    masks: dict[tuple[str, int], Path] = {}
    strays: dict[Path, list[Path]] = {}
    found, faults = list_files(base)
    for path in filter(is_image, found):
        if (match := match_name(path)) and path.parent.parent == base:
            (masks if match[2] else images)[path.parent.name, int(match[1])] = path
        else:
            strays.setdefault(path.parent, []).append(path)

    # In a patient's folder, an image that is no slice is an error, because a slice would be lost. In any other folder, such as
    # one with a run's pictures, the image may be anything, so it is only noted.
    lines = {
        folder: f"{folder}: {len(paths)} image(s) that are no slices, as {paths[0].name}; a slice is "
        "PATIENT/PATIENT_NUMBER.tif with PATIENT/PATIENT_NUMBER_mask.tif"
        for folder, paths in strays.items()
    }
    faults += [f"{line}; rename them, or move them elsewhere" for folder, line in lines.items() if folder.parent == base]
    beside = sorted({path.parent for path in root.glob("*/*") if match_name(path)}) if nested else []
    faults += [f"{folder}: a patient beside {base}; give data.root={base}, or move the patient there" for folder in beside]
    for key in sorted(images.keys() ^ masks.keys()):
        there, lacking = (images, "mask") if key in images else (masks, "image")
        faults.append(f"{there[key]}: there is no {lacking} for it")
    refuse(faults)
    notes = [f"passed over: {line}" for line in lines.values()]
    if not images:
        raise DataError("\n".join([f"data.root={root}: no patients in this folder", *notes, "", WHERE]))
    return [Slice(patient, n, str(images[patient, n]), str(masks[patient, n]), site(patient)) for patient, n in images], notes


def match_name(path: Path) -> re.Match[str] | None:
    """Return the match of a path PATIENT/PATIENT_NUMBER[_mask].tif, or None if the path is named otherwise.

    Group 1 is the number. Group 2 is `_mask`, or None for an image.
    """
    patient, name = (unicodedata.normalize("NFC", text) for text in (path.parent.name, path.stem))
    return re.fullmatch(rf"{re.escape(patient)}_([0-9]+)((?i:_mask))?", name) if path.suffix.lower() in IMAGES else None


def site(patient: str) -> str:
    """Return the tissue source site, which is the second field of a TCGA barcode: DU for TCGA_DU_5852_19950709.

    A name with fewer than three fields has the site "".
    """
    fields: Sequence[str] = patient.split("_")
    return fields[1] if len(fields) > 2 else ""
