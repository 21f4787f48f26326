"""Write the tables of docs/scores.md from the table of metrics, attnunet/metrics/catalog.py."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from attnunet.metrics import catalog

PAGE = Path(__file__).parent.parent / "docs" / "scores.md"
BETTER = {1: "larger", -1: "nearer to 0", 0: ""}


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    """Return a Markdown table."""
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, ("---",) * len(head), *rows))


def metrics() -> Iterator[tuple[str, ...]]:
    """Yield a row for each metric."""
    for metric in catalog.METRICS:
        meaning = f"{metric.meaning} ({metric.source})" if metric.source else metric.meaning
        yield f"`{metric.name}`", meaning, metric.unit, BETTER[metric.better], metric.undefined, metric.needs


def statistics() -> Iterator[tuple[str, ...]]:
    """Yield a row for each value of a summary that is not the mean of a metric."""
    for statistic in catalog.STATISTICS:
        yield " ".join(f"`{name}`" for name in statistic.names), statistic.meaning


def render(page: str) -> str:
    """Return the page with its tables written anew."""
    tables = {
        "metrics": table(("metric", "meaning", "unit", "better", "undefined (NaN)", "depends on"), metrics()),
        "statistics": table(("name", "meaning"), statistics()),
    }
    for name, text in tables.items():
        start, end = f"<!-- {name}, by .ci/scores.py -->\n\n", "\n\n<!-- end -->"
        before, rest = page.split(start)
        page = before + start + text + end + rest.split(end, maxsplit=1)[1]
    return page


if __name__ == "__main__":
    PAGE.write_text(render(PAGE.read_text()))
