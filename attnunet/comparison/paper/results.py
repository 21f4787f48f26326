"""Sentences on the scores, the statistics, the results, the software and the machines."""

import math
from collections.abc import Mapping

from attnunet.comparison.pairs import FEW, decimals, plural
from attnunet.comparison.paper.cohort import is_described
from attnunet.comparison.paper.facts import Protocol, RowFacts
from attnunet.comparison.paper.text import by_row, code, finish, listed
from attnunet.comparison.shared import PARTS
from attnunet.metrics import catalog
from attnunet.metrics.statistics import EXACT

PACKAGES = {
    "tensorflow": "TensorFlow {} (Abadi et al. 2016)",
    "keras": "Keras {}",
    "albumentations": "albumentations {}",
    "mlflow": "MLflow {}",
}
UNDEFINED = {
    "both empty": "both masks are empty",
    "empty reference": "the reference is empty",
    "full reference": "the reference covers the volume",
    "empty prediction": "the prediction is empty",
    "no distance": "no distance between the two surfaces can be measured",
}


def score(protocol: Protocol) -> str:
    metric = catalog.metric(protocol.comparison.question.score)
    source = f" ({metric.source.partition(', ')[0]})" if metric.source else ""
    meaning = metric.meaning.replace("`", "").replace("; comparisons take its size", ", as an absolute value")
    counts = (
        ", where tp, fp, fn and tn are its numbers of true and false positive and negative voxels" if "tp" in meaning else ""
    )
    return finish(f"the score was {metric.label}{source} of the whole volume of a patient at native size: {meaning}{counts}")


def undefined(protocol: Protocol) -> str:
    metric = catalog.metric(protocol.comparison.question.score)
    if not metric.undefined:
        return ""
    instead = "such a patient was left out of means and pairs"
    if metric.worst:
        instead = (
            "then the diagonal of the volume (of a slice if the spacing is unknown) took its place, or 0 if both masks were "
            "empty (after Isensee et al. 2020)"
        )
    return finish(f"the score is undefined if {UNDEFINED[metric.undefined]}; {instead}")


def lesions(protocol: Protocol) -> str:
    metric = catalog.metric(protocol.comparison.question.score)
    if metric.source != catalog.COMMOWICK:
        return ""
    rule = "a lesion was found, or a predicted lesion true, if the other mask overlapped at least a tenth of its voxels"
    return finish(f"lesions were the 26-connected components of a mask, and {rule}")


def surfaces(protocol: Protocol) -> str:
    """Return how distances were measured, if the score needs them."""
    metric = catalog.metric(protocol.comparison.question.score)

    def clause(row: RowFacts) -> str:
        known = {bool(scan["spacing"]) for scan in row.first.scans if is_described(scan)}
        recorded = True in known or not row.first.derived
        if "data.spacing" not in metric.needs or len(known) != 1 or not recorded:
            return ""
        where, unit = (
            ("in mm within the volume", "mm")
            if True in known
            else ("in pixels within slices, because the spacing was unknown", "pixels")
        )
        tolerance = row.first.get("evaluation.tolerance") if "tolerance" in metric.needs else None
        within = "" if tolerance is None else f", with a tolerance of {tolerance:g} {unit}"
        return f"distances between surfaces were measured {where}{within}"

    return by_row(clause)(protocol)


def patients(protocol: Protocol) -> str:
    comparison = protocol.comparison
    scored = plural(len(comparison.patients), f"{PARTS[comparison.part]} patient")
    rows, runs = len(protocol.rows), sum(len(row.runs) for row in protocol.rows)
    compared = f"{plural(rows, 'row')} of the leaderboard with {plural(runs, 'run')}"
    verb = "was" if rows == 1 else "were"
    validated = all(row.place.row.validated for row in protocol.rows)
    ranked = "ranked by the mean score over the validation patients" if validated else "listed without a rank"
    return finish(f"{compared} {verb} scored on the {scored} and {ranked}")


def averages(protocol: Protocol) -> str:
    """Return over what the score of a patient is a mean."""
    rows = [row.place.row for row in protocol.rows]
    over = ["the seeds"] if any(len(row.seeds) > 1 for row in rows) else []
    if any(len(runs) > 1 for row in rows for runs in row.seeds.values()):
        over.append("the folds that scored the patient")
    scans = {(scan["patient"], scan["scan"]) for row in protocol.rows for scan in row.first.scans}
    if len(scans) > len({patient for patient, _ in scans}):
        over.append("the patient's scans")
    return finish(f"the score of a patient was the mean over {listed(over)}") if over else ""


def intervals(protocol: Protocol) -> str:
    question = protocol.comparison.question
    return finish(
        f"intervals are {question.level} BCa bootstrap intervals of the mean over patients (Efron 1987), from "
        f"{question.resamples:,} resamples with the seed {question.seed}, at a level widened for few patients "
        "(Hesterberg 2015)"
    )


