"""Find what is likely wrong with a data set: `python -m attnunet.audit data=lgg data.root=DIR`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from attnunet.data.files import write_csv
from attnunet.errors import exit_on_error
from attnunet.sweeps import commands, terminal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from attnunet.data.audit import Finding


def audit(cfg: DictConfig, choice: str, console: Console) -> None:
    """Check all files of the data, and print a table of the findings. If a study is given, also log the findings.

    Raises:
        DataError: the files cannot be used at all. The table says what is wrong with them.
    """
    from attnunet.config import objects
    from attnunet.data import audit as checks
    from attnunet.data.slices import DataError

    try:
        dataset, prepared = objects.open_data(cfg.data, Path(cfg.tracking.root) / "cache")
        found = checks.audit(dataset, prepared)
        counted = f"{len({item.patient for item in dataset.slices})} patients, {len(dataset.slices)} slices"
        unusable = False
    except DataError as error:
        found = [checks.Finding("unusable", "", line) for line in str(error).splitlines() if line]
        counted, unusable = "unusable", True
    print_findings(found, counted, console)
    if cfg.study is not None:
        log_findings(cfg, choice, found, console)
    if unusable:
        raise DataError("data: they cannot be used before that is mended")


def print_findings(found: Sequence[Finding], counted: str, console: Console) -> None:
    """Print a row for each finding. Names and paths are printed as plain text."""
    from rich.table import Table
    from rich.text import Text

    table = Table("check", "patients", "found")
    for finding in found:
        table.add_row(*map(Text, (finding.check, finding.patients, f"{finding.found}\n{finding.file}".rstrip())))
    if found:
        console.print(table, soft_wrap=False)
    console.print(f"audit: {counted}, {len(found)} finding(s)")


def log_findings(cfg: DictConfig, choice: str, found: Sequence[Finding], console: Console) -> None:
    """Log the findings as a run of the study: the table as audit.csv, and the number of findings of each check."""
    from attnunet.tracking.labels import flatten
    from attnunet.tracking.provenance import provenance
    from attnunet.tracking.run import open_run

    store = commands.open_runs(cfg.tracking)
    plain: Any = OmegaConf.to_container(cfg.data, resolve=True)
    params, tags = {"data": choice, **flatten(plain, "data.")}, {**provenance([]), "audit": str(len(found))}
    with open_run(store, store.study(cfg.study), f"audit {choice}", params, tags) as current:
        counts = Counter(finding.check.replace(" ", "_") for finding in found)
        current.metrics({"audit/findings": len(found), **{f"audit/{name}": n for name, n in counts.items()}}, step=0)
        current.text(write_csv(finding.row() for finding in found), "audit.csv")
    console.print(f"run {current.id}: {current.artifacts}/audit.csv")


def job(cfg: DictConfig) -> None:
    """Hydra's task function."""
    with exit_on_error():
        audit(cfg, HydraConfig.get().runtime.choices["data"], terminal.console(160))


def main() -> None:
    """The command `attnunet-audit`."""
    commands.run_command(job, "audit")


if __name__ == "__main__":
    main()
