"""The patients that a run, or a run from whose weights it started, has already seen."""

import json
from collections.abc import Sequence

from attnunet.data.cache import Prepared
from attnunet.data.names import fold_name
from attnunet.tracking.records import NotFound, Record, find_runs


def known_patients(record: Record, part: str, prepared: Prepared, indices: Sequence[int]) -> tuple[str, ...]:
    """Return the patients of the given slices that a part of the run's split also has, even under a different name.

    The splits of the runs from whose weights the run started count too; see `find_ancestors`.

    Two patients count as the same patient if their names are equal except for case, blanks and the form of accents. They
    also count as the same patient if they share an image that is equal in every pixel. Images are compared by their hashes,
    which must be in the cache with the run's own data. Earlier versions did not store the hashes.
    """
    scored = [(prepared.slices[i].patient, prepared.facts["pixels"][i]) for i in indices]
    known: set[str] = set()
    for seen in (record, *find_ancestors(record)[0]):
        names = {fold_name(name) for name in seen.split[part]}
        own, pixels = prepared.folder.with_name(seen.content) / "slices.json", set()
        if own.is_file():
            facts, held = json.loads(own.read_text()), set(seen.slices(part))
            rows = zip(facts["slices"], facts.get("pixels", ()), strict=False)
            pixels = {image for row, image in rows if image and (row["patient"], row["number"]) in held}
        known |= {patient for patient, image in scored if fold_name(patient) in names or image in pixels}
    return tuple(sorted(known))


def find_ancestors(record: Record) -> tuple[list[Record], str]:
    """Return the run from whose weights a run started (`init`), the run from whose weights that one started, and so on.

    The text says which of these runs is no longer in the store, so that nobody knows which patients it saw; else it is "".
    """
    found: list[Record] = []
    while origin := record.config.get("init"):
        try:
            (earlier,) = find_runs(record.store, [origin])
        except NotFound:
            told = f"run {record.id} ({record.name}) started from the weights of run {origin}, which is gone"
            return found, f"{told}, so the patients that these weights have seen are not known"
        found.append(earlier)
        record = earlier
    return found, ""
