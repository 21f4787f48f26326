"""What all rows of a comparison share: settings, data, patients, software and machine."""

from collections.abc import Callable, Mapping

from attnunet.comparison.pairs import plural
from attnunet.comparison.rows import ScoredRun
from attnunet.comparison.table import Comparison, list_rows
from attnunet.config.fingerprints import NO_EFFECT
from attnunet.config.targets import is_within

OFF = ("None", "[]")
"""The values of settings that switch something off."""
PARTS = {"train": "training", "val": "validation", "test": "test"}


def list_settings(comparison: Comparison) -> dict[str, str]:
    """Return the parameters that have the same value in all runs, without those that change no result."""
    runs = [run for standing in comparison.standings for run in standing.row.runs]
    return {
        key: value
        for key, value in sorted(runs[0].params.items())
        if not is_within(key, NO_EFFECT) and all(run.params.get(key) == value for run in runs)
    }


def describe_choices(settings: Mapping[str, str]) -> str:
    """Return the choices of groups and the settings of no group, as on the command line."""
    return " ".join(f"{key}={value}" for key, value in settings.items() if "." not in key and value not in OFF)


def describe_patients(run: ScoredRun) -> str:
    """Return the number of patients and slices in each part of a run's split."""
    return ", ".join(
        f"{plural(len(run.slices[part]), f'{words} patient')} ({plural(sum(map(len, run.slices[part].values())), 'slice')})"
        for part, words in PARTS.items()
        if run.slices.get(part)
    )


def describe_software(run: ScoredRun) -> str:
    """Return Python and the packages of a run, with their versions."""
    packages = {key.partition(".")[2]: tag for key, tag in sorted(run.tags.items()) if key.startswith("version.")}
    found = {"Python": run.tags.get("python", ""), **packages}
    return ", ".join(f"{name} {version}" for name, version in found.items() if version)


ORIGINS: Mapping[str, Callable[[ScoredRun], str]] = {
    "Data": lambda run: f"{run.content} (hash of images and masks)",
    "Patients": describe_patients,
    "Machine": lambda run: run.tags.get("machine", ""),
    "Software": describe_software,
    "Commit": lambda run: run.tags.get("git.commit", "")[:12],
}
"""What a run comes from: the name of a fact, and the function that returns it in words, "" if the run does not tell it."""


def list_origins(comparison: Comparison) -> dict[str, str]:
    """Return what the runs come from. Where runs differ, each value names its rows."""
    found = {}
    for name, describe in ORIGINS.items():
        rows: dict[str, list[int]] = {}
        for standing in comparison.standings:
            for value in dict.fromkeys(map(describe, standing.row.runs)):
                rows.setdefault(value or "not known", []).append(standing.rank)
        if len(rows) > 1:
            texts = [f"{value} ({list_rows(ranks)})" for value, ranks in rows.items()]
            found[name] = f"differs: {'; '.join(texts)}"
        elif "not known" not in rows:
            found[name] = next(iter(rows))
    return found
