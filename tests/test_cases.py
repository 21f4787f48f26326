"""The cases that attnunet.predict finds, how it goes on where one is broken, and what it writes besides masks."""

import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import nibabel
import numpy as np
import pydicom
import pytest
import tifffile
from omegaconf import OmegaConf

from attnunet import config, predict
from attnunet.data.decoders import dicom
from attnunet.data.files import read_csv
from attnunet.data.slices import DataError
from attnunet.figures.outlines import choose_slices
from attnunet.inference import inputs, ledger
from attnunet.inference.stream import Segmenter
from attnunet.inference.volumes import Sequences, Stack
from tests import scans
from tests.scans import SEQUENCES, Takes
from tests.segmenters import Bright, Same, write_model
from tests.test_dicom import change

Segment = Callable[..., tuple[int, str, str]]


@pytest.fixture
def drawn() -> scans.Patients:
    """Three patients of four slices of 16 x 16 pixels. FLAIR is bright where the mask is 1."""
    rng = np.random.default_rng(0)
    found = {}
    for place, name in enumerate(("a1", "b2", "c3")):
        images = rng.integers(0, 100, (4, 16, 16, 3), dtype=np.uint8)
        masks = np.zeros((4, 16, 16), np.uint8)
        masks[1:3, 2 : 6 + place, 3:9] = 1
        images[..., 1] = images[..., 1] + 150 * masks
        found[name] = (images, masks)
    return found


@pytest.fixture
def segment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Segment:
    """A function that runs attnunet.predict with keys, and returns its exit code and what it prints to stdout and stderr."""
    defaults: Any = OmegaConf.to_container(OmegaConf.load(Path(config.CONF, "predict.yaml")))
    tracking = {"root": str(tmp_path / "mlruns"), "uri": None, "patience": 0}

    def run(predictor: Segmenter | None = Bright(), **keys: Any) -> tuple[int, str, str]:  # noqa: B008 - is frozen
        def load(*_: object) -> Segmenter:
            assert predictor is not None, "nothing to predict"
            return predictor

        monkeypatch.setattr(predict, "load", load)
        model = {} if "run" in keys else {"run": str(write_model(tmp_path / "model"))}
        given = {"input": str(tmp_path / "in"), "output": str(tmp_path / "out"), "tracking": tracking, **model, **keys}
        cfg = OmegaConf.merge({key: value for key, value in defaults.items() if key not in ("hydra", "defaults")}, given)
        try:
            predict.job(OmegaConf.create(cfg))
            code: int | str | None = 0
        except SystemExit as end:
            code = end.code
        printed = capsys.readouterr()
        if isinstance(code, str):  # `main` does the same
            return predict.NOTHING_STARTED, printed.out, printed.err + code
        return int(code or 0), printed.out, printed.err

    return run


def rows(folder: Path) -> dict[str, dict[str, str]]:
    """The rows of cases.csv, by case."""
    return {row["case"]: row for row in read_csv((folder / "cases.csv").read_text())}


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def write_arrays(folder: Path, drawn: scans.Patients) -> None:
    folder.mkdir()
    for name, (images, _) in drawn.items():
        np.save(folder / f"{name}.npy", images)


# Layouts. Each function writes the patients, and returns the target of each mask by patient.


