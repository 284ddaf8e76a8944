"""A scan with three spheres, and a Porosity dock that shows it."""

from __future__ import annotations

import numpy as np
from opening import opened

from napari_geosr.core.volume import Volume
from napari_geosr.gui.kit.dock_tabs import POROSITY
from napari_geosr.gui.layers import geometry
from napari_geosr.gui.porosity import PorosityDock

#: Centres (Z, Y, X) and radii in voxels.
BALLS = (((8, 10, 10), 6), ((22, 30, 28), 7), ((8, 30, 12), 3))
SHAPE = (32, 40, 48)
SIZE, ORIGIN = (4.0, 2.0, 2.0), (10.0, -20.0, 30.0)


def scan(name: str = "scan", noise: float = 5, seed: int = 0, **fields) -> Volume:
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    data = np.random.default_rng(seed).normal(180, noise, SHAPE).astype(np.float32)
    for centre, radius in BALLS:
        squares = [(g - c) ** 2 for g, c in zip(grid, centre, strict=True)]
        data[sum(squares) <= radius**2] -= 120
    return Volume(data, "ZYX", name=name, **fields)


def physical(**options) -> Volume:
    return scan(voxel_size=SIZE, unit="µm", origin=ORIGIN, **options)


def add(viewer, volume: Volume):
    return viewer.add_image(volume.data, name=volume.name, **geometry(volume))


def open_dock(viewer, qtbot) -> PorosityDock:
    """Open the dock as a user does; napari then passes a proxy of the viewer."""
    dock = opened(viewer, POROSITY)
    qtbot.waitUntil(dock.isVisible)
    return dock


def wait_for_levels(dock, qtbot) -> None:
    qtbot.waitUntil(lambda: dock.settings.threshold is not None, timeout=60_000)


def measure(dock, qtbot) -> None:
    dock.measure_button.click()
    assert dock.is_running
    qtbot.waitUntil(lambda: not dock.is_running, timeout=60_000)
