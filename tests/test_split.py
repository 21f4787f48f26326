"""Who trains, validates and tests: by patient, disjoint and stratified, or marked as leaking."""

import json
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from attnunet.data import split as splits
from attnunet.data.slices import DataError, Slice
from attnunet.data.split import PARTS, Split, Subject

SITES = ("CS", "DU", "HT")
PER_PATIENT = 4


@pytest.fixture(scope="module")
def subjects() -> list[Subject]:
    """60 patients of 4 slices, 20 a site, with lesions from 100 to 100,000 pixels, in an order that tells nothing."""
    rng = np.random.default_rng(0)
    pixels = np.exp(rng.uniform(np.log(100), np.log(1e5), 60)).astype(int)
    order = rng.permutation(60)
    return [
        Subject(f"P{n:02}", SITES[n % 3], int(pixels[n]), tuple(range(PER_PATIENT * i, PER_PATIENT * (i + 1))))
        for i, n in enumerate(order)
    ]


@pytest.fixture(scope="module")
def slices(subjects: list[Subject]) -> list[Slice]:
    """What the subjects' indices stand for; numbers start at 10."""
    return [Slice(s.patient, 10 + n, "", "", s.site) for s in subjects for n in range(PER_PATIENT)]


DRAWN: dict[str, Callable[[Sequence[Subject], int], Split]] = {
    "patient": lambda subjects, seed: splits.patient(subjects, seed=seed),
    "kfold": lambda subjects, seed: splits.kfold(subjects, fold=2, seed=seed),
    "site": lambda subjects, seed: splits.site(subjects, "DU", seed=seed),
    "slice": lambda subjects, seed: splits.slice(subjects, seed=seed),
}
drawn = pytest.mark.parametrize("name", DRAWN)


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def indices(split: Split) -> list[int]:
    return [i for part in PARTS for i in getattr(split, part)]


@drawn
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_every_slice_is_in_one_part(subjects: list[Subject], name: str, seed: int) -> None:
    split = DRAWN[name](subjects, seed)
    assert sorted(indices(split)) == list(range(60 * PER_PATIENT))
    assert all(list(getattr(split, part)) == sorted(getattr(split, part)) for part in PARTS)


@drawn
def test_a_part_has_all_slices_of_its_patients(subjects: list[Subject], name: str) -> None:
    split = DRAWN[name](subjects, 0)
    of = {s.patient: s.slices for s in subjects}
    whole = [set(split.parts[part]) == {i for p in split.patients[part] for i in of[p]} for part in PARTS]
    assert all(whole) == (name != "slice")
    assert split.leaking == (name == "slice")


@drawn
def test_the_seed_decides(subjects: list[Subject], name: str) -> None:
    assert DRAWN[name](subjects, 3) == DRAWN[name](subjects, 3)
    assert DRAWN[name](subjects, 3) != DRAWN[name](subjects, 4)


@pytest.mark.parametrize("name", ["patient", "kfold", "site"])
def test_the_order_of_the_subjects_does_not_decide(subjects: list[Subject], name: str) -> None:
    assert DRAWN[name](subjects[::-1], 0) == DRAWN[name](subjects, 0)


def spread(subjects: list[Subject], patients: Sequence[str]) -> tuple[Counter[str], float]:
    """-> patients a site, and the share whose lesions are smaller than their site's median."""
    of = {s.patient: s for s in subjects}
    medians = {site: np.median([s.lesion_pixels for s in subjects if s.site == site]) for site in SITES}
    chosen = [of[p] for p in patients]
    small = np.mean([s.lesion_pixels < medians[s.site] for s in chosen])
    return Counter(s.site for s in chosen), float(small)


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize(
    ("name", "sizes"), [("patient", {"test": 9, "val": 9, "train": 42}), ("kfold", {"test": 12, "val": 10, "train": 38})]
)
def test_parts_are_stratified(subjects: list[Subject], name: str, sizes: dict[str, int], seed: int) -> None:
    """Bounds that a stretch across two sites may use up, and that chance alone breaks for most seeds."""
    split = DRAWN[name](subjects, seed)
    assert {part: len(split.patients[part]) for part in PARTS} == sizes
    for part in PARTS:
        sites, small = spread(subjects, split.patients[part])
        assert all(abs(sites[site] - sizes[part] / 3) < 1.5 for site in SITES)
        assert 0.25 < small < 0.75


