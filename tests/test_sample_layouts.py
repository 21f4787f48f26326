"""The real sample in the layouts of other tools: the same arrays, the same training, and masks at the same places.

The tests take three patients, because the whole sample takes a quarter of an hour.
"""

import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk
import tifffile
import yaml

from attnunet.data.brats import brats
from attnunet.data.cache import Prepared, prepare
from attnunet.data.dicom import dicom
from attnunet.data.lgg import lgg
from attnunet.data.nifti import nifti
from attnunet.data.nnunet import nnunet
from attnunet.data.slices import Dataset
from tests import scans
from tests.conftest import command

SIZE = 64
CHANNELS = {"brats": ["t1", "flair", "t1ce"]}
READERS: dict[str, Callable[..., Dataset]] = {"nifti": nifti, "nnunet": nnunet, "brats": brats, "dicom": dicom}


def open_patients(sample: Path) -> list[str]:
    locked = set((sample / "locked.txt").read_text().split())
    return sorted(path.name for path in sample.iterdir() if path.is_dir() and path.name not in locked)


def read_patients(sample: Path, names: Sequence[str]) -> scans.Patients:
    dataset = lgg(str(sample), exclude=sorted({path.name for path in sample.iterdir() if path.is_dir()} - set(names)))
    slices = {name: [item for item in dataset.slices if item.patient == name] for name in names}
    read = {name: zip(*dataset.source.pixels(items).slices(), strict=True) for name, items in slices.items()}
    return {name: tuple(map(np.stack, pairs)) for name, pairs in read.items()}  # type: ignore[misc]


def scale(volume: np.ndarray) -> np.ndarray:
    """Another unit and another zero for each file."""
    rng = np.random.default_rng(int(volume.sum()))
    return (volume * rng.lognormal(0, 3) + rng.normal(0, 1000)).astype(np.float32)


def write_layouts(root: Path, patients: scans.Patients) -> None:
    scans.write_lgg(root / "lgg", patients)
    scans.write_nifti(root / "nifti", patients)
    scans.write_nifti(root / "scaled", patients, scale)
    scans.write_nnunet(root / "nnunet", patients)
    scans.write_brats(root / "brats", patients)
    scans.write_dicom(root / "dicom", patients)


def check_arrays(root: Path) -> dict[str, tuple[int, float]]:
    """Compare the prepared arrays of all layouts. Return the largest difference and the share of different values of each."""
    expected = prepare(lgg(str(root / "lgg")), SIZE, root / "cache")
    differences = {}
    for layout in (*READERS, "scaled"):
        reader, channels = READERS.get(layout, nifti), CHANNELS.get(layout, list(scans.SEQUENCES))
        found = prepare(reader(str(root / layout), channels=channels), SIZE, root / "cache")
        assert masks(found) == masks(expected)
        if layout != "brats":  # whose sequences have other names
            assert [item.missing for item in found.slices] == [item.missing for item in expected.slices]
        apart = np.abs(found.images.astype(int) - expected.images)
        differences[layout] = int(apart.max()), float((apart > 0).mean())
    return differences


def masks(prepared: Prepared) -> list[bytes]:
    return [prepared.mask(index).tobytes() for index in range(len(prepared.slices))]


