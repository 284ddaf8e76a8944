"""Time of `restore --continue` for many tiles: linear in their number.

A volume of n small planes is restored plane by plane, with one tile per plane, into an
OME-TIFF. One run is uninterrupted; another is stopped after half of its tiles and
resumed by the command. "Resumed half" is the time of this second command, including all
checks; it computes half of the tiles.

    python benchmarks/bench_resume.py [--tiles 1000,2000,4000,8000]
"""

from __future__ import annotations

import argparse
import contextlib
import io as text_io
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

import numpy as np
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import StepIterator, TileDone
from napari_geosr.inference.tiles import choice as tile_choice
from napari_geosr.operations.restore import RestoreConfig, restore_steps

MODEL = "ct-denoise"


def make_volume(path: Path, n: int) -> None:
    """A stack of noise around two grey values."""
    rng = np.random.default_rng(0)
    solid = np.indices((n, 48, 48)).sum(axis=0) // 16 % 2
    tifffile.imwrite(
        path, (1000 * solid + rng.normal(5000, 99, solid.shape)).astype("u2")
    )


@contextmanager
def one_plane_per_tile() -> Iterator[None]:
    """Make each tile a single plane."""
    with mock.patch.object(tile_choice, "_SECONDS_PER_STACK", 0.0):
        yield


def command(path: Path, out: Path, *more: str) -> float:
    """Return the time of a restoration by the command, in seconds."""
    words = ["restore", str(path), "--out", str(out), "--model", MODEL, "--axes", "ZYX"]
    said = text_io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = run([*words, "--device", "cpu", *more])
    if code:
        raise SystemExit(said.getvalue())
    return time.perf_counter() - start


def stop_halfway(path: Path, out: Path, n: int) -> None:
    """Restore half of the tiles, then stop."""
    done = [0]
    config = RestoreConfig(model=MODEL, device="cpu")
    steps = restore_steps(
        io.read(path, axes="ZYX"),
        config,
        out=out,
        should_stop=lambda: done[0] >= n // 2,
    )
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TileDone):
                done[0] = step.done
    if iterator.result.complete:
        raise SystemExit("the run was not stopped")


def measure(n: int) -> str:
    """Return a line of the table."""
    with tempfile.TemporaryDirectory() as name, one_plane_per_tile():
        folder = Path(name)
        path = folder / "scan.tif"
        make_volume(path, n)
        whole = command(path, folder / "whole.ome.tif")
        out = folder / "resumed.ome.tif"
        stop_halfway(path, out, n)
        resumed = command(path, out, "--continue")
        record = io.read(out).provenance[-1]["run"]
        same = np.array_equal(io.read(out).data, io.read(folder / "whole.ome.tif").data)
        if record["n_tiles"] != n or not same:
            raise SystemExit(f"{record['n_tiles']} tiles, the same voxels: {same}")
    per_tile = 1000 * resumed / (n / 2)
    return f"| {n} | {whole:.1f} s | {resumed:.1f} s | {per_tile:.1f} ms |"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiles", default="1000,2000,4000,8000")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:  # import and compile first
        make_volume(Path(name) / "a.tif", 8)
        command(Path(name) / "a.tif", Path(name) / "a.ome.tif")
    print("| tiles | whole run | resumed half | per tile |\n|---|---|---|---|")
    for n in map(int, options.tiles.split(",")):
        print(measure(n), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
