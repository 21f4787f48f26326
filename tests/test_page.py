"""The page of `attnunet-demo`, without a browser: what it shows, what it refuses, and what it leaves on the disk."""

import gc
import gzip
import re
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import cv2
import keras
import numpy as np
import pytest
from mlflow.entities import Metric, Param, Run, RunData, RunInfo, RunTag
from streamlit.testing.v1 import AppTest

from attnunet.errors import UserError
from attnunet.inference.predictor import Predictor, Preparation
from attnunet.inference.segmenting import LONE
from attnunet.metrics.decision import Decision
from attnunet.models.attention_resunet import attention_resunet
from attnunet.page import app, examples, networks, scans, uploads
from attnunet.page.messages import plain
from attnunet.page.uploads import Files, UploadError
from attnunet.tracking import records

# Keras 3.15 saves its variables through an __array__ of TensorFlow's that NumPy 2 warns of.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning")

SIZE = 16
CHANNELS = ("pre", "flair", "post")


@pytest.fixture(scope="module", autouse=True)
def small_and_quick() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(examples, "SLICES", 4)
        patch.setattr(examples, "SIZE", 32)
        patch.setattr(app, "LARGE", 32)
        gc.freeze()  # as the script does, because Streamlit collects garbage after each action
        yield
        gc.unfreeze()


def make_predictor(files: Files) -> Predictor:
    """With a threshold in the middle of what its network says about the first scan, so that the mask holds both values."""
    network = attention_resunet(SIZE, 3, [4, 8], keras.layers.Conv2D)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    signs = [rng.choice([-1, 1], weight.shape) if weight.ndim > 1 else 1 for weight in network.get_weights()]
    network.set_weights([rng.uniform(0.1, 0.6, w.shape) * sign for w, sign in zip(network.get_weights(), signs, strict=True)])
    made = Predictor(network, Preparation(SIZE, CHANNELS, CHANNELS, "zscore"), batch_size=4)
    probabilities = scans.segment(files, 0, made).probabilities
    return replace(made, decision=Decision(round(float(np.median(probabilities)), 2)))


@pytest.fixture(scope="module")
def predictor(small_and_quick: None) -> Predictor:
    return make_predictor(examples.draw_example(1, CHANNELS))