def train(root: Path, layout: str, patients: Sequence[str], budget: int) -> Path:
    """Train on a layout, by one division of the patients for all layouts. Return the folder of the run."""
    folder = root / "runs" / layout
    folder.mkdir(parents=True)
    names = [f"BraTS20_Training_{place:03}" for place in range(len(patients))] if layout == "brats" else list(patients)
    third = max(1, len(names) // 5)
    parts = {"train": names[2 * third :], "val": names[:third], "test": names[third : 2 * third]}
    (folder / "split.yaml").write_text(yaml.safe_dump(parts))
    channels = ",".join(CHANNELS.get(layout, scans.SEQUENCES))
    keys = [f"data={layout}", f"data.root={root / layout}", f"data.channels=[{channels}]"]
    if layout == "lgg":  # TIFF files do not tell the distances that the other layouts have
        keys.append(f"data.spacing={list(scans.SPACING)}")
    recipe = ("trainer=smoke", "trainer.figures=false", "epochs=null", f"budget_images={budget}", "evaluation.batch_size=8")
    result = command(*recipe, *keys, "split=manifest", f"split.file={folder / 'split.yaml'}", cwd=folder)
    assert result.returncode == 0, result.stderr
    return folder


def losses(folder: Path) -> list[tuple[str, int, float]]:
    """Return every score of the run in `folder`, to the last bit. The scores of speed are left out."""
    with closing(sqlite3.connect(folder / "mlruns" / "mlflow.db")) as database:
        rows = database.execute("SELECT key, step, value FROM metrics ORDER BY key, step").fetchall()
    found = [row for row in rows if row[0].split("/")[0] in ("train", "val", "final") and "second" not in row[0]]
    assert any(key == "train/loss" for key, _, _ in found)
    return found


def predict(root: Path, run: str, layout: str) -> Path:
    """Segment the images of a layout by the network of a run. Return the folder of the masks."""
    folder = root / "runs" / run
    (checkpoint,) = (folder / "mlruns" / "artifacts").glob("*/artifacts/checkpoints/best.keras")
    output = root / "masks" / layout
    keys = (f"run={checkpoint.parents[2].name}", f"input={root / layout}", f"output={output}", "probabilities=true")
    result = command(*keys, cwd=folder, name="predict")
    assert result.returncode == 0, result.stderr
    return output


def in_the_world(root: Path, patient: str, ending: str) -> sitk.Image:
    """Return a mask (or probabilities) of the TIFF slices, as an image at the place where `scans` puts the patient."""
    slices = len(list((root / "lgg" / patient).glob("*_mask.tif")))
    names = [f"{patient}_{number}{ending}.tif" for number in range(1, slices + 1)]
    stack = np.stack([tifffile.imread(root / "masks" / "lgg" / patient / name) for name in names])
    image = sitk.GetImageFromArray(stack if ending else stack // 255)
    image.SetSpacing(scans.SPACING[::-1])
    return image


def of_segmentation(path: Path, reference: sitk.Image) -> np.ndarray:
    """Return a DICOM SEG on the voxels of a reference. Each pixel is placed by its frame's own position."""
    header = pydicom.dcmread(path)
    shared = header.SharedFunctionalGroupsSequence[0]
    found = np.zeros(sitk.GetArrayViewFromImage(reference).shape, np.uint8)
    frames = header.pixel_array.reshape(-1, header.Rows, header.Columns)
    for pixels, frame in zip(frames, header.PerFrameFunctionalGroupsSequence, strict=True):
        row, column = np.reshape(shared.PlaneOrientationSequence[0].ImageOrientationPatient, (2, 3)).astype(float)
        between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
        position = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        for at_row, at_column in np.argwhere(pixels).tolist():
            point = position + row * between_columns * at_column + column * between_rows * at_row
            found[reference.TransformPhysicalPointToIndex(point.tolist())[::-1]] = 1
    return found


def check_masks(root: Path, layout: str, files: Mapping[str, str]) -> Iterator[int]:
    """Compare masks and probabilities with those of the TIFF slices, by the places of the voxels. Yield the lesion's size.

    `files` maps each patient to the name of the mask without its suffix.
    """
    for patient, name in files.items():
        reference = in_the_world(root, patient, "")
        path = root / "masks" / layout / f"{name}.nii.gz"
        found = of_segmentation(path.parent / "mask.dcm", reference) if layout == "dicom" else resampled(path, reference)
        expected = sitk.GetArrayFromImage(reference)
        np.testing.assert_array_equal(found, expected, err_msg=f"{layout}: {patient}")
        reference = in_the_world(root, patient, "_probability")
        found = resampled(root / "masks" / layout / f"{name}_probability.nii.gz", reference)
        np.testing.assert_array_equal(found, sitk.GetArrayFromImage(reference), err_msg=f"{layout}: {patient}")
        yield int(expected.sum())


def resampled(path: Path, reference: sitk.Image) -> np.ndarray:
    """Return the values of a file at the places of a reference's voxels, by SimpleITK. Places outside the file get -1."""
    image = sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32)
    return sitk.GetArrayFromImage(sitk.Resample(image, reference, sitk.Transform(), sitk.sitkNearestNeighbor, -1.0))


def mask_names(layout: str, patients: Sequence[str]) -> dict[str, str]:
    """Return the name of each patient's mask in the output of a layout, without its suffix."""
    folders = {
        "nifti": "{name}/{name}",
        "brats": "BraTS20_Training_{place:03}/BraTS20_Training_{place:03}",
        "dicom": "{name}/mask",
    }
    return {name: folders[layout].format(name=name, place=place) for place, name in enumerate(patients)}


@pytest.fixture(scope="module")
def written(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Three patients of three hospitals in all layouts."""
    root, names = tmp_path_factory.mktemp("layouts"), open_patients(sample)[::15]
    write_layouts(root, read_patients(sample, names))
    return root, names


@pytest.fixture(scope="module")
def trained(written: tuple[Path, list[str]]) -> Path:
    """The folder of a run on the TIFF slices."""
    root, names = written
    return train(root, "lgg", names, budget=64)


@pytest.fixture(scope="module")
def segmented(written: tuple[Path, list[str]], trained: Path) -> Path:
    """The folder of the masks of the TIFF slices."""
    return predict(written[0], "lgg", "lgg")


@pytest.mark.slow
def test_the_sample_becomes_the_same_arrays_in_all_layouts(written: tuple[Path, list[str]]) -> None:
    differences = check_arrays(written[0])
    assert differences.pop("scaled")[0] <= 1
    assert set(differences.values()) == {(0, 0.0)}


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nifti", "nnunet"])
def test_the_sample_trains_to_the_same_bits(layout: str, trained: Path, written: tuple[Path, list[str]]) -> None:
    root, names = written
    assert losses(train(root, layout, names, budget=64)) == losses(trained)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["nifti", "dicom"])
def test_masks_of_the_sample_lie_at_the_same_places(layout: str, segmented: Path, written: tuple[Path, list[str]]) -> None:
    root, names = written
    predict(root, "lgg", layout)
    assert sum(check_masks(root, layout, mask_names(layout, names)))
