"""A CSV of one's own images."""

import re
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from attnunet.data.cache import prepare
from attnunet.data.intensity import scale
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


def numbered(folder: Path, numbers: dict[str, tuple[int, ...]]) -> str:
    """Write a table with slices of these numbers, for each scan of the patient a."""
    lines = ["patient,scan,image,mask,slice"]
    for scan, found in numbers.items():
        for number in found:
            cv2.imwrite(str(folder / "pictures" / f"{scan}{number}.png"), np.zeros((16, 16), np.uint8))
            lines.append(f"a,{scan},pictures/{scan}{number}.png,masks/grey.png,{number}")
    return write(folder, "\n".join(lines))


@pytest.mark.parametrize(
    ("numbers", "told"),
    [
        ((1, 2, 3, 7, 8), "4 to 6"),
        ((8, 2, 1, 5), "3 to 4, 6 to 7"),
        ((-3, -1, 3), "1"),
        ((1, 2, 10**17), f"3 to {10**17 - 1}"),
        ((1, 3, 5), ""),
        ((4,), ""),
    ],
)
def test_with_a_spacing_gaps_in_the_slice_numbers_are_noted(folder: Path, numbers: tuple[int, ...], told: str) -> None:
    file = numbered(folder, {"x": numbers, "y": (1, 2, 3)})
    said = f"slice numbers are missing in 1 scan(s): a/x ({told}); slices beside a gap count as 5 mm apart (data.spacing)"
    notes = table(file, file_channels=["grey"], spacing=[5, 1, 1]).notes
    assert [note.startswith(said) for note in notes] == [True] * bool(told)
    assert table(file, file_channels=["grey"]).notes == ()


def test_scans_with_gaps_are_counted_and_the_first_are_named(folder: Path) -> None:
    file = numbered(folder, {f"s{place}": (1, 3, 4) for place in range(7)})
    (note,) = table(file, file_channels=["grey"], spacing=[5, 1, 1]).notes
    assert "in 7 scan(s): a/s0 (2), a/s1 (2), a/s2 (2), a/s3 (2), a/s4 (2) and 2 more;" in note


@pytest.mark.parametrize("spacing", [None, [3, 1, 0.5]])
def test_the_spacing_is_carried(folder: Path, spacing: list[float] | None) -> None:
    dataset = table(write(folder, HEADER + row("a")), spacing=spacing)
    assert dataset.spacing == (tuple(spacing) if spacing else None)


# Pixels of more than 8 bits, and pictures from other tools


DEEP = np.random.default_rng(1).integers(300, 60000, (16, 16), dtype=np.uint16)


def test_16_bits_train_by_the_values_of_the_file(folder: Path) -> None:
    cv2.imwrite(str(folder / "pictures" / "deep.png"), DEEP)
    cv2.imwrite(str(folder / "masks" / "deep.png"), (DEEP > 50000) * np.uint16(65535))
    file = write(folder, HEADER + row("a", name="deep"))
    prepared = prepare(read(file, file_channels=["grey"]), 16, folder / "cache")
    np.testing.assert_array_equal(prepared.images[0, ..., 0], scale(DEEP, "zscore", "uint8"))
    np.testing.assert_array_equal(prepared.mask(0), DEEP > 50000)
    assert len(np.unique(prepared.images)) > 100
    assert prepared.dtype == "float32"  # the served network takes values that no byte holds
    with pytest.raises(DataError, match=r"deep\.png: data\.intensity=raw: values from 722 to .*; allowed: whole numbers"):
        prepare(table(file, file_channels=["grey"]), 16, folder / "cache")


def test_8_bits_are_served_as_8_bits(folder: Path) -> None:
    dataset = table(write(folder, HEADER + row("a", name="grey")), file_channels=["grey"])
    assert dataset.dtype == prepare(dataset, 16, folder / "cache").dtype == "uint8"


def test_real_numbers_of_any_scale_train_like_the_integers_that_they_stand_for(folder: Path) -> None:
    images = {"deep": DEEP, "real": (DEEP / np.float32(65536) - 0.3).astype(np.float32)}
    prepared = []
    for name, image in images.items():
        cv2.imwrite(str(folder / "pictures" / f"{name}.tif"), image)
        file = write(folder, HEADER + f"a,pictures/{name}.tif,masks/grey.png\n")
        prepared.append(prepare(read(file, file_channels=["grey"]), 16, folder / "cache").images.astype(int))
    assert np.abs(prepared[0] - prepared[1]).max() <= 1