@pytest.fixture(scope="module")
def place(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page") / "network"
    predictor.save(folder)
    return folder


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files, where a test may look for what was left."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def script(place: str) -> None:
    """What Streamlit runs, except for the settings of TensorFlow."""
    from pathlib import Path

    from attnunet.page.app import show

    show(Path("nowhere"), place)


def opened(place: Path, images: str = "Phantom") -> AppTest:
    page = AppTest.from_function(script, args=(str(place),), default_timeout=60)
    page.session_state["images"] = images
    page.run()
    assert not page.exception
    return page


def upload(place: Path, files: Files) -> AppTest:
    page = opened(place, "Files")
    page.file_uploader[0].set_value([(name, data, "") for name, data in files.items()]).run()
    assert not page.exception
    return page


def captions(page: AppTest) -> list[str]:
    return [caption.value.replace("\\", "") for caption in page.caption]


def pictures(page: AppTest) -> list[str]:
    return [caption for picture in page.image for caption in picture.captions]


def png(value: int = 0, channels: int = 3) -> bytes:
    shape = (24, 24, channels) if channels > 1 else (24, 24)
    image = np.random.default_rng(value).integers(0, 200, shape, dtype=np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()


def array(values: np.ndarray) -> bytes:
    stream = BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def test_the_page_begins_with_a_phantom_and_its_prediction(place: Path, temporary: Path) -> None:
    page = opened(place)
    assert not page.error
    assert [slider.label for slider in page.slider] == ["Slice", "Threshold"]
    assert [box.options for box in page.selectbox] == [[str(place)], ["1", "2", "3"], ["phantom_1"]]
    assert page.metric[0].label == "Lesion in ml"  # a phantom has a spacing
    assert pictures(page) == ["image", "prediction"]
    page.checkbox[2].check().run()
    assert page.checkbox[2].label == "Attention gates"
    assert pictures(page) == ["image", "prediction", "gate_0"]
    page.selectbox[1].set_value(2).run()
    assert page.selectbox[2].options == ["phantom_2"]
    assert not page.exception
    assert not list(temporary.iterdir())


def test_the_threshold_moves_the_mask_and_the_network_rests(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = opened(place)
    frozen = captions(page)
    monkeypatch.delattr(Predictor, "views")
    page.slider[1].set_value(0.0).run()
    assert captions(page) == [f"{4 * 32 * 32:,} voxels in 1 part(s), on 4 of 4 slices"] != frozen
    page.slider[1].set_value(1.0).run()
    assert captions(page) == ["0 voxels in 0 part(s), on 0 of 4 slices"] != frozen
    page.slider[0].set_value(3).run()
    assert not page.exception


def test_uploaded_slices_are_one_scan(place: Path, predictor: Predictor, temporary: Path) -> None:
    page = upload(place, {"s_10.png": png(10), "s_2.png": png(2), "s_2_mask.png": png(0, 1), "notes.txt": b"x"})
    volume = np.stack([cv2.imdecode(np.frombuffer(png(number), np.uint8), cv2.IMREAD_COLOR_RGB) for number in (2, 10)])
    assert (page.metric[0].label, page.metric[0].value) == ("Lesion in voxels", f"{predictor.segment(volume).sum():,}")
    assert (
        captions(page)[-1]
        == "left out: 1 file(s) that match ignore, such as s_2_mask.png; 1 file(s) of other kinds, such as notes.txt"
    )
    assert not list(temporary.iterdir())


def test_a_slice_alone_comes_with_a_caution(place: Path) -> None:
    page = upload(place, {"s.png": png()})
    assert captions(page)[0] == LONE
    assert [slider.label for slider in page.slider] == ["Threshold"]


def test_a_bad_upload_gets_a_sentence_that_names_the_file_as_it_is(place: Path, temporary: Path) -> None:
    page = upload(place, {"[a](b) :red[c] $d$.png": b"text"})
    (error,) = page.error
    assert re.sub(r"\\(.)", r"\1", error.value).startswith("[a](b) :red[c] $d$.png: cannot be decoded; it is no TIFF")
    assert not list(temporary.iterdir())


class Held(NamedTuple):
    """A file as Streamlit holds it."""

    name: str
    data: bytes = b""

    def getvalue(self) -> bytes:
        return self.data


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"x.tif": b"text"}, "x.tif: cannot be decoded; it is no TIFF"),
        ({"x.nii.gz": gzip.compress(b"text")}, "x.nii.gz: cannot be read as NIfTI"),
        ({"x.txt": b"text"}, "input=the upload: nothing to segment there; allowed: images"),
        ({"x.png": png(0, 1)}, "1 channel(s), but the network takes 3: pre, flair, post"),
        ({"x.zip": b"text"}, "x.zip: cannot be read as a zip archive"),
        # A table of cases could name any file of this machine.
        ({"cases.csv": b"case,image\np1,/etc/hostname\n"}, "input=the upload: nothing to segment there"),
        ({"x.npy": array(np.full((2, 8, 8, 3), np.nan))}, "x.npy: holds values that are NaN or infinite"),
        ({"p_flair.nii": b""}, "p_flair.nii: no file for the sequence pre, post beside it"),
        ({"../x.png": png()}, "'../x.png': leads out of the upload"),
        ({"/tmp/x.png": png()}, "'/tmp/x.png': leads out of the upload"),
        ({"a": png(), "a/x.png": png()}, "a: File exists"),
        ({f"{'x' * 300}.png": png()}, "File name too long"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_a_bad_upload_is_refused(files: Files, message: str, predictor: Predictor, temporary: Path) -> None:
    with pytest.raises(UploadError) as refused:  # noqa: PT012 - the page calls these three
        collected = uploads.collect([Held(name, data) for name, data in files.items()])
        scans.list_scans(collected, predictor)
        scans.segment(collected, 0, predictor)
    assert message in str(refused.value)
    assert str(temporary) not in str(refused.value)
    assert not list(temporary.iterdir())


def test_a_small_file_that_unpacks_to_a_huge_one_is_refused(
    predictor: Predictor, temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(uploads, "LARGEST", 10**6)
    bomb = gzip.compress(bytes(10**6 + 1))
    with pytest.raises(UploadError, match=r"^x\.nii\.gz: unpacks to more than 1,000,000 bytes; allowed: a smaller volume$"):
        scans.list_scans({"x.nii.gz": bomb}, predictor)
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("a/x.nii.GZ", bomb)
    with pytest.raises(UploadError, match=r"x\.nii\.GZ: unpacks to more than"):
        scans.list_scans({"x.zip": archive.getvalue()}, predictor)
    # A damaged file is left to the reader, and a file of the largest size to the rest of the page.
    (temporary / "cut.gz").write_bytes(bomb[:-20])
    (temporary / "large.gz").write_bytes(gzip.compress(bytes(10**6)))
    uploads.check_sizes(temporary)


def test_a_name_that_leads_out_of_the_upload_is_refused() -> None:
    for name in ("../x", "a/../../x", "/x", "a//x", ".", "", "a/"):
        with pytest.raises(UploadError, match="leads out of the upload"):
            uploads.collect([Held(name)])
    assert uploads.collect([Held("a..b/x y.png", b"1"), Held("x", b"2")]) == {"a..b/x y.png": b"1", "x": b"2"}
    with pytest.raises(UploadError, match=r"x\.png: uploaded twice"):
        uploads.collect([Held("x.png"), Held("x.png")])


def test_an_uploaded_folder_is_the_input(tmp_path: Path, temporary: Path) -> None:
    with uploads.laid_out({"patient/a.png": b"1", "patient/deep/b.png": b"2"}) as folder:
        assert folder.name == "patient"
        assert (folder / "deep" / "b.png").read_bytes() == b"2"
    with pytest.raises(ValueError, match="a fault of ours"), uploads.laid_out({"a.png": b"1"}):
        raise ValueError("a fault of ours")
    assert not list(temporary.iterdir())


def test_the_mask_of_several_files_is_an_archive(predictor: Predictor) -> None:
    files = {f"root/{patient}/s_{number}.png": png(number) for patient in "ab" for number in (1, 2)}
    found, _ = scans.list_scans(files, predictor)
    assert [(scan.name, scan.download) for scan in found] == [("a", "a_masks.zip"), ("b", "b_masks.zip")]
    mask = np.zeros((2, 24, 24), np.uint8)
    mask[1, 2:5, 3] = 1
    with zipfile.ZipFile(BytesIO(scans.write_mask(files, 1, predictor, mask))) as archive:
        assert archive.namelist() == ["b/s_1.png", "b/s_2.png"]
        written = cv2.imdecode(np.frombuffer(archive.read("b/s_2.png"), np.uint8), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(written, mask[1] * 255)


def test_an_archive_is_unpacked(predictor: Predictor, temporary: Path) -> None:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("p1/s_1.png", png(1))
        archive.writestr("../../p2/s_1.png", png(2))
    found, _ = scans.list_scans({"scans.zip": stream.getvalue()}, predictor)
    assert [scan.name for scan in found] == ["p1", "p2"]
    assert not list(temporary.iterdir())


def test_a_faulty_scan_stops_no_other(predictor: Predictor) -> None:
    files = {**examples.draw_example(1, CHANNELS), "p_flair.nii": b""}
    found, _ = scans.list_scans(files, predictor)
    assert {scan.name: len(scan.targets) for scan in found} == {"phantom_1": 1, "p": 0}
    place = [scan.name for scan in found].index("p")
    with pytest.raises(UploadError, match=r"^p_flair\.nii: no file for the sequence pre, post beside it"):
        scans.segment(files, place, predictor)
    segmented = scans.segment(files, 1 - place, predictor)
    assert segmented.probabilities.shape == (4, 32, 32)
    assert (segmented.shown.dtype, segmented.shown.shape) == (np.uint8, (4, 32, 32, 3))


def test_a_phantom_suits_a_network_of_any_channels() -> None:
    files = examples.draw_example(2, ("t1", "flair", "pre"))
    assert list(files) == ["phantom_2_t1.nii.gz", "phantom_2_flair.nii.gz", "phantom_2_pre.nii.gz"]
    t1, flair, pre = files.values()
    assert t1 == flair != pre
    assert files == examples.draw_example(2, ("t1", "flair", "pre"))


def test_a_network_with_modules_of_its_own_is_refused_unless_told(place: Path, predictor: Predictor, tmp_path: Path) -> None:
    replace(predictor, modules=("mine",)).save(tmp_path / "own")
    with pytest.raises(UserError, match=r"the modules mine have to be imported, which runs them"):
        networks.find_networks(tmp_path, str(tmp_path / "own"))
    assert networks.find_networks(tmp_path, str(place)) == {str(place): str(place)}
    assert networks.load_network(tmp_path, str(place)).decision == predictor.decision


def stored(name: str, status: str, keep: str, **tags: str) -> Run:
    info = RunInfo(name * 8, "e", "u", status, 0, 0, "active", run_name=name)
    marked = [RunTag(tag, value) for tag, value in tags.items()]
    return Run(info, RunData([Metric("final/val/dice", 0.5, 0, 0)], [Param("trainer.keep", keep)], marked))


def test_the_runs_of_a_store_that_keep_a_checkpoint_are_offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [
        stored("a", "FINISHED", "best"),
        stored("b", "FINISHED", "none"),
        stored("c", "FAILED", "all"),
        stored("d", "FINISHED", "all", superseded="e"),
        stored("e", "FINISHED", "all"),
    ]
    monkeypatch.setattr(records, "list_studies", lambda store: ["study"])
    monkeypatch.setattr(records, "search_runs", lambda store, studies: iter(runs))
    assert networks.find_networks(tmp_path, None) == {"e" * 8: "0.500  e (eeeeeeee)", "a" * 8: "0.500  a (aaaaaaaa)"}
    del runs[4], runs[0]
    with pytest.raises(UserError, match=r"no finished run keeps a checkpoint; train one, with trainer\.keep=best or all"):
        networks.find_networks(tmp_path, None)


def test_text_is_shown_unchanged() -> None:
    assert plain("a b_c\nd") == "a b\\_c  \nd"
    assert plain("[x](http://y) :red[z] $1$ \\") == r"\[x\]\(http\:\/\/y\) \:red\[z\] \$1\$ \\"
