"""Scans that are reconstructed together have one grey scale."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import never_stop, run_to_end
from napari_geosr.learning.methods import config_class
from napari_geosr.operations.reconstruct.fewer_views import (
    ScanPart,
    fewer_views,
    thinned,
)
from napari_geosr.operations.train.from_projections import ScansConfig
from napari_geosr.operations.train.parts import (
    reconstruct_parts_steps,
    shared_settings_steps,
)
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_short_exposure_without_flat_fields_has_the_same_grey_values(
    tmp_path: Path,
) -> None:
    axis = np.arange(32) - 15.5
    disc = (np.hypot(axis[:, None], axis[None, :]) < 12).astype(np.float32)
    settings = ScanConfig(projections=40, photons=3e4, dark=0.0, read_noise=0.0)
    scan = simulate_scan(np.repeat(disc[None], 2, axis=0), settings)
    scan = scan.replace(flats=None, darks=None)
    share = 0.2
    parts = [
        ScanPart("whole", "the whole scan", scan),
        ScanPart("short", "a short one", thinned(scan, share), share),
        ScanPart("rest", "its rest", thinned(scan, share, rest=True), 1 - share),
    ]
    places = [(part, tmp_path / f"{part.name}.ome.tif") for part in parts]
    scans = ScansConfig.create(projections="scan.h5", centre=(scan.n_columns - 1) / 2)
    training: Any = config_class("supervised").create(device="cpu", threads=1)
    config = run_to_end(
        shared_settings_steps(scan, scans, training, places, never_stop)
    )
    assert config.incident is not None
    for _ in reconstruct_parts_steps(places, config, never_stop):
        pass
    size = scan.n_columns
    middle = slice(size // 2 - 6, size // 2 + 6)
    means = [np.asarray(io.read(p).data)[:, middle, middle].mean() for _, p in places]
    assert means[0] > 0.01
    assert means == pytest.approx([means[0]] * 3, rel=0.02)


def test_parts_of_a_full_turn_are_joined_like_the_whole(tmp_path: Path) -> None:
    angles = np.arange(60) * 6.0
    lines = np.ones((60, 2, 24), np.float32)
    scan = Projections(data=lines, angles=angles, is_line_integrals=True)
    few = fewer_views(scan, 10)
    assert not few.is_full_turn
    parts = [ScanPart("whole", "whole", scan), ScanPart("few", "few", few)]
    places = [(part, tmp_path / f"{part.name}.ome.tif") for part in parts]
    scans = ScansConfig.create(projections="scan.h5", centre=8.0)
    training: Any = config_class("supervised").create(device="cpu", threads=1)
    for _ in range(2):  # the second time, it uses the existing files
        config = run_to_end(
            shared_settings_steps(scan, scans, training, places, never_stop)
        )
        assert config.full_turn == "join"
        for _ in reconstruct_parts_steps(places, config, never_stop):
            pass
        places[1][1].unlink()
    for _ in reconstruct_parts_steps(places, config, never_stop):
        pass
    shapes = {io.read(path).shape for _, path in places}
    assert shapes == {(2, 31, 31)}
