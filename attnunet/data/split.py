"""Five ways to divide patients into training, validation and test. One of these ways leaks on purpose."""

import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import yaml
from annotated_types import Ge, Gt, Lt

from attnunet.data.names import match_absent
from attnunet.data.slices import DataError, Slice, read_text

PARTS = ("train", "val", "test")
Fraction = Annotated[float, Gt(0), Lt(1)]
Share = Annotated[float, Ge(0), Lt(1)]
"""The share of the patients that validates; 0 lets nobody validate."""
Seed = Annotated[int, Ge(0), Lt(2**32)]
Slices = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Subject:
    """The facts that a split may use: a patient, its site, the number of its lesion pixels and the indices of its slices."""

    patient: str
    site: str
    lesion_pixels: int
    slices: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """The indices of each part's slices, in ascending order. `owners` maps each slice of the data set to its patient.

    Raises:
        DataError: nobody is left for train or test; a patient is in two parts and `leaking` does not allow it.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    owners: Mapping[int, str]
    leaking: bool = False

    def __post_init__(self) -> None:
        for part, slices in self.parts.items():
            if not slices and part != "val":
                raise DataError(f"split: no patient is left for {part}; lower the other parts' shares or add patients")
        for a, b in itertools.combinations(PARTS, 2):
            shared = sorted(set(self.patients[a]) & set(self.patients[b]))
            if shared and not self.leaking:
                raise DataError(f"split leaks: {', '.join(shared)} in both {a} and {b}")

    @property
    def parts(self) -> dict[str, tuple[int, ...]]:
        return {"train": self.train, "val": self.val, "test": self.test}

    @cached_property
    def patients(self) -> dict[str, tuple[str, ...]]:
        """The patients of each part, in alphabetical order."""
        return {part: tuple(sorted({self.owners[i] for i in slices})) for part, slices in self.parts.items()}

    def manifest(self, slices: Sequence[Slice], fingerprint: str) -> str:
        """Return JSON with the patients and the numbers of the slices of each part. `split=manifest` reads it back."""
        numbers: dict[str, dict[str, list[int]]] = {part: {} for part in PARTS}
        for part, indices in self.parts.items():
            for index in indices:
                numbers[part].setdefault(slices[index].patient, []).append(slices[index].number)
        return json.dumps({"leaking": self.leaking, "fingerprint": fingerprint, **self.patients, "slices": numbers}, indent=1)


def patients_of(subjects: Sequence[Subject]) -> dict[int, str]:
    return {index: s.patient for s in subjects for index in s.slices}


def by_patient(subjects: Sequence[Subject], **parts: Sequence[str]) -> Split:
    """Return the split that gives each part the slices of its patients."""
    slices = {s.patient: s.slices for s in subjects}
    train, val, test = (tuple(sorted(i for p in parts[part] for i in slices[p])) for part in PARTS)
    return Split(train, val, test, patients_of(subjects))


def order_subjects(subjects: Sequence[Subject]) -> list[Subject]:
    """Return the subjects ordered by site and then by lesion size, so that neighbours are alike."""
    return sorted(subjects, key=lambda s: (s.site, s.lesion_pixels, s.patient))


def draw(subjects: Sequence[Subject], share: float, rng: np.random.Generator) -> tuple[list[str], list[Subject]]:
    """Return the patients that are drawn for a part, and the subjects that are left.

    The ordered subjects are cut into n = max(1, round(share * number of subjects)) equal stretches. One subject is drawn at
    random from each stretch. So the part gets its share of every site, and of small and large lesions, as far as n allows.
    A share of 0 draws nobody.
    """
    if share == 0:
        return [], list(subjects)
    line = order_subjects(subjects)
    n = max(1, round(share * len(line)))
    edges = np.linspace(0, len(line), n + 1).round().astype(int)
    picks = {int(rng.integers(low, high)) for low, high in itertools.pairwise(edges) if high > low}
    return [line[i].patient for i in sorted(picks)], [s for i, s in enumerate(line) if i not in picks]


def thin(split: Split, train_slices: int | None, seed: int) -> Split:
    """Return the split with only `train_slices` of its training slices, or with all of them if `train_slices` is None.

    The training slices are cut into `train_slices` equal stretches. One slice is drawn at random from each stretch, so that
    each patient keeps its share.

    Raises:
        DataError: `train_slices` exceeds the number of training slices.
    """
    if train_slices is None:
        return split
    if train_slices > len(split.train):
        raise DataError(f"split.train_slices={train_slices}: allowed: up to {len(split.train)}, the number of training slices")
    rng = np.random.default_rng([seed, train_slices])
    edges = np.linspace(0, len(split.train), train_slices + 1).round().astype(int)
    return replace(split, train=tuple(split.train[rng.integers(low, high)] for low, high in itertools.pairwise(edges)))


def patient(
    subjects: Sequence[Subject],
    val: Share = 0.15,
    test: Fraction = 0.15,
    train_slices: Slices | None = None,
    seed: Seed = 0,
) -> Split:
    """Return a hold-out split by patient, stratified by site and lesion size."""
    rng = np.random.default_rng(seed)
    tested, rest = draw(subjects, test, rng)
    validated, rest = draw(rest, val * len(subjects) / max(len(rest), 1), rng)
    whole = by_patient(subjects, train=[s.patient for s in rest], val=validated, test=tested)
    return thin(whole, train_slices, seed)


def kfold(
    subjects: Sequence[Subject],
    folds: Annotated[int, Ge(2)] = 5,
    fold: Annotated[int, Ge(0)] = 0,
    val: Share = 0.2,
    seed: Seed = 0,
) -> Split:
    """Return one split of a cross-validation, in which every patient is tested in exactly one of `folds` runs.

    `val` is the share of the other patients that validates. The folds are stratified: along the ordered subjects, each
    block of `folds` neighbours is dealt to the folds at random.

    Raises:
        DataError: `fold` is not below `folds`; there are fewer patients than folds.
    """
    if fold >= folds:
        raise DataError(f"split.fold={fold}: must be below split.folds={folds}")
    if folds > len(subjects):
        raise DataError(f"split.folds={folds}: there are only {len(subjects)} patients")
    rng = np.random.default_rng(seed)
    line = order_subjects(subjects)
    dealt = np.concatenate([rng.permutation(folds) for _ in range(0, len(line), folds)])[: len(line)]
    tested = [s.patient for s, f in zip(line, dealt, strict=True) if f == fold]
    rest = [s for s, f in zip(line, dealt, strict=True) if f != fold]
    validated, rest = draw(rest, val, np.random.default_rng([seed, fold]))
    return by_patient(subjects, train=[s.patient for s in rest], val=validated, test=tested)


def site(subjects: Sequence[Subject], site: str | None = None, val: Share = 0.15, seed: Seed = 0) -> Split:
    """Return the split that tests on all patients of one site. The share `val` of the other patients validates.

    Raises:
        DataError: there is no such site; there is only one site.
    """
    sites = sorted({s.site for s in subjects})
    if site not in sites or len(sites) < 2:
        raise DataError(f"split.site={site}: choose one of {sites} (at least two sites are needed)")
    tested = [s.patient for s in subjects if s.site == site]
    validated, rest = draw([s for s in subjects if s.site != site], val, np.random.default_rng(seed))
    return by_patient(subjects, train=[s.patient for s in rest], val=validated, test=tested)


def manifest(subjects: Sequence[Subject], file: str | None = None) -> Split:
    """Return the split that a YAML or JSON file gives by its lists `train`, `val` and `test`.

    The `split.json` of an earlier run is such a file. Patients that the file does not name are left out of the split.

    Raises:
        DataError: there is no such file; it is no YAML, lacks a list, or comes from a leaking split; it names a patient that
            is not in the data; it records only some slices of a patient, or slices that the data lack.
    """
    path = Path(file or "")
    if not path.is_file():
        raise DataError(f"split.file={file}: no such file; give a YAML file with the lists train, val and test")
    try:
        lists = read_as_written(read_text(path))
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: is not YAML: {error}") from error
    if not isinstance(lists, dict) or any(not isinstance(lists.get(part), list) for part in PARTS):
        raise DataError(f"{path}: needs the lists train, val and test")
    if str(lists.get("leaking", False)).lower() != "false":
        raise DataError(f"{path}: is the manifest of a leaking split; only split=slice can make one")
    if odd := [name for part in PARTS for name in lists[part] if not isinstance(name, str)]:
        raise DataError(f"{path}: {odd[0]} is no patient's name; quote a name that looks like something else")
    if unknown := match_absent({name for part in PARTS for name in lists[part]}, {s.patient for s in subjects}):
        raise DataError(f"{path}: names patients that are not in the data: {', '.join(unknown)}")
    if "slices" in lists:
        refuse_cut(path, lists, subjects)
    return by_patient(subjects, **{part: sorted(set(lists[part])) for part in PARTS})


def refuse_cut(path: Path, lists: Mapping[str, Any], subjects: Sequence[Subject]) -> None:
    """Raise DataError if `slices` of a manifest leaves out slices of training patients, and of no other patient.

    A run with `split.train_slices` records such slices. Whole patients would be another split than that of the run. Where
    other patients have other slices too, the data changed, for example by `data.axis`, and the patients are whole.
    """
    there, differ = {s.patient: len(s.slices) for s in subjects}, {}
    for part in PARTS:
        try:
            recorded = {patient: len(set(numbers)) for patient, numbers in lists["slices"][part].items()}
        except (AttributeError, KeyError, TypeError):
            allowed = f"the numbers of the slices of each patient in {', '.join(PARTS)}, or no slices"
            raise DataError(f"{path}: slices has no patients with numbers for {part}; allowed: {allowed}") from None
        counts = {name: (recorded.get(name, 0), there[name]) for name in sorted(lists[part])}
        differ[part] = [f"{name} ({found} of {whole})" for name, (found, whole) in counts.items() if found != whole]
    if differ["train"] and not (differ["val"] or differ["test"]):
        more = f" and {len(differ['train']) - 5} more" if len(differ["train"]) > 5 else ""
        raise DataError(
            f"{path}: slices.train lacks slices of {', '.join(differ['train'][:5])}{more}; split=manifest takes whole "
            "patients; allowed: the split of that run, with its split.train_slices, or a file without slices"
        )


class AsWritten(yaml.BaseLoader):
    """A YAML loader that keeps each scalar as the text in the file: 010 does not become 8, and 1_2 does not become 12.

    A mapping with the same key twice is an error.
    """

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        unique_keys([(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return keys and values as a dictionary. Raise YAMLError if a key occurs twice, because a value would be lost."""
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise yaml.YAMLError(f"{key} stands twice")
    return dict(pairs)


def read_as_written(text: str) -> Any:
    """Return the content of JSON or YAML text, with each number as the text in the file."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=unique_keys)
    except json.JSONDecodeError:  # JSON is tried first: YAML would read JSON's escapes of rare letters as other names
        return yaml.load(text, AsWritten)


def slice(
    subjects: Sequence[Subject],
    val: Share = 0.15,
    test: Fraction = 0.15,
    train_slices: Slices | None = None,
    seed: Seed = 0,
) -> Split:
    """Return a split that divides slices instead of patients, to show how much this LEAKS.

    Neighbouring slices of one patient land in different parts.
    """
    slices = np.random.default_rng(seed).permutation(np.concatenate([s.slices for s in subjects]))
    n_val, n_test = (max(1, round(share * len(slices))) if share else 0 for share in (val, test))
    cut = (slices[n_test + n_val :], slices[n_test : n_test + n_val], slices[:n_test])
    trained, validated, tested = (tuple(sorted(int(i) for i in indices)) for indices in cut)
    return thin(Split(trained, validated, tested, patients_of(subjects), leaking=True), train_slices, seed)
