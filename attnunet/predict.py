"""Segment new images with a run's network: `python -m attnunet.predict run=RUN_ID input=PATH output=DIR`.

The exit code is 0 if all cases were segmented, 1 if some failed, and 2 if nothing could start.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from attnunet import __version__, config
from attnunet.errors import exit_on_error, explain
from attnunet.sweeps import commands, terminal
from attnunet.training import runtime

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.inference.inputs.case import Case, Found
    from attnunet.inference.ledger import Ledger
    from attnunet.inference.segmenting import Work
    from attnunet.inference.stream import Segmenter
    from attnunet.tracking.models import Model

SOME_FAILED, NOTHING_STARTED = 1, 2
"""The exit codes of this command besides 0."""
INT8 = "openvino-int8"
"""The engine besides Keras; see `attnunet.evaluation.engines`."""
SETTINGS = ("flip", "threshold", "smallest_lesion", "fill_holes", "batch_size")
"""The keys that replace a setting of the model."""
CHANGING = (*SETTINGS[:-1], "engine")
"""The keys that may change a mask."""


class Needs(NamedTuple):
    """The facts about a model that are known before TensorFlow is loaded; see `attnunet.inference.predictor.Preparation`.

    `scaled` tells whether intensities are scaled over a volume.
    """

    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    plane: str
    scaled: bool


def find_inputs(cfg: DictConfig, root: Path) -> Found:
    """Return the volumes at the input, after a check of the input and the output.

    `root` is the input, or the folder into which it was unpacked.

    Raises:
        DataError: nothing can be segmented, or the output is no folder for masks.
    """
    from attnunet.data.slices import DataError
    from attnunet.inference import inputs

    given, output = Path(cfg.input), Path(cfg.output)
    if not given.exists():
        raise DataError(f"input={given}: no such file or folder")
    found = inputs.find(root, cfg.ignore)
    if given.is_dir() and output.resolve().is_relative_to(given.resolve()):
        raise DataError(f"output={output}: lies in the input, where masks would be taken for images; give another folder")
    for place in {source.place for source in found.volumes}:
        config.check_folder("output", str(output / place))
    inputs.check_readable(found)
    return found


def find_needs(model: Model) -> Needs:
    """Return the facts about a model, which may have several members. They take the same volumes."""
    from attnunet.data.intensity import is_scaled

    preparations = [facts["preparation"] for facts in model.facts]
    used = {name for preparation in preparations for name in preparation["channels"]}
    names = tuple(preparations[0]["file_channels"])
    return Needs(
        names,
        tuple(name for name in names if name in used),
        preparations[0].get("plane", "axial"),
        any(is_scaled(preparation["intensity"]) for preparation in preparations),
    )


def check_engine(cfg: DictConfig, model: Model) -> None:
    """Raise ConfigError if the engine needs packages that are not installed, or a run that the model does not have."""
    if cfg.engine != INT8:
        return
    if lacking := [name for name in ("openvino", "nncf") if find_spec(name) is None]:
        raise config.ConfigError(f"engine={INT8} needs the package {lacking[0]}: pip install 'attnunet[openvino]'")
    if not model.records:
        raise config.ConfigError(
            f"engine={INT8}: is calibrated on training slices of a run, and run={model.name} is a folder; allowed: a run"
        )


def load(cfg: DictConfig, model: Model, console: Console) -> Segmenter:
    """Return the predictor with the settings of the command line. TensorFlow is loaded."""
    runtime.load_tensorflow()

    from attnunet.evaluation.ensembles import load_model

    predictor = load_model(model, **{key: cfg[key] for key in SETTINGS})
    if cfg.engine != INT8:
        return predictor

    from attnunet.evaluation.engines import use_int8

    return use_int8(model, predictor, console.print)


def predict(cfg: DictConfig, root: Path, console: Console) -> bool:
    """Find the cases and segment them, or only list them. Return whether no case failed.

    Raises:
        UserError: nothing could start.
    """
    from attnunet.inference import segmenting

    found = find_inputs(cfg, root)
    model = commands.find_model(cfg)
    check_engine(cfg, model)
    needs = find_needs(model)
    patterns: Any = OmegaConf.to_container(cfg.channels) if cfg.channels else None
    cases, passed = found.cases(needs, patterns)
    if line := passed.describe():
        console.print(line)
    work = segmenting.Work(Path(cfg.output), find_endings(cfg), cfg.any_plane, needs.scaled)
    segmenting.check_start(cases, needs, work)
    if cfg.dry_run:
        return list_cases(cfg, root, cases, needs, work, console)
    ledger = segment(cfg, root, model, needs, cases, work, console)
    if ledger is None:
        return False
    print_summary(cfg, cases, ledger, console)
    if (
        passed.ignored and not patterns and (reader := found.reader(passed))
    ):  # with patterns, the data set names other channels
        asked = cfg.run if isinstance(cfg.run, str) else list(cfg.run)
        run, data = config.format_override("run", asked), config.format_override("data.root", cfg.input)
        command = f"python -m attnunet.evaluate {run} data={reader} {data} part=all"
        console.print(f"to score the run on the references there: {command}")
    return ledger.complete([case.name for case in cases])


def find_endings(cfg: DictConfig) -> tuple[str, ...]:
    """Return the endings of the files to write for each case, before the suffix."""
    from attnunet.inference.segmenting import MASK, PROBABILITY, UNCERTAINTY

    asked = {MASK: True, PROBABILITY: cfg.probabilities, UNCERTAINTY: cfg.uncertainty}
    return tuple(ending for ending, wanted in asked.items() if wanted)


def list_cases(cfg: DictConfig, root: Path, cases: Sequence[Case], needs: Needs, work: Work, console: Console) -> bool:
    """Print a line for each case, without reading images. Return whether all cases can be segmented."""
    from attnunet.inference import segmenting

    faults = segmenting.list_cases(cases, needs, work, console.print)
    for fault in faults:
        print_fault(cfg, root, fault)
    console.print(f"{len(cases) - len(faults)} of {len(cases)} cases can be segmented; dry_run=true writes nothing")
    return not faults


def segment(
    cfg: DictConfig, root: Path, model: Model, needs: Needs, cases: Sequence[Case], work: Work, console: Console
) -> Ledger | None:
    """Segment the cases, and write masks, overlays, cases.csv and run.json. Return the rows, or None if a disk is full.

    Raises:
        UserError: files of the output are in the way.
    """
    from attnunet.inference import segmenting
    from attnunet.inference.ledger import check_settings, open_ledger, write_run

    anew, settings = cfg.existing == "overwrite", describe_settings(cfg, model)
    check_outputs(cases, work, cfg.existing)
    if not anew:
        check_settings(work.output, settings)
    ledger = open_ledger(work.output, [case.name for case in cases], anew)
    todo, faults = segmenting.keep_finished(cases, needs, work, ledger) if cfg.existing == "skip" else (cases, [])
    for fault in faults:
        print_fault(cfg, root, fault)
    if len(todo) < len(cases):
        console.print(f"existing=skip: {len(cases) - len(todo)} of {len(cases)} cases are there")
    predictor = load(cfg, model, console) if any(case.source for case in todo) else None
    if predictor is not None:
        write_run(work.output, describe_run(cfg, model, predictor, settings))
    ledger.write()
    try:
        try:
            run_cases(cfg, root, predictor, todo, work, ledger, console)
            if cfg.overlays != "none":
                draw_overlays(cfg, needs, cases, work, ledger, console)
        finally:
            ledger.write()
    except OSError as error:  # a file cannot be written, and neither could the next one
        print_fault(cfg, root, explain(error) or str(error))
        return None
    return ledger


def check_outputs(cases: Sequence[Case], work: Work, existing: str) -> None:
    """Raise DataError if an output would replace an existing file, an input or another output.

    Unless `existing` is "refuse", an output may replace an existing file that is not an input.
    """
    from attnunet.data.slices import DataError

    inputs = {file.resolve() for case in cases if case.source for file in case.source.files}
    targets: set[Path] = set()
    for target in (work.output / path for case in cases for path in work.targets(case)):
        if target.resolve() in inputs:
            raise DataError(f"output={work.output}: {target} is an image of the input; give another folder")
        if target in targets:
            raise DataError(f"output={work.output}: two images of the input would be written to {target}; rename one")
        if target.is_dir():
            raise DataError(f"output={work.output}: {target} is a folder; give another output")
        if target.exists() and existing == "refuse":
            raise DataError(
                f"output={work.output}: {target} exists; allowed: existing=skip to do what is missing, or overwrite"
            )
        targets.add(target)


def run_cases(
    cfg: DictConfig,
    root: Path,
    predictor: Segmenter | None,
    cases: Sequence[Case],
    work: Work,
    ledger: Ledger,
    console: Console,
) -> None:
    """Segment the cases, with a bar that shows the time left. Print a line for each case that fails."""
    from attnunet.inference import segmenting

    with terminal.bar(console, "cases", len(cases)) as advance:
        for _, fault in segmenting.segment(predictor, cases, work, ledger):
            if fault:
                print_fault(cfg, root, fault)
                if cfg.on_error == "stop":
                    return
            ledger.write_now_and_then()
            advance()


def draw_overlays(cfg: DictConfig, needs: Needs, cases: Sequence[Case], work: Work, ledger: Ledger, console: Console) -> None:
    """Write the overlays of all finished cases, or of the most doubtful ones."""
    from attnunet.inference import segmenting

    chosen = segmenting.choose_overlays(cases, ledger, worst=cfg.overlays == "worst")
    with terminal.bar(console, "overlays", len(chosen)) as advance:
        for case in chosen:
            segmenting.draw(case, needs, work, ledger)
            advance()


def describe_settings(cfg: DictConfig, model: Model) -> dict[str, Any]:
    """Return everything that a mask depends on besides the image, as the command line gives it."""
    from attnunet.data.files import checksum

    files = [model.folder / name for name in ("best.keras", "predictor.json")] if model.folder else []
    networks = [record.id for record in model.records] or [checksum(file) for file in files]
    patterns = cfg.channels and OmegaConf.to_container(cfg.channels)
    return {"networks": networks, **{key: cfg[key] for key in CHANGING}, "channels": patterns}


def describe_run(cfg: DictConfig, model: Model, predictor: Segmenter, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the facts for run.json."""
    packages = ("tensorflow", "keras", "numpy", "opencv-python", "scipy")
    return {
        "model": {"run": model.name, "members": model.sources, "channels": predictor.channels, "plane": predictor.plane},
        "decision": vars(predictor.decision),
        "settings": settings,
        "keys": OmegaConf.to_container(config.without_hydra(cfg)),
        "versions": {"attnunet": __version__, **{name: metadata.version(name) for name in packages}},
    }


