"""The reader of the LGG data set's folders; it opens no image, so that empty files do here."""

import re
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
    for name in ("README.md", "data.csv", ".DS_Store", "._x.png"):
        (root / name).touch()
    for name in (".DS_Store", f"._{FIRST}_1.tif", f"{FIRST}_12.tif.part"):
        (root / FIRST / name).touch()
    (root / "__MACOSX" / FIRST).mkdir(parents=True)
    (root / "__MACOSX" / FIRST / f"._{FIRST}_1.tif").touch()
    (root / ".git" / FIRST).mkdir(parents=True)
    (root / ".git" / FIRST / f"{FIRST}_1.tif").touch()
    assert (lgg(str(root)).slices, lgg(str(root)).notes) == (expected, ())


def test_images_where_no_patient_lies_are_counted(root: Path) -> None:
    expected = lgg(str(root)).slices
    lay_out(root / "notes", "TCGA_HT_1_1", (1, 2))  # deeper than a patient lies
    (root / "overview.GIF").touch()
    found = lgg(str(root))
    assert found.slices == expected
    deeper, beside = found.notes
    assert f"passed over: {root}/notes/TCGA_HT_1_1: 4 image(s) that are no slices, as TCGA_HT_1_1_1.tif" in deeper
    assert f"passed over: {root}: 1 image(s) that are no slices, as overview.GIF" in beside


@pytest.mark.parametrize("name", [f"{FIRST}_12_mask.dcm", f"{SECOND}_12.tif", f"{FIRST}_a.tif", f"{FIRST}_12.BMP"])
def test_an_image_in_a_patient_s_folder_that_is_no_slice_is_refused(root: Path, name: str) -> None:
    (root / FIRST / name).touch()
    with pytest.raises(DataError, match=rf"{FIRST}: 1 image\(s\) that are no slices, as {name}; a slice is PATIENT/"):
        lgg(str(root))


@pytest.mark.parametrize("name", [f"{FIRST} (1)", "case_2", FIRST.lower()])
def test_a_folder_of_another_name_than_its_images_is_refused(root: Path, name: str) -> None:
    (root / FIRST).rename(root / name)
    with pytest.raises(DataError, match=rf"{re.escape(name)}: 22 image\(s\) that are no slices, as {FIRST}_1.tif"):
        lgg(str(root))


def test_all_folders_and_pairs_at_fault_are_named_at_once(root: Path) -> None:
    lay_out(root, "TCGA_HT_1_1", (1, 2, 3)).rename(root / "renamed")
    (root / SECOND / f"{SECOND}_2_mask.tif").unlink()
    (root / FIRST / f"{FIRST}_7.tif").unlink()
    with pytest.raises(DataError) as caught:
        lgg(str(root))
    renamed, one, other = str(caught.value).splitlines()
    assert renamed.startswith(f"{root}/renamed: 6 image(s) that")
    assert one == f"{root}/{FIRST}/{FIRST}_7_mask.tif: there is no image for it"
    assert other == f"{root}/{SECOND}/{SECOND}_2.tif: there is no mask for it"


def test_a_patient_beside_kaggle_3m_is_refused(tmp_path: Path) -> None:
    lay_out(tmp_path / "kaggle_3m", FIRST, (1,))
    lay_out(tmp_path, SECOND, (1,))
    with pytest.raises(DataError, match=rf"{SECOND}: a patient beside .*kaggle_3m; give data.root="):
        lgg(str(tmp_path))


@pytest.mark.parametrize(("image", "mask"), [(".TIF", ".TIF"), (".tiff", ".tif"), (".png", ".PNG"), (".Tiff", ".tiff")])
def test_a_suffix_counts_in_any_case(root: Path, image: str, mask: str) -> None:
    for number in (1, 2):
        (root / SECOND / f"{SECOND}_{number}.tif").rename(root / SECOND / f"{SECOND}_{number}{image}")
        (root / SECOND / f"{SECOND}_{number}_mask.tif").rename(root / SECOND / f"{SECOND}_{number}_mask{mask}")
    found = [s for s in lgg(str(root)).slices if s.patient == SECOND]
    assert [(s.number, Path(s.image).suffix, Path(s.mask).suffix) for s in found] == [(1, image, mask), (2, image, mask)]


