"""How facts become sentences: lists, names, and facts that differ among the rows."""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import wraps
from typing import Any

from attnunet.comparison.paper.facts import Protocol, RowFacts
from attnunet.tracking.labels import format_call

Sentence = Callable[[Protocol], str]
"""Returns a sentence on a comparison; "" if the records do not know it, or there is nothing to say."""


def by_row(clause: Callable[[RowFacts], str]) -> Sentence:
    """Return the sentence that a clause about each row makes.

    If the clause is the same for all rows, it is said once. Otherwise each different clause names its rows. A row whose
    clause is "" has none.
    """

    @wraps(clause)
    def sentence(protocol: Protocol) -> str:
        found: dict[str, list[str]] = {}
        for row in protocol.rows:
            found.setdefault(clause(row), []).append(str(row.place.rank))
        if len(found) == 1:
            return finish(next(iter(found)))
        told = (f"{text} ({'row' if len(rows) == 1 else 'rows'} {listed(rows)})" for text, rows in found.items() if text)
        return f"Varied: {'; '.join(told)}."

    return sentence


def finish(clause: str) -> str:
    """Return a clause as a sentence."""
    return f"{clause[0].upper()}{clause[1:]}." if clause else ""


def listed(names: Iterable[object]) -> str:
    """Return a list in words: "a, b and c"."""
    *others, last = map(str, names)
    return f"{', '.join(others)} and {last}" if others else last


def code(text: str) -> str:
    """Return a text as code in Markdown. Line breaks become blanks, because code within a line has none."""
    shown = " ".join(text.split())
    fence = "`" * (max(map(len, re.findall("`+", shown)), default=0) + 1)
    return f"{fence} {shown} {fence}" if "`" in shown else f"`{shown}`"


def escape(text: str) -> str:
    """Return a text that Markdown shows unchanged, also within a cell of a table."""
    return re.sub(r"([\\`*_\[\]<>|#$~&])", r"\\\1", " ".join(text.split()))


def name_target(node: Mapping[str, Any], words: Mapping[str, str]) -> str:
    """Return what a `_target_` and its arguments are: in `words`, or as a call in code if there are none for the target."""
    try:
        return words[node["_target_"]].format(**node)
    except KeyError:
        return code(format_call(node))
