"""Where the time goes, measured on the machine that this runs on: `make bench`, on a quiet machine.

python experiments/throughput/bench.py [PART ...]     all parts without one

Each part is a script of its own beside this one, run in a process of its own. Writes results.csv and results.png.
"""

import argparse
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from measure import Row, read, write
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).parent
PARTS = ("step", "pipeline", "preparation", "volumes", "overhead", "start", "sweep", "inference", "runtimes")


def machine() -> str:
    """The processor, its cores, and the packages that the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.split(": ")[1] for line in lines if line.startswith("model name")), platform.processor())
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    units = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    versions = ", ".join(f"{name} {version(name)}" for name in ("tensorflow", "keras", "numpy"))
    return f"{model}, {os.cpu_count()} cores, {' '.join(units)}; {versions}"


def measured(part: str) -> list[Row]:
    """The rows of one part. Bytecode is written: without, each import of TensorFlow takes 10 s more."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parents[1]), environment.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        rows = Path(folder) / "rows.csv"
        subprocess.run([sys.executable, HERE / f"{part}.py", rows], env=environment, cwd=folder, check=True)
        return read(rows)


def table(rows: list[Row], title: str) -> Table:
    shown = Table("part", "what", "median", "least", "most", "unit", "wanted", title=title)
    for row in rows:
        numbers = (f"{value:.3g}" if value < 100 else f"{value:.0f}" for value in (row.median, row.least, row.most))
        shown.add_row(row.part, row.name, *numbers, row.unit, f"{row.wanted}{'  MISSED' if row.missed else ''}")
    return shown


def figure(rows: list[Row], title: str, path: Path) -> None:
    """What was reached of each bound: 1 is the bound itself, more is better."""
    from matplotlib.figure import Figure

    bounded = [row for row in rows if row.wanted][::-1]
    reached = [row.median / float(row.wanted[3:]) if row.wanted[0] == ">" else float(row.wanted[3:]) / row.median
               for row in bounded]  # fmt: skip
    drawn = Figure((8, 0.3 * len(bounded) + 1.2), layout="constrained")
    axes = drawn.add_subplot(
        title=title.replace("; ", "\n"), xlabel="reached of what was wanted (1: just reached)", xscale="log"
    )
    axes.title.set_fontsize(8)
    axes.barh(range(len(bounded)), reached, color=["tab:red" if row.missed else "tab:blue" for row in bounded])
    axes.set_yticks(range(len(bounded)), [f"{row.part}: {row.name}" for row in bounded], fontsize=8)
    axes.axvline(1, color="black", linewidth=1)
    drawn.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}")
    parts = parser.parse_args().parts or PARTS
    if unknown := sorted(set(parts) - set(PARTS)):
        parser.error(f"no such part: {', '.join(unknown)}; allowed: {', '.join(PARTS)}")
    results = HERE / "results.csv"
    kept = [row for row in read(results) if row.part not in parts] if results.exists() else []
    rows = sorted([*kept, *(row for part in parts for row in measured(part))], key=lambda row: PARTS.index(row.part))
    write(rows, results)
    figure(rows, machine(), HERE / "results.png")
    Console(width=140).print(table(rows, machine()))


if __name__ == "__main__":
    main()
