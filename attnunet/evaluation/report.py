"""The scores of a run as metrics, as CSV files, and as a table in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Protocol

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.data.files import write_csv
from attnunet.metrics import catalog
from attnunet.tracking.run import Run

if TYPE_CHECKING:
    from attnunet.evaluation.patients import Rows, Scores  # imports TensorFlow, which a reused run does not need

TABLES = ("patients.csv", "strata.csv", "summary.csv")
LEAKING = "LEAKING split: patients on both sides, so the scores are too high"
"""The title of the printed scores of a run whose split leaks."""


class Shown(Protocol):
    """What the table shows of the scores of a part; see `Scores`."""

    @property
    def summary(self) -> Mapping[str, float]: ...

    @property
    def strata(self) -> Rows: ...

    @property
    def nothing(self) -> bool: ...

    @property
    def repeated(self) -> bool: ...


def log_scores(run: Run, scores: Mapping[str, Scores], step: int = 0) -> None:
    """Log the scores of each part: the metrics under final/<part>/, and the CSV files."""
    for part, found in scores.items():
        run.metrics(found.metrics(f"final/{part}"), step)
    for name, text in tables(scores).items():
        run.text(text, name)


def tables(scores: Mapping[str, Scores]) -> dict[str, str]:
    """Return the CSV files by name; see `Scores.tables`. Each file has the rows of all parts, or none if none was scored."""
    parts = [found.tables(part) for part, found in scores.items()]
    return {name: write_csv(row for part in parts for row in part[name]) for name in TABLES}


def table_rows() -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield, for each row of the printed table, its name and the names of the summary values that it shows."""
    entries: list[tuple[str, tuple[str, ...]]] = []
    for metric in catalog.METRICS:
        entries.append((metric.printed, (metric.name,)))
        entries += [(value.printed, value.names) for value in catalog.STATISTICS if value.metric == metric.name]
    entries += [(value.printed, value.names) for value in catalog.STATISTICS if not value.metric]
    yield from (entry for entry in entries if entry[0])


def format_cell(values: Mapping[str, float], names: tuple[str, ...]) -> str:
    """Return the text of a cell with the values that have these names.

    The text is "" if the summary has none of the values. For example, the summary of joined folds has no threshold.
    """
    shown = [values[name] for name in names if name in values]
    return " to ".join(f"{value:.3f}" if isinstance(value, float) else str(value) for value in shown)


def print_scores(console: Console, scores: Mapping[str, Shown], title: str | None = None) -> None:
    """Print a table of the scores with a column for each part. Its last rows show the mean Dice of the groups of patients.

    A grouping with a single group is left out. The names of groups are printed unchanged: rich does not interpret them as
    markup.
    """
    told = [f"{part}: no lesion is predicted anywhere, a prediction of nothing" for part in scores if scores[part].nothing]
    told += [f"{part}: a patient has several scans; each mean is over scans" for part in scores if scores[part].repeated]
    table = Table(title=title, caption="\n".join(told) or None)
    table.add_column("score")
    for part, found in scores.items():
        table.add_column(f"{part} ({found.summary['dice_patients']:.0f} patients)", justify="right")
    for label, names in table_rows():
        if any(cells := [format_cell(found.summary, names) for found in scores.values()]):
            table.add_row(label, *cells)
    groups: dict[float | str, set[float | str]] = {}
    for found in scores.values():
        for row in found.strata:
            groups.setdefault(row["by"], set()).add(row["stratum"])
    for by, strata in groups.items():
        for name in sorted(strata, key=str) if len(strata) > 1 else ():
            table.add_row(Text(f"Dice, {by}: {name}"), *(format_stratum(found, by, name) for found in scores.values()))
    console.print(table, soft_wrap=False)


def format_stratum(found: Shown, by: float | str, name: float | str) -> str:
    """Return the mean Dice of a group and the number of patients whose Dice is defined; "" if the part lacks the group."""
    rows = [row for row in found.strata if (row["by"], row["stratum"]) == (by, name)]
    return "".join(f"{row['dice']:.3f} ({row['dice_patients']})" for row in rows)
