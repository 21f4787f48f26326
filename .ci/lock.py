"""Write requirements.lock: what pyproject.toml with its extra `dev` resolves to today; names and versions only.

Then write requirements-gpu.lock: what the extra `gpu` adds to these versions.
"""

import datetime
import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = {"attnunet", "pip"}
OLDEST = (3, 11)
"""The supported Python whose lock the others can install too: packages drop old Pythons, not new ones."""


def resolve(extra: str, *options: str) -> dict[str, str]:
    """Name -> version of every package that would be installed into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    answer = subprocess.run([*command, *options, f"{ROOT}[{extra}]"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = (item["metadata"] for item in json.loads(answer)["install"])
    return {meta["name"].lower().replace("_", "-"): meta["version"] for meta in found}


def write(file: str, head: str, found: Mapping[str, str]) -> set[str]:
    """Write a lock file; return the names in it."""
    pins = {name: version for name, version in sorted(found.items()) if name not in OURS}
    lines = [head, "# By `make lock`.", *(f"{name}=={version}" for name, version in pins.items())]
    (ROOT / file).write_text("\n".join(lines) + "\n")
    return set(pins)


if __name__ == "__main__":
    if sys.version_info[:2] != OLDEST:
        sys.exit(f"lock: resolve with Python 3.11, the oldest that is supported, not with {platform.python_version()}")
    today, machine = datetime.date.today(), f"Python {platform.python_version()}, {platform.machine()} {platform.system()}"
    head = f"# What `make setup` installs on every Python: pyproject.toml with its extra dev, resolved on {today}, {machine}."
    pins = write("requirements.lock", head, resolve("dev"))
    head = f"# What the extra gpu adds to requirements.lock, for a GPU on Linux: resolved on {today}, {machine}."
    added = resolve("gpu", "--constraint", str(ROOT / "requirements.lock"))
    write("requirements-gpu.lock", head, {name: version for name, version in added.items() if name not in pins})
