"""Run every benchmark of this folder, one after the other, each in its own process."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path


def main() -> int:
    here = Path(__file__)
    worst = 0
    for script in sorted(here.parent.glob("*.py")):
        if script.name == here.name or script.name.startswith("_"):
            continue
        print(f"=== {script.name}", flush=True)
        code = subprocess.run([sys.executable, str(script)], check=False).returncode
        worst = max(worst, code)
    return worst


if __name__ == "__main__":
    sys.exit(main())
