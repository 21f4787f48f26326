"""The cohort of a run: how large each scan is, and how much lesion it shows, by part of the split."""

from attnunet.data.cache import Prepared
from attnunet.data.split import Split


def list_scans(prepared: Prepared, split: Split) -> list[dict[str, str | int]]:
    """Return a row for each scan in each part of a split, in the order of the parts.

    part, patient, site, scan               the part of the split, and the names; "" if there is none
    missing                                 the sequences that the scan lacks, with blanks between them
    slices, lesion_slices, lesion_voxels    counts over the scan's slices in this part, at native size
    spacing                                 mm between slices, rows and columns, with blanks between them; "" if unknown
    """
    scans: dict[tuple[str, str, str], list[int]] = {}
    for part, indices in split.parts.items():
        for index in indices:
            item = prepared.slices[index]
            scans.setdefault((part, item.patient, item.scan), []).append(index)
    return [
        {
            "part": part,
            "patient": patient,
            "site": prepared.slices[indices[0]].site,
            "scan": scan,
            "missing": " ".join(prepared.slices[indices[0]].missing),
            "slices": len(indices),
            "lesion_slices": int((prepared.lesion_pixels[indices] > 0).sum()),
            "lesion_voxels": int(prepared.lesion_pixels[indices].sum()),
            "spacing": " ".join(f"{length:g}" for length in prepared.spacing_of(indices[0]) or ()),
        }
        for (part, patient, scan), indices in scans.items()
    ]
