"""The page itself: what the user chooses, and the pictures.

Streamlit calls `show` again after each action of the user. `view` is a fragment: after an action in it, only `view` is called
again, and finds the network's answer in a cache.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import streamlit as st

from attnunet.data.slices import shown_channel
from attnunet.figures.overlays import overlay, picture_size
from attnunet.inference.ledger import measure
from attnunet.page import examples, networks, scans, uploads
from attnunet.page.messages import explained, plain
from attnunet.page.scans import Network, Scan, Segmented
from attnunet.page.uploads import Files

Key: TypeAlias = tuple[str | int, ...]
"""The network, the upload, and the scan in it. The caches compare the key instead of files and networks."""
PHANTOM, FILES, FOLDER = "Phantom", "Files", "Folder"
PHANTOMS = 3
LARGE, SMALL = 640, 320
"""The longer side of a picture in pixels."""


def show(root: Path, run: str | None) -> None:
    """Draw the page for a network, or for all networks of a store; see `networks.find_networks`."""
    with explained():
        with st.sidebar:
            st.title("attnunet")
            labels = networks.find_networks(root, run)
            told = "The Dice on the validation patients, the name and the id of each run."
            network = st.selectbox("Network", list(labels), format_func=labels.__getitem__, help=told)
            predictor = load_network(root, network)
            upload, files = choose_files(predictor)
            key = (network, *upload)
            found, passed = list_scans(key, files, predictor)
            number = st.selectbox("Scan", range(len(found)), format_func=lambda number: found[number].name)
            if passed:
                st.caption(plain(passed))
        view((*key, number), files, found[number], number, predictor)


def choose_files(predictor: Network) -> tuple[Key, Files]:
    """Let the user choose a phantom or upload files. Return the files, and a key that no other choice has."""
    kind = st.radio("Images", (PHANTOM, FILES, FOLDER), horizontal=True, key="images")
    if kind == PHANTOM:
        number = st.selectbox("Phantom", range(1, PHANTOMS + 1))
        return (PHANTOM, number), draw_example(number, predictor.file_channels)
    if kind == FILES:
        label = "A slice, all slices of a scan, a NIfTI file for each channel, or a DICOM series"
        uploaded = st.file_uploader(label, accept_multiple_files=True)
    else:
        uploaded = st.file_uploader("A folder with a scan, or with a folder for each scan", accept_multiple_files="directory")
    if not uploaded:
        st.info(plain(f"The network takes the sequences {', '.join(predictor.channels)}."))
        st.stop()
    return (kind, *(file.file_id for file in uploaded)), uploads.collect(uploaded)


@st.fragment
def view(key: Key, files: Files, scan: Scan, number: int, predictor: Network) -> None:
    """Draw a slice of a scan with the network's answer, and what the user can change about the pictures."""
    with explained():
        segmented = segment(key, files, number, predictor)
    pictures, controls = st.columns([3, 1])
    with controls:
        chosen = predictor.decision.threshold
        told = f"The run chose {chosen:g} on its validation patients. A lower threshold marks more."
        threshold = st.slider("Threshold", 0.0, 1.0, chosen, 0.01, help=told)
        mask = decide(key, threshold, segmented, predictor)
        channels = predictor.channels
        channel = st.radio("Sequence", channels, shown_channel(channels), horizontal=True)
        outlined = st.checkbox("Outline of the mask", True)
        colored = st.checkbox("Probability", True, help="0 is transparent, 1 is yellow.")
        gated = st.checkbox("Attention gates", help="The weights of the skip connections. 0 is dark, 1 is yellow.")
        describe(mask, segmented.spacing)
        data = partial(scans.write_mask, files, number, predictor, mask)
        st.download_button("Download the mask", data, scan.download, on_click="ignore", help=plain(scan.download))
    with pictures:
        place = st.slider("Slice", 1, len(mask), segmented.fullest + 1) - 1 if len(mask) > 1 else 0
        image = np.ascontiguousarray(segmented.shown[place, ..., channels.index(channel)])
        size = picture_size(image.shape, segmented.spacing, LARGE)
        weights = segmented.probabilities[place] if colored else None
        drawn = overlay(image, size, mask[place] if outlined else None, weights, fade=True)
        show_pictures({"image": overlay(image, size), "prediction": drawn})
        for note in segmented.notes:
            st.caption(plain(note))
        if gated:
            gates = find_gates((*key, place), segmented, place, predictor)
            size = picture_size(image.shape, segmented.spacing, SMALL)
            show_pictures({name: overlay(image, size, weights=weights) for name, weights in gates.items()})


def describe(mask: np.ndarray, spacing: Sequence[float] | None) -> None:
    """Show how large the lesion is."""
    facts = measure(mask, spacing)
    voxels, planes = f"{facts['lesion_voxels']:,}", int(mask.any(axis=(1, 2)).sum())
    unit, size = ("ml", f"{float(facts['lesion_ml']):.1f}") if spacing else ("voxels", voxels)
    st.metric(f"Lesion in {unit}", size)
    st.caption(f"{voxels} voxels in {facts['lesions']} part(s), on {planes} of {len(mask)} slices")


def show_pictures(pictures: dict[str, np.ndarray]) -> None:
    """Draw pictures side by side with their names, or tell that there are none."""
    if not pictures:
        st.caption("This network has no attention gates.")
        return
    for column, (name, picture) in zip(st.columns(len(pictures)), pictures.items(), strict=True):
        # Streamlit's own encoder takes five times as long, which a user who moves a slider notices.
        _, encoded = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 1])
        column.image(encoded.tobytes(), name, width="stretch", output_format="PNG")


@st.cache_resource(max_entries=4, show_spinner="Loading the network")
def load_network(root: Path, network: str) -> Network:
    return networks.load_network(root, network)


@st.cache_resource(show_spinner="Drawing the phantom")
def draw_example(number: int, channels: Sequence[str]) -> Files:
    return examples.draw_example(number, channels)


# The following caches belong to a session and end with it, because they hold a patient's images. Streamlit does not compare
# arguments whose names begin with _.
of_session = partial(st.cache_resource, scope="session")


@of_session(max_entries=1, show_spinner="Reading the files")
def list_scans(key: Key, _files: Files, _predictor: Network) -> tuple[list[Scan], str]:
    return scans.list_scans(_files, _predictor)


@of_session(max_entries=3, show_spinner="Segmenting the scan")
def segment(key: Key, _files: Files, _number: int, _predictor: Network) -> Segmented:
    return scans.segment(_files, _number, _predictor)


@of_session(max_entries=2, show_spinner=False)
def decide(key: Key, threshold: float, _segmented: Segmented, _predictor: Network) -> np.ndarray:
    return replace(_predictor.decision, threshold=threshold)(_segmented.probabilities)


@of_session(max_entries=16, show_spinner="Reading the gates")
def find_gates(key: Key, _segmented: Segmented, _place: int, _predictor: Network) -> dict[str, np.ndarray]:
    return scans.find_gates(_segmented, _place, _predictor)
