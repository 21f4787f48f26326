"""Segment new images with a run's network: `python -m attnunet.predict run=RUN_ID input=PATH output=DIR`.

The exit code is 0 if all cases were segmented, 1 if some failed, and 2 if nothing could start.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from omegaconf import DictConfig, OmegaConf

from attnunet import __version__, config
from attnunet.errors import exit_on_error, explain
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from rich.console import Console

    from attnunet.inference.cases import Ledger
    from attnunet.inference.inputs import Case, Found, Passed
    from attnunet.inference.segmenting import Work
    from attnunet.inference.stream import Segmenter
    from attnunet.tracking.records import Record

SOME_FAILED, NOTHING_STARTED = 1, 2
"""The exit codes of this command besides 0."""
DECISION = ("threshold", "smallest_lesion", "fill_holes")


class Model(NamedTuple):
    """The facts about a run's predictor, which are known before TensorFlow is loaded.

    Attributes:
        file_channels, channels, plane, intensity: see `attnunet.inference.predictor.Preparation`.
        settings: everything that a mask depends on besides the image: the run, the decision, flips and the engine.
    """

    record: Record
    file_channels: tuple[str, ...]
    channels: tuple[str, ...]
    plane: str
    intensity: str
    settings: dict[str, Any]


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


def find_model(cfg: DictConfig, record: Record) -> Model:
    """Return the facts about the run's predictor, with the settings of the command line."""
    facts = json.loads(record.text("checkpoints/predictor.json"))
    preparation = facts["preparation"]
    own = {**facts["decision"], "flip": facts["flip"]}
    changed = {key: value if cfg[key] == "frozen" else cfg[key] for key, value in own.items()}
    return Model(
        record,
        tuple(preparation["file_channels"]),
        tuple(preparation["channels"]),
        preparation.get("plane", "axial"),
        preparation["intensity"],
        {"run": record.id, **changed, "engine": cfg.engine},
    )


def load(cfg: DictConfig, model: Model) -> Segmenter:
    """Return the predictor with the settings of the command line. TensorFlow is loaded."""
    commands.load_tensorflow()

    from attnunet.evaluation import scoring

    predictor = scoring.load_predictor(model.record)
    return predictor.adjusted(**{key: cfg[key] for key in (*DECISION, "flip", "batch_size")})


def predict(cfg: DictConfig, root: Path, console: Console) -> bool:
    """Segment the cases and write the results. Return whether all cases were segmented.

    Raises:
        UserError: nothing could start.
    """
    from attnunet.inference import cases as ledgers
    from attnunet.inference import segmenting

    found = find_inputs(cfg, root)
    model = find_model(cfg, commands.find_checkpoint(cfg))
    patterns: Any = OmegaConf.to_container(cfg.channels) if cfg.channels else None
    cases, passed = found.cases(model, patterns)
    endings = [segmenting.MASK, *(f"_{name}" for name in ("probability", "uncertainty") if cfg[PLURAL[name]])]
    work = segmenting.Work(Path(cfg.output), tuple(endings), cfg.any_plane, scaled=model.intensity != "raw")
    if line := passed.describe():
        console.print(line)
    if cfg.dry_run:
        faults = segmenting.list_cases(cases, model, work, console.print)
        for fault in faults:
            print_fault(cfg, root, fault)
        console.print(f"dry run: {len(cases) - len(faults)} of {len(cases)} cases can be segmented; nothing was written")
        return not faults

    segmenting.check_start(cases, model, work)
    check_outputs(cases, work, cfg.existing)
    if cfg.existing != "overwrite":
        ledgers.check_settings(work.output, model.settings)
    ledger = ledgers.open_ledger(work.output, [case.name for case in cases], anew=cfg.existing == "overwrite")
    todo = cases if cfg.existing != "skip" else segmenting.keep_finished(cases, model, work, ledger)
    predictor = load(cfg, model) if any(case.source for case in todo) else None
    ledgers.write_run(work.output, describe_run(cfg, model))
    ledger.write()
    try:
        try:
            run_cases(cfg, root, predictor, todo, work, ledger, console)
            if cfg.overlays != "none":
                draw_overlays(cfg, model, cases, work, ledger, console)
        finally:
            ledger.write()
    except OSError as error:  # a file cannot be written, and neither could the next
        print_fault(cfg, root, explain(error) or str(error))
        return False
    print_summary(cfg, model, found, passed, cases, len(cases) - len(todo), ledger, console)
    return all(ledger.rows[case.name]["status"] == ledgers.DONE for case in cases)


PLURAL = {"probability": "probabilities", "uncertainty": "uncertainty"}
"""Maps the ending of a file's name to the key that asks for the file."""


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


def draw_overlays(cfg: DictConfig, model: Model, cases: Sequence[Case], work: Work, ledger: Ledger, console: Console) -> None:
    """Write the overlays of all finished cases, or of the most doubtful ones."""
    from attnunet.inference import segmenting
    from attnunet.inference.cases import DONE

    finished = [case for case in cases if ledger.rows[case.name]["status"] == DONE]
    chosen = finished if cfg.overlays == "all" else segmenting.find_worst(finished, ledger)
    with terminal.bar(console, "overlays", len(chosen)) as advance:
        for case in chosen:
            segmenting.draw(case, model, work, ledger)
            advance()


def describe_run(cfg: DictConfig, model: Model) -> dict[str, Any]:
    """Return the facts for run.json."""
    packages = ("tensorflow", "keras", "numpy", "opencv-python", "scipy")
    return {
        "model": {"run": model.record.id, "name": model.record.name, "channels": model.channels, "plane": model.plane},
        "settings": model.settings,
        "keys": OmegaConf.to_container(config.without_hydra(cfg)),
        "versions": {"attnunet": __version__, **{name: metadata.version(name) for name in packages}},
    }


def print_fault(cfg: DictConfig, root: Path, fault: str) -> None:
    """Print why a case failed. A file in an archive is named by the archive."""
    print(f"attnunet: {fault.replace(str(root), cfg.input)}", file=sys.stderr)


def print_summary(
    cfg: DictConfig,
    model: Model,
    found: Found,
    passed: Passed,
    cases: Sequence[Case],
    kept: int,
    ledger: Ledger,
    console: Console,
) -> None:
    """Print what was done, what a user should know of the masks, and how references beside the images can be used."""
    from attnunet.inference import segmenting
    from attnunet.inference.cases import CASES, DONE

    rows = [row for case in cases if (row := ledger.rows[case.name])["status"] == DONE]
    slices, voxels = (sum(int(row[key]) for row in rows) for key in ("slices", "lesion_voxels"))
    with_lesion = sum(int(row["lesion_voxels"]) > 0 for row in rows)
    told = f"{len(rows)} of {len(cases)} cases: {slices:,} slices, {voxels:,} lesion voxels, lesion in {with_lesion}"
    console.print(f"{told}; {kept} were there" if kept else told)
    if lone := [row["case"] for row in rows if segmenting.LONE in row["notes"]]:
        console.print(f"{len(lone)} case(s), as {lone[0]}: {segmenting.LONE}; give the folder of the volume")
    if assumed := [row["case"] for row in rows if segmenting.ASSUMED in row["notes"]]:
        console.print(f"{len(assumed)} case(s), as {assumed[0]}: {segmenting.ASSUMED}")
    if passed.ignored and (reader := found.reader(passed)):
        place = f"data={reader} data.root={cfg.input} part=all"
        console.print(f"if references lie there: python -m attnunet.evaluate run={model.record.id} {place}")
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
