"""Grouping of files, or of folders with DICOM series, into scans, and notes on scans that may be grouped wrongly.

The names of the files and folders tell the scan and the sequence.
"""

import re
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import gcd
from pathlib import Path

from attnunet.data.checks import list_names
from attnunet.data.decoders import nifti
from attnunet.data.slices import Slice

SUFFIXES = (*nifti.SUFFIXES, ".dcm")
SESSION = re.compile(r"(sub-[^_]+)_(ses-.+)")
"""The name of a case in BIDS: the patient, and the session with all that follows it, such as the number of a run."""
TIME_POINT = re.compile(r"(BraTS-[\w-]+-\d{5})-(\d{3})")
"""The name of a case in BraTS since 2023: the patient and the number of the scan."""
Key = tuple[str, str]
"""A patient, and a name that tells the patient's scans apart. The name is "" if the files tell none."""


def group(paths: Iterable[Path], root: Path, names: Iterable[str]) -> tuple[dict[Key, dict[str, Path]], list[str]]:
    """Return the files of each scan by sequence, and a line for each fault.

    A file has one of two kinds of name:
        CASE_SEQUENCE. The case is the patient.
        SEQUENCE. The first folder below `root` is the patient. The folders below that folder are the name of the scan.

    A case or a first folder of BIDS with a session names a scan of a patient; see `split_session`.

    `names` are the known sequences. Other sequences are allowed too.

    A fault is a file whose name and folders tell no patient, or a second file for a sequence of a scan.
    """
    known = sorted(names, key=len, reverse=True)
    scans: dict[Key, dict[str, Path]] = {}
    faults: list[str] = []
    for path in paths:
        case, name = divide(stem(path), known)
        folders = path.relative_to(root).parts[:-1]
        if not (case or folders):
            faults.append(f"{path}: names no patient; allowed: PATIENT_{path.name}, or a folder for each patient")
            continue
        patient, session = split_session(case or folders[0])
        below = () if case else folders[1:]
        files = scans.setdefault((patient, "/".join(filter(None, (session, *below)))), {})
        other = files.setdefault(name, path)
        if other != path:
            told = f"a second file for the sequence {name} of {case or path.parent}, beside {other}"
            faults.append(f"{path}: {told}; allowed: one, so remove or rename one of the two")
    return scans, faults


def split_session(name: str) -> Key:
    """Return the patient and the session that a name of BIDS tells: sub-01 and ses-1 for sub-01_ses-1.

    Any other name is the patient, and the session is "".
    """
    found = SESSION.fullmatch(name)
    return (found[1], found[2]) if found else (name, "")


def divide(stem: str, names: Iterable[str]) -> Key:
    """Return the case and the sequence of a file's stem.

    The sequence is the first of `names` that is the whole stem, or that ends the stem after a _ or -. If there is none, the
    sequence is the part after the last _, or after the last - in a stem without _. The case is the part before the sequence,
    or "".
    """
    for name in names:
        if match := re.fullmatch(rf"(?:(.+)[_-])?({re.escape(name)})", stem):
            return match[1] or "", match[2]
    case, _, name = stem.rpartition("_" if "_" in stem else "-")
    return case, name


def stem(path: Path) -> str:
    """Return the name of a volume's file without the suffix, or the name of a volume's folder."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]


def note_scans(patients: Iterable[str]) -> list[str]:
    """Return a line with the patients whose names look like scans of one patient, or nothing if there are none.

    Such names are those of BIDS and of BraTS; see SESSION and TIME_POINT.
    """
    scans: dict[str, list[str]] = {}
    for name in dict.fromkeys(patients):
        if match := SESSION.fullmatch(name) or TIME_POINT.fullmatch(name):
            scans.setdefault(match[1], []).append(name)
    doubtful = [name for names in scans.values() if len(names) > 1 for name in names]
    told = "have names of several scans of one patient, but each counts as a patient, so a split may divide them"
    return (
        [f"{list_names(doubtful)} {told}; a CSV with a column scan (data=nifti data.file=CSV) joins them"] if doubtful else []
    )


def note_gaps(slices: Iterable[Slice], spacing: Sequence[float] | None) -> list[str]:
    """Return a line with the scans whose slice numbers have gaps, or nothing if there are none or no spacing is given.

    Scores take the slices beside a gap as neighbours, `spacing[0]` mm apart.
    """
    numbers: dict[str, list[int]] = {}
    for item in slices:
        numbers.setdefault(item.volume, []).append(item.number)
    gaps = {name: find_gaps(sorted(found)) for name, found in numbers.items()}
    named = [f"{name} ({list_names(missing)})" for name, missing in gaps.items() if missing]
    if not spacing or not named:
        return []
    told = f"slices beside a gap count as {spacing[0]:g} mm apart (data.spacing), so distances and lesions there may be wrong"
    return [
        f"slice numbers are missing in {len(named)} scan(s): {list_names(named)}; {told}; add the slices, or use data.exclude"
    ]


def find_gaps(numbers: Sequence[int]) -> list[str]:
    """Return the numbers that lack in ascending numbers: "3" or "4 to 6" for each gap. Numbers in equal steps have no gap."""
    steps = [after - before for before, after in pairwise(numbers)]
    unit = gcd(*steps)
    ends = [(before + unit, after - unit) for before, after in pairwise(numbers) if after - before > unit]
    return [f"{first}" if first == last else f"{first} to {last}" for first, last in ends]
