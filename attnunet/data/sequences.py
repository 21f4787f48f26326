"""Grouping of files, or of folders with DICOM series, into scans. Their names tell the scan and the sequence."""

import re
from collections.abc import Iterable
from pathlib import Path

from attnunet.data.decoders import nifti

SUFFIXES = (*nifti.SUFFIXES, ".dcm")
Key = tuple[str, str]
"""A patient, and a name that tells the patient's scans apart. The name is "" if the patient has only one scan."""


def group(paths: Iterable[Path], root: Path, names: Iterable[str]) -> tuple[dict[Key, dict[str, Path]], list[str]]:
    """Return the files of each scan by sequence, and a line for each fault.

    A file has one of two kinds of name:
        CASE_SEQUENCE. The case is the patient.
        SEQUENCE. The first folder below `root` is the patient. The folders below that folder are the name of the scan.

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
        files = scans.setdefault((case, "") if case else (folders[0], "/".join(folders[1:])), {})
        other = files.setdefault(name, path)
        if other != path:
            told = f"a second file for the sequence {name} of {case or path.parent}, beside {other}"
            faults.append(f"{path}: {told}; allowed: one, so remove or rename one of the two")
    return scans, faults


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
