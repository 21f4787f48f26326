"""Names of patients and sites. A name is the text in the file. Names that are almost the same may mean the same patient."""

import unicodedata
from collections.abc import Collection, Iterable, Iterator


def fold_name(name: str) -> str:
    """Return a form of a name that ignores case, blanks and Unicode's form of accents."""
    return "".join(unicodedata.normalize("NFKC", name.casefold()).split())


def quote_name(name: str) -> str:
    """Return a name in quotes. Code points are added to a name that is not ASCII, because its letters may look like others."""
    return f"{name!r}" if name.isascii() else f"'{name}' ({name!a})"


def match_absent(names: Iterable[str], patients: Collection[str]) -> list[str]:
    """Return the names that belong to no patient. The patient that a name may mean is added to the name."""
    there = {fold_name(patient): patient for patient in patients}
    unknown = sorted(set(names) - set(patients))
    return [
        f"{name} (is {quote_name(there[fold_name(name)])} meant?)" if fold_name(name) in there else name or "''"
        for name in unknown
    ]


def find_second_names(kind: str, names: Iterable[str]) -> Iterator[str]:
    """Yield a line for each name for which `fold_name` returns the same form as for another name."""
    first: dict[str, str] = {}
    for name in sorted(names):
        if (other := first.setdefault(fold_name(name), name)) != name:
            yield (
                f"{kind}s {quote_name(other)} and {quote_name(name)} differ in case, blanks or the form of accents only; "
                f"write one {kind} one way, name two {kind}s differently, or leave patients out by data.exclude"
            )
