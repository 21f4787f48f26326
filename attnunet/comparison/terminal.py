"""The output of a comparison in the terminal: the leaderboard, and the verdicts in words."""

from rich.console import Console
from rich.table import Table
from rich.text import Text

from attnunet.comparison.pairs import decimals, millions
from attnunet.comparison.table import Comparison, Place, summary

WORDS = 15  # with more pairs than this, only the verdicts on the first row are printed


def print_comparison(console: Console, comparison: Comparison) -> None:
    """Print the leaderboard and the verdicts. Names are printed unchanged: rich does not read them as markup."""
    everyone = len(comparison.patients)

    def cells(s: Place) -> dict[str, str]:
        """Return the cells of a row, by the name of the column."""
        undefined = {"undefined": f"{s.worst} of {everyone}", "mean of defined": decimals(s.mean_defined)}
        return {
            "row": str(s.rank),
            **{key: s.row.label.get(key, "") for key in comparison.parameters},
            comparison.question.score: decimals(s.mean) + (" LEAKING" if s.row.leaking else ""),
            f"{comparison.question.level} interval": f"{decimals(s.low)} to {decimals(s.high)}",
            "median": decimals(s.median),
            **(undefined if comparison.worst.any() else {}),
            **({"patients": f"{s.patients} of {everyone}"} if comparison.partial else {}),
            **({"validation": decimals(s.validation)} if comparison.part == "test" else {}),
            "seeds": str(len(s.row.seeds)),
            "spread": decimals(s.spread),
            "minutes": f"{s.minutes:.1f}",
            **({"parameters": millions(s.row.parameters), "MACs": millions(s.row.macs)} if comparison.sized else {}),
            "runs": " ".join(run.id[:8] for run in s.row.runs),
        }

    rows = [cells(standing) for standing in comparison.standings]
    table = Table(title=summary(comparison))
    left = [*comparison.parameters, "runs"]
    for name in rows[0]:
        table.add_column(Text(name), justify="left" if name in left else "right", overflow="fold", no_wrap=name not in left)
    for row in rows:
        table.add_row(*map(Text, row.values()))
    console.print(table, soft_wrap=False)
    for note in comparison.notes():
        console.print(Text(note))
    pairs = list(zip(comparison.pairs, comparison.sentences, strict=True))
    chosen = [words for pair, words in pairs if len(pairs) <= WORDS or pair.first == 0]
    for words in chosen:
        console.print(Text(words))
    if len(chosen) < len(pairs):
        rest = len(pairs) - len(chosen)
        console.print(f"... and {rest} pairs more, of rows below the first, on the page and in pairs.csv")