@pytest.mark.parametrize("share", [0.1, 0.3])
def test_shares_are_kept(subjects: list[Subject], share: float) -> None:
    split = splits.patient(subjects, val=share, test=0.2)
    assert [len(split.patients[part]) for part in PARTS] == [60 - 12 - round(60 * share), round(60 * share), 12]
    assert len(splits.slice(subjects, val=share, test=0.2).val) == round(240 * share)
    assert len(splits.site(subjects, "CS", val=share).patients["val"]) == round(40 * share)
    assert len(splits.kfold(subjects, folds=3, val=share).patients["val"]) == round(40 * share)


@pytest.mark.parametrize("make", [splits.patient, splits.kfold, partial(splits.site, site="CS"), splits.slice])
def test_a_share_of_0_lets_nobody_validate(subjects: list[Subject], make: Callable[..., Split]) -> None:
    split = make(subjects, val=0)
    assert split.val == ()
    assert len(split.train) + len(split.test) == 240


@pytest.mark.parametrize("folds", [2, 3, 7, 59])
def test_folds_test_every_patient_once(subjects: list[Subject], folds: int) -> None:
    parts = [splits.kfold(subjects, folds, fold) for fold in range(folds)]
    assert Counter(p for split in parts for p in split.patients["test"]) == {s.patient: 1 for s in subjects}
    sizes = [len(split.patients["test"]) for split in parts]
    assert max(sizes) - min(sizes) <= 1
    assert all(not set(split.patients["val"]) & set(split.patients["test"]) for split in parts)


def test_no_fold_has_the_same_place_in_every_block(subjects: list[Subject]) -> None:
    """Else the first fold would test each site's smaller lesions, and the last its larger ones."""
    line = [s.patient for s in sorted(subjects, key=lambda s: (s.site, s.lesion_pixels))]
    for fold in range(5):
        places = {line.index(patient) % 5 for patient in splits.kfold(subjects, 5, fold).patients["test"]}
        assert len(places) > 2


@pytest.mark.parametrize(
    ("folds", "fold", "message"),
    [
        (5, 5, "split.fold=5: must be below split.folds=5"),
        (61, 0, "split.folds=61: there are only 60 patients"),
    ],
)
def test_wrong_folds(subjects: list[Subject], folds: int, fold: int, message: str) -> None:
    with pytest.raises(DataError, match=message):
        splits.kfold(subjects, folds, fold)


def test_a_site_is_left_out_whole(subjects: list[Subject]) -> None:
    split = splits.site(subjects, "HT")
    assert set(split.patients["test"]) == {s.patient for s in subjects if s.site == "HT"}
    sites, small = spread(subjects, split.patients["val"])
    assert sites == {"CS": 3, "DU": 3}
    assert 1 / 3 <= small <= 2 / 3


@pytest.mark.parametrize("site", [None, "XX"])
def test_an_unknown_site_lists_the_sites(subjects: list[Subject], site: str | None) -> None:
    with pytest.raises(DataError, match=rf"split.site={site}: choose one of \['CS', 'DU', 'HT'\]"):
        splits.site(subjects, site)


def test_one_site_cannot_be_left_out(subjects: list[Subject]) -> None:
    with pytest.raises(DataError, match="at least two sites"):
        splits.site([s for s in subjects if s.site == "CS"], "CS")


@pytest.mark.parametrize("name", ["patient", "kfold", "site"])
def test_a_manifest_brings_the_split_back(subjects: list[Subject], slices: list[Slice], tmp_path: Path, name: str) -> None:
    split = DRAWN[name](subjects, 0)
    text = split.manifest(slices, "abc")
    assert splits.manifest(subjects, write(tmp_path / "split.json", text)) == split
    recorded = json.loads(text)
    assert (recorded["leaking"], recorded["fingerprint"]) == (False, "abc")
    assert recorded["slices"]["test"] == {p: [10, 11, 12, 13] for p in split.patients["test"]}


def test_a_manifest_may_leave_patients_out_and_name_one_twice(subjects: list[Subject], tmp_path: Path) -> None:
    split = splits.manifest(subjects, write(tmp_path / "split.yaml", "train: [P01, P02, P01]\nval: [P03]\ntest: [P04]\n"))
    assert split.patients == {"train": ("P01", "P02"), "val": ("P03",), "test": ("P04",)}
    assert len(split.train) == len(set(split.train)) == 2 * PER_PATIENT


NAMES = ("1_2", "010", "0x1F", "001", "1", "12", "8", "31", "1.0", "yes", "null", "2020-01-01", "1:20", "\U0001f600")


