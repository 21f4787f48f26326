"""The folder with the results of a comparison. A folder answers a single question."""

import itertools
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from attnunet import __version__
from attnunet.comparison.page import page
from attnunet.comparison.paper.facts import make_protocol
from attnunet.comparison.paper.files import paper_files
from attnunet.comparison.table import Comparison, tables
from attnunet.data.files import digest
from attnunet.figures.comparison import save_all
from attnunet.tracking.provenance import command, git
from attnunet.tracking.records import Record, RunError, find_runs
from attnunet.tracking.run import Run
from attnunet.tracking.store import Store

QUESTION = "comparison.json"
"""The file in a results folder that holds the question as JSON."""


def question_key(cfg: DictConfig, store: Store) -> str:
    """Return the question as JSON.

    Two commands have an equal question if they ask the same of the same store. The keys `tracking`, `output`, `register` and
    `modules` do not belong to the question.
    """
    plain: Any = OmegaConf.to_container(cfg, resolve=True)
    keys = {key: value for key, value in plain.items() if key not in ("tracking", "output", "register", "modules")}
    return json.dumps({**keys, "store": store.shown_address}, indent=1)


def find_folder(cfg: DictConfig, question: str, first: str) -> Path:
    """Return the folder for the results. It is new, or it holds an earlier answer to the same question.

    `first` is the id of the first run.

    Raises:
        RunError: `output` names a folder that holds anything else.
    """
    name = cfg.study or (f"sweep-{cfg.sweep[:8]}" if cfg.sweep else f"runs-{first[:8]}")
    wanted = Path(cfg.output or Path(cfg.tracking.root, "compare", name)).resolve()
    for number in itertools.count(1):
        folder = wanted if number == 1 else wanted.with_name(f"{wanted.name}-{number}")
        earlier = folder / QUESTION
        if not folder.exists() or not any(folder.iterdir()) or (earlier.exists() and earlier.read_text() == question):
            break
        if cfg.output:
            raise RunError(f"output={cfg.output}: {wanted} holds something else, and it stays; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    earlier.write_text(question)
    return folder


def write_results(
    cfg: DictConfig,
    folder: Path,
    comparison: Comparison,
    records: Sequence[Record],
    left_out: Sequence[str],
    notes: Sequence[str],
) -> Path:
    """Write the page, the tables and the files for a paper, and return the page's path.

    `records` are the runs of the comparison. See `page` for `left_out` and `notes`.
    """
    title = f"{cfg.score} of {describe_source(cfg)} on {'test' if cfg.test else 'validation'} patients"
    made = f"{time.strftime('%Y-%m-%d %H:%M')}, attnunet {__version__} {git('rev-parse', '--short', 'HEAD')}"
    server = records[0].store.ui_command or ""
    html = page(comparison, title, left_out, notes, {"Command": command(), "Made": made}, server)
    protocol = make_protocol(comparison, records, notes)
    for name, text in {**tables(comparison), **paper_files(protocol, title), "compare.html": html}.items():
        (folder / name).write_bytes(text.encode())
    save_all(comparison, folder / "figures")
    return folder / "compare.html"


def describe_source(cfg: DictConfig) -> str:
    """Return where the runs of a comparison come from, in words."""
    return f"study {cfg.study}" if cfg.study else f"sweep {cfg.sweep}" if cfg.sweep else f"{len(cfg.runs)} runs"


def log_results(store: Store, sweep: str, folder: Path, question: str) -> None:
    """Copy the files of a results folder to the parent run of a sweep, into an artifact folder for this question."""
    (parent,) = find_runs(store, [sweep])
    run = Run(store, parent.id)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        run.file(file, f"compare/{digest([question])}/{file.relative_to(folder).parent}".removesuffix("/."))