def tests(protocol: Protocol) -> str:
    comparison = protocol.comparison
    if not comparison.pairs:
        return ""
    over = "the single pair" if len(comparison.pairs) == 1 else f"all {len(comparison.pairs)} pairs"
    return finish(
        "each pair of rows was compared on the same patients by Wilcoxon's signed rank test (Wilcoxon 1945), two-sided, "
        f"without zero differences and exact up to {EXACT} differences, with Holm's correction (Holm 1979) over {over} and a "
        f"significance level of {comparison.question.alpha:g}"
    )


def verdicts(protocol: Protocol) -> str:
    comparison, question = protocol.comparison, protocol.comparison.question
    if not comparison.pairs:
        return ""
    return finish(
        f"two rows counted as equivalent if the interval of their mean difference lay within ±{question.margin:g} and at "
        f"least {FEW} patients had a score in both, and as different if the interval excluded 0 and the corrected p was below "
        "the level, in the same direction; otherwise the comparison was undecided"
    )


def first(protocol: Protocol) -> str:
    comparison = protocol.comparison
    place, metric = comparison.standings[0], catalog.metric(comparison.question.score)
    unit = f"{metric.unit}; " if metric.unit else ""
    ends = f"{comparison.question.level} interval {decimals(place.low)} to {decimals(place.high)}, "
    interval = "" if math.isnan(place.low) else ends
    name = "the only row" if len(comparison.standings) == 1 else f"the first of {len(comparison.standings)} rows"
    leaking = ", LEAKING" if place.row.leaking else ""
    return finish(
        f"{name}, {code(place.row.name)}, reached a mean {metric.label} of {decimals(place.mean)} ({unit}{interval}median "
        f"{decimals(place.median)}, {plural(place.patients, PARTS[comparison.part] + ' patient')}{leaking})"
    )


def others(protocol: Protocol) -> str:
    """Return how the first row compares with the others."""
    own = [pair for pair in protocol.comparison.pairs if pair.first == 0]
    counts = {
        "better than": sum(pair.verdict == "better" for pair in own),
        "worse than": sum(pair.verdict == "worse" for pair in own),
        "equivalent to": sum(pair.verdict == "equivalent" for pair in own),
    }
    told = [f"{words} {count}" for words, count in counts.items() if count]
    undecided = sum(pair.verdict == "undecided" for pair in own)
    told += [f"not told apart from {undecided}"] if undecided else []
    if len(own) == 1:
        return finish(f"it was {told[0].removesuffix('1')}the other row")
    return finish(f"of the {len(own)} other rows, it was {listed(told)}") if own else ""


def describe_commit(tags: Mapping[str, str]) -> str:
    changed = ", with uncommitted changes" if tags.get("git.dirty") == "true" else ""
    return f"commit {tags['git.commit'][:12]}{changed}"


@by_row
def software(row: RowFacts) -> str:
    """Return the packages and the commits that trained."""
    tags = row.first.tags
    names = [words.format(tags[f"version.{name}"]) for name, words in PACKAGES.items() if f"version.{name}" in tags]
    commits = dict.fromkeys(describe_commit(run.tags) for run in row.runs if "git.commit" in run.tags)
    at = f" ({listed([*commits])})" if commits else ""
    names += [f"Python {tags['python']}"] if "python" in tags else []
    what = "masks were scored" if row.first.given else "networks were trained and scored"
    return f"{what} by attnunet{at} with {listed(names)}" if names else ""


def statistics(protocol: Protocol) -> str:
    """Return the packages that made the comparison. Their versions may differ from those of the runs."""
    versions = protocol.versions
    scipy = f"SciPy {versions['scipy']} (Virtanen et al. 2020)"
    if not protocol.comparison.pairs:
        return finish(f"intervals were computed with {scipy}")
    return finish(
        f"intervals and tests were computed with {scipy}, and Holm's correction with statsmodels {versions['statsmodels']} "
        "(Seabold and Perktold 2010)"
    )


@by_row
def machines(row: RowFacts) -> str:
    found = dict.fromkeys(facts.tags["machine"] for facts in row.runs if facts.tags.get("machine"))
    threads = dict.fromkeys(facts.tags["threads"] for facts in row.runs if facts.tags.get("threads"))
    if not found or row.first.given:
        return ""
    told = f"training ran on {'; '.join(found)}"
    return f"{told}, with {listed(threads)} {'thread' if list(threads) == ['1'] else 'threads'}" if threads else told


@by_row
def duration(row: RowFacts) -> str:
    minutes = row.place.minutes
    return f"the epochs of a run took {minutes:.1f} minutes on average, with their validation" if minutes > 0 else ""
