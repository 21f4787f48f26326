"""The facts that the text for a paper is made of: plain data from the records of the runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from typing import Any

from omegaconf import OmegaConf

from attnunet.comparison.table import Comparison, Place
from attnunet.data.split import PARTS
from attnunet.tracking.records import Record

Scan = Mapping[str, str]
"""A row of a run's cohort.csv; see `attnunet.data.cohort.list_scans`. A value that the record lacks is ""."""


@dataclass(frozen=True)
class Facts:
    """What the record of a run knows.

    Attributes:
        params, tags, metrics: as in MLflow.
        config: the configuration; empty if the run keeps no config.yaml.
        split: the slice numbers of each patient, by part.
        content: the hash of the images and masks.
        decision: the columns of patients.csv that hold the chosen threshold and post-processing; empty for another tool.
        scans: the scans of each part.
        derived: whether the run keeps no cohort.csv, so that `scans` lack a spacing that only the files tell.
    """

    params: Mapping[str, str]
    tags: Mapping[str, str]
    metrics: Mapping[str, float]
    config: Mapping[str, Any]
    split: Mapping[str, Mapping[str, Sequence[int]]]
    content: str
    decision: Mapping[str, str]
    scans: Sequence[Scan]
    derived: bool = False

    @property
    def parameters(self) -> int | None:
        """The number of parameters of the network; None if the record does not know it."""
        return int(self.metrics["parameters"]) if "parameters" in self.metrics else None

    @property
    def given(self) -> bool:
        """Whether the run holds the masks of another tool, and trained no network."""
        return self.get("masks") is not None

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value of the configuration by its name on the command line; `default` if it is absent or null."""
        node: Any = self.config
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        return default if node is None else node


@dataclass(frozen=True)
class RowFacts:
    """The facts of a row of the leaderboard. The runs of a row differ in nothing but their seed and their fold."""

    place: Place
    runs: tuple[Facts, ...]

    @property
    def first(self) -> Facts:
        return self.runs[0]


@dataclass(frozen=True)
class Protocol:
    """What the text for a paper is made of.

    Attributes:
        comparison: the comparison.
        rows: the facts of its rows.
        notes: notes on it, such as how often the test was scored.
        versions: the versions of the packages that compared, by name.
    """

    comparison: Comparison
    rows: tuple[RowFacts, ...]
    notes: tuple[str, ...]
    versions: Mapping[str, str]


def make_protocol(comparison: Comparison, records: Sequence[Record], notes: Sequence[str]) -> Protocol:
    """Return the protocol of a comparison. `records` are the runs of its rows, in any order."""
    facts = {record.id: read_facts(record) for record in records}
    rows = [RowFacts(place, tuple(facts[run.id] for run in place.row.runs)) for place in comparison.standings]
    versions = {name: metadata.version(name) for name in ("scipy", "statsmodels")}
    return Protocol(comparison, tuple(rows), tuple(notes), versions)


def read_facts(record: Record) -> Facts:
    """Return the facts of a run. A run of an earlier version keeps fewer files, so some facts may be missing."""
    config: Any = OmegaConf.to_container(record.config) if record.has("config.yaml") else {}
    rows = record.rows("patients.csv")
    derived = not record.has("cohort.csv")
    scans = derive_scans(record.split["slices"], rows, config) if derived else record.rows("cohort.csv")
    names = ("threshold", "smallest_lesion", "fill_holes")
    decision = {name: rows[0][name] for name in names if rows and name in rows[0]}
    logged = (record.params, record.tags, record.metrics)
    return Facts(*logged, config, record.split["slices"], record.content, decision, scans, derived)


def derive_scans(
    split: Mapping[str, Mapping[str, Sequence[int]]], rows: Sequence[Mapping[str, str]], config: Mapping[str, Any]
) -> list[Scan]:
    """Return the scans of a run that keeps no cohort.csv.

    The rows of patients.csv describe the patients that were scored. Of the others, the split tells the slices alone.
    """
    spacing = " ".join(f"{length:g}" for length in config.get("data", {}).get("spacing") or ())
    scored = {(row["part"], row["patient"]) for row in rows}
    found: list[Scan] = [
        {
            **{name: row.get(name, "") for name in ("part", "patient", "site", "scan", "missing", "slices", "lesion_slices")},
            "lesion_voxels": str(int(row["tp"]) + int(row["fn"])) if "tp" in row else "",
            "spacing": spacing,
        }
        for row in rows
    ]
    blank = dict.fromkeys(("site", "scan", "missing", "lesion_slices", "lesion_voxels", "spacing"), "")
    for part in PARTS:
        for patient, numbers in split.get(part, {}).items():
            if (part, patient) not in scored:
                found.append({"part": part, "patient": patient, "slices": str(len(numbers)), **blank})
    return found
