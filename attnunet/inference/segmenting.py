"""The segmentation of many cases: read, predict, write, and go on if a case is broken."""

import io
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from attnunet.data.decoders import dicom
from attnunet.data.files import write_atomically
from attnunet.data.slices import refuse, shown_channel
from attnunet.inference.inputs.case import Case, Takes, check_fit, describe_fault, pick_channels
from attnunet.inference.ledger import DONE, FAILED, Ledger, doubt, measure
from attnunet.inference.stream import AHEAD, Prediction, Segmenter
from attnunet.inference.volumes import Look

MASK, PROBABILITY, UNCERTAINTY = "", "_probability", "_uncertainty"
"""The endings of the files' names, before the suffix."""
OVERLAYS = Path("overlays")
WORST = 10
"""The number of cases that overlays=worst draws."""
LONE = "one slice, scaled by itself, so its mask differs from the one that it gets in its volume"
ASSUMED = "the header has no orientation: the axes were taken to run to the left, back and up"
THICK = f"one slice without SliceThickness: {dicom.THICKNESS:g} mm was assumed, so the millilitres are a guess"
NOTES = (LONE, ASSUMED, THICK)


@dataclass(frozen=True)
class Work:
    """What `segment` does with each case.

    Attributes:
        output: the folder of the masks.
        endings: the files to write: MASK, and PROBABILITY or UNCERTAINTY.
        any_plane: whether scans are taken that were acquired in another plane than the network's.
        scaled: whether intensities are scaled over a volume, so that the mask of a slice depends on its neighbours.
    """

    output: Path
    endings: tuple[str, ...] = (MASK,)
    any_plane: bool = False
    scaled: bool = True

    def targets(self, case: Case) -> list[Path]:
        """Return the paths of the files of a case, relative to the output."""
        return [path for ending in self.endings for path in case.source.targets(ending)] if case.source else []


def read_case(case: Case, takes: Takes, work: Work) -> tuple[np.ndarray, Look]:
    """Return the numbers of a case (D, h, w, file channels), and its facts. Channels that the network does not use may be 0.

    Raises:
        DataError: a file cannot be read, or the case does not fit the network.
    """
    assert case.source is not None
    look = case.source.look(takes.plane)
    check_fit(case.name, look, takes, work.any_plane)
    volume = case.source.read(look.channels, takes.plane)
    if look.channels == len(takes.file_channels):
        return volume, look
    filled = np.zeros((*volume.shape[:3], len(takes.file_channels)), volume.dtype)
    filled[..., list(pick_channels(takes, look.channels))] = volume
    return filled, look


def segment(predictor: Segmenter | None, cases: Sequence[Case], work: Work, ledger: Ledger) -> Iterator[tuple[Case, str]]:
    """Segment the cases, write their files and their rows of the ledger, and yield each case with its fault, or "".

    The network gets full batches across cases. A thread reads ahead, and another one writes. There need be no predictor if no
    case has a source.

    Raises:
        OSError: a file cannot be written. The rows of the cases before are in the ledger.
    """
    for case in cases:
        if case.source is None:
            yield settle(ledger, case, case.fault)
    whole = [case for case in cases if case.source is not None]
    if predictor is None or not whole:
        return
    plane, threshold, looks = predictor.plane, predictor.decision.threshold, dict[str, Look]()

    def read(case: Case) -> tuple[np.ndarray, Sequence[float] | None]:
        volume, looks[case.name] = read_case(case, predictor, work)
        return volume, looks[case.name].spacing

    stream = predictor.predict((partial(read, case) for case in whole), uncertainty=UNCERTAINTY in work.endings)
    started = time.perf_counter()
    waiting: deque[tuple[Case, Future[dict[str, Any]] | str]] = deque()

    def finish() -> tuple[Case, str]:
        nonlocal started
        case, made = waiting.popleft()
        if isinstance(made, str):
            return settle(ledger, case, made)
        columns = made.result()
        now = time.perf_counter()
        ledger.add(case.name, DONE, **columns, seconds=f"{now - started:.3g}")
        started = now
        return case, ""

    with ThreadPoolExecutor(1) as writer:
        for case, found in zip(whole, stream, strict=True):
            if isinstance(found, Exception):
                waiting.append((case, describe_fault(case, found)))
            else:
                look = looks.pop(case.name)
                waiting.append((case, writer.submit(write, case, found, look, plane, threshold, work)))
            while len(waiting) > AHEAD:
                yield finish()
        while waiting:
            yield finish()


def settle(ledger: Ledger, case: Case, fault: str) -> tuple[Case, str]:
    """Set the row of a case that failed, and return the case with its fault."""
    ledger.add(case.name, FAILED, error=fault)
    return case, fault


def write(case: Case, found: Prediction, look: Look, plane: str, threshold: float, work: Work) -> dict[str, Any]:
    """Write the files of a case, and return the columns of its row."""
    assert case.source is not None
    values = {MASK: found.mask, PROBABILITY: found.probabilities}
    if found.uncertainty is not None:
        values[UNCERTAINTY] = found.uncertainty
    for ending in reversed(work.endings):  # the mask comes last, so that a case with a mask has its other files too
        case.source.write(values[ending], work.output, ending, plane)
    return {**describe_mask(case, found.mask, look, work), "doubt": f"{doubt(found.probabilities, threshold):.3f}"}


