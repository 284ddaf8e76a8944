"""A sample is scanned some rows at a time, and the scan shows no seams."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import simulate
from napari_geosr.io.projections import read_projections
from napari_geosr.operations import simulate as module


def test_blur_reaches_over_the_seams_of_blocks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scanned(name: str, rows: int) -> Any:
        monkeypatch.setattr(module, "_ROWS", rows)
        made = simulate(
            "blobs",
            tmp_path / name,
            size=24,
            rows=30,
            projections=6,
            radius=(3, 5),
            photons=6e4,
            blur=1.5,
            noise=False,
            gain=0.0,
        )
        scan = read_projections(made.files["projections"])
        return np.asarray(scan.data[:], np.float64)

    whole, blocks = scanned("whole", 30), scanned("blocks", 10)
    # Apart from rounding to counts, and structure beyond the reach of the blur.
    assert np.abs(blocks - whole).max() < 1e-3 * whole.max()
