"""The leaderboard as a table for a paper, in LaTeX and in Markdown."""

from collections.abc import Sequence

from attnunet.comparison.pairs import decimals
from attnunet.comparison.paper.facts import Protocol, RowFacts
from attnunet.comparison.paper.text import escape
from attnunet.metrics import catalog

LATEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\char34{}",
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
}
"""LaTeX's form of each character of ASCII that would not stand for itself."""
UNKNOWN = "ÐðÞþ"
"""The letters of Latin-1 that LaTeX's usual font lacks."""


def cells(protocol: Protocol) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the cells of each row. The columns of parameters come after the row's number."""
    comparison = protocol.comparison
    label, level = catalog.metric(comparison.question.score).axis, comparison.question.level
    counted = any(row.first.parameters for row in protocol.rows)

    def columns(row: RowFacts) -> dict[str, str]:
        place = row.place
        interval = f" ({decimals(place.low)} to {decimals(place.high)})" if decimals(place.low) else ""
        return {
            "row": str(place.rank),
            **{key: place.row.label.get(key, "") for key in comparison.parameters},
            f"{label}, mean ({level} interval)": f"{decimals(place.mean)}{interval}{' LEAKING' * place.row.leaking}",
            "median": decimals(place.median),
            **({"validation": decimals(place.validation)} if comparison.part == "test" else {}),
            "patients": str(place.patients),
            "seeds": str(len(place.row.seeds)),
            **({"parameters": f"{row.first.parameters:,}" if row.first.parameters else ""} if counted else {}),
        }

    found = [columns(row) for row in protocol.rows]
    return list(found[0]), [list(row.values()) for row in found]


def markdown_table(protocol: Protocol) -> str:
    """Return table.md."""
    head, rows = cells(protocol)
    lines = [head, *rows]
    names = 1 + len(protocol.comparison.parameters)
    bar = ["---:" if place == 0 or place >= names else ":---" for place in range(len(head))]
    shown = [[escape(cell) for cell in line] for line in lines]
    return "".join(f"| {' | '.join(line)} |\n" for line in (shown[0], bar, *shown[1:]))


def latex_table(protocol: Protocol, title: str) -> str:
    r"""Return table.tex: a tabular that needs \usepackage{booktabs}, and a comment with the title."""
    head, rows = cells(protocol)
    names = len(protocol.comparison.parameters)
    body = [rf"    {join(line)} \\" for line in rows]
    return "\n".join(
        [
            rf"% {latex(title)}. Needs \usepackage{{booktabs}}.",
            rf"\begin{{tabular}}{{r{'l' * names}{'r' * (len(head) - names - 1)}}}",
            r"    \toprule",
            rf"    {join(head)} \\",
            r"    \midrule",
            *body,
            r"    \bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def join(line: Sequence[str]) -> str:
    return " & ".join(map(latex, line))


def latex(text: str) -> str:
    r"""Return a text in a form that LaTeX shows unchanged.

    Characters that LaTeX does not know without further packages become Python escapes, for example \u5f20, as in figures.
    """
    return "".join(LATEX.get(character) or (character if is_known(character) else escaped(character)) for character in text)


def is_known(character: str) -> bool:
    """Return whether LaTeX shows a character without further packages."""
    return " " <= character <= "~" or ("À" <= character <= "ÿ" and character.isalpha() and character not in UNKNOWN)


def escaped(character: str) -> str:
    return character.encode("unicode_escape").decode().replace("\\", LATEX["\\"])
