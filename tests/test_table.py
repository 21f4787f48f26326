"""A CSV of one's own images."""

import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from attnunet.data.cache import prepare
from attnunet.data.slices import DataError, Slice
from attnunet.data.table import table as read

table = partial(read, intensity="raw")  # pixels as in the files, unless a test asks otherwise

HEADER = "patient,image,mask\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """pictures/1.png to 3.png (RGB), grey.png, and masks of the same names; beside them goes the table."""
    rng = np.random.default_rng(0)
    for kind in ("pictures", "masks"):
        (tmp_path / kind).mkdir()
    for name, shape in (("1", (16, 16, 3)), ("2", (16, 16, 3)), ("3", (16, 16, 3)), ("grey", (16, 16))):
        cv2.imwrite(str(tmp_path / "pictures" / f"{name}.png"), rng.integers(0, 255, shape, dtype=np.uint8))
        cv2.imwrite(str(tmp_path / "masks" / f"{name}.png"), rng.integers(0, 2, (16, 16), dtype=np.uint8))
    return tmp_path


def row(patient: str, *more: str, name: str = "1") -> str:
    """`patient,image,mask` and what follows."""
    return ",".join([patient, f"pictures/{name}.png", f"masks/{name}.png", *more]) + "\n"


def write(folder: Path, text: str, encoding: str = "utf-8") -> str:
    (folder / "table.csv").write_text(text, encoding=encoding)
    return str(folder / "table.csv")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_rows_become_slices(folder: Path, encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")  # paths are relative to the table, not to here
    text = "patient,image,mask,slice,site\n" + row("zoë", "10", "A", name="1") + row("zoë", "9", "A", name="2")
    dataset = table(write(folder, text + row("anna", "-1", "", name="3"), encoding))
    expected = [("anna", -1, "3", ""), ("zoë", 9, "2", "A"), ("zoë", 10, "1", "A")]
    assert list(dataset.slices) == [
        Slice(patient, number, str(folder / "pictures" / f"{name}.png"), str(folder / "masks" / f"{name}.png"), site)
        for patient, number, name, site in expected
    ]
    assert dataset.channels == dataset.file_channels == ("red", "green", "blue")


def test_without_a_slice_column_rows_are_numbered_as_they_come(folder: Path) -> None:
    text = HEADER + row("b", name="3") + row("a", name="2") + row("b", name="1")
    slices = table(write(folder, text)).slices
    assert [(s.patient, s.number, Path(s.image).stem) for s in slices] == [("a", 1, "2"), ("b", 1, "3"), ("b", 2, "1")]


def test_absolute_paths_stay(folder: Path) -> None:
    text = f"{HEADER}a,{folder}/pictures/1.png,{folder}/masks/1.png\n"
    assert table(write(folder, text)).slices[0].image == f"{folder}/pictures/1.png"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("patient,image\n", r"columns \['patient', 'image'\]; needed .*'mask'"),
        ("patient,image,masks,age\n", r"'age'.*needed .*'mask'\], each once, allowed besides \['scan', 'slice', 'site'\]"),
        ("patient,image,mask,image\n" + row("a", "x.png"), "needed .*, each once"),
        ("patient|image|mask\n", "columns .*; needed"),
        ("", r"columns \[\]"),
        (HEADER, "no rows below the header"),
        (HEADER + row("a") + "b,,masks/1.png\n", "line 3: no image"),
        (HEADER + ",pictures/1.png,masks/1.png\n", "line 2: no patient"),
        (HEADER + "a,pictures/1.png\n", "line 2: no mask"),
        (HEADER + "a,pictures/8.png,masks/1.png\n", r"line 2: no file .*pictures/8\.png"),
        (HEADER + "a,pictures/1.png,masks/8.png\n", r"line 2: no file .*masks/8\.png"),
        (HEADER + "a,pictures,masks/1.png\n", "line 2: no file .*pictures"),
        (
            "patient,image,mask,slice\n" + row("a", "3") + row("b", "3", name="2") + row("a", "03", name="3"),
            "line 4: patient a has a slice 03 already",
        ),
        (
            "patient,image,mask,slice\n" + row("a", "2") + row("b", "", name="2"),
            "line 3: no slice, but other rows have one; allowed: a number in every row, or in none",
        ),
        (
            "patient,scan,image,mask,slice\na,x,pictures/1.png,masks/1.png,3\na,x,pictures/2.png,masks/2.png,3\n",
            "line 3: patient a x has a slice 3 already",
        ),
        (HEADER + row("a") + row("b"), r"line 3: .*1\.png stands in line 2 already, as a slice of patient a"),
        (HEADER + row("a") + "\n\n" + row("a"), r"line 5: .*1\.png stands in line 2 already, as a slice of patient a"),
        (HEADER + row("a") + "a,masks/../pictures/1.png,masks/2.png\n", "line 3: .*1.png stands in line 2 already"),
        ("patient,image,mask,slice\n" + row("a", "1") + row("a", "2"), r"line 3: .*1\.png stands in line 2 already"),
        (
            HEADER + row("a") + 'b,"pictures/2.png,masks/2.png\nc,pictures/3.png,masks/3.png\n',
            "unexpected end of data; is a quo",
        ),
        (HEADER + "a,pictures/1.png,masks/1.png,x\n", "line 2: more cells than the header has"),
    ],
)
def test_a_wrong_table_is_named_with_its_line(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=rf"table\.csv.*{message}"):
        table(write(folder, text))


@pytest.mark.parametrize("number", ["1.5", "one", "--1", "²", "1e3", "-"])
def test_a_slice_is_a_whole_number(folder: Path, number: str) -> None:
    text = "patient,image,mask,slice\n" + row("a", number)
    with pytest.raises(DataError, match=f"line 2: slice '{number}' is not a whole number"):
        table(write(folder, text))


@pytest.mark.parametrize("file", [None, "nowhere.csv", "."])
def test_no_table(file: str | None) -> None:
    with pytest.raises(DataError, match=r"data=table needs data.file.*patient, image, mask"):
        table(file)


@pytest.mark.parametrize("names", [[], ["a", "a", "b"]])
def test_channel_names_fit_files_that_can_be_read(folder: Path, names: list[str]) -> None:
    with pytest.raises(DataError, match=r"data.file_channels="):
        table(write(folder, HEADER + row("a")), file_channels=names)


def test_cells_are_stripped_and_names_stay_as_written(folder: Path) -> None:
    file = write(folder, HEADER + "010 , pictures/1.png,masks/1.png\n" + row("8", name="2") + row("1_2", name="3"))
    assert {s.patient for s in table(file).slices} == {"010", "8", "1_2"}
    assert {s.patient for s in table(file, exclude=["1_2", "010"]).slices} == {"8"}
    (folder / "locked.txt").write_text("010\n1_2\n")
    assert {s.patient for s in table(file, exclude=str(folder / "locked.txt")).slices} == {"8"}


def test_one_site_under_two_names_is_refused(folder: Path) -> None:
    text = "patient,image,mask,site\n" + row("a", "North", name="1") + row("b", "north ", name="2") + row("c", "x", name="3")
    with pytest.raises(DataError, match="sites 'North' and 'north' differ in case"):
        table(write(folder, text))
    assert len(table(write(folder, text), exclude=["b"]).slices) == 2


@pytest.mark.parametrize(
    ("one", "other", "told"),
    [
        ("p1", "P1", "patients 'P1' and 'p1' differ in case, blanks"),
        ("p1", "p 1", "patients 'p 1' and 'p1' differ"),
        ("p1", "p\u00a01", "patients 'p1' and 'p\u00a01' ('p\\xa01') differ"),
        ("zo\u00eb", "zoe\u0308", "patients 'zoe\u0308' ('zoe\\u0308') and 'zo\u00eb' ('zo\\xeb') differ"),
    ],
)
def test_one_patient_under_two_names_is_refused_until_one_is_left_out(folder: Path, one: str, other: str, told: str) -> None:
    file = write(folder, HEADER + row(one) + row(other, name="2") + row("q", name="3"))
    with pytest.raises(DataError, match=re.escape(told)):
        table(file)
    assert {s.patient for s in table(file, exclude=[other]).slices} == {one, "q"}


def test_all_faults_of_a_table_are_named_at_once(folder: Path) -> None:
    text = HEADER + row("a") + row("a") + "b,pictures/8.png,masks/8.png\n,,masks/2.png\n" + row("c", name="3")
    with pytest.raises(DataError) as caught:
        table(write(folder, text))
    assert [line.removeprefix(f"{folder}/table.csv, ") for line in str(caught.value).splitlines()] == [
        f"line 3: {folder}/pictures/1.png stands in line 2 already, as a slice of patient a",
        f"line 4: no file {folder}/pictures/8.png",
        f"line 4: no file {folder}/masks/8.png",
        "line 5: no patient, no image",
    ]


@pytest.mark.parametrize("mark", [",", ";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_spreadsheet_s_separators_quotes_and_line_ends_are_read(folder: Path, mark: str, quote: str, end: str) -> None:
    lines = [["patient", "image", "mask"], ["a", "pictures/1.png", "masks/1.png"], ["b", "pictures/2.png", "masks/2.png"]]
    text = "".join(mark.join(f"{quote}{cell}{quote}" for cell in line) + end for line in [["", "", ""], *lines, ["", "", ""]])
    (folder / "table.csv").write_bytes(text.encode())
    assert [(s.patient, Path(s.mask).stem) for s in table(str(folder / "table.csv")).slices] == [("a", "1"), ("b", "2")]


def test_back_slashes_are_slashes_unless_a_file_has_them_in_its_name(folder: Path) -> None:
    (folder / "pictures\\2.png").write_bytes((folder / "pictures" / "3.png").read_bytes())
    slices = table(write(folder, HEADER + "a,pictures\\1.png,masks\\1.png\na,pictures\\2.png,masks\\2.png\n")).slices
    images, masks = [s.image for s in slices], [s.mask for s in slices]
    assert images == [f"{folder}/pictures/1.png", f"{folder}/pictures\\2.png"]
    assert masks == [f"{folder}/masks/1.png", f"{folder}/masks/2.png"]


def test_other_columns_are_ignored_and_named(folder: Path) -> None:
    dataset = table(write(folder, "age,patient,image,mask,Site,\n54," + row("a", "X", "").strip() + "\n"))
    assert [(s.patient, s.site) for s in dataset.slices] == [("a", "")]
    assert dataset.notes == (f"{folder}/table.csv: ignored columns: age, Site",)
    assert prepare(dataset, 16, folder / "cache").notes == dataset.notes
    assert table(write(folder, HEADER + row("a"))).notes == ()


def test_a_table_that_is_not_utf8_is_named(folder: Path) -> None:
    (folder / "latin.csv").write_bytes("patient,image,mask\né,a,b\n".encode("latin-1"))
    with pytest.raises(DataError, match=r"latin\.csv, line 2: is not UTF-8 text; save the file as UTF-8"):
        table(str(folder / "latin.csv"))


def test_exclude_and_unknown_channels(folder: Path) -> None:
    file = write(folder, HEADER + row("a") + row("b", name="2"))
    assert {s.patient for s in table(file, exclude=["a"]).slices} == {"b"}
    with pytest.raises(DataError, match=r"data.channels=\['flair'\]: choose one or more of \['red', 'green', 'blue'\]"):
        table(file, channels=["flair"])


def test_a_colour_table_end_to_end(folder: Path) -> None:
    file = write(folder, HEADER + row("a", name="1") + row("b", name="2"))
    prepared = prepare(table(file, channels=["blue", "red"]), 16, folder / "cache")
    for index, name in enumerate("12"):
        bgr = cv2.imread(str(folder / "pictures" / f"{name}.png"))
        np.testing.assert_array_equal(prepared.images[index], bgr[..., [0, 2]])
        mask = cv2.imread(str(folder / "masks" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(prepared.mask(index), mask)
    assert list(prepared.patients) == ["a", "b"]


def test_a_grey_table_end_to_end(folder: Path) -> None:
    file = write(folder, HEADER + row("a", name="grey"))
    prepared = prepare(table(file, file_channels=["grey"]), 16, folder / "cache")
    grey = cv2.imread(str(folder / "pictures" / "grey.png"), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(prepared.images[0], grey[..., None])


@pytest.mark.parametrize(("names", "picture", "found"), [(["grey"], "1", 3), (["red", "green", "blue"], "grey", 1)])
def test_files_of_other_channels_are_named(folder: Path, names: list[str], picture: str, found: int) -> None:
    dataset = table(write(folder, HEADER + row("a", name=picture)), file_channels=names)
    with pytest.raises(DataError, match=rf"{picture}\.png: {found} channel\(s\), expected {len(names)}: .*\[grey\]"):
        prepare(dataset, 16, folder / "cache")


@pytest.mark.parametrize("spacing", [None, [3, 1, 0.5]])
def test_the_spacing_is_carried(folder: Path, spacing: list[float] | None) -> None:
    dataset = table(write(folder, HEADER + row("a")), spacing=spacing)
    assert dataset.spacing == (tuple(spacing) if spacing else None)
