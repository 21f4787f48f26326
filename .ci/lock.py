"""Write requirements.lock: what pyproject.toml with its extra `dev` resolves to today; names and versions only."""

import datetime
import json
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
OURS = {"attnunet", "pip"}
OLDEST = (3, 11)
"""The supported Python whose lock the others can install too: packages drop old Pythons, not new ones."""


def resolve() -> dict[str, str]:
    """Name -> version of every package that would be installed into an empty environment."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed", "--report", "-"]
    answer = subprocess.run([*command, f"{ROOT}[dev]"], check=True, stdout=subprocess.PIPE, text=True).stdout
    found = (item["metadata"] for item in json.loads(answer)["install"])
    return {meta["name"].lower().replace("_", "-"): meta["version"] for meta in found}


if __name__ == "__main__":
    if sys.version_info[:2] != OLDEST:
        sys.exit(f"lock: resolve with Python 3.11, the oldest that is supported, not with {platform.python_version()}")
    today, machine = datetime.date.today(), f"Python {platform.python_version()}, {platform.machine()} {platform.system()}"
    head = f"# What `make setup` installs on every Python: pyproject.toml with its extra dev, resolved on {today}, {machine}."
    pins = [f"{name}=={version}" for name, version in sorted(resolve().items()) if name not in OURS]
    (ROOT / "requirements.lock").write_text("\n".join([head, "# By `make lock`.", *pins]) + "\n")