def describe_mask(case: Case, mask: np.ndarray, look: Look, work: Work) -> dict[str, Any]:
    """Return the columns of a case's row that its mask and its headers give."""
    holds = (work.scaled and look.shape[0] == 1, look.assumed, look.thickness)
    notes = [note for note, held in zip(NOTES, holds, strict=True) if held]
    files = ";".join(target.as_posix() for target in work.targets(case))
    return {**measure(mask, look.spacing), "notes": "; ".join(notes), "files": files}


def check_start(cases: Sequence[Case], takes: Takes, work: Work) -> None:
    """Raise DataError if no case can be segmented, as far as headers tell. Stop at the first one that can be."""
    faults: list[str] = []
    for case in cases:
        if not (fault := find_fault(case, takes, work)):
            return
        faults.append(fault)
    refuse(faults)


def find_fault(case: Case, takes: Takes, work: Work) -> str:
    """Return the sentence that tells why a case cannot be segmented, as far as headers tell, or ""."""
    if case.source is None:
        return case.fault
    try:
        check_fit(case.name, case.source.look(takes.plane), takes, work.any_plane)
    except Exception as error:
        return describe_fault(case, error)
    return ""


def keep_finished(cases: Sequence[Case], takes: Takes, work: Work, ledger: Ledger) -> tuple[list[Case], list[str]]:
    """Return the cases that lack a file, and a line for each case whose mask is there and cannot be read.

    Each case that lacks no file has a row in the ledger then. A process that was killed may have written a mask and not its
    row, so the mask is read again.
    """
    todo: list[Case] = []
    faults: list[str] = []
    for case in cases:
        targets = work.targets(case)
        if case.source is None or not all((work.output / target).is_file() for target in targets):
            todo.append(case)
        elif ledger.rows[case.name]["status"] != DONE:
            try:
                look, mask = case.source.look(takes.plane), case.source.read_mask(work.output, takes.plane)
                ledger.add(case.name, DONE, **describe_mask(case, mask, look, work))
            except Exception as error:
                _, fault = settle(ledger, case, describe_fault(case, error))
                faults.append(fault)
    return todo, faults


def choose_overlays(cases: Iterable[Case], ledger: Ledger, worst: bool) -> list[Case]:
    """Return the finished cases. If `worst` is true, return the WORST with the largest doubt; see `cases.doubt`."""
    finished = [case for case in cases if ledger.rows[case.name]["status"] == DONE]
    return sorted(finished, key=lambda case: -float(ledger.rows[case.name]["doubt"] or 0))[:WORST] if worst else finished


def draw(case: Case, takes: Takes, work: Work, ledger: Ledger) -> None:
    """Write the overlay of a finished case: a picture of its slices with the outlines of its mask.

    The image and the mask are read again, so that no image stays in memory until the worst cases are known.
    """
    from attnunet import figures  # imported here because matplotlib takes half a second

    assert case.source is not None
    channel = takes.file_channels.index(takes.channels[shown_channel(takes.channels)])
    volume, _ = read_case(case, takes, work)
    row = ledger.rows[case.name]
    title = f"{case.name}: {row['lesion_voxels']} lesion voxels, doubt {row['doubt']}"
    figure = figures.outlines(title, volume[..., channel], case.source.read_mask(work.output, takes.plane))
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=150)
    path = overlay_path(case)
    write_atomically(work.output / path, picture.getvalue())
    row["files"] = ";".join(dict.fromkeys([*row["files"].split(";"), path.as_posix()]))


def overlay_path(case: Case) -> Path:
    """Return the path of a case's overlay, relative to the output."""
    return OVERLAYS / f"{case.name.replace('/', '_')}.png"


def list_cases(cases: Sequence[Case], takes: Takes, work: Work, tell: Callable[[str], None]) -> list[str]:
    """Tell a line for each case: slices, spacing, orientation and the file of each sequence. Return a line for each fault.

    Only headers are read.
    """
    faults: list[str] = []
    for case in cases:
        if fault := find_fault(case, takes, work):
            faults.append(fault)
        elif case.source is not None:
            tell(f"{case.name}: {describe_look(case.source.look(takes.plane), takes.plane)}; {describe_files(case)}")
    return faults


def describe_look(look: Look, plane: str) -> str:
    """Return a text with the slices, the spacing and the orientation of a volume."""
    slices, rows, columns = look.shape
    shape = f"{slices} slices of {rows} x {columns}"
    if look.spacing is None:
        return f"{shape}, spacing and orientation unknown"
    distances = " x ".join(f"{distance:.4g}" for distance in look.spacing)
    return f"{shape}, {distances} mm, {look.orientation}{' (assumed)' if look.assumed else ''} shown as {plane}"


def describe_files(case: Case) -> str:
    """Return a text with the file of each sequence, or with the first file and the number of files."""
    if case.sequences:
        return ", ".join(f"{name}={path.name}" for name, path in case.sequences.items())
    assert case.source is not None
    first, *others = case.source.files
    return f"{first.name} and {len(others)} more" if others else first.name
