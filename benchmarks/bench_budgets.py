"""Memory and work of commands with small memory budgets.

Each row is measured in its own process. The process imports what the command imports,
loads the model as the command does and lets it restore 32 voxels, so that libraries,
weights and kernels are loaded; the budget does not cover this memory. It then returns
free memory to the system (malloc_trim), resets the kernel's high-water mark (VmHWM),
records the memory it holds (VmRSS), and runs the command on a volume of noise. "Used"
is the high-water mark minus this memory. "Work" is the number of computed voxels, and
"reads" the number of decoded voxels, divided by the number of voxels of the volume. If
a budget is too small, the command reports the smallest possible budget, which is then
tested as well. In rows with "from", the input is stored in large compressed blocks.

    python benchmarks/bench_budgets.py [--quick] [--only TEXT] [--write]
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import io as text_io
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from _document import replace_section

MB = 10**6
#: Largest accepted ratio of used memory to the budget.
TARGET = 1.10
BUDGETS = (85, 150, 300, 600)
MODELS = ("ct-denoise", "foam-sr-x2")
SHAPES = {"ct-denoise": (24, 256, 256), "foam-sr-x2": (24, 48, 48)}
#: Shapes of the blocks, and of the volumes, of inputs stored in blocks.
STORED = {
    "one-chunk.zarr": (64, 512, 512),
    "layers.zarr": (16, 512, 512),
    "one-chunk.h5": (64, 512, 512),
    "columns.h5": (64, 512, 128),
    "pages.tif": (1, 512, 512),
}
STORED_SHAPE = (64, 512, 512)
DOCUMENT = Path(__file__).parents[1] / "docs" / "memory_budgets.md"


@dataclass(frozen=True)
class Row:
    """One process: an operation, its input and model, and the budgets in MB."""

    operation: str
    case: str
    suffix: str
    budgets: tuple[float, ...]
    source: str = ""

    @property
    def title(self) -> str:
        """Title of the row in the table."""
        words = [f"`{self.operation}`", self.case, self.suffix]
        if self.source:
            words += ["from", self.source]
        return " ".join(filter(None, words))


def make_volume(path: Path, shape: tuple[int, int, int]) -> None:
    """Noise around two grey levels, like the scan of an object with blobs."""
    import numpy as np
    import tifffile

    rng = np.random.default_rng(0)
    z, y, x = np.indices((8, *shape[1:]))
    solid = (np.sin(y / 9) * np.sin(x / 11) + np.sin(z / 5)) > 0
    with tifffile.TiffWriter(path, bigtiff=True) as tif:
        for i in range(shape[0]):
            plane = 2000 + 1500 * solid[i % 8] + rng.normal(0, 300, shape[1:])
            tif.write(plane.astype("uint16"), contiguous=True)


def store(plain: Path, path: Path, chunks: tuple[int, int, int]) -> None:
    """Write the same voxels in compressed blocks."""
    import h5py
    import tifffile
    import zarr

    voxels = tifffile.imread(plain)
    if path.suffix == ".zarr":
        array = zarr.create_array(
            path, shape=voxels.shape, chunks=chunks, dtype=voxels.dtype
        )
        array[:] = voxels
    elif path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            options = {"compression": "gzip", "compression_opts": 1}
            file.create_dataset("v", data=voxels, chunks=chunks, **options)
    else:
        tifffile.imwrite(path, voxels, compression="zlib", predictor=True)


def make_projections(path: Path, n: int, rows: int, views: int) -> None:
    """Line integrals of noise; the memory needed does not depend on the values."""
    import numpy as np

    from napari_geosr.core.projections import Projections
    from napari_geosr.io.projections import write_projections

    rng = np.random.default_rng(0)
    data = rng.random((views, rows, n), np.float32)
    angles = np.linspace(0, 180, views, endpoint=False)
    scan = Projections(
        data=data, angles=angles, centre=(n - 1) / 2, is_line_integrals=True
    )
    write_projections(scan, path)


def arguments(row: Row, given: Path, out: Path) -> list[str]:
    """Return the arguments of the command."""
    words = [row.operation, str(given), "--out", str(out)]
    if row.operation == "restore":
        words += ["--model", row.case, "--device", "cpu"]
    if row.operation == "reconstruct":
        words += ["--algorithm", row.case]
        if row.case not in ("fbp", "fdk"):
            words += ["--iterations", "3"]
    return words


def inputs(row: Row, folder: Path) -> tuple[Path, Path]:
    """Write a tiny input, and the input for the measurement."""
    if row.operation == "reconstruct":
        tiny, big = folder / "tiny.h5", folder / "big.h5"
        make_projections(tiny, 32, 4, 16)
        make_projections(big, 256, 32, 64)
        return tiny, big
    tiny, big = folder / "tiny.tif", folder / "big.tif"
    make_volume(tiny, (6, 32, 32))
    if row.source:
        make_volume(big, STORED_SHAPE)
        stored = folder / row.source
        store(big, stored, STORED[row.source])
        return tiny, stored
    make_volume(big, SHAPES.get(row.case, (128, 256, 256)))
    return tiny, big


def child(row: Row) -> None:
    """Run all budgets in this process; after an error, also the smallest possible."""
    from napari_geosr.cli.app import run

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny, big = inputs(row, folder)
        said = text_io.StringIO()

        def command(given: Path, *more: str) -> int:
            out = folder / f"{given.stem}-out{row.suffix}"
            words = [*arguments(row, given, out), "--overwrite", *more]
            with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
                return run(words)

        if command(tiny):
            raise SystemExit(said.getvalue())
        waiting, refused = [*row.budgets], False
        while waiting:
            budget = waiting.pop(0)
            said.seek(0)
            said.truncate(0)
            ctypes.CDLL(None).malloc_trim(0)
            Path("/proc/self/clear_refs").write_text("5")
            before, start = status("VmRSS"), time.perf_counter()
            code = command(big, "--memory", f"{budget:g}MB")
            found: dict[str, Any] = {
                "budget": budget,
                "used": status("VmHWM") - before,
                "seconds": time.perf_counter() - start,
                "code": code,
                "said": " ".join(said.getvalue().split()),
            }
            if row.operation == "restore" and not code:
                from napari_geosr import io

                volume = io.read(folder / f"{big.stem}-out{row.suffix}")
                run_of = volume.provenance[-1]["run"]
                found["work"] = run_of["cost_factor"]
                found["reads"] = run_of.get("read_factor", 0.0)
            if row.operation == "measure" and not code:
                found["work"] = 1.0  # slabs of any thickness do not overlap
            print(json.dumps(found), flush=True)
            least = smallest(found["said"]) if code else None
            if least is not None and not refused:
                refused = True
                waiting.insert(0, least)


def status(key: str) -> int:
    """Return a memory value that the kernel reports for this process, in bytes."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise SystemExit(f"no {key} in /proc/self/status")


