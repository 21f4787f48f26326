"""The reader of the LGG data set's folders; it opens no image, so that empty files do here."""

import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from attnunet.data.lgg import HANDLE, WHERE, lgg, site
from attnunet.data.slices import DataError
from tests.conftest import write_patient

FIRST, SECOND = "TCGA_CS_4941_19960909", "TCGA_DU_5852_19950709"


def lay_out(root: Path, patient: str, numbers: Iterable[int]) -> Path:
    folder = root / patient
    folder.mkdir(parents=True)
    for number in numbers:
        (folder / f"{patient}_{number}.tif").touch()
        (folder / f"{patient}_{number}_mask.tif").touch()
    return folder


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two patients of 11 and 2 slices."""
    lay_out(tmp_path / "data", SECOND, (1, 2))
    lay_out(tmp_path / "data", FIRST, range(1, 12))
    return tmp_path / "data"


def test_slices_are_ordered_by_patient_and_number(root: Path) -> None:
    dataset = lgg(str(root))
    assert [(s.patient, s.number) for s in dataset.slices] == [(FIRST, n) for n in range(1, 12)] + [(SECOND, 1), (SECOND, 2)]
    tenth = dataset.slices[9]
    assert tenth.image == str(root / FIRST / f"{FIRST}_10.tif")
    assert tenth.mask == str(root / FIRST / f"{FIRST}_10_mask.tif")
    assert [s.site for s in (tenth, dataset.slices[-1])] == ["CS", "DU"]


@pytest.mark.parametrize(("patient", "expected"), [(SECOND, "DU"), ("TCGA_HT", ""), ("anna", "")])
def test_site_is_the_second_field_of_a_barcode(patient: str, expected: str) -> None:
    assert site(patient) == expected


def test_strangers_are_passed_over(root: Path) -> None:
    expected = lgg(str(root)).slices
    for name in ("README.md", "data.csv", ".DS_Store", f"{FIRST}_99.tif", f"{FIRST}_99_mask.tif"):
        (root / name).touch()
    strangers = (
        ".DS_Store",
        f"._{FIRST}_1.tif",
        f"{FIRST}_12.png",
        f"{FIRST}_12.tif.part",
        f"{SECOND}_12.tif",
        f"{FIRST}_a.tif",
    )
    for name in strangers:
        (root / FIRST / name).touch()
    lay_out(root / "notes", "TCGA_HT_1_1", (1,))  # deeper than a patient lies
    (root / "__MACOSX").mkdir()
    assert lgg(str(root)).slices == expected


@pytest.mark.parametrize("inner", ["kaggle_3m", "lgg-mri-segmentation/kaggle_3m"])
def test_the_folder_above_kaggle_3m_will_do(tmp_path: Path, inner: str) -> None:
    folder = lay_out(tmp_path / inner, FIRST, (1,))
    # The published archive holds the data twice.
    if inner == "kaggle_3m":
        lay_out(tmp_path / "lgg-mri-segmentation" / "kaggle_3m", FIRST, (1,))
    assert [Path(s.image).parent for s in lgg(str(tmp_path)).slices] == [folder]


@pytest.mark.parametrize(("gone", "left", "lacking"), [("_7_mask", "_7", "mask"), ("_7", "_7_mask", "image")])
def test_half_a_pair_is_named(root: Path, gone: str, left: str, lacking: str) -> None:
    (root / FIRST / f"{FIRST}{gone}.tif").unlink()
    with pytest.raises(DataError, match=rf"{FIRST}{left}\.tif: there is no {lacking}"):
        lgg(str(root))


def test_no_root_says_where_to_get_the_data() -> None:
    with pytest.raises(DataError) as caught:
        lgg()
    assert HANDLE in str(caught.value)
    assert "data.root=" in str(caught.value)
    assert "data.download=true" in str(caught.value)


@pytest.mark.parametrize("make", [lambda path: None, Path.touch, Path.mkdir], ids=["missing", "file", "empty"])
def test_a_root_without_patients_says_where_to_get_the_data(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(root := tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"data.root={root}: no ") as caught:
        lgg(str(root))
    assert WHERE in str(caught.value)


@pytest.mark.parametrize("as_file", [False, True])
def test_exclude_takes_a_list_or_a_file(root: Path, tmp_path: Path, as_file: bool) -> None:
    (tmp_path / "locked.txt").write_text(f"# locked patients\n\n  # and a remark\n  {FIRST}  \n\n")
    dataset = lgg(str(root), exclude=str(tmp_path / "locked.txt") if as_file else [FIRST])
    assert {s.patient for s in dataset.slices} == {SECOND}


def test_a_file_may_open_with_a_byte_order_mark(root: Path, tmp_path: Path) -> None:
    (tmp_path / "locked.txt").write_text(FIRST, encoding="utf-8-sig")
    assert {s.patient for s in lgg(str(root), exclude=str(tmp_path / "locked.txt")).slices} == {SECOND}


@pytest.mark.parametrize(
    ("exclude", "message"),
    [
        ([FIRST, "TCGA_CS_4941"], r"not in the data: TCGA_CS_4941$"),
        ([FIRST, SECOND], "leaves no patient"),
        ("nowhere.txt", "data.exclude=nowhere.txt: no such file"),
    ],
)
def test_a_wrong_exclude_is_refused(root: Path, exclude: list[str] | str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        lgg(str(root), exclude=exclude)


def test_channels_are_chosen_in_the_order_given(root: Path) -> None:
    dataset = lgg(str(root), channels=["post", "flair"])
    assert dataset.channels == ("post", "flair")
    assert dataset.file_channels == ("pre", "flair", "post")
    assert lgg(str(root)).channels == ("pre", "flair", "post")


@pytest.mark.parametrize("channels", [[], ["t2"], ["flair", "t2"]])
def test_unknown_channels_are_refused(root: Path, channels: list[str]) -> None:
    with pytest.raises(DataError, match=r"data.channels=.*choose one or more of \['pre', 'flair', 'post'\]"):
        lgg(str(root), channels=channels)


def test_download_without_kagglehub_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(DataError, match=r"pip install 'attnunet\[kaggle\]'"):
        lgg(download=True)


def test_download_returns_what_kagglehub_fetched(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    fake = SimpleNamespace(dataset_download=lambda handle: asked.append(handle) or str(root))
    monkeypatch.setitem(sys.modules, "kagglehub", fake)
    assert lgg(download=True).slices == lgg(str(root)).slices
    assert asked == [HANDLE]


def test_a_root_is_not_downloaded(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    assert lgg(str(root), download=True).slices


def test_a_failed_download_says_why_and_what_else_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(handle: str) -> str:
        raise ConnectionError("no route to host")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=fail))
    with pytest.raises(DataError, match="could not be downloaded: no route to host") as caught:
        lgg(download=True)
    assert WHERE in str(caught.value)


def test_the_real_sample(sample: Path) -> None:
    dataset = lgg(str(sample), exclude=str(sample / "locked.txt"))
    assert len({s.patient for s in dataset.slices}) == 45
    numbers = [s.number for s in dataset.slices if s.patient == dataset.slices[0].patient]
    assert numbers == list(range(1, len(numbers) + 1))


def test_two_scans_of_one_patient_are_refused_until_one_is_left_out(tmp_path: Path) -> None:
    for name in ("TCGA_CS_4941_19960909", "TCGA_CS_4941_19970101", "TCGA_CS_4942_19970101"):
        write_patient(tmp_path, name, slices=1)
    with pytest.raises(DataError, match="TCGA_CS_4941_19960909 and TCGA_CS_4941_19970101 are scans of one patient"):
        lgg(str(tmp_path))
    assert len(lgg(str(tmp_path), exclude=["TCGA_CS_4941_19970101"]).slices) == 2
