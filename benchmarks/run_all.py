"""Run all benchmarks in this folder one after the other, each in its own process.

    python benchmarks/run_all.py [--quick] [--except NAME …]

``--quick`` is passed to the benchmarks that support it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="pass --quick to the benchmarks that support it",
    )
    parser.add_argument(
        "--except", nargs="*", default=[], dest="left_out", help="benchmarks to skip"
    )
    options = parser.parse_args()
    here = Path(__file__)
    worst = 0
    for script in sorted(here.parent.glob("bench_*.py")):
        names = {script.stem.removeprefix("bench_"), script.stem, script.name}
        if names & set(options.left_out):
            continue
        print(f"=== {script.name}", flush=True)
        knows = '"--quick"' in script.read_text(encoding="utf-8")
        more = ["--quick"] if options.quick and knows else []
        start = time.perf_counter()
        done = subprocess.run([sys.executable, str(script), *more], check=False)
        print(f"({time.perf_counter() - start:.0f} s)", flush=True)
        worst = max(worst, done.returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
