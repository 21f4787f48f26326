"""Sentences on the data, their preparation and their split."""

from pathlib import PurePath

from attnunet.comparison.pairs import plural
from attnunet.comparison.paper.cohort import by_site, count_missing, fold_of, is_described, merge_parts, summarize
from attnunet.comparison.paper.facts import Facts, RowFacts
from attnunet.comparison.paper.text import by_row, code, escape, listed, name_target
from attnunet.comparison.shared import PARTS

READERS = {
    "attnunet.data.lgg.lgg": "a folder in the layout of the LGG MRI segmentation data set (Buda et al. 2019)",
    "attnunet.data.phantom.phantom": "brain-like phantoms: {patients} artificial patients with {slices} slices each, drawn by "
    "attnunet (drawing seed {seed}), which show no person",
    "attnunet.data.table.table": "the files that a CSV table lists",
    "attnunet.data.nifti.nifti": "NIfTI volumes",
    "attnunet.data.nnunet.nnunet": "a data set in the layout of nnU-Net (Isensee et al. 2021)",
    "attnunet.data.brats.brats": "a data set in the layout of the BraTS challenges (Menze et al. 2015)",
    "attnunet.data.dicom.dicom": "DICOM series",
}
DOWNLOADED = "the LGG MRI segmentation data set as published on Kaggle (Buda et al. 2019)"
INTENSITIES = {
    "zscore": "scaled linearly, so that three standard deviations below and above the mean of the head became 0 and 255, "
    "where the head is all values above the overall mean, and clipped to this range",
    "percentile": "scaled linearly, so that the 1st and the 99th percentile of the values other than 0 became 0 and 255, and "
    "clipped to this range",
    "raw": "taken as stored",
}
STAND_INS = {
    "zero": "sequences without a file were replaced by zeros",
    "copy": "sequences without a file were replaced by a copy of FLAIR, or of the first sequence of a scan without FLAIR",
}
RULES = {
    "attnunet.data.split.patient": "patients were assigned to training, validation and test at random, stratified by site and "
    "lesion size, with shares of {val:g} for validation and {test:g} for the test (seed of the split {seed})",
    "attnunet.data.split.kfold": "the patients were divided into {folds} folds at random, stratified by site and lesion size; "
    "a run tested on one fold, and a share of {val:g} of the other patients validated (seed of the split {seed})",
    "attnunet.data.split.site": "all patients of the site {site} were the test part, and a share of {val:g} of the other "
    "patients, drawn at random and stratified by site and lesion size, validated (seed of the split {seed})",
    "attnunet.data.split.manifest": "a fixed list assigned the patients to training, validation and test",
    "attnunet.data.split.slice": "slices, not patients, were assigned to training, validation and test at random, with shares "
    "of {val:g} for validation and {test:g} for the test (seed of the split {seed})",
}


@by_row
def source(row: RowFacts) -> str:
    data = row.first.get("data")
    if not data:
        return ""
    words = DOWNLOADED if data.get("download") else name_target(data, READERS)
    return (
        f"the images and their reference masks were taken from {words}; the hash of their content is {code(row.first.content)}"
    )


@by_row
def cohort(row: RowFacts) -> str:
    scans = merge_parts([scan for facts in row.runs[:1] for scan in facts.scans])
    every = summarize(scans, "voxels")
    sites = [f"{escape(site)} {len({scan['patient'] for scan in own})}" for site, own in list(by_site(scans).items())[1:]]
    where = f" from {plural(len(sites), 'site')} ({', '.join(sites)})" if sites else ""
    patients, slices = int(str(every["patients"])), f"{every['slices']} slices"
    if every["lesion_slices"] != "":
        slices += f", of which {every['lesion_slices']} showed a lesion"
    several = f" and {every['scans']} scans" if every["scans"] not in ("", every["patients"]) else ""
    return f"the parts together held {plural(patients, 'patient')}{where}{several} with {slices}"