def measure(row: Row) -> Iterator[dict[str, Any]]:
    """Run a row in its own process."""
    with subprocess.Popen(
        [sys.executable, __file__, "--child", json.dumps(asdict(row))],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield json.loads(line)
    if process.returncode:
        raise SystemExit(f"{row.title} failed")


def smallest(said: str) -> float | None:
    """Smallest sufficient budget in MB according to the error, rounded up."""
    found = re.search(r"needs (?:at least |about )?([\d.]+) (kB|MB|GB)", said)
    if found is None:
        return None
    return float(found[1]) * {"kB": 1e-3, "MB": 1.0, "GB": 1e3}[found[2]]


def rows(quick: bool, budgets: tuple[float, ...]) -> list[Row]:
    """Return all rows of the table."""
    suffixes = (".ome.tif",) if quick else (".ome.tif", ".ome.zarr")
    models = MODELS[:1] if quick else MODELS
    found = [Row("restore", m, suffix, budgets) for m in models for suffix in suffixes]
    found.append(Row("measure", "", "", budgets))
    for source in () if quick else STORED:
        found.append(Row("restore", "ct-denoise", ".ome.tif", budgets, source))
        found.append(Row("measure", "", "", budgets, source))
    algorithms = ("fbp",) if quick else ("fbp", "sirt", "tv")
    return found + [Row("reconstruct", a, ".ome.tif", budgets) for a in algorithms]


def line_of(row: Row, found: dict[str, Any]) -> str:
    """Return a line of the table."""
    seconds = f"{found['seconds']:.0f} s"
    asked = f"| {row.title} | {found['budget']:g} MB |"
    if found["code"]:
        least = smallest(found["said"])
        told = found["said"] if least is None else f"refused: {least:g} MB needed"
        return f"{asked} {told} | – | – | – | {seconds} |"
    used = found["used"] / MB
    reads = f"{found['reads']:.1f}" if row.source and "reads" in found else "–"
    work = f"{found['work']:.2f}" if "work" in found else "–"
    figures = f"{used:.0f} MB | {used / found['budget']:.2f} | {work} | {reads}"
    return f"{asked} {figures} | {seconds} |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="run only a few rows")
    parser.add_argument(
        "--only", default="", help="run only rows with this text in the title"
    )
    parser.add_argument(
        "--budgets", default="", help="budgets in MB instead of the defaults"
    )
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        child(Row(**json.loads(options.child)))
        return 0
    budgets: tuple[float, ...] = BUDGETS[:2] if options.quick else BUDGETS
    if options.budgets:
        budgets = tuple(float(b) for b in options.budgets.split(","))
    head = [
        "| run | budget | used | used ÷ budget | work | reads | time |",
        "|---|---|---|---|---|---|---|",
    ]
    print("\n".join(head), flush=True)
    lines, missed = [], 0
    for row in rows(options.quick, budgets):
        if options.only not in row.title:
            continue
        said: list[float | None] = []
        for found in measure(row):
            lines.append(line_of(row, found))
            print(lines[-1], flush=True)
            if found["code"]:
                # A budget reported as sufficient must be sufficient.
                missed += found["code"] != 2 or found["budget"] in said
                said.append(smallest(found["said"]))
            else:
                missed += found["used"] > TARGET * found["budget"] * MB
    if options.write:
        replace_section(DOCUMENT, "budgets", "\n".join([*head, *lines]))
    print(
        f"{missed} rows failed, were refused the stated minimum, or used more than "
        f"{TARGET} times the budget"
    )
    return int(missed > 0)


if __name__ == "__main__":
    raise SystemExit(main())
