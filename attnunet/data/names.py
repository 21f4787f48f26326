"""Names of patients and sites: the text that was written; two that differ by next to nothing are one."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator


def fold_name(name: str) -> str:
    """Return what names have in common that differ in case, blanks or Unicode's form of accents only."""
    return "".join(unicodedata.normalize("NFKC", name.casefold()).split())


def quote_name(name: str) -> str:
    """Return a name in quotes, with its code points where letters may look the same."""
    return f"{name!r}" if name.isascii() else f"'{name}' ({name!a})"


def match_absent(names: Iterable[str], patients: Collection[str]) -> list[str]:
    """Return those names that are no patient's, each with the patient that it may mean."""
    there = {fold_name(patient): patient for patient in patients}
    unknown = sorted(set(names) - set(patients))
    return [
        f"{name} (is {quote_name(there[fold_name(name)])} meant?)" if fold_name(name) in there else name or "''"
        for name in unknown
    ]


def find_second_names(kind: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each name that another one is alike to."""
    first: dict[str, str] = {}
    for name in sorted(names):
        if (other := first.setdefault(fold_name(name), name)) != name:
            yield (
                f"{kind}s {quote_name(other)} and {quote_name(name)} differ in case, blanks or the form of accents only; "
                f"write one {kind} one way, name two {kind}s differently, or leave patients out by data.exclude"
            )