@pytest.mark.parametrize(
    "text",
    [
        "train: [1_2, 010, 1.0, yes]\nval: [0x1F, null]\ntest: [001, 2020-01-01, 1:20]\n",
        '{"train": ["1_2", "010", 1.0, "yes"], "val": ["0x1F", "null"], "test": ["001", "2020-01-01", "1:20"]}',
    ],
)
def test_a_manifest_s_names_are_the_text_that_was_written(tmp_path: Path, text: str) -> None:
    subjects = [Subject(name, "", 1, (index,)) for index, name in enumerate(NAMES)]
    split = splits.manifest(subjects, write(tmp_path / "split.yaml", text))
    assert split.patients == {
        "train": ("010", "1.0", "1_2", "yes"),
        "val": ("0x1F", "null"),
        "test": ("001", "1:20", "2020-01-01"),
    }


def test_a_name_of_rare_letters_comes_back(tmp_path: Path) -> None:
    subjects = [Subject(name, "", 1, (index,)) for index, name in enumerate(NAMES)]
    split = splits.by_patient(subjects, train=["\U0001f600"], val=["1"], test=["8"])
    text = split.manifest([Slice(name, 1, "", "") for name in NAMES], "")
    assert splits.manifest(subjects, write(tmp_path / "split.json", text)) == split


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [p01]\nval: [P02]\ntest: [P03]\n", r"not in the data: p01 \(is 'P01' meant\?\)$"),
        ("train: [P01]\nval: [P02]\ntrain: [P04]\ntest: [P03]\n", "is not YAML: train stands twice"),
        ('{"train": ["P01"], "val": ["P02"], "train": ["P04"], "test": ["P03"]}', "is not YAML: train stands twice"),
        ("train: [P01]\nval: [P02]\ntest: [P03]\n? [a]\n: b\n", r"is not YAML"),
        ("[" * 5000, "is not YAML"),
        ('{"train": [true], "val": ["P02"], "test": ["P03"]}', "True is no patient's name; quote"),
        ("train: [[P01]]\nval: [P02]\ntest: [P03]\n", r"\['P01'\] is no patient's name"),
        ("train: [P01]\nval: [P02]\ntest: [P03, Q1]\n", "not in the data: Q1$"),
        ("train: [P01]\nval: [P02]\ntest: [P03, '']\n", "not in the data: ''$"),
        ("train: [P01, P02]\nval: [P02]\ntest: [P03]\n", "split leaks: P02 in both train and val"),
        ("train: [P01]\nval: [P02]\ntest: [P03]\nleaking: true\n", "only split=slice can make one"),
        ("train: [P01]\nval: [P02]\n", "needs the lists train, val and test"),
        ("train: [P01]\nval: P02\ntest: [P03]\n", "needs the lists train, val and test"),
        ("train: [P01]\nval: [P02]\ntest: []\n", "no patient is left for test"),
        ("- P01\n", "needs the lists train, val and test"),
        ("", "needs the lists train, val and test"),
        ("train: [P01\n", r"split\.yaml: is not YAML"),
    ],
)
def test_a_wrong_manifest(subjects: list[Subject], tmp_path: Path, text: str, message: str) -> None:
    file = write(tmp_path / "split.yaml", text)
    with pytest.raises(DataError, match=message):
        splits.manifest(subjects, file)


def test_a_manifest_of_some_slices_of_a_patient_is_refused(
    subjects: list[Subject], slices: list[Slice], tmp_path: Path
) -> None:
    """Its patients whole would be another split, with more than the 60 training slices of the run."""
    text = splits.patient(subjects, train_slices=60).manifest(slices, "abc")
    recorded = json.loads(text)["slices"]["train"]
    first = next(
        f"{name} ({len(recorded.get(name, ()))} of 4)" for name in json.loads(text)["train"] if len(recorded[name]) < 4
    )
    with pytest.raises(DataError, match=r"split\.json: slices\.train lacks slices of ") as caught:
        splits.manifest(subjects, write(tmp_path / "split.json", text))
    assert f"of {first}, " in str(caught.value)
    assert "the split of that run, with its split.train_slices, or a file without slices" in str(caught.value)


WHOLE = {"train": {"P01": [1, 2, 3, 4]}, "val": {"P02": [1, 2, 3, 4]}, "test": {"P03": [1, 2, 3, 4]}}


