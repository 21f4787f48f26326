"""The comparison in the terminal: the leaderboard and the verdicts in words."""

import math

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.comparison.table import Comparison, summary

WORDS = 15  # most verdicts that are printed; if there are more pairs, only those of the first row are


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the leaderboard and the verdicts. Names are printed as they are, not as rich's markup."""
    score, level = comparison.question.score, comparison.question.level
    table = Table(title=summary(comparison))
    left = [*comparison.parameters, "runs"]
    test = ["validation"] if comparison.part == "test" else []
    patients = ["patients"] if comparison.partial else []
    undefined = ["undefined", "mean of defined"] if comparison.worst.any() else []
    for name in (
        "row",
        *comparison.parameters,
        score,
        f"{level} interval",
        "median",
        *undefined,
        *patients,
        *test,
        "seeds",
        "spread",
        "minutes",
        "runs",
    ):
        table.add_column(Text(name), justify="left" if name in left else "right", overflow="fold", no_wrap=name not in left)
    for s in comparison.standings:
        cells = (
            str(s.rank),
            *(s.row.label.get(key, "") for key in comparison.parameters),
            decimals(s.mean) + (" LEAKING" if s.row.leaking else ""),
            f"{decimals(s.low)} to {decimals(s.high)}",
            decimals(s.median),
            *([f"{s.worst} of {len(comparison.patients)}", decimals(s.mean_defined)] if undefined else []),
            *([f"{s.patients} of {len(comparison.patients)}"] if patients else []),
            *([decimals(s.validation)] if test else []),
            str(len(s.row.seeds)),
            decimals(s.spread),
            f"{s.minutes:.1f}",
            " ".join(run.id[:8] for run in s.row.runs),
        )
        table.add_row(*map(Text, cells))
    console.print(table)
    for note in comparison.notes():
        console.print(Text(note), soft_wrap=True)
    pairs = list(zip(comparison.pairs, comparison.sentences, strict=True))
    chosen = [words for pair, words in pairs if len(pairs) <= WORDS or pair.first == 0]
    for words in chosen:
        console.print(Text(words), soft_wrap=True)
    if len(chosen) < len(pairs):
        rest = len(pairs) - len(chosen)
        console.print(f"... and {rest} pairs more, of rows below the first, on the page and in pairs.csv", highlight=False)


def decimals(value: float) -> str:
    """Return a score with three decimals; "" for NaN."""
    return "" if math.isnan(value) else f"{value:.3f}"
