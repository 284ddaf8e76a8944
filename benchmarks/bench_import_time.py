"""Time of imports relative to `import numpy`: target P12.

Each measurement uses a new interpreter; the time of an interpreter that does nothing is
subtracted. The alternatives run in turn, and the median of several runs is used. The
result is given in CPU time, which depends less on other programs, and in
wall-clock time. Manifest discovery is what napari does when it starts: it finds the
plugin among the installed packages and reads its manifest. The time for importing the
plugin engine itself is subtracted.

    python benchmarks/bench_import_time.py [--quick]
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time

TARGET = 1.5
HEAVY = ("torch", "scipy", "numba", "zarr", "dask", "skimage", "matplotlib")
NPE2 = "import npe2, npe2.manifest"
MANIFEST = (
    "import napari_geosr; from npe2 import PluginManifest; "
    "PluginManifest.from_distribution('napari-geosr')"
)
CODES = {
    "nothing": "pass",
    "numpy": "import numpy",
    "napari_geosr": "import napari_geosr",
    "plugin engine (npe2)": NPE2,
    "npe2 + manifest": f"{NPE2}; {MANIFEST}",
    "CLI --help": (
        "from napari_geosr.cli.app import run\n"
        "try: run(['--help'])\nexcept SystemExit: pass"
    ),
}


def once(code: str) -> tuple[float, float]:
    """CPU and wall-clock time, in seconds, of an interpreter that runs `code`."""
    before, wall = os.times(), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - wall
    after = os.times()
    used = after.children_user + after.children_system
    return used - before.children_user - before.children_system, wall


def loaded(code: str) -> list[str]:
    """Large libraries that `code` imports."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            f"{code}\nimport sys; print('\\n', *(set({HEAVY}) & set(sys.modules)))",
        ],
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.splitlines()[-1].split()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="5 rounds instead of 15")
    n = 5 if parser.parse_args().quick else 15
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in CODES}
    for code in CODES.values():  # fill the file cache and write bytecode
        once(code)
    for _ in range(n):
        for name, code in CODES.items():
            taken[name].append(once(code))
    processor, wall = (
        {name: statistics.median(t[i] for t in taken[name]) for name in CODES}
        for i in (0, 1)
    )
    missed = 0

    def row(name: str, base: str, counts: bool = True) -> None:
        nonlocal missed
        ratio = (processor[name] - processor[base]) / numpy_alone
        one_wall = wall["numpy"] - wall["nothing"]
        ratio_wall = (wall[name] - wall[base]) / one_wall
        heavy = loaded(CODES[name])
        good = (ratio <= TARGET or not counts) and not heavy
        missed += not good
        says = ("met" if good else "MISSED") if counts else "informative"
        print(
            f"{name:20} / import numpy: CPU time {ratio:.2f}, wall {ratio_wall:.2f}"
            f"{f' (target <= {TARGET})' if counts else ''}; heavy libraries: "
            f"{', '.join(heavy) or 'none'}  {says}"
        )

    numpy_alone = processor["numpy"] - processor["nothing"]
    print(f"median of {n}; import numpy: {numpy_alone:.3f} s of CPU time")
    row("napari_geosr", "nothing")
    row("npe2 + manifest", "plugin engine (npe2)")
    row("CLI --help", "nothing", counts=False)
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
