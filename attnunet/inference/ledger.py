"""The record of a folder of masks: cases.csv has a row for each case, and run.json tells how the masks were made."""

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.data.files import read_csv, write_atomically, write_csv
from attnunet.data.slices import DataError
from attnunet.metrics.components import bounding_box, components

CASES, RUN = "cases.csv", "run.json"
COLUMNS = (
    "case",
    "slices",
    "spacing",
    "lesion_voxels",
    "lesion_ml",
    "lesions",
    "largest",
    "doubt",
    "seconds",
    "status",
    "error",
    "notes",
    "files",
)
DONE, FAILED, MISSING = "done", "failed", "missing"
PAUSE = 2.0
"""The seconds that pass at least between two writings of cases.csv."""


def measure(mask: np.ndarray, spacing: Sequence[float] | None) -> dict[str, Any]:
    """Return the columns of cases.csv that a mask, uint8 (D, h, w) of 0 and 1, gives.

    `lesions` counts 26-connected components, and `largest` is the number of voxels of the largest one. `spacing` holds the
    distances in mm between slices, rows and columns. Without it, the millilitres are not known.
    """
    _, sizes = components(mask[bounding_box(mask)])
    voxels = int(sizes[1:].sum())
    return {
        "slices": len(mask),
        "spacing": " x ".join(f"{distance:.4g}" for distance in spacing or ()),
        "lesion_voxels": voxels,
        "lesion_ml": f"{voxels * np.prod(spacing) / 1000:.4g}" if spacing else "",
        "lesions": len(sizes) - 1,
        "largest": int(sizes[1:].max(initial=0)),
    }


def doubt(probabilities: np.ndarray, threshold: float) -> float:
    """Return how doubtful a case is, in [0, 1].

    Of the voxels with at least half the threshold's probability, it is the share with less than the threshold's. It is 0 if
    there are no such voxels. A lesion with sharp borders has a small doubt. A lesion that was almost found has the doubt 1.
    """
    near = np.count_nonzero(probabilities >= threshold / 2)
    return 1 - np.count_nonzero(probabilities >= threshold) / near if near else 0.0


@dataclass
class Ledger:
    """The rows of cases.csv. A case without a result has the status `missing`.

    Attributes:
        output: the folder of the masks.
        rows: the row of each case, by the name of the case.
    """

    output: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    written: float = 0.0

    def add(self, name: str, status: str, **columns: Any) -> None:
        """Set the row of a case."""
        self.rows[name] = {**dict.fromkeys(COLUMNS, ""), "case": name, "status": status, **columns}

    def write(self) -> None:
        """Write cases.csv. Its rows are in the order in which cases were added first."""
        write_atomically(self.output / CASES, write_csv(self.rows.values()).encode())
        self.written = time.monotonic()

    def write_now_and_then(self) -> None:
        """Write cases.csv unless it was written a moment ago, because a large table takes time."""
        if time.monotonic() - self.written > PAUSE:
            self.write()

    def complete(self, names: Iterable[str]) -> bool:
        """Return whether the cases with these names have a result."""
        return all(self.rows[name]["status"] == DONE for name in names)


def open_ledger(output: Path, names: Iterable[str], anew: bool) -> Ledger:
    """Return the rows of earlier starts in this folder, with a row for each of these cases besides.

    If `anew` is true, the rows of earlier starts are dropped.

    Raises:
        DataError: cases.csv of an earlier start is damaged.
    """
    ledger, earlier = Ledger(output), {}
    if not anew and (file := output / CASES).is_file():
        try:
            earlier = {row["case"]: row for row in read_csv(file.read_bytes().decode())}
        except (ValueError, KeyError) as error:
            raise DataError(
                f"{file}: is not what attnunet.predict writes: {error}; remove it, or give another output"
            ) from error
    for name, row in earlier.items():
        ledger.rows[name] = {key: row.get(key, "") for key in COLUMNS}
    for name in names:
        if name not in earlier:
            ledger.add(name, MISSING)
    return ledger


def check_settings(output: Path, settings: Mapping[str, Any]) -> None:
    """Raise DataError if run.json in a folder tells of masks that were made with other settings.

    `settings` are those that a mask depends on.
    """
    file = output / RUN
    if not file.is_file():
        return
    try:
        earlier = json.loads(file.read_bytes())["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{file}: is not what attnunet.predict writes; remove it, or give another output") from error
    for key, value in json.loads(json.dumps(settings)).items():
        if key == "channels" and earlier.get(key) is None:
            continue  # patterns for the cases whose files were not found by their names
        if earlier.get(key) != value:
            raise DataError(
                f"output={output}: masks there were made with {key}={earlier.get(key)}, now {value}; give another output, or "
                "existing=overwrite, which makes them anew"
            )


def write_run(output: Path, facts: Mapping[str, Any]) -> None:
    """Write run.json: the model, the settings, and the versions of the packages."""
    write_atomically(output / RUN, (json.dumps(facts, indent=2) + "\n").encode())