def test_slices_of_16_and_of_8_bits_are_no_scan(folder: Path) -> None:
    cv2.imwrite(str(folder / "pictures" / "deep.png"), DEEP)
    cv2.imwrite(str(folder / "masks" / "deep.png"), np.zeros((16, 16), np.uint8))
    apart = write(folder, HEADER + row("a", name="grey") + row("b", name="deep"))
    assert prepare(read(apart, file_channels=["grey"]), 16, folder / "cache").dtype == "float32"
    dataset = read(write(folder, HEADER + row("a", name="grey") + row("a", name="deep")), file_channels=["grey"])
    with pytest.raises(DataError, match=r"deep\.png: .* of type uint16, but .*grey\.png of the same patient .* of type uint8"):
        prepare(dataset, 16, folder / "cache")


def test_an_opaque_alpha_channel_changes_nothing(folder: Path) -> None:
    dataset = table(write(folder, HEADER + row("a")))
    expected = prepare(dataset, 16, folder / "cache").images
    bgr = cv2.imread(str(folder / "pictures" / "1.png"))
    cv2.imwrite(str(folder / "pictures" / "1.png"), np.dstack([bgr, np.full((16, 16), 255, np.uint8)]))
    np.testing.assert_array_equal(prepare(dataset, 16, folder / "cache").images, expected)
    cv2.imwrite(str(folder / "pictures" / "1.png"), np.dstack([bgr, np.full((16, 16), 254, np.uint8)]))
    with pytest.raises(DataError, match=r"1\.png: its alpha channel is not opaque everywhere"):
        prepare(dataset, 16, folder / "cache")


def test_a_palette_is_refused_as_image_and_as_mask(folder: Path) -> None:
    Image.fromarray(np.eye(16, dtype=np.uint8)).convert("P").save(folder / "pictures" / "grey.png")
    Image.fromarray(np.eye(16, dtype=np.uint8)).convert("P").save(folder / "masks" / "2.png")
    with pytest.raises(DataError) as caught:
        prepare(table(write(folder, HEADER + row("a", name="grey") + row("b", name="2"))), 16, folder / "cache")
    named = [
        line.partition(": the colours of a palette are not read; allowed: grey")[0] for line in str(caught.value).split("\n")
    ]
    assert named == [str(folder / "pictures" / "grey.png"), str(folder / "masks" / "2.png")]


def test_labels_choose_among_the_values_of_a_mask(folder: Path) -> None:
    cv2.imwrite(str(folder / "masks" / "1.png"), np.arange(256, dtype=np.uint8).reshape(16, 16) % 4)
    file, cache = write(folder, HEADER + row("a")), folder / "cache"
    with pytest.raises(DataError, match=r"1\.png: a mask has the values 0 and one other, found 0, 1, 2, 3; .* data\.labels"):
        prepare(table(file), None, cache)
    core = prepare(table(file, labels=[2, 3], background=[0, 1]), None, cache)
    whole = prepare(table(file, labels=[1, 2, 3]), None, cache)
    assert (core.lesion_pixels.tolist(), whole.lesion_pixels.tolist()) == ([128], [192])
    with pytest.raises(
        DataError, match=r"1\.png: holds the values 0, 1, 2, 3; data\.labels=\[3\] are lesion, \[0\] background"
    ):
        prepare(table(file, labels=[3]), None, cache)


COMPOSED, DECOMPOSED = "Zo\u00eb", "Zoe\u0308"
NAMES = [
    "a scan [1] {x} (copy).png",
    "50 %,#1;'q'.png",
    "B.PNG",
    "b.TIF",
    f"{COMPOSED}.png",
    f"{DECOMPOSED}.png",
    "\u6f22.TIFF",
]


@pytest.mark.parametrize("name", NAMES)
def test_files_of_any_name_are_read(folder: Path, name: str) -> None:
    shown, mask = folder / "my pictures [\u00e9]" / name, folder / "my masks" / name
    for path, of in ((shown, "pictures"), (mask, "masks")):
        path.parent.mkdir()
        pixels = cv2.imread(str(folder / of / "1.png"), cv2.IMREAD_UNCHANGED)
        path.write_bytes(cv2.imencode(path.suffix, pixels)[1].tobytes())
    dataset = table(write(folder, f'{HEADER}a,"my pictures [\u00e9]/{name}","my masks/{name}"\n'))
    assert (dataset.slices[0].image, dataset.slices[0].mask) == (str(shown), str(mask))
    expected = prepare(table(write(folder, HEADER + row("a"))), 16, folder / "cache").images
    np.testing.assert_array_equal(prepare(dataset, 16, folder / "cache").images, expected)


