"""Who trains, who validates, who tests: five ways to divide patients, one of which leaks on purpose."""

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
Seed = Annotated[int, Ge(0), Lt(2**32)]
Slices = Annotated[int, Gt(0)]


@dataclass(frozen=True)
class Subject:
    """What a split may look at: a patient, where it was scanned, its lesion pixels, the indices of its slices."""

    patient: str
    site: str
    lesion_pixels: int
    slices: tuple[int, ...]


@dataclass(frozen=True)
class Split:
    """Indices of slices a part, in ascending order; `owners` names the patient of each slice of the data set.

    Raises:
        DataError: an empty part; a patient in two parts, unless `leaking` says that this is meant.
    """

    train: tuple[int, ...]
    val: tuple[int, ...]
    test: tuple[int, ...]
    owners: Mapping[int, str]
    leaking: bool = False

    def __post_init__(self) -> None:
        for part, slices in self.parts.items():
            if not slices:
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
        """JSON with the patients and the slices' numbers of each part; `split=manifest` reads it back."""
        numbers: dict[str, dict[str, list[int]]] = {part: {} for part in PARTS}
        for part, indices in self.parts.items():
            for index in indices:
                numbers[part].setdefault(slices[index].patient, []).append(slices[index].number)
        return json.dumps({"leaking": self.leaking, "fingerprint": fingerprint, **self.patients, "slices": numbers}, indent=1)


def patients_of(subjects: Sequence[Subject]) -> dict[int, str]:
    return {index: s.patient for s in subjects for index in s.slices}


def by_patient(subjects: Sequence[Subject], **parts: Sequence[str]) -> Split:
    """The split that gives each part the slices of its patients."""
    slices = {s.patient: s.slices for s in subjects}
    train, val, test = (tuple(sorted(i for p in parts[part] for i in slices[p])) for part in PARTS)
    return Split(train, val, test, patients_of(subjects))


def order_subjects(subjects: Sequence[Subject]) -> list[Subject]:
    """Neighbours are alike: by site, then by lesion size."""
    return sorted(subjects, key=lambda s: (s.site, s.lesion_pixels, s.patient))


def draw(subjects: Sequence[Subject], share: float, rng: np.random.Generator) -> tuple[list[str], list[Subject]]:
    """-> (the names drawn, the subjects left): one at random from each of n equal stretches of the ordered subjects.

    So a part has its share of every site, and of small and large lesions, as far as n = max(1, round(share * all)) allows.
    """
    line = order_subjects(subjects)
    n = max(1, round(share * len(line)))
    edges = np.linspace(0, len(line), n + 1).round().astype(int)
    picks = {int(rng.integers(low, high)) for low, high in itertools.pairwise(edges) if high > low}
    return [line[i].patient for i in sorted(picks)], [s for i, s in enumerate(line) if i not in picks]


def thin(split: Split, train_slices: int | None, seed: int) -> Split:
    """The split with `train_slices` of its training slices; all if None.

    One at random from each of that many equal stretches of the training slices, so that each patient keeps its share.
    """
    if train_slices is None:
        return split
    if train_slices > len(split.train):
        raise DataError(f"split.train_slices={train_slices}: only {len(split.train)} slices train; allowed up to that number")
    rng = np.random.default_rng([seed, train_slices])
    edges = np.linspace(0, len(split.train), train_slices + 1).round().astype(int)
    return replace(split, train=tuple(split.train[rng.integers(low, high)] for low, high in itertools.pairwise(edges)))


def patient(
    subjects: Sequence[Subject],
    val: Fraction = 0.15,
    test: Fraction = 0.15,
    train_slices: Slices | None = None,
    seed: Seed = 0,
) -> Split:
    """Hold-out by patient, stratified by site and lesion size."""
    rng = np.random.default_rng(seed)
    tested, rest = draw(subjects, test, rng)
    validated, rest = draw(rest, val * len(subjects) / max(len(rest), 1), rng)
    whole = by_patient(subjects, train=[s.patient for s in rest], val=validated, test=tested)
    return thin(whole, train_slices, seed)


def kfold(
    subjects: Sequence[Subject],
    folds: Annotated[int, Ge(2)] = 5,
    fold: Annotated[int, Ge(0)] = 0,
    val: Fraction = 0.2,
    seed: Seed = 0,
) -> Split:
    """Every patient is tested in exactly one of `folds` runs; `val` is the share of the others that validates.

    Stratified: along the ordered subjects, each block of `folds` neighbours is dealt to the folds at random.
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


def site(subjects: Sequence[Subject], site: str | None = None, val: Fraction = 0.15, seed: Seed = 0) -> Split:
    """Leave one site out: its patients test, a share of the others validates."""
    sites = sorted({s.site for s in subjects})
    if site not in sites or len(sites) < 2:
        raise DataError(f"split.site={site}: choose one of {sites} (at least two sites are needed)")
    tested = [s.patient for s in subjects if s.site == site]
    validated, rest = draw([s for s in subjects if s.site != site], val, np.random.default_rng(seed))
    return by_patient(subjects, train=[s.patient for s in rest], val=validated, test=tested)


def manifest(subjects: Sequence[Subject], file: str | None = None) -> Split:
    """The lists `train`, `val` and `test` of a YAML or JSON file, as the `split.json` of an earlier run has them.

    Patients that the file does not name take no part.
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
    return by_patient(subjects, **{part: sorted(set(lists[part])) for part in PARTS})


class AsWritten(yaml.BaseLoader):
    """YAML whose scalars are the text that was written: 010 is no 8, 1_2 no 12. A key that stands twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        unique_keys([(key.value, value) for key, value in node.value if isinstance(key, yaml.ScalarNode)])
        return super().construct_mapping(node, deep)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return keys and values as a dictionary. Raises YAMLError where a key stands twice, one of which would be lost."""
    for key, count in Counter(key for key, _ in pairs).items():
        if count > 1:
            raise yaml.YAMLError(f"{key} stands twice")
    return dict(pairs)


def read_as_written(text: str) -> Any:
    """Return what JSON or YAML holds, numbers as the text that was written."""
    try:
        return json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=unique_keys)
    except json.JSONDecodeError:  # tried first: as YAML, its escapes of rare letters would be other names
        return yaml.load(text, AsWritten)


def slice(
    subjects: Sequence[Subject],
    val: Fraction = 0.15,
    test: Fraction = 0.15,
    train_slices: Slices | None = None,
    seed: Seed = 0,
) -> Split:
    """Divide slices, not patients: neighbouring slices of one patient land on both sides. LEAKS, to show how much."""
    slices = np.random.default_rng(seed).permutation(np.concatenate([s.slices for s in subjects]))
    n_val, n_test = (max(1, round(share * len(slices))) for share in (val, test))
    cut = (slices[n_test + n_val :], slices[n_test : n_test + n_val], slices[:n_test])
    trained, validated, tested = (tuple(sorted(int(i) for i in indices)) for indices in cut)
    return thin(Split(trained, validated, tested, patients_of(subjects), leaking=True), train_slices, seed)
