"""The patients that a run has already seen."""

import json
from collections.abc import Sequence

from attnunet.data.cache import Prepared
from attnunet.data.names import fold_name
from attnunet.tracking.records import Record


def known_patients(record: Record, part: str, prepared: Prepared, indices: Sequence[int]) -> tuple[str, ...]:
    """Return the patients of the given slices that also belong to a part of the run's split, even under a different name.

    Two patients count as the same patient if their names are equal except for case, blanks and the form of accents. They
    also count as the same patient if they share an image that is equal in every pixel. Images are compared by their hashes,
    which must be in the cache with the run's own data. Earlier versions did not store the hashes.
    """
    names = {fold_name(name) for name in record.split[part]}
    own, pixels = prepared.folder.with_name(record.content) / "slices.json", set()
    if own.is_file():
        facts, held = json.loads(own.read_text()), set(record.slices(part))
        rows = zip(facts["slices"], facts.get("pixels", ()), strict=False)
        pixels = {image for row, image in rows if image and (row["patient"], row["number"]) in held}
    scored = [(prepared.slices[i].patient, prepared.facts["pixels"][i]) for i in indices]
    return tuple(sorted({patient for patient, image in scored if fold_name(patient) in names or image in pixels}))
