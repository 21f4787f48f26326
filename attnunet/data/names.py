"""Names of patients and sites: the text that was written; two that differ by next to nothing are one."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator


def alike(name: str) -> str:
    """Return what names have in common that differ in case, blanks or Unicode's form of accents only."""
    return "".join(unicodedata.normalize("NFKC", name.casefold()).split())


def shown(name: str) -> str:
    """Return a name in quotes, with its code points where letters may look the same."""
    return f"{name!r}" if name.isascii() else f"'{name}' ({name!a})"


def absent(names: Iterable[str], patients: Collection[str]) -> list[str]:
    """Return those names that are no patient's, each with the patient that it may mean."""
    there = {alike(patient): patient for patient in patients}
    unknown = sorted(set(names) - set(patients))
    return [f"{name} (is {shown(there[alike(name)])} meant?)" if alike(name) in there else name or "''" for name in unknown]


def second_names(kind: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each name that another one is alike to."""
    first: dict[str, str] = {}
    for name in sorted(names):
        if (other := first.setdefault(alike(name), name)) != name:
            yield (
                f"{kind}s {shown(other)} and {shown(name)} differ in case, blanks or the form of accents only; write one "
                f"{kind} one way, name two {kind}s differently, or leave patients out by data.exclude"
            )
