"""The cohort of a comparison: patients, scans, slices and lesions in each part of the splits, by site."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from attnunet.comparison.paper.facts import Facts, Protocol, Scan
from attnunet.comparison.rows import FOLD, FOLDS
from attnunet.data.split import PARTS

EVERY = "all"
"""The name of the part, and of the site, that holds all others."""


@dataclass(frozen=True)
class Group:
    """Runs with the same split: the rows that they belong to, their fold ("" without a cross-validation), and the scans."""

    ranks: tuple[int, ...]
    fold: str
    scans: tuple[Scan, ...]


def find_groups(protocol: Protocol) -> list[Group]:
    """Return the different splits of a comparison, in the order of the rows.

    Of several runs with the same split, the one that describes most scans stands for the others.
    """
    found: dict[str, tuple[list[int], Facts]] = {}
    for row in protocol.rows:
        for facts in row.runs:
            split = json.dumps([facts.split, fold_of(facts)], sort_keys=True)
            ranks, best = found.setdefault(split, ([], facts))
            if row.place.rank not in ranks:
                ranks.append(row.place.rank)
            found[split] = (ranks, max(best, facts, key=count_described))
    return [Group(tuple(ranks), fold_of(facts), tuple(facts.scans)) for ranks, facts in found.values()]


def fold_of(facts: Facts) -> str:
    """Return the fold of a run; "" if the run belongs to no cross-validation."""
    return facts.params.get(FOLD, "") if FOLDS in facts.params else ""


def count_described(facts: Facts) -> int:
    """Return of how many scans the record of a run knows more than the slices."""
    return sum(map(is_described, facts.scans))


def is_described(scan: Scan) -> bool:
    """Return whether the record knows more of a scan than its slices."""
    return scan["lesion_voxels"] != ""


def cohort_rows(protocol: Protocol) -> Iterator[dict[str, object]]:
    """Yield the rows of cohort.csv.

        rows, fold                              the rows of the leaderboard and the fold that the split belongs to
        part, site                              the part of the split and the site; "all" for all of them
        patients, scans, slices                 their numbers
        lesion_slices                           the number of slices with a lesion
        volume_low, volume_median, volume_high  the quartiles of the scans' lesion volumes
        unit                                    the unit of the volumes: ml, or voxels if the spacing of a scan is unknown
        missing                                 the missing sequences, each with its number of scans

    A cell is empty if the record does not know the value. All patients of a cross-validation are listed once, without a fold.
    """
    groups = find_groups(protocol)
    unit = "ml" if all(scan["spacing"] for group in groups for scan in group.scans if is_described(scan)) else "voxels"
    seen = []
    for group in groups:
        rows = " ".join(map(str, group.ranks))
        for part in PARTS:
            scans = [scan for scan in group.scans if scan["part"] == part]
            for site, own in by_site(scans).items():
                yield {"rows": rows, "fold": group.fold, "part": part, "site": site, **summarize(own, unit)}
        for site, own in by_site(merge_parts(group.scans)).items():
            row = {"rows": rows, "fold": "", "part": EVERY, "site": site, **summarize(own, unit)}
            if row not in seen:
                seen.append(row)
                yield row


def by_site(scans: Sequence[Scan]) -> dict[str, list[Scan]]:
    """Return all scans under the name "all", and the scans of each site if the record knows the site of every scan."""
    sites = sorted({scan["site"] for scan in scans})
    named = sites if all(sites) else []
    return {EVERY: list(scans), **{site: [scan for scan in scans if scan["site"] == site] for site in named}}


def merge_parts(scans: Sequence[Scan]) -> list[Scan]:
    """Return one row for each scan. A split by slice divides a scan among several parts, whose counts are added."""
    found: dict[tuple[str, str], list[Scan]] = {}
    for scan in scans:
        found.setdefault((scan["patient"], scan["scan"]), []).append(scan)
    counts = ("slices", "lesion_slices", "lesion_voxels")
    return [{**parts[0], **{name: add(part[name] for part in parts) for name in counts}} for parts in found.values()]


def add(cells: Iterator[str]) -> str:
    """Return the sum of numbers in cells; "" if one of them is unknown."""
    values = list(cells)
    return str(sum(map(int, values))) if all(values) else ""


def summarize(scans: Sequence[Scan], unit: str) -> dict[str, object]:
    """Return the columns of cohort.csv that describe scans."""
    described = all(map(is_described, scans))
    low, median, high = quartiles(scans, unit) if described else ("", "", "")
    return {
        "patients": len({scan["patient"] for scan in scans}),
        "scans": len(scans) if described else "",
        "slices": add(scan["slices"] for scan in scans),
        "lesion_slices": add(scan["lesion_slices"] for scan in scans),
        "volume_low": low,
        "volume_median": median,
        "volume_high": high,
        "unit": unit if described else "",
        "missing": "; ".join(f"{name} {count}" for name, count in count_missing(scans).items()) if described else "",
    }


def quartiles(scans: Sequence[Scan], unit: str) -> list[str]:
    """Return the quartiles of the scans' lesion volumes, in ml or in voxels."""
    sizes = [math.prod(map(float, scan["spacing"].split())) / 1000 if unit == "ml" else 1 for scan in scans]
    volumes = [int(scan["lesion_voxels"]) * size for scan, size in zip(scans, sizes, strict=True)]
    digits = 2 if unit == "ml" else 0
    return [f"{value:.{digits}f}" for value in np.quantile(volumes, [0.25, 0.5, 0.75])] if volumes else ["", "", ""]


def count_missing(scans: Sequence[Scan]) -> Mapping[str, int]:
    """Return how many scans lack each sequence, in alphabetical order of the sequences."""
    return dict(sorted(Counter(name for scan in scans for name in scan["missing"].split()).items()))
