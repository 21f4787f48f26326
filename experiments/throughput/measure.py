"""What a measurement is, and how the parts of the benchmark hand theirs over."""

import csv
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from omegaconf import DictConfig

from attnunet import config

REPEATS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table: median, least and most of the repeats; `wanted` is a bound as text, "" for none."""

    part: str
    name: str
    unit: str
    median: float
    least: float
    most: float
    wanted: str = ""

    @property
    def missed(self) -> bool:
        if not self.wanted:
            return False
        sign, bound = self.wanted.split()
        return self.median < float(bound) if sign == ">=" else self.median > float(bound)


def row(part: str, name: str, unit: str, values: Sequence[float], wanted: str = "") -> Row:
    return Row(part, name, unit, statistics.median(values), min(values), max(values), wanted)


def interleaved(measures: Mapping[str, Callable[[], float]], repeats: int = REPEATS) -> dict[str, list[float]]:
    """Every measure in turn, `repeats` times over, so that a slow minute hits all of them."""
    seen: dict[str, list[float]] = {name: [] for name in measures}
    for _ in range(repeats):
        for name, measure in measures.items():
            seen[name].append(measure())
    return seen


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Of what was measured in the same round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def seconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def memory(process: str = "self", name: str = "VmRSS") -> float:
    """MB of a process as Linux tells it: VmRSS, VmHWM (its peak) or RssAnon (without mapped files)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise ValueError(f"{name}: not in /proc/{process}/status")


def composed(*overrides: str) -> DictConfig:
    """The configuration of a run."""
    with initialize_config_dir(config.CONF, version_base="1.3"):
        return compose("train", list(overrides))


def hand_over(rows: Sequence[Row]) -> None:
    """The last act of a part: its rows into the file that the command line names."""
    write(rows, Path(sys.argv[1]))


def write(rows: Sequence[Row], path: Path) -> None:
    with path.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, [field.name for field in fields(Row)], lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: f"{v:.5g}" if isinstance(v, float) else v for name, v in asdict(r).items()} for r in rows)


def read(path: Path) -> list[Row]:
    with path.open(newline="") as stream:
        numbers = ("median", "least", "most")
        return [Row(**{**r, **{name: float(r[name]) for name in numbers}}) for r in csv.DictReader(stream)]