@pytest.mark.parametrize(
    ("recorded", "message"),
    [
        ({"train": {"P01": [1, 1, 2, 3]}}, r"slices\.train lacks slices of P01 \(3 of 4\);"),
        ({"train": {}}, r"slices\.train lacks slices of P01 \(0 of 4\);"),
        ({"train": [1, 2]}, r"slices has no patients with numbers for train; allowed: the numbers of the slices of each"),
        ({}, None),
        # Sliced in another plane, or of more slices than then: the patients are whole.
        ({"train": {"P01": [1, 2, 3]}, "val": {"P02": [1, 2, 3]}, "test": {"P03": [1, 2, 3]}}, None),
    ],
)
def test_a_manifest_whose_training_slices_alone_are_cut_is_refused(
    subjects: list[Subject], tmp_path: Path, recorded: dict, message: str | None
) -> None:
    lists = {part: list(patients) for part, patients in WHOLE.items()}
    file = write(tmp_path / "split.yaml", json.dumps({**lists, "slices": {**WHOLE, **recorded}}))
    if message is None:
        assert splits.manifest(subjects, file).patients["train"] == ("P01",)
    else:
        with pytest.raises(DataError, match=message):
            splits.manifest(subjects, file)


@pytest.mark.parametrize("file", [None, "nowhere.yaml"])
def test_no_manifest(subjects: list[Subject], file: str | None) -> None:
    with pytest.raises(DataError, match=f"split.file={file}: no such file"):
        splits.manifest(subjects, file)


@pytest.mark.parametrize("pair", [("train", "val"), ("train", "test"), ("val", "test")])
def test_a_patient_in_two_parts_is_refused_unless_the_split_says_that_it_leaks(pair: tuple[str, str]) -> None:
    members = {"train": ("a", "a"), "val": ("b", "b"), "test": ("c", "c")} | dict.fromkeys(pair, ("x", "y"))
    owners = dict(enumerate(name for part in PARTS for name in members[part]))
    with pytest.raises(DataError, match=f"split leaks: x, y in both {pair[0]} and {pair[1]}"):
        Split((0, 1), (2, 3), (4, 5), owners)
    assert Split((0, 1), (2, 3), (4, 5), owners, leaking=True).leaking


def test_the_slice_split_leaks_and_its_manifest_is_refused(
    subjects: list[Subject], slices: list[Slice], tmp_path: Path
) -> None:
    split = splits.slice(subjects)
    assert len(set(split.patients["train"]) & set(split.patients["test"])) > 10
    owners = {slices[i].patient for i in split.val}
    assert set(split.patients["val"]) == owners
    text = split.manifest(slices, "abc")
    assert json.loads(text)["leaking"] is True
    with pytest.raises(DataError, match="leaking"):
        splits.manifest(subjects, write(tmp_path / "split.json", text))


@pytest.mark.parametrize("part", ["train", "test"])
def test_an_empty_part_is_named(part: str) -> None:
    parts = {name: (i,) for i, name in enumerate(PARTS)} | {part: ()}
    with pytest.raises(DataError, match=f"no patient is left for {part}; lower the other parts' shares"):
        Split(**parts, owners=dict(enumerate("abc")))


@pytest.mark.parametrize("shares", [(0.5, 0.5), (0.15, 0.9), (0.9, 0.9)])
def test_shares_that_leave_nothing_to_train(subjects: list[Subject], shares: tuple[float, float]) -> None:
    for make in (splits.patient, splits.slice):
        with pytest.raises(DataError, match="no patient is left for train"):
            make(subjects, *shares)


def test_two_patients_are_too_few(subjects: list[Subject]) -> None:
    with pytest.raises(DataError, match="no patient is left for train"):
        splits.patient(subjects[:2])
    assert splits.patient(subjects[:3]).train


@pytest.mark.parametrize("name", ["patient", "slice"])
def test_training_slices_are_thinned_evenly_and_nothing_else_changes(subjects: list[Subject], name: str) -> None:
    make = getattr(splits, name)
    whole, thin = make(subjects, seed=1), make(subjects, seed=1, train_slices=50)
    assert len(thin.train) == 50
    assert set(thin.train) < set(whole.train)
    assert (thin.val, thin.test, thin.leaking) == (whole.val, whole.test, whole.leaking)
    # One from each of 50 equal stretches: the n-th lies within them.
    stretch = len(whole.train) / 50
    places = [whole.train.index(index) for index in thin.train]
    assert all(round(n * stretch) <= place < round((n + 1) * stretch) for n, place in enumerate(places))
    assert make(subjects, seed=1, train_slices=50) == thin
    assert make(subjects, seed=1, train_slices=len(whole.train)) == whole


@pytest.mark.parametrize("name", ["patient", "slice"])
def test_more_training_slices_than_there_are_is_refused(subjects: list[Subject], name: str) -> None:
    with pytest.raises(DataError, match=r"split\.train_slices=500: allowed: up to 1\d\d, the number of training slices"):
        getattr(splits, name)(subjects, train_slices=500)