def as_kaggle(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_lgg(root, drawn)
    return {name: f"{name}/{name}_1.tif" for name in drawn}


def as_nifti(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_nifti(root, drawn)
    return {name: f"{name}/{name}.nii.gz" for name in drawn}


def as_nnunet(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_nnunet(root, drawn)
    return {f"imagesTr/{name}": f"imagesTr/{name}.nii.gz" for name in drawn}


def as_dicom(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_dicom(root, drawn)
    return {name: f"{name}/mask.dcm" for name in drawn}


def as_zip(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_dicom(root.with_name("unzipped"), drawn)
    shutil.make_archive(str(root.with_name("zipped")), "zip", root.with_name("unzipped"))
    root.with_name("zipped.zip").rename(root)
    return {name: f"{name}/mask.dcm" for name in drawn}


def as_pages(root: Path, drawn: scans.Patients) -> dict[str, str]:
    root.mkdir()
    for name, (images, _) in drawn.items():
        tifffile.imwrite(root / f"{name}.tif", images, photometric="rgb")
    return {name: f"{name}.tif" for name in drawn}


def as_arrays(root: Path, drawn: scans.Patients) -> dict[str, str]:
    write_arrays(root, drawn)
    return {name: f"{name}.npy" for name in drawn}


def as_csv(root: Path, drawn: scans.Patients) -> dict[str, str]:
    scans.write_nifti(root.with_name("data"), drawn)
    lines = [",".join([name, *(f"data/{name}/{name}_{sequence}.nii.gz" for sequence in SEQUENCES)]) for name in drawn]
    root.write_text("\n".join([f"case,{','.join(SEQUENCES)}", *lines]))
    return {name: f"{name}.nii.gz" for name in drawn}


LAYOUTS = {
    "in": (as_kaggle, as_nifti, as_nnunet, as_dicom, as_pages, as_arrays),
    "in.zip": (as_zip,),
    "in.csv": (as_csv,),
}


@pytest.mark.parametrize(("name", "layout"), [(name, layout) for name, layouts in LAYOUTS.items() for layout in layouts])
def test_every_layout_gives_the_same_masks(
    name: str, layout: Callable[..., dict[str, str]], drawn: scans.Patients, segment: Segment, tmp_path: Path
) -> None:
    """Without a key besides the three that are always needed."""
    targets = layout(tmp_path / name, drawn)
    code, _, told = segment(input=str(tmp_path / name))
    assert (code, told) == (0, "")
    found = rows(tmp_path / "out")
    assert set(found) == set(targets)
    for case, (_, mask) in zip(sorted(found), drawn.values(), strict=True):
        assert (found[case]["slices"], found[case]["status"]) == ("4", "done")
        assert found[case]["lesion_voxels"] == str(mask.sum())
        assert found[case]["lesions"] == "1"
        assert targets[case] in found[case]["files"].split(";")
        assert all((tmp_path / "out" / file).is_file() for file in found[case]["files"].split(";"))
        known = found[case]["spacing"] != ""
        assert found[case]["lesion_ml"] == (f"{mask.sum() * 5 * 0.5 * 0.75 / 1000:.4g}" if known else "")


def test_pages_and_arrays_hold_the_mask_itself(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    as_pages(tmp_path / "in", drawn)
    write_arrays(tmp_path / "in" / "more", drawn)
    assert segment(probabilities=True)[0] == 0
    for name, (images, mask) in drawn.items():
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / f"{name}.tif"), mask * 255)
        np.testing.assert_array_equal(np.load(tmp_path / "out" / "more" / f"{name}.npy"), mask)
        expected = images[..., 1].astype(np.float32) / 255
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / f"{name}_probability.tif"), expected)


# Going on.


def test_a_broken_case_is_reported_and_the_rest_goes_on(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in", drawn)
    (tmp_path / "in" / "b2.npy").write_text("no array")
    code, printed, told = segment()
    assert code == 1
    (line,) = told.splitlines()
    assert line.startswith(f"attnunet: {tmp_path / 'in' / 'b2.npy'}: cannot be read as a NumPy array")
    assert "segmented 2 of 3 cases: 8 slices, 120 lesion voxels, a lesion in 2" in printed
    found = rows(tmp_path / "out")
    assert [row["status"] for row in found.values()] == ["done", "failed", "done"]
    assert found["b2"]["error"] == line.removeprefix("attnunet: ")
    assert files(tmp_path / "out") == {"a1.npy", "c3.npy", "cases.csv", "run.json"}


def test_a_second_start_does_what_is_missing(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in", drawn)
    whole = (tmp_path / "in" / "b2.npy").read_bytes()
    (tmp_path / "in" / "b2.npy").write_bytes(whole[:-1])
    assert segment()[0] == 1
    before = (tmp_path / "out" / "a1.npy").stat()
    code, _, told = segment()
    assert (code, "a1.npy exists; allowed: existing=skip" in told) == (2, True)
    code, _, told = segment(existing="skip")
    assert (code, len(told.splitlines())) == (1, 1)
    (tmp_path / "in" / "b2.npy").write_bytes(whole)
    (tmp_path / "in" / "d4.npy").write_bytes(whole)
    assert segment(existing="skip")[0] == 0
    found = rows(tmp_path / "out")
    assert {name: row["lesion_voxels"] for name, row in found.items()} == {"a1": "48", "b2": "60", "c3": "72", "d4": "60"}
    assert (tmp_path / "out" / "a1.npy").stat() == before
    code, printed, told = segment(None, existing="skip")
    assert (code, told, rows(tmp_path / "out")) == (0, "", found)
    assert printed.startswith("existing=skip: 4 of 4 cases are there\n")
    assert segment(existing="overwrite")[0] == 0
    assert (tmp_path / "out" / "a1.npy").stat() != before


@pytest.mark.parametrize("layout", [as_kaggle, as_nifti, as_dicom, as_pages, as_arrays])
def test_a_mask_that_has_no_row_is_read_again(
    layout: Callable[..., dict[str, str]], drawn: scans.Patients, segment: Segment, tmp_path: Path
) -> None:
    """As after a kill between the writing of a mask and of its row."""
    layout(tmp_path / "in", drawn)
    assert segment()[0] == 0
    before = rows(tmp_path / "out")
    (tmp_path / "out" / "cases.csv").unlink()
    assert segment(None, existing="skip")[0] == 0
    unknown = {"doubt": "", "seconds": ""}
    assert rows(tmp_path / "out") == {name: {**row, **unknown} for name, row in before.items()}


def test_masks_of_other_settings_are_not_mixed(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in", drawn)
    assert segment()[0] == 0
    (tmp_path / "out" / "a1.npy").unlink()
    code, _, told = segment(existing="skip", threshold=0.4)
    assert (code, "masks there were made with threshold=frozen, now 0.4; give another output, or" in told) == (2, True)
    assert segment(existing="overwrite", threshold=0.4)[0] == 0
    assert json.loads((tmp_path / "out" / "run.json").read_text())["settings"]["threshold"] == 0.4
    patterns = {name: f"*_{name}" for name in SEQUENCES}
    (tmp_path / "out" / "a1.npy").unlink()
    assert segment(existing="skip", threshold=0.4, channels=patterns)[0] == 0  # the first start had none
    swapped = {**patterns, SEQUENCES[0]: f"*_{SEQUENCES[1]}", SEQUENCES[1]: f"*_{SEQUENCES[0]}"}
    code, _, told = segment(existing="skip", threshold=0.4, channels=swapped)
    assert (code, "masks there were made with channels=" in told) == (2, True)
    (tmp_path / "out" / "run.json").write_text("{}")
    code, _, told = segment(existing="skip")
    assert (code, "run.json: is not what attnunet.predict writes" in told) == (2, True)


def test_an_error_may_stop_the_rest(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in", drawn)
    (tmp_path / "in" / "a1.npy").write_text("no array")
    code, _, told = segment(on_error="stop")
    assert (code, len(told.splitlines())) == (1, 1)
    assert [row["status"] for row in rows(tmp_path / "out").values()] == ["failed", "missing", "missing"]
    (tmp_path / "in" / "a1.npy").unlink()
    assert segment(existing="skip")[0] == 0


def test_an_unknown_error_of_a_case_is_one_line_too(
    drawn: scans.Patients, segment: Segment, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_arrays(tmp_path / "in", drawn)

    def fails(*_: object) -> np.ndarray:
        raise ZeroDivisionError("one\ntwo")

    monkeypatch.setattr("attnunet.inference.volumes.Array.read", fails)
    code, _, told = segment()
    assert code == 1
    assert told.splitlines() == [f"attnunet: {name}: ZeroDivisionError: one" for name in drawn]


def fill(disk: Path, leave: int) -> Path:
    ballast = disk / "ballast"
    with ballast.open("wb") as stream:
        os.posix_fallocate(stream.fileno(), 0, shutil.disk_usage(disk).free - leave)
    return ballast


@pytest.mark.parametrize("layout", [as_kaggle, as_nifti, as_dicom, as_pages, as_arrays])
def test_a_full_disk_leaves_no_half_mask_and_the_rest_is_done_later(
    layout: Callable[..., dict[str, str]], drawn: scans.Patients, segment: Segment, disk: Path, tmp_path: Path
) -> None:
    layout(tmp_path / "in", drawn)
    (disk / "out").mkdir()
    ballast = fill(disk, 16384)  # room for run.json, cases.csv and a mask or two
    code, _, told = segment(output=str(disk / "out"))
    assert code == 1
    assert told.splitlines()[0].startswith(f"attnunet: {disk}/out/")
    assert told.splitlines()[0].endswith("No space left on device; free some space there")
    there = files(disk / "out")
    assert not [name for name in there if ".writing" in name]
    ballast.unlink()
    assert segment(output=str(disk / "out"), existing="skip")[0] == 0
    assert {row["lesion_voxels"] for row in rows(disk / "out").values()} == {"48", "60", "72"}


def test_nothing_starts_on_a_disk_that_is_full_or_read_only(
    drawn: scans.Patients, segment: Segment, disk: Path, tmp_path: Path
) -> None:
    write_arrays(tmp_path / "in", drawn)
    ballast = fill(disk, 0)
    code, _, told = segment(output=str(disk / "out"))
    assert (code, "No space left on device; free some space there" in told) == (2, True)
    assert not files(disk) - {"ballast"}
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    code, _, told = segment(output=str(disk / "out"))
    assert (code, f"output={disk / 'out'}" in told or "Read-only file system" in told) == (2, True)


def test_a_broken_series_and_a_broken_mask_stop_no_other(drawn: scans.Patients, segment: Segment, tmp_path: Path) -> None:
    as_dicom(tmp_path / "in", drawn)
    (tmp_path / "in" / "a1" / "pre" / "x.dcm").write_text("no image")
    code, _, told = segment()
    assert (code, told) == (1, f"attnunet: {tmp_path}/in/a1/pre/x.dcm: is no DICOM file: it lacks the mark DICM at byte 128\n")
    assert [row["status"] for row in rows(tmp_path / "out").values()] == ["failed", "done", "done"]
    (tmp_path / "in" / "a1" / "pre" / "x.dcm").unlink()
    for name in ("cases.csv", "c3/mask.dcm"):
        (tmp_path / "out" / name).unlink()
    (tmp_path / "out" / "b2" / "mask.dcm").write_text("no mask")
    code, _, told = segment(existing="skip")
    assert (code, told.startswith(f"attnunet: {tmp_path}/out/b2/mask.dcm: cannot be read as DICOM")) == (1, True)
    assert [row["status"] for row in rows(tmp_path / "out").values()] == ["done", "failed", "done"]
    assert (tmp_path / "out" / "b2" / "mask.dcm").read_text() == "no mask"


# What is refused.


def write_text(path: Path) -> None:
    path.write_text("a text")


def write_nan(path: Path) -> None:
    nibabel.save(nibabel.Nifti1Image(np.full((4, 4, 4, 3), np.nan, np.float32), np.eye(4)), path)


def write_one_channel(path: Path) -> None:
    np.save(path, np.zeros((2, 8, 8, 1), np.uint8))


def write_nothing(path: Path) -> None:
    path.mkdir()


REFUSED = {
    ("a.tif", write_text): (2, "a.tif: cannot be decoded; it is no TIFF, PNG or JPEG file"),
    ("a.nii", write_nan): (1, "a.nii: 192 voxel(s) are NaN or infinite; allowed: numbers"),
    ("a.npy", write_one_channel): (2, "a: 1 channel(s), but the network takes 3: pre, flair, post; where each is a file"),
    ("a", write_nothing): (2, "a: nothing to segment there; allowed: images (.tif"),
    ("a.zip", write_text): (2, "a.zip: cannot be read as a zip archive: File is not a zip file"),
    ("a.csv", write_text): (2, "a.csv: needed: the columns case, and one for each sequence (or image), each once"),
}


@pytest.mark.parametrize(("name", "write"), REFUSED)
def test_wrong_input_is_refused(name: str, write: Callable[[Path], None], segment: Segment, tmp_path: Path) -> None:
    """Exit code 2 if headers tell, so that no network is loaded; 1 if only the values do."""
    write(tmp_path / name)
    code, message = REFUSED[name, write]
    found, _, told = segment(None if code == 2 else Bright(), input=str(tmp_path / name))
    assert (found, message in told) == (code, True), told
    assert len(told.splitlines()) == 1
    assert files(tmp_path / "out") <= {"run.json", "cases.csv"}


def test_values_below_zero_are_numbers(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", drawn["a1"][0].astype(np.float32) - 50)
    assert segment()[0] == 0


def test_a_scan_of_another_plane_is_refused_unless_told(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    for sequence, image in zip(SEQUENCES, drawn["a1"][0].transpose(3, 0, 1, 2), strict=True):
        scans.save(tmp_path / "in" / f"a_{sequence}.nii", np.repeat(image, 4, axis=0), spacing=(0.5, 5, 0.5))
    code, _, told = segment(None)
    assert (code, "acquired in coronal slices" in told) == (2, True)
    assert segment(any_plane=True)[0] == 0


def test_an_assumed_orientation_and_a_lone_slice_are_said(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    image = nibabel.Nifti1Image(drawn["a1"][0].transpose(2, 1, 0, 3), None)
    image.set_sform(None)
    nibabel.save(image, tmp_path / "in" / "whole.nii")
    np.save(tmp_path / "in" / "slice.npy", drawn["a1"][0][:1])
    code, printed, _ = segment()
    assert code == 0
    assert "1 case(s), such as whole: the header has no orientation" in printed
    assert "1 case(s), such as slice: one slice, scaled by itself, so its mask differs" in printed
    assert rows(tmp_path / "out")["slice"]["notes"].startswith("one slice")


def test_an_assumed_thickness_is_said(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    """Of a single slice without SliceThickness; the positions of several slices tell their distance."""
    for case, depth in (("one", 1), ("two", 2)):
        for sequence, image in zip(SEQUENCES, drawn["a1"][0].transpose(3, 0, 1, 2), strict=True):
            scans.write_series(tmp_path / "in" / case / sequence, image[:depth])
            change(tmp_path / "in" / case / sequence, SliceThickness=None)
    code, printed, told = segment()
    assert code == 0, told
    assert "1 case(s), such as one: one slice without SliceThickness: 1 mm was assumed, so the millilitres" in printed
    assert "1 mm was assumed" not in rows(tmp_path / "out")["two"]["notes"]


# Sequences.


def place(folder: Path, *names: str) -> None:
    for name in names:
        scans.save(folder / name, np.zeros((3, 4, 5), np.uint8))


def found_cases(
    folder: Path,
    channels: Mapping[str, str] | None = None,
    takes: Takes = Takes(),  # noqa: B008 - is a tuple
) -> dict[str, list[str] | str]:
    """The files of each case, relative to the folder, or its fault."""
    cases, _ = inputs.find(folder, ["*_seg*"]).cases(takes, channels)
    return {
        case.name: [path.relative_to(folder).as_posix() for path in case.sequences.values()] or case.fault for case in cases
    }


TWO = Takes(("t1", "flair"), ("t1", "flair"))
PATTERNS: list[tuple[tuple[str, ...], dict[str, str] | None, dict[str, list[str]]]] = [
    (("p1_0000.nii", "p1_0001.nii", "p2_0000.nii", "p2_0001.nii"), {"t1": "*_0000", "flair": "*_0001*"}, {}),
    (("p1_FLAIR.nii", "p1_T1.nii"), None, {"p1": ["p1_T1.nii", "p1_FLAIR.nii"]}),
    (("p1/x_t1_v1.nii", "p1/x_flair_v1.nii"), {"t1": "*_t1_*", "flair": "*_flair_*"}, {}),
    (("t1/p1.nii", "flair/p1.nii"), {"t1": "t1/*", "flair": "flair/*"}, {"p1": ["t1/p1.nii", "flair/p1.nii"]}),
    (("p1/t1w.nii", "p1/t2f.nii", "p1/t1n.nii"), None, {"p1": ["p1/t1n.nii", "p1/t2f.nii"]}),
    (("p_t1.nii", "p_t1ce.nii", "p_flair.nii"), {"t1": "*_t1", "flair": "*_f???r"}, {"p": ["p_t1.nii", "p_flair.nii"]}),
    (("a[1]_t1.nii", "a[1]_flair.nii"), {"t1": "*_t[0-9]", "flair": "*_flai?"}, {}),
]


@pytest.mark.parametrize(("names", "channels", "expected"), PATTERNS)
def test_patterns_find_the_sequences_of_each_case(
    names: tuple[str, ...], channels: dict[str, str] | None, expected: dict[str, list[str]], tmp_path: Path
) -> None:
    place(tmp_path, *names)
    found = found_cases(tmp_path, channels, TWO)
    if expected:
        assert found == expected
    assert all(isinstance(paths, list) and len(paths) == 2 for paths in found.values())
    assert len(found) == len({name.partition("_0")[0] for name in names} if "p2_0000.nii" in names else {1})


def test_only_the_sequences_that_the_network_uses_are_asked_for(
    segment: Segment, drawn: scans.Patients, tmp_path: Path
) -> None:
    for name, (images, _) in drawn.items():
        scans.save(tmp_path / "in" / f"{name}_flair.nii", images[..., 1])
    model = write_model(tmp_path / "flair", channels=["flair"])
    code, _, told = segment(Bright(Same(SEQUENCES, ("flair",), "axial")), run=str(model))
    assert (code, told) == (0, "")
    assert {row["lesion_voxels"] for row in rows(tmp_path / "out").values()} == {"48", "60", "72"}
    assert set(rows(tmp_path / "out")) == set(drawn)


def test_another_sequence_is_not_segmented_as_the_only_one_of_the_network(
    segment: Segment, drawn: scans.Patients, tmp_path: Path
) -> None:
    """One patient lacks FLAIR. Its T1 has one channel, as the network asks for, and is no FLAIR."""
    first, *rest = drawn
    scans.save(tmp_path / "in" / first / f"{first}_t1.nii", drawn[first][0][..., 0])
    for name in rest:
        for channel, sequence in enumerate(("t1", "flair")):
            scans.save(tmp_path / "in" / name / f"{name}_{sequence}.nii", drawn[name][0][..., channel])
    model = write_model(tmp_path / "flair", channels=["flair"])
    code, _, told = segment(Bright(Same(SEQUENCES, ("flair",), "axial")), run=str(model))
    assert code == 1
    assert f"{first}_t1.nii: not named as flair, the sequence that the run's network takes, and other files are" in told
    found = rows(tmp_path / "out")
    assert {name: row["status"] for name, row in found.items()}[f"{first}/{first}_t1"] == "failed"
    assert sorted(row["status"] for row in found.values()) == ["done", "done", "failed"]


def test_a_table_with_an_image_and_sequences_is_read_as_a_training_reads_it(tmp_path: Path) -> None:
    """`data=table` takes the columns of the sequences if all are there, and `image` for a single sequence else."""
    place(tmp_path, "p_t2.nii", "p_flair.nii")
    (tmp_path / "t.csv").write_text("patient,image,flair\np,p_t2.nii,p_flair.nii\n")
    ((case,), _) = inputs.find(tmp_path / "t.csv").cases(Takes(("flair",), ("flair",)), None)
    assert case.sequences == {"flair": tmp_path / "p_flair.nii"}
    ((other,), _) = inputs.find(tmp_path / "t.csv").cases(Takes(("t2",), ("t2",)), None)
    assert isinstance(other.source, Sequences)
    assert other.source.volumes == (tmp_path / "p_t2.nii",)


def test_slices_in_a_table_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    """As `data=table` orders them; in natural order, -1 comes after 1."""
    lines = [f"p,{number},{number}.png" for number in (1, -1, 0, -2)]
    for number in (1, -1, 0, -2):
        (tmp_path / f"{number}.png").touch()
    (tmp_path / "t.csv").write_text("\n".join(["patient,slice,image", *lines]))
    ((case,), _) = inputs.find(tmp_path / "t.csv").cases(Takes(("grey",), ("grey",)), None)
    assert isinstance(case.source, Stack)
    assert [path.stem for path in case.source.files] == ["-2", "-1", "0", "1"]


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ({"t1": "*_t1"}, "lacks flair; allowed: a pattern for each of t1, flair, which the network uses"),
        ({"t1": "*_t1", "flair": "*_f", "t2": "*_t2"}, "no such channel t2; allowed: a pattern for each of t1, flair"),
        ({"t1": "*_x", "flair": "*_y"}, r"no file has such a name, .*p1_.*\.nii for example; allowed: other patterns"),
    ],
)
def test_wrong_patterns_are_refused(channels: dict[str, str], message: str, tmp_path: Path) -> None:
    place(tmp_path, "p1_t1.nii", "p1_flair.nii")
    with pytest.raises(DataError, match=message):
        found_cases(tmp_path, channels, TWO)


def test_a_case_with_two_files_for_a_sequence_is_broken(tmp_path: Path) -> None:
    place(tmp_path, "p1_t1.nii", "p1_t1.nii.gz", "p1_flair.nii", "p2_t1.nii", "p2_flair.nii")
    found = found_cases(tmp_path, None, TWO)
    assert str(found["p1"]).startswith("p1: two files for the sequence t1, ")
    assert found["p2"] == ["p2_t1.nii", "p2_flair.nii"]


def test_numbered_series_of_a_folder_are_one_case_of_one_patient(tmp_path: Path) -> None:
    for place_, name in enumerate(("p 1/3_T1_ä", "p 1/5_FLAIR", "q/3_T1", "q/5_FLAIR")):
        for header in scans.write_series(tmp_path / name, np.zeros((2, 4, 5), np.uint8)):
            header.PatientID = "Q" if place_ == 3 else "P"
            header.save_as(tmp_path / name / f"{(7 * (header.InstanceNumber - 1)) % 100:03}.dcm", enforce_file_format=True)
    cases_, _ = inputs.find(tmp_path).cases(TWO, {"t1": "*T1*", "flair": "*flair*"})
    good, mixed = cases_
    assert (good.name, good.source.targets("")) == ("p 1", [Path("p 1/mask.dcm")])  # type: ignore[union-attr]
    assert good.source.look("axial").channels == 2  # type: ignore[union-attr]
    with pytest.raises(DataError, match=r"5_FLAIR: is of another patient than .*3_T1 \(PatientID\)"):
        mixed.source.look("axial")  # type: ignore[union-attr]


def test_two_cases_of_one_name_are_told_apart(tmp_path: Path) -> None:
    for name in ("a.npy", "a.nii"):
        (tmp_path / name).touch()
    found, _ = inputs.find(tmp_path).cases(Takes(), None)
    assert {case.name for case in found} == {"a (a.npy)", "a (a.nii)"}


def test_a_csv_that_trains_lists_cases_too(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    scans.write_lgg(tmp_path / "in", drawn)
    lines = [f"{name};{n};in/{name}/{name}_{n}.tif;none" for n in (3, 2, 4, 1) for name in drawn]
    (tmp_path / "table.csv").write_text("\n".join(["patient;slice;image;mask", *lines]))
    assert segment(input=str(tmp_path / "table.csv"))[0] == 0
    found = rows(tmp_path / "out")
    assert {name: row["lesion_voxels"] for name, row in found.items()} == {"a1": "48", "b2": "60", "c3": "72"}
    assert found["a1"]["files"].split(";")[1] == "a1/a1_2.tif"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,pre,flair,post\na,in/x.nii,in/y.nii,in/z.nii\n", "x.nii: no such file or folder"),
        ("case,pre,flair\na,in,in\n", "a: no file for the sequence post, which the run's network takes"),
        ("case,pre,flair,post\n../a,in,in,in\n", "line 2: the case is named '../a'; allowed: names that can be those of"),
        ("case,pre,flair,post\na,in,in,in\na,in,in,in\n", "a: is listed twice; allowed: one row a case"),
        ("case,pre\n", "no rows below the header"),
    ],
)
def test_wrong_rows_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in.csv").write_text(text)
    try:
        told = inputs.find(tmp_path / "in.csv").cases(Takes(), None)[0][0].fault
    except DataError as error:
        told = str(error)
    assert message in told


def test_an_archive_is_checked_before_it_is_unpacked(
    segment: Segment, drawn: scans.Patients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_zip(tmp_path / "in.zip", drawn)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: os.terminal_size((0, 0)) and type("Usage", (), {"free": 10}))
    code, _, told = segment(None, input=str(tmp_path / "in.zip"))
    assert (code, "but" in told and "has 10; set TMPDIR to more" in told) == (2, True)


def test_an_archive_is_named_in_the_place_of_its_folder(segment: Segment, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        archive.writestr("../p1/a.tif", "a text")
    code, _, told = segment(None, input=str(tmp_path / "in.zip"))
    assert (code, told) == (2, f"attnunet: {tmp_path / 'in.zip'}/p1/a.tif: cannot be decoded; it is no TIFF, PNG or JPEG file")
    assert not (tmp_path / "p1").exists()


# Lists, overlays and hints.


def test_a_dry_run_lists_cases_and_writes_nothing(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    as_nifti(tmp_path / "in", drawn)
    (tmp_path / "in" / "b2" / "b2_post.nii.gz").unlink()
    code, printed, told = segment(None, dry_run=True)
    assert code == 1
    assert "left out: 3 file(s) that match ignore, such as a1_seg.nii.gz" in printed
    line = "a1: 4 slices of 16 x 16, 5 x 0.5 x 0.75 mm, LPS shown as axial; pre=a1_pre.nii.gz, flair=a1_flair.nii.gz, post="
    assert line in printed
    assert "2 of 3 cases can be segmented; dry_run=true writes nothing" in printed
    assert told.endswith("which the run's network takes; channels={post: PATTERN, ...} gives the names of the files\n")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("overlays", "drawn_names"), [("none", set()), ("worst", {"b2"}), ("all", {"a1", "b2", "c3"})])
def test_overlays_show_the_cases_that_are_asked_for(
    overlays: str,
    drawn_names: set[str],
    segment: Segment,
    drawn: scans.Patients,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("attnunet.inference.segmenting.WORST", 1)
    drawn["b2"][0][0, :8, :, 1] = 100  # of more than a quarter, half of the threshold
    write_arrays(tmp_path / "in", drawn)
    assert segment(overlays=overlays)[0] == 0
    assert {path.stem for path in tmp_path.glob("out/overlays/*.png")} == drawn_names
    found = rows(tmp_path / "out")
    for name in drawn_names:
        picture = cv2.imread(str(tmp_path / "out" / "overlays" / f"{name}.png"))
        assert picture.shape[1] == 1050
        assert ((picture.astype(int) - (233, 180, 86)) ** 2).sum(axis=2).min() < 300  # an outline, in blue
        assert found[name]["files"].endswith(f"overlays/{name}.png")
    assert float(found["b2"]["doubt"]) > float(found["a1"]["doubt"])


def test_an_overlay_shows_the_largest_section_and_others_at_even_distances() -> None:
    mask = np.zeros((40, 2, 2), np.uint8)
    assert choose_slices(mask) == [10, 20, 30]
    assert choose_slices(mask[:1]) == [0]
    mask[5:36, 0, 0] = mask[7] = 1
    assert choose_slices(mask) == [5, 7, 8, 11, 14, 17, 20, 23, 26, 29, 32, 35]


def test_references_beside_the_images_are_pointed_at(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    as_kaggle(tmp_path / "in", drawn)
    _, printed, _ = segment()
    assert "left out: 12 file(s) that match ignore, such as a1_1_mask.tif" in printed
    assert f"python -m attnunet.evaluate run={tmp_path / 'model'} data=lgg data.root={tmp_path / 'in'} part=all" in printed


def test_run_json_tells_how_the_masks_were_made(segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    write_arrays(tmp_path / "in", drawn)
    assert segment(threshold=0.4, probabilities=True)[0] == 0
    told = json.loads((tmp_path / "out" / "run.json").read_text())
    assert told["model"]["run"] == str(tmp_path / "model")
    assert told["model"]["channels"] == [*SEQUENCES]
    assert told["decision"] == {"threshold": 0.5, "smallest_lesion": 0, "fill_holes": False}  # as the predictor has it
    assert (told["settings"]["threshold"], told["keys"]["probabilities"]) == (0.4, True)
    assert set(told["versions"]) == {"attnunet", "tensorflow", "keras", "numpy", "opencv-python", "scipy"}


def test_a_mask_is_measured_in_voxels_and_millilitres() -> None:
    mask = np.zeros((3, 6, 6), np.uint8)
    mask[0, :2, :2] = mask[1, 2, 2] = 1  # one lesion: the voxels touch at a corner
    mask[2, 5, 5] = 1
    found = ledger.measure(mask, (5.0, 0.5, 2.0))
    assert found == {
        "slices": 3,
        "spacing": "5 x 0.5 x 2",
        "lesion_voxels": 6,
        "lesion_ml": "0.03",
        "lesions": 2,
        "largest": 5,
    }
    assert ledger.measure(mask * 0, None) == {**dict.fromkeys(found, 0), "slices": 3, "spacing": "", "lesion_ml": ""}


@pytest.mark.parametrize(
    ("probabilities", "doubt"), [([0.9, 0.8, 0.1], 0), ([0.9, 0.3, 0.1], 0.5), ([0.3, 0.24, 0.1], 1), ([0.1, 0.2, 0.0], 0)]
)
def test_doubt_is_the_share_that_nearly_counts_as_lesion(probabilities: list[float], doubt: float) -> None:
    assert ledger.doubt(np.array(probabilities, np.float32), 0.5) == doubt


# Privacy.

LETTERS = {"PN": "Smith^Jo", "LO": "Smith", "SH": "Smith", "ST": "Smith", "LT": "Smith", "UT": "Smith", "UC": "Smith"}
OTHER = {"AE": "SMITH", "CS": "SMITH", "DA": "19450607", "TM": "061233", "DT": "19450607061233", "AS": "077Y", "UR": "Smith"}
NEEDED = {"Modality", "PhotometricInterpretation", "ImageType", "SpecificCharacterSet"}


def plant(header: pydicom.Dataset) -> None:
    """Write a name, or a date, into each element of text that DICOM knows."""
    for tag, (kind, _, _, retired, keyword) in pydicom.datadict.DicomDictionary.items():
        if kind in LETTERS | OTHER and keyword and not retired and keyword not in NEEDED and tag >> 16 not in (0, 2, 4):
            setattr(header, keyword, (LETTERS | OTHER)[kind])
    block = header.private_block(0x0029, "Smith", create=True)
    block.add_new(1, "LO", "Smith")


def test_nothing_of_a_dicom_header_but_geometry_leaves_the_input(
    segment: Segment, drawn: scans.Patients, tmp_path: Path
) -> None:
    planted = 0
    for channel, sequence in enumerate(SEQUENCES):
        folder = tmp_path / "in" / "case" / sequence
        for header in scans.write_series(folder, drawn["a1"][0][1:3, ..., channel]):
            plant(header)
            planted = sum(element.VR in LETTERS | OTHER for element in header)
            header.save_as(folder / f"{(7 * (header.InstanceNumber - 1)) % 100:03}.dcm", enforce_file_format=True)
    assert planted > 1000
    (tmp_path / "in" / "broken").mkdir()
    text = (tmp_path / "in" / "case" / "pre" / "000.dcm").read_bytes()
    (tmp_path / "in" / "broken" / "pre.dcm").write_bytes(text[: len(text) // 2])
    code, printed, told = segment(probabilities=True, uncertainty=True, overlays="all")
    assert code == 1
    written = files(tmp_path / "out")
    assert {"case/mask.dcm", "case/mask_probability.nii.gz", "overlays/case.png", "cases.csv", "run.json"} <= written
    everything = [(tmp_path / "out" / name).read_bytes() for name in written] + [printed.encode(), told.encode()]
    for secret in (b"Smith", b"SMITH", b"19450607", b"061233", b"077Y"):
        assert not [text for text in everything if secret in text]
    found = pydicom.dcmread(tmp_path / "out" / "case" / "mask.dcm")
    assert found.PatientID == found.PatientName == found.StudyDate == ""
    first = dicom.read_series(tmp_path / "in" / "case" / "pre").headers[0]
    assert found.StudyInstanceUID == first.StudyInstanceUID
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == first.SeriesInstanceUID


@pytest.mark.parametrize("keyword", ["RescaleSlope", "NumberOfFrames", "SliceThickness", "PhotometricInterpretation", "Rows"])
def test_a_damaged_header_is_not_quoted(keyword: str, segment: Segment, drawn: scans.Patients, tmp_path: Path) -> None:
    as_arrays(tmp_path / "in", drawn)
    for sequence in SEQUENCES:
        folder = tmp_path / "in" / "case" / sequence
        (header, *_) = scans.write_series(folder, drawn["a1"][0][:2, ..., 0])
        tag = pydicom.datadict.tag_for_keyword(keyword)
        assert tag is not None
        header.pop(tag, None)
        header.add_new(tag, "LO", "Smith")
        header.save_as(folder / "000.dcm", enforce_file_format=True)
    code, printed, told = segment()
    assert (code, len(told.splitlines())) == (1, 1)
    assert "Smith" not in printed + told + (tmp_path / "out" / "cases.csv").read_text()
