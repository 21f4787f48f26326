"""The inputs of ../shared/cases, run as their READMEs say, with the answer that those call right."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import tifffile

from tests.conftest import REPO, command

CASES = REPO.parent / "shared" / "cases"
QUICK = ("trainer=smoke", "trainer.threads=1", "trainer.figures=false", "epochs=1")
RECORDS = {"cases.csv", "run.json"}
"""The files that predict writes besides masks."""
GREY = ("data=table", "data.file_channels=[flair]")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason="needs ../shared/cases, which is not beside this checkout"),
]


def train(cwd: Path, *arguments: str, table: str = "plain/table.csv", **environment: str) -> subprocess.CompletedProcess[str]:
    return command(*QUICK, *GREY, f"data.file={CASES / table}", *arguments, cwd=cwd, environment=environment)


def assert_refused(result: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit code 1, or 2 if predict could not start, and one message that holds the words, without a traceback."""
    told = result.stdout + result.stderr
    assert result.returncode in (1, 2), told
    assert "Traceback" not in told
    for word in words:
        assert word in told


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose store has the finished run of the study `base`."""
    here = tmp_path_factory.mktemp("base")
    result = train(here, "study=base")
    assert result.returncode == 0, result.stderr
    return here


@pytest.fixture(scope="module")
def run_id(folder: Path) -> str:
    return next((folder / "mlruns" / "artifacts").glob("[0-9a-f]" * 32)).name


def predict(
    folder: Path, run_id: str, source: Path | str, *arguments: str, output: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    written = (f'run="{run_id}"', f'input="{source}"', f"output={output}", *arguments)
    return command(*written, cwd=folder, name="predict", environment=environment)


@pytest.mark.parametrize(
    ("transform", "word"),
    [
        ("{_target_:albumentations.Rotate,_partial_:true,limit:45,p:1,border_mode:0,fill_mask:255}", "Rotate"),
        ("{_target_:albumentations.Normalize,_partial_:true}", "Normalize"),
        ("{_target_:albumentations.RandomCrop,_partial_:true,height:8,width:8}", "RandomCrop"),
        ("{_target_:albumentations.Flip,_partial_:true}", "Flip"),
    ],
)
def test_augment_output(tmp_path: Path, transform: str, word: str) -> None:
    assert_refused(train(tmp_path, f"augment.transforms=[{transform}]", "study=x"), word)
    assert not (tmp_path / "mlruns" / "mlflow.db").exists()


@pytest.mark.parametrize(
    "name", ["lzw_hole.tif", "packbits_zero_tail.tif", "jpeg2000_image.tif", "jpeg2000_mask.tif", "whole.png"]
)
def test_damaged_images(folder: Path, run_id: str, tmp_path: Path, name: str) -> None:
    result = predict(folder, run_id, CASES / "damaged-images" / name, output=tmp_path / "o")
    if name == "whole.png":
        assert result.returncode == 0, result.stderr
        assert len({path.name for path in (tmp_path / "o").iterdir()} - RECORDS) == 1
    else:
        assert_refused(result, name)
        assert not list((tmp_path / "o").rglob("*.*"))


@pytest.mark.parametrize("name", ["crc_wrong.nii.gz", "cut.nii.gz", "cut.nii"])
def test_damaged_nifti(folder: Path, run_id: str, tmp_path: Path, name: str) -> None:
    assert_refused(predict(folder, run_id, CASES / "damaged-nifti" / name, output=tmp_path / "o"), name)
    assert {path.name for path in (tmp_path / "o").rglob("*.*")} <= RECORDS


def test_damaged_nifti_in_a_folder(folder: Path, run_id: str, tmp_path: Path) -> None:
    assert_refused(predict(folder, run_id, CASES / "damaged-nifti" / "folder", output=tmp_path / "o"), "b.nii.gz")
    assert {path.name for path in (tmp_path / "o").iterdir()} == {"a.nii.gz", "c.nii.gz", *RECORDS}


@pytest.mark.parametrize(("precision", "form"), [("mixed_float16", "onnx"), ("mixed_bfloat16", "litert")])
def test_export_mixed(tmp_path: Path, precision: str, form: str) -> None:
    """tests/test_formats.py has each format in either precision; here the command meets a run of each precision."""
    assert train(tmp_path, f"trainer.precision={precision}", "study=x").returncode == 0
    run = next((tmp_path / "mlruns" / "artifacts").glob("[0-9a-f]" * 32)).name
    result = command(f'run="{run}"', f"format={form}", f"output={form}", cwd=tmp_path, name="export")
    assert result.returncode == 0, result.stdout + result.stderr


def test_inverted_masks(tmp_path: Path) -> None:
    pixels = []
    for table in ("bool", "mask"):
        result = train(tmp_path, f"study={table}", f"tracking.root={table}", table=f"inverted-masks/{table}.csv")
        if table == "bool" and result.returncode == 1:
            assert_refused(result, "_bool.tif", "white is zero")
            return
        (masks,) = (tmp_path / table / "cache").glob("*/masks.npy")
        pixels.append(np.load(masks))
    np.testing.assert_array_equal(*pixels)


def test_markup(folder: Path, run_id: str, tmp_path: Path) -> None:
    odd = tmp_path / "a=b,[c] (1).png"
    shutil.copy(CASES / "plain" / "p1_1.png", odd)
    result = predict(folder, run_id, odd, output=tmp_path / "o")
    assert result.returncode == 0, result.stderr
    assert odd.stem in result.stdout
    strange = tmp_path / "w [x]"
    strange.mkdir()
    result = train(strange, "study=x")
    assert result.returncode == 0, result.stderr
    assert "[x]" in result.stdout or "%5Bx%5D" in result.stdout


def test_names_as_numbers(tmp_path: Path) -> None:
    table = "names-as-numbers/table.csv"
    assert_refused(train(tmp_path, "data.exclude=[1_2]", "study=x", table=table), "quote")
    manifest = CASES / "names-as-numbers" / "manifest.yaml"
    result = train(tmp_path, "split=manifest", f"split.file={manifest}", "study=y", "batch_size=4", table=table)
    assert result.returncode == 0, result.stderr
    (split,) = (tmp_path / "mlruns" / "artifacts").glob("*/artifacts/split.json")
    text = split.read_text()
    assert all(f'"{name}"' in text for name in ("1_2", "010", "0x1F", "001"))
    assert not any(f'"{name}"' in text for name in ("12", "8", "31", "1"))


@pytest.mark.parametrize("name", ["no_codes.nii.gz", "scanner.nii.gz", "sform_zero.nii", "UPPER.NII.GZ"])
def test_nifti_geometry(folder: Path, run_id: str, tmp_path: Path, name: str) -> None:
    source = CASES / "nifti-geometry" / name
    result = predict(folder, run_id, source, "probabilities=true", output=tmp_path / "o")
    if name == "sform_zero.nii" and result.returncode:
        assert_refused(result, name)
        return
    assert result.returncode == 0, result.stderr
    before, after = nibabel.load(source).header, nibabel.load(tmp_path / "o" / name).header
    for field in ("sform_code", "qform_code", "xyzt_units", "srow_x", "srow_y", "srow_z", "quatern_b", "qoffset_x"):
        np.testing.assert_array_equal(before[field], after[field])
    stem, suffix = name.split(".", 1)
    assert (tmp_path / "o" / f"{stem}_probability.{suffix}").exists()
    if name == "no_codes.nii.gz":
        shown = predict(folder, run_id, CASES / "nifti-geometry" / "as_shown.npy", output=tmp_path / "shown")
        assert shown.returncode == 0, shown.stderr


def test_pages(folder: Path, run_id: str, tmp_path: Path) -> None:
    assert_refused(train(tmp_path, "study=x", table="pages/table.csv"), "4 pages")
    assert predict(folder, run_id, CASES / "pages" / "p1.tif", output=tmp_path / "o").returncode == 0
    with tifffile.TiffFile(tmp_path / "o" / "p1.tif") as written:
        assert len(written.pages) == 4


def test_passed_over(folder: Path, run_id: str, tmp_path: Path) -> None:
    root = CASES / "passed-over"
    result = command(*QUICK, "data=lgg", f"data.root={root / 'kaggle_3m'}", "study=x", cwd=tmp_path)
    assert_refused(result, "TCGA_XX_0003_20000101 (1)", "case_2")
    result = predict(folder, run_id, root / "predict", output=tmp_path / "o")
    assert_refused(result, "s_4.png")
    result = predict(folder, run_id, root / "mac", output=tmp_path / "mac")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "mac").iterdir()} == {"s_1.png", *RECORDS}


def test_same_scan_two_names(tmp_path: Path) -> None:
    result = train(tmp_path, "study=x", table="same-scan-two-names/copied.csv")
    assert result.returncode == 1 or "LEAKING" in result.stdout
    assert "Traceback" not in result.stderr


def test_sqlite_path(tmp_path: Path) -> None:
    script = CASES / "sqlite-path" / "run.sh"
    environment = {**os.environ, "PY": sys.executable}
    result = subprocess.run(["bash", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stdout
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a b", "a%20b", "c?d"]
    assert (tmp_path / "c?d" / "mlruns" / "mlflow.db").exists()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="needs root for a mount namespace")
def test_clock_and_clean(tmp_path: Path) -> None:
    script = CASES / "clock-and-clean" / "run.sh"
    environment = {**os.environ, "PY": sys.executable}
    result = subprocess.run(["bash", str(script)], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "the run ended well" in result.stdout, result.stdout + result.stderr


@pytest.mark.parametrize("value", ["", "4,3", "1.0", "abc", "-1"])
def test_threads_variable(tmp_path: Path, value: str) -> None:
    arguments = [a for a in QUICK if not a.startswith("trainer.threads")]
    table = f"data.file={CASES / 'plain/table.csv'}"
    result = command(*arguments, *GREY, table, "study=x", cwd=tmp_path, environment={"OMP_NUM_THREADS": value})
    if value in ("", "4,3"):
        assert result.returncode == 0, result.stderr
    else:
        assert_refused(result, "OMP_NUM_THREADS", value)


def test_uncaught(folder: Path, run_id: str, tmp_path: Path) -> None:
    image = CASES / "plain" / "p1_1.png"
    (tmp_path / "file").write_text("")
    assert_refused(predict(folder, run_id, image, output=tmp_path / "file"), "file")
    np.savez(tmp_path / "archive.npz", np.zeros((1, 8, 8, 1), np.uint8))
    (tmp_path / "archive.npz").rename(tmp_path / "archive.npy")
    assert_refused(predict(folder, run_id, tmp_path / "archive.npy", output=tmp_path / "o"), "archive.npy")
    assert_refused(predict(folder, run_id, tmp_path / "nowhere", output=tmp_path / "o"), "nowhere")
    accented = tmp_path / "bild_\u00e4\u4e2d.png"
    shutil.copy(image, accented)
    result = predict(folder, run_id, accented, output=tmp_path / "o", PYTHONIOENCODING="ascii")
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "o" / accented.name).exists()
    assert_refused(train(tmp_path, f"study={'x' * 501}"), "study")