@pytest.mark.parametrize("name", ["_01_mask.tif", "_1_mask.TIF", "_1_mask.png", "_001.tif", "_1_MASK.tif"])
def test_two_files_of_one_number_are_refused(root: Path, name: str) -> None:
    (root / FIRST / f"{FIRST}{name}").touch()
    with pytest.raises(DataError, match=rf"{FIRST}_0*1\S*: has the number of {FIRST}_0*1\S*; keep one"):
        lgg(str(root))


def test_linked_folders_and_files_are_followed(root: Path, tmp_path: Path) -> None:
    expected = [(s.patient, s.number) for s in lgg(str(root)).slices]
    (root / FIRST).rename(tmp_path / FIRST)
    (root / FIRST).symlink_to(tmp_path / FIRST)
    (root / SECOND / f"{SECOND}_1.tif").rename(tmp_path / "object-123")
    (root / SECOND / f"{SECOND}_1.tif").symlink_to(tmp_path / "object-123")
    assert [(s.patient, s.number) for s in lgg(str(root)).slices] == expected


def test_accents_of_folder_and_file_may_differ_in_form(tmp_path: Path) -> None:
    lay_out(tmp_path, "zo\u00eb", (1, 2)).rename(tmp_path / "zoe\u0308")
    assert {s.patient for s in lgg(str(tmp_path)).slices} == {"zoe\u0308"}


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


def test_folders_that_differ_in_the_date_only_are_scans_of_one_patient(tmp_path: Path) -> None:
    for name in ("TCGA_CS_4941_19960909", "TCGA_CS_4941_19970101", "TCGA_CS_4942_19970101"):
        write_patient(tmp_path, name, slices=2)
    found = [(item.patient, item.scan, item.number, item.site) for item in lgg(str(tmp_path)).slices]
    assert found == [
        ("TCGA_CS_4941", "19960909", 1, "CS"),
        ("TCGA_CS_4941", "19960909", 2, "CS"),
        ("TCGA_CS_4941", "19970101", 3, "CS"),
        ("TCGA_CS_4941", "19970101", 4, "CS"),
        ("TCGA_CS_4942_19970101", "", 1, "CS"),
        ("TCGA_CS_4942_19970101", "", 2, "CS"),
    ]
    alone = lgg(str(tmp_path), exclude=["TCGA_CS_4941_19970101"]).slices
    assert [(item.patient, item.scan) for item in alone[:2]] == [("TCGA_CS_4941_19960909", "")] * 2


def test_with_a_spacing_missing_slices_are_noted(root: Path) -> None:
    for number in (5, 7, 8):
        for ending in ("", "_mask"):
            (root / FIRST / f"{FIRST}_{number}{ending}.tif").unlink()
    lay_out(root, "TCGA_HT_8000_20000101", (2, 4, 6))  # in equal steps
    (note,) = lgg(str(root), spacing=[5, 1, 1]).notes
    assert note.startswith(
        f"slice numbers are missing in 1 scan(s): {FIRST} (5, 7 to 8); slices beside a gap count as 5 mm apart"
    )
    assert lgg(str(root)).notes == lgg(str(root), spacing=[5, 1, 1], exclude=[FIRST]).notes == ()


def test_missing_slices_are_noted_for_each_scan_of_a_patient(tmp_path: Path) -> None:
    """Slices of a patient with several scans get new numbers, so the gap shows in the files alone."""
    lay_out(tmp_path, "TCGA_CS_4941_19960909", (1, 3, 4))
    lay_out(tmp_path, "TCGA_CS_4941_19970101", (1, 2))
    dataset = lgg(str(tmp_path), spacing=[5, 1, 1])
    assert [item.number for item in dataset.slices] == [1, 2, 3, 4, 5]
    (note,) = dataset.notes
    assert "in 1 scan(s): TCGA_CS_4941_19960909 (2);" in note


def test_the_first_faults_are_named_and_the_others_counted(root: Path) -> None:
    for number in range(20, 45):
        (root / SECOND / f"{SECOND}_{number}.tif").touch()
    with pytest.raises(DataError) as caught:
        lgg(str(root))
    lines = str(caught.value).splitlines()
    assert lines[:20] == [f"{root}/{SECOND}/{SECOND}_{number}.tif: there is no mask for it" for number in range(20, 40)]
    assert lines[20:] == ["... and 5 more"]
