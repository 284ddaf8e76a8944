"""Tiny simulated scans in files, and a Reconstruct dock that uses them."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import opening

from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import write_projections
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

PLUGIN, DOCK = "napari-geosr", "Reconstruct"
N, ROWS, ANGLES, OFFSET = 48, 6, 60, 1.3
PIXEL = (3.0, 2.0)


def phantom(n: int = N, rows: int = ROWS) -> np.ndarray:
    """A disc of attenuation 1 with a hole that moves from slice to slice."""
    axis = np.arange(n) - (n - 1) / 2
    y, x = axis[:, None], axis[None, :]
    slices = []
    for row in range(rows):
        disc = np.clip(0.4 * n - np.hypot(x, y), 0, 1)
        hole = np.clip(0.1 * n - np.hypot(x - row % 6, y + n / 8), 0, 1)
        slices.append(disc - hole)
    return np.stack(slices).astype(np.float32)


@cache
def scan(n: int = N, rows: int = ROWS, angles: int = ANGLES) -> Projections:
    """A scan of the phantom; its file does not state the axis."""
    settings = ScanConfig(projections=angles, noise=False, centre_offset=OFFSET)
    made = simulate_scan(phantom(n, rows), settings)
    return made.replace(pixel_size=PIXEL, unit="µm", name="discs", centre=None)


def axis_of(made: Projections) -> float:
    """The column of the axis."""
    return (made.n_columns - 1) / 2 + OFFSET


def scan_file(folder: Path, **size: int) -> Path:
    """The same scan in a file."""
    return write_projections(scan(**size), folder / "discs.h5")


def opened(viewer, path: Path | None = None):
    """Open the dock, with a scan if one is given."""
    if path is not None:
        viewer.open(str(path), plugin=PLUGIN)
    dock = opening.opened(viewer, DOCK)
    dock.form.set_values({"threads": 1})
    return dock


def idle(dock, qtbot) -> None:
    """Wait until nothing is running or requested."""
    working = dock.activity
    qtbot.waitUntil(
        lambda: working.busy == "" and not working._timer.isActive(), timeout=60_000
    )
