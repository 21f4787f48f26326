"""Fail on a known vulnerability of what requirements.lock names; say how much of it the registry could tell of."""

import json
import subprocess
import sys
from pathlib import Path

LOCK = Path(__file__).parent.parent / "requirements.lock"

if __name__ == "__main__":
    command = [sys.executable, "-m", "pip_audit", "--requirement", str(LOCK), "--no-deps", "--disable-pip", "--format", "json"]
    answer = subprocess.run([*command, "--progress-spinner", "off"], capture_output=True, text=True, check=False)
    try:
        packages = json.loads(answer.stdout)["dependencies"]
    except json.JSONDecodeError:
        print(f"audit: the registry does not answer; nothing was audited\n{answer.stderr.strip()[-500:]}")
        sys.exit(0)
    vulnerable = [package for package in packages if package.get("vulns")]
    for package in vulnerable:
        print(f"{package['name']} {package['version']}: {', '.join(found['id'] for found in package['vulns'])}")
    known = sum("vulns" in package for package in packages)
    print(f"audit: {known} of {len(packages)} packages are known to the registry, {len(vulnerable)} are vulnerable")
    sys.exit(1 if vulnerable else 0)
