"""Names of patients and sites: the text that was written; two that differ by next to nothing are one."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator


def alike(name: str) -> str:
    """Return what names have in common that differ in case, blanks or Unicode's form of accents only."""
    return "".join(unicodedata.normalize("NFKC", name.casefold()).split())


def shown(name: str) -> str:
    """Return a name in quotes, with its code points where letters may look the same."""
    return f"{name!r}" if name.isascii() else f"'{name}' ({name!a})"


def absent(names: Iterable[str], patients: Collection[str]) -> str:
    """Return those names that are no patient's, with the patient that one may mean; "" where all are there."""
    there = {alike(patient): patient for patient in patients}
    unknown = sorted(set(names) - set(patients))
    return ", ".join(f"{n} (is {shown(there[alike(n)])} meant?)" if alike(n) in there else n for n in unknown)


def second_names(kind: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each name that another one is alike to."""
    first: dict[str, str] = {}
    for name in sorted(names):
        if (other := first.setdefault(alike(name), name)) != name:
            yield (
                f"{kind}s {shown(other)} and {shown(name)} differ in case, blanks or the form of accents only; write one "
                f"{kind} one way, name two {kind}s differently, or leave patients out by data.exclude"
            )