def print_fault(cfg: DictConfig, root: Path, fault: str) -> None:
    """Print why a case failed. A file in an archive is named by the archive."""
    print(f"attnunet: {fault.replace(str(root), cfg.input)}", file=sys.stderr)


def print_summary(cfg: DictConfig, cases: Sequence[Case], ledger: Ledger, console: Console) -> None:
    """Print what was done, and what a user should know of the masks."""
    from attnunet.inference.ledger import CASES, DONE
    from attnunet.inference.segmenting import NOTES

    rows = [row for case in cases if (row := ledger.rows[case.name])["status"] == DONE]
    slices, voxels = (sum(int(row[key]) for row in rows) for key in ("slices", "lesion_voxels"))
    with_lesion = sum(int(row["lesion_voxels"]) > 0 for row in rows)
    console.print(
        f"segmented {len(rows)} of {len(cases)} cases: {slices:,} slices, {voxels:,} lesion voxels, a lesion in {with_lesion}"
    )
    for note in NOTES:
        if noted := [row["case"] for row in rows if note in row["notes"]]:
            console.print(f"{len(noted)} case(s), such as {noted[0]}: {note}")
    if len(rows) < len(cases):
        console.print("after a repair, the same command with existing=skip does the cases that are missing")
    console.print(f"masks  {cfg.output}\ntable  {Path(cfg.output) / CASES}")


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        from attnunet.inference import inputs

        with inputs.unpacked(Path(cfg.input)) as root:
            complete = predict(cfg, root, terminal.console())
    if not complete:
        sys.exit(SOME_FAILED)


def main() -> None:
    """The command `attnunet-predict`."""
    try:
        commands.run_command(job, "predict")
    except SystemExit as end:
        if not isinstance(end.code, str):  # a text is the sentence of a refusal
            raise
        print(end.code, file=sys.stderr)
        sys.exit(NOTHING_STARTED)


if __name__ == "__main__":
    main()
