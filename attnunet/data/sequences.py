"""Which files, or folders of DICOM series, are the sequences of one scan, by their names."""

import re
from collections.abc import Iterable
from pathlib import Path

from attnunet.data.decoders import nifti

SUFFIXES = (*nifti.SUFFIXES, ".dcm")
Key = tuple[str, str]
"""A patient, and a scan among the patient's: "" where there is one."""


def group(paths: Iterable[Path], root: Path, names: Iterable[str]) -> tuple[dict[Key, dict[str, Path]], list[str]]:
    """Return the files of each scan by sequence, and a line for each fault.

    A file is named CASE_SEQUENCE, and the case is the patient; or it is named SEQUENCE, and the first folder below `root` is
    the patient, the folders in it are a scan. `names` are sequences that are known; others count too.

    Faults are files that name no patient, and second files for a sequence.
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
            faults.append(f"{path}: a second file for the sequence {name} of {case or path.parent}, beside {other}")
    return scans, faults


def divide(stem: str, names: Iterable[str]) -> Key:
    """Return a file's case and sequence: the first of `names` that it ends with, else what follows the last _ or -."""
    for name in names:
        if match := re.fullmatch(rf"(?:(.+)[_-])?({re.escape(name)})", stem):
            return match[1] or "", match[2]
    case, _, name = stem.rpartition("_" if "_" in stem else "-")
    return case, name


def stem(path: Path) -> str:
    """Return the name of a volume's file without its suffix, or of its folder."""
    suffix = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), "")
    return path.name[: len(path.name) - len(suffix)]
