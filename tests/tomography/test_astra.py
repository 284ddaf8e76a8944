"""ASTRA as an engine gives the same results as the package's own algorithms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from napari_geosr.core.errors import Cancelled, ConfigError, ProjectionsError
from napari_geosr.physics.projection.geometry import FanGeometry, ParallelGeometry
from napari_geosr.physics.projection.projector import project
from napari_geosr.tomography import astra
from napari_geosr.tomography.algorithms import config_class, reconstruct_slices

ANGLES = np.linspace(0, 180, 60, endpoint=False)
PARALLEL = ParallelGeometry(ANGLES, 50, 22.6, 48, pixel_size=0.5)
FAN = FanGeometry(
    2 * ANGLES, 60, 27.3, 48, 0.75, source_distance=80, detector_distance=40
)


@pytest.fixture
def installed() -> None:
    pytest.importorskip("astra")


def truth() -> torch.Tensor:
    y, x = np.mgrid[:48, :48] - 23.5
    disc = 1 / (1 + np.exp(np.hypot(y - 4, x + 3) - 15))
    return torch.from_numpy(np.stack([disc, 0.5 * disc]).astype(np.float32))


@pytest.mark.usefixtures("installed")
@pytest.mark.parametrize(
    ("name", "geometry", "settings", "bound"),
    [
        ("fbp", PARALLEL, {}, 0.01),
        ("fbp", PARALLEL, {"filter": "hann", "padding": "edge"}, 0.01),
        ("sirt", PARALLEL, {"iterations": 20}, 1e-3),
        ("sirt", FAN, {"iterations": 20}, 0.02),
        ("cgls", PARALLEL, {"iterations": 6}, 0.01),
    ],
)
def test_both_engines_agree(
    name: str, geometry: ParallelGeometry, settings: dict[str, Any], bound: float
) -> None:
    sinogram = project(truth(), geometry)
    config = config_class(name).create(**settings)
    ours = reconstruct_slices(name, sinogram, geometry, config)
    theirs = astra.reconstruct_slices(name, sinogram, geometry, config)
    assert float((ours - theirs).norm() / ours.norm()) < bound


@pytest.mark.usefixtures("installed")
def test_a_stop_is_heard_between_slices() -> None:
    sinogram = project(truth(), PARALLEL)
    seen: list[Any] = []
    with pytest.raises(Cancelled):
        astra.reconstruct_slices(
            "fbp",
            sinogram,
            PARALLEL,
            should_stop=lambda: len(seen) == 1,
            on_iteration=seen.append,
        )


@pytest.mark.usefixtures("installed")
def test_what_it_cannot_do_is_told() -> None:
    sinogram = torch.zeros(1, 60, 50)
    short = config_class("sirt").create(relaxation=0.5)
    with pytest.raises(ConfigError, match="only a relaxation factor of 1"):
        astra.reconstruct_slices("sirt", sinogram, PARALLEL, short)
    with pytest.raises(ProjectionsError, match="tv with a parallel beam"):
        astra.reconstruct_slices("tv", sinogram, PARALLEL)


def test_its_absence_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(astra, "find_spec", lambda name: None)
    assert not astra.uses_cuda()
    with pytest.raises(ConfigError, match=r"napari-geosr\[astra\]"):
        astra.reconstruct_slices("fbp", torch.zeros(1, 60, 50), PARALLEL)
