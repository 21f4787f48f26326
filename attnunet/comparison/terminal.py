"""The output of a comparison in the terminal: the leaderboard, and the verdicts in words."""

from collections.abc import Iterable, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.comparison.pairs import decimals, millions
from attnunet.comparison.shared import describe_choices, list_settings
from attnunet.comparison.table import Comparison, Place, summary

WORDS = 15  # with more pairs than this, only the verdicts on the first row are printed


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the leaderboard and the verdicts. Names are printed unchanged: rich does not read them as markup."""
    print_leaderboard(console, comparison)
    pairs = list(zip(comparison.pairs, comparison.sentences, strict=True))
    chosen = [words for pair, words in pairs if len(pairs) <= WORDS or pair.first == 0]
    shared = describe_choices(list_settings(comparison))
    lines = [
        *([comparison.reading] if pairs else []),
        *([f"All rows share {shared}"] if shared else []),
        *comparison.notes(),
        *([comparison.legend] if pairs else []),
        *chosen,
    ]
    if rest := len(pairs) - len(chosen):
        lines.append(f"... and {rest} pairs more, of rows below the first, on the page and in pairs.csv")
    print_lines(console, lines)


def print_lines(console: Console, lines: Iterable[str]) -> None:
    """Print lines. A terminal breaks them between words; a log has them whole."""
    for line in lines:
        console.print(Text(line), soft_wrap=not console.is_terminal)


def print_leaderboard(console: Console, comparison: Comparison) -> None:
    """Print the leaderboard without breaking a cell.

    If the parameters do not fit beside the scores, they stand in lines below the table. Further columns are left out from the
    right if the console is too narrow for them, and are named.
    """
    places = comparison.standings
    labels = [{break_name(key): s.row.label.get(key, "") for key in comparison.parameters} for s in places]
    needed = [{"row": str(s.rank), **list_scores(s, comparison)} for s in places]
    beside = [{"row": row["row"], **label, **row} for label, row in zip(labels, needed, strict=True)]
    below = measure(beside) > console.width
    shown = needed if below else beside
    rows = [{**row, **list_details(s, comparison)} for row, s in zip(shown, places, strict=True)]
    names = list(rows[0])
    while len(names) > len(shown[0]) and measure([{name: row[name] for name in names} for row in rows]) > console.width:
        names.pop()
    table = Table(title=summary(comparison))
    for name in names:
        table.add_column(Text(name), justify="left" if name in (*labels[0], "runs") else "right", no_wrap=True)
    for row in rows:
        table.add_row(*(Text(row[name]) for name in names))
    console.print(table, soft_wrap=False)
    if left_out := list(rows[0])[len(names) :]:
        print_lines(console, [f"Not shown, for lack of width: {', '.join(left_out)}; see leaderboard.csv"])
    if below:
        print_lines(console, (f"{s.rank}: {s.row.name}" for s in places))


def list_scores(s: Place, comparison: Comparison) -> dict[str, str]:
    """Return the cells of a row that are always printed, by the name of the column."""
    return {
        comparison.question.score: decimals(s.mean) + (" LEAKING" if s.row.leaking else ""),
        f"{comparison.question.level} interval": f"{decimals(s.low)} to {decimals(s.high)}",
        **({"ranks": s.ranks, "group": s.group} if comparison.pairs else {}),
    }


def list_details(s: Place, comparison: Comparison) -> dict[str, str]:
    """Return the other cells of a row, the most important first, by the name of the column."""
    everyone = len(comparison.patients)
    undefined = {"undefined": f"{s.worst} of {everyone}", "mean of defined": decimals(s.mean_defined)}
    return {
        **(undefined if comparison.worst.any() else {}),
        **({"patients": f"{s.patients} of {everyone}"} if comparison.partial else {}),
        **({"validation": decimals(s.validation)} if comparison.part == "test" else {}),
        "seeds": str(len(s.row.seeds)),
        "spread": decimals(s.spread),
        "minutes": f"{s.minutes:.1f}",
        "median": decimals(s.median),
        **({"parameters": millions(s.row.parameters), "MACs": millions(s.row.macs)} if comparison.sized else {}),
        "runs": "\n".join(run.id[:8] for run in s.row.runs),
    }


def break_name(key: str) -> str:
    """Return the name of a parameter with a line for each of its parts."""
    return key.replace(".", ".\n")


def measure(rows: Sequence[Mapping[str, str]]) -> int:
    """Return the width of a table, in columns of the terminal."""
    lines = [[line for text in (name, *(row[name] for row in rows)) for line in text.splitlines()] for name in rows[0]]
    return 1 + sum(3 + max(map(cell_len, column)) for column in lines)
