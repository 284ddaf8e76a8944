"""The ASTRA toolbox instead of the package's own algorithms."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import reconstruct
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.io.projections import write_projections
from napari_geosr.operations.reconstruct import ReconstructConfig
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan
from napari_geosr.tomography import astra

N = 40


@pytest.fixture(scope="module")
def scan() -> Projections:
    y, x = np.mgrid[:N, :N] - (N - 1) / 2
    discs = [np.clip(r - np.hypot(y - 3, x + 2), 0, 1) for r in (12.5, 9.5, 11.5)]
    phantom = np.stack(discs).astype(np.float32)
    made = simulate_scan(phantom, ScanConfig(projections=60, noise=False))
    return made.replace(pixel_size=(2.0, 2.0), unit="µm", name="discs")


@pytest.mark.parametrize(
    ("settings", "bound"),
    [
        ({"algorithm": "fbp", "filter": "hann"}, 0.01),
        ({"algorithm": "sirt", "iterations": 10}, 0.002),
        ({"algorithm": "cgls", "iterations": 4}, 0.002),
    ],
)
def test_it_gives_the_same_slices_and_is_named_in_the_record(scan, settings, bound):
    pytest.importorskip("astra")
    own = reconstruct(scan, threads=1, **settings)
    other = reconstruct(scan, threads=1, engine="astra", **settings)
    a, b = np.asarray(own.data), np.asarray(other.data)
    assert 0 < np.linalg.norm(a - b) < bound * np.linalg.norm(a)
    assert (other.voxel_size, other.unit) == (own.voxel_size, own.unit)
    engines = [v.provenance[-1]["settings"]["engine"] for v in (own, other)]
    assert engines == ["own", "astra"]


def test_the_command_takes_it_or_says_what_is_missing(scan, tmp_path, capsys):
    write_projections(scan, tmp_path / "scan.h5")
    words = ["reconstruct", str(tmp_path / "scan.h5"), "--out", str(tmp_path / "v.tif")]
    code = run([*words, "--engine", "astra", "--threads", "1"])
    if astra.is_installed():
        assert code == 0
        assert (tmp_path / "v.tif").exists()
    else:
        assert code == 2
        assert "napari-geosr[astra]" in capsys.readouterr().err
        assert not (tmp_path / "v.tif").exists()


def test_what_it_cannot_do_is_refused_before_anything_is_made(scan, monkeypatch):
    monkeypatch.setattr(astra, "is_installed", lambda: True)
    with pytest.raises(ProjectionsError, match="not used for tv"):
        reconstruct(scan, algorithm="tv", engine="astra")
    with pytest.raises(ConfigError, match="only a relaxation factor of 1"):
        reconstruct(scan, algorithm="sirt", engine="astra", options={"relaxation": 0.5})
    with pytest.raises(ConfigError, match="Engine|engine"):
        ReconstructConfig.create(engine="tomopy")