@by_row
def exclusions(row: RowFacts) -> str:
    excluded = row.first.get("data.exclude")
    if not excluded:
        return ""
    if isinstance(excluded, str):
        return f"the patients that the file {code(PurePath(excluded).name)} lists were left out"
    return (
        f"{plural(len(excluded), 'patient')} were left out by name" if len(excluded) > 1 else "1 patient was left out by name"
    )


@by_row
def labels(row: RowFacts) -> str:
    values = row.first.get("data.labels")
    return f"a voxel counted as lesion if its label was {' or '.join(map(str, values))}" if values else ""


@by_row
def sequences(row: RowFacts) -> str:
    if row.first.given:
        return ""
    channels, neighbors = row.first.get("data.channels"), row.first.get("neighbors")
    shown = f"of each slice, the network saw {listed(map(escape, channels))}" if channels else ""
    if neighbors:
        shown += (
            f"{', and' if shown else 'the network also saw'} {listed(map(escape, neighbors))} of the slices before and after"
        )
    return shown


@by_row
def missing(row: RowFacts) -> str:
    scans = merge_parts([scan for scan in row.first.scans if is_described(scan)])
    lacking = [f"{escape(name)} in {plural(count, 'scan')}" for name, count in count_missing(scans).items()]
    if not lacking:
        return ""
    instead = STAND_INS.get(row.first.get("data.missing", ""), "the files hold a copy of FLAIR in their place")
    known = (
        "" if len(scans) == len(merge_parts(row.first.scans)) else f", among the {len(scans)} scans that the record describes"
    )
    return f"sequences were missing ({listed(lacking)}{known}); {instead}"


@by_row
def intensity(row: RowFacts) -> str:
    words = INTENSITIES.get(row.first.get("data.intensity", ""))
    if not words or row.first.given:
        return ""
    kind = {"uint8": ", as whole numbers", "float16": ", as float16 numbers"}[row.first.get("image_type", "uint8")]
    return f"scan by scan, the intensities of each sequence were {words}{kind}"


@by_row
def size(row: RowFacts) -> str:
    side, pixel = row.first.get("image_size"), row.first.get("data.pixel_size")
    if not side:
        return ""
    if pixel:
        return f"slices were resampled to pixels of {pixel:g} mm, and padded or cropped to {side} x {side} pixels"
    return f"slices were resized to {side} x {side} pixels"


@by_row
def plane(row: RowFacts) -> str:
    axis = row.first.get("data.axis")
    return f"the slices were {escape(axis)}" if axis else ""


@by_row
def rule(row: RowFacts) -> str:
    split = row.first.get("split")
    if not split:
        return ""
    thinned = split.get("train_slices")
    rest = f"; {plural(thinned, 'training slice')}, drawn evenly over the patients, were used" if thinned else ""
    return name_target(split, RULES) + rest


@by_row
def sizes(row: RowFacts) -> str:
    """Return the sizes of the parts. In a cross-validation, the runs of a row have different parts."""
    clauses: dict[str, None] = {}
    for facts in row.runs:
        fold = fold_of(facts)
        clauses[f"in fold {fold}, {count_parts(facts)}" if fold else count_parts(facts)] = None
    return "; ".join(clauses)


def count_parts(facts: Facts) -> str:
    """Return the numbers of patients and slices of the parts of a run's split."""
    parts = [(part, facts.split[part]) for part in PARTS if part in facts.split]
    patients = listed(f"{PARTS[part]} {len(found)}" for part, found in parts)
    slices = listed(sum(map(len, found.values())) for _, found in parts)
    return f"the numbers of patients were {patients} (slices: {slices})"


@by_row
def leakage(row: RowFacts) -> str:
    shared = max(map(count_shared, row.runs))
    if shared:
        was = "was" if shared == 1 else "were"
        return f"the split LEAKS: {plural(shared, 'patient')} {was} in more than one part, so the scores are too high"
    return "the parts were disjoint by patient"


def count_shared(facts: Facts) -> int:
    """Return the number of patients who are in more than one part of a run's split."""
    held = [set(found) for found in facts.split.values()]
    return sum(map(len, held)) - len(set().union(*held))