@pytest.mark.parametrize(("there", "written"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_an_accent_may_be_written_in_either_way(folder: Path, there: str, written: str) -> None:
    (folder / "pictures" / "1.png").rename(folder / "pictures" / f"{there}.png")
    assert table(write(folder, f"{HEADER}a,pictures\\{written}.png,masks/1.png\n")).slices[0].image.endswith(f"{there}.png")
    twice = f"{HEADER}a,pictures/{there}.png,masks/1.png\nb,pictures/{written}.png,masks/1.png\n"
    with pytest.raises(DataError, match=r"line 3: .* stands in line 2 already, as a slice of patient a"):
        table(write(folder, twice))
    (folder / "pictures" / f"{written}.png").write_bytes(b"")  # both are there: each cell means its own
    assert len(table(write(folder, twice)).slices) == 2


# Several scans of a patient


def test_a_patients_slices_are_numbered_through_the_scans(folder: Path) -> None:
    text = "patient,scan,slice,image,mask\n" + "".join(
        f"{patient},{scan},{number},pictures/{name}.png,masks/{name}.png\n"
        for patient, scan, number, name in (
            ("a", "2021", 7, "1"),
            ("a", "2020", 9, "2"),
            ("a", "2020", 8, "3"),
            ("b", "x", 5, "grey"),
        )
    )
    slices = table(write(folder, text)).slices
    found = [(s.patient, s.scan, s.number, Path(s.image).stem) for s in slices]
    assert found == [("a", "2020", 1, "3"), ("a", "2020", 2, "2"), ("a", "2021", 3, "1"), ("b", "x", 5, "grey")]
    assert [s.volume for s in slices] == ["a/2020", "a/2020", "a/2021", "b/x"]


def test_slices_without_numbers_are_numbered_a_scan(folder: Path) -> None:
    text = "patient,scan,image,mask,slice\n" + "".join(
        f"a,{scan},pictures/{n}.png,masks/{n}.png,\n" for n, scan in ((3, "x"), (1, "y"), (2, "x"))
    )
    assert [(s.scan, s.number, Path(s.image).stem) for s in table(write(folder, text)).slices] == [
        ("x", 1, "3"),
        ("x", 2, "2"),
        ("y", 3, "1"),
    ]


def test_scans_are_part_of_what_was_prepared(folder: Path) -> None:
    """Else a table with another column scan would find the scans of the earlier one in the cache."""
    volumes = []
    for scan in "", "x", "y":
        text = f"patient,scan,image,mask\na,{scan},pictures/1.png,masks/1.png\n"
        volumes.append(prepare(table(write(folder, text)), 16, folder / "cache").slices[0].volume)
    assert volumes == ["a", "a/x", "a/y"]


def test_scans_of_a_patient_may_differ_in_size_and_slices_of_a_scan_may_not(folder: Path) -> None:
    for kind in ("pictures", "masks"):
        wide = np.zeros((16, 20, 3) if kind == "pictures" else (16, 20), np.uint8)
        cv2.imwrite(str(folder / kind / "wide.png"), wide)
    text = "patient,scan,image,mask\na,{0},pictures/1.png,masks/1.png\na,{1},pictures/wide.png,masks/wide.png\n"
    assert len(prepare(table(write(folder, text.format("x", "y"))), 16, folder / "cache").slices) == 2
    with pytest.raises(DataError, match=r"wide\.png: \(16, 20\) pixels .*, but .*1\.png of the same patient has \(16, 16\)"):
        prepare(table(write(folder, text.format("x", "x"))), 16, folder / "cache")


def test_one_scan_under_two_names_and_a_patient_of_two_sites_are_refused(folder: Path) -> None:
    text = "patient,scan,site,image,mask\na,{},{},pictures/1.png,masks/1.png\na,{},{},pictures/2.png,masks/2.png\n"
    with pytest.raises(DataError, match="patient a: scans 'Baseline' and 'baseline' differ in case, blanks"):
        table(write(folder, text.format("Baseline", "", "baseline", "")))
    with pytest.raises(DataError, match="patient a is of the sites 'N', 'S'; allowed: one site a patient"):
        table(write(folder, text.format("x", "N", "y", "S")))
