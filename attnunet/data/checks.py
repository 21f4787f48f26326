"""Checks that find wrong files by the pixels of a prepared data set: for example one scan under two names, or wrong masks."""

from collections import Counter
from collections.abc import Iterable

from attnunet.data.cache import Prepared
from attnunet.data.slices import refuse
from attnunet.data.split import Split

OUTSIDE = 0.25
"""The largest plausible share of a slice's lesion that lies outside of the head. On the LGG data it is 0.002.

With a larger share, the image and the mask probably do not belong together.
"""


def find_copies(prepared: Prepared, indices: Iterable[int]) -> list[tuple[int, int]]:
    """Return a pair (first, copy) for each slice whose image equals the image of an earlier slice, pixel for pixel.

    `first` is the earliest slice with that image. Blank images are skipped.
    """
    first: dict[str, int] = {}
    pairs = [(first.setdefault(prepared.facts["pixels"][i], i), i) for i in indices if prepared.facts["pixels"][i]]
    return [(one, other) for one, other in pairs if one != other]


def refuse_copies(prepared: Prepared, split: Split) -> None:
    """Raise DataError if two parts of a split share an image, pixel for pixel, under the names of two patients.

    A split that leaks on purpose is not checked.
    """
    part = {index: name for name, indices in split.parts.items() for index in indices}
    shared: dict[tuple[str, ...], list[str]] = {}
    for one, other in find_copies(prepared, sorted(part)):
        if part[one] != part[other] and not split.leaking:
            a, b = prepared.slices[one], prepared.slices[other]
            shared.setdefault((a.patient, part[one], b.patient, part[other]), []).append(f"{a.image} and {b.image}")
    refuse(
        [
            f"split leaks: patients {a} of {part_of_a} and {b} of {part_of_b} have {len(pairs)} image(s) in common, pixel for "
            f"pixel, as {pairs[0]}; leave one of the two out by data.exclude, or give both one name"
            for (a, part_of_a, b, part_of_b), pairs in shared.items()
        ]
    )


def find_doubts(prepared: Prepared, indices: Iterable[int]) -> list[str]:
    """Return a line for each probable fault of the slices.

    The faults are copies of images, masks that are mostly lesion, margins that are cut off, and lesions outside of the head.
    """
    slices, lesion, facts = prepared.slices, prepared.lesion_pixels, prepared.facts
    indices, lines = sorted(indices), []
    if pairs := find_copies(prepared, indices):
        one, other = (slices[index] for index in pairs[0])
        who = list_names(f"{slices[a].patient} and {slices[b].patient}" for a, b in pairs)
        lines.append(f"{len(pairs)} image(s) are there twice, pixel for pixel: {who}, as {one.image} and {other.image}")

    full = [i for i in indices if lesion[i] > facts["shapes"][i][0] * facts["shapes"][i][1] / 2]
    count, whole = (Counter(slices[i].patient for i in chosen) for chosen in (full, indices))
    if mostly := [patient for patient in count if count[patient] > whole[patient] / 2]:
        first = next(slices[i].mask for i in full if slices[i].patient == mostly[0])
        lines.append(f"lesion fills most of most slices of {list_names(mostly)}, as in {first}; are masks turned inside out?")

    if cut := [i for i in indices if prepared.images_file and prepared.frame(i).cuts]:
        who = list_names(slices[i].patient for i in cut)
        side = f"{prepared.image_size} pixels of {prepared.pixel_size} mm"
        lines.append(f"margins of {len(cut)} slice(s) of {who} are cut off: {side} do not hold them; raise image_size")

    beyond = [i for i in indices if facts["outside"][i] > OUTSIDE * lesion[i]]
    if beyond:
        who = list_names(slices[i].patient for i in beyond)
        lines.append(
            f"lesion outside of the head in {len(beyond)} slice(s) of {who}, as in {slices[beyond[0]].mask}; "
            "do these images and masks belong together?"
        )
    return lines


def list_names(names: Iterable[str]) -> str:
    """Return the first five different names as a text, and the number of the other names."""
    once = list(dict.fromkeys(names))
    return ", ".join(once[:5]) + (f" and {len(once) - 5} more" if len(once) > 5 else "")
