"""Surfaces and comparisons of shapes can be stopped, and are refused without memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import interruptible
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import write
from napari_geosr.measure.shapes import compare_shapes, describe_shape_steps, surface
from napari_geosr.operations.shapes import memory, meshing
from napari_geosr.operations.shapes.complete import bytes_for_grid
from napari_geosr.operations.shapes.config import MeshConfig

NOISE = np.random.default_rng(0).random((12, 12, 12)) < 0.3


def test_a_surface_is_stopped_between_its_levels(tmp_path, monkeypatch) -> None:
    done = []
    march = surface._marched
    monkeypatch.setattr(
        surface, "_marched", lambda *given: done.append(given) or march(*given)
    )
    steps = meshing.mesh_steps(
        Volume(NOISE.view(np.uint8), "ZYX"),
        tmp_path / "a.stl",
        MeshConfig(),
        should_stop=lambda: len(done) == 2,
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert len(done) == 2
    assert list(tmp_path.iterdir()) == []


def test_the_dock_stops_while_it_extracts_a_surface(monkeypatch) -> None:
    done = []
    march = surface._marched
    monkeypatch.setattr(
        surface, "_marched", lambda *given: done.append(given) or march(*given)
    )
    steps = describe_shape_steps(
        NOISE, (1, 1, 1), "mm", should_stop=lambda: len(done) == 2
    )
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert len(done) == 2


def test_a_comparison_is_stopped() -> None:
    with interruptible(lambda: True), pytest.raises(Cancelled):
        compare_shapes(NOISE, NOISE, (1, 1, 1), "mm")


@pytest.mark.parametrize("verb", ["mesh", "compare"])
def test_too_little_memory_is_stated_beforehand(
    verb, tmp_path, capsys, monkeypatch
) -> None:
    path = tmp_path / "a.ome.tif"
    write(Volume(NOISE.view(np.uint8), "ZYX"), path)
    monkeypatch.setattr(memory, "free_host_memory", lambda: 10**6)
    more = ["-o", str(tmp_path / "a.stl")] if verb == "mesh" else [str(path)]
    assert run(["shapes", verb, str(path), *more]) == 2
    error = capsys.readouterr().err
    assert "MB is free" in error
    assert "needs 3" in error


def test_rough_surfaces_need_more_memory() -> None:
    faces = memory.count_faces(NOISE)
    padded = np.pad(NOISE, 1)
    assert faces == sum(np.count_nonzero(np.diff(padded, axis=a)) for a in range(3))
    smooth = memory.bytes_for_result((128, 128, 128), 10**5, 2)
    assert memory.bytes_for_result((128, 128, 128), 10**6, 2) > 3 * smooth


def test_a_completion_includes_the_distances_and_the_network() -> None:
    box = 12 * 64**3
    assert bytes_for_grid(64, 1, 0, 8) >= box + 48 * 64**3
    assert bytes_for_grid(64, 1, 64**3 // 4, 8) > bytes_for_grid(64, 1, 0, 8)
