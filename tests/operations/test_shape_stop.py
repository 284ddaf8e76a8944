"""Surfaces and comparisons of shapes can be stopped, and are refused without memory."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import interruptible
from napari_geosr.core.steps import StageStarted, Step, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import box_counts
from napari_geosr.inference.masked import plan_mask_steps
from napari_geosr.inference.shapes import plan_refinement_steps
from napari_geosr.io import write
from napari_geosr.measure.shapes import compare_shapes, describe_shape_steps, surface
from napari_geosr.networks import build_network
from napari_geosr.networks.sparse import _shells
from napari_geosr.operations.shapes import memory, meshing, parts, shell
from napari_geosr.operations.shapes.complete import (
    bytes_for_grid,
    complete_mask_steps,
)
from napari_geosr.operations.shapes.config import (
    CompleteShapeConfig,
    MeshConfig,
    RefineShapeConfig,
)
from napari_geosr.operations.shapes.refine import plan_shape_steps
from napari_geosr.operations.shapes.simulation import simulated_skull

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


@pytest.mark.parametrize("task", ["refinement", "segmentation"])
def test_planning_reports_each_slab_and_is_stopped(task: str, monkeypatch) -> None:
    """Counting the voxels of a large shape may take minutes."""
    monkeypatch.setattr(box_counts, "_AT_ONCE", 1)
    inside = np.zeros((48, 12, 12), bool)
    inside[10:30, 4:9, 4:9] = True
    seen: list[Step] = []

    def plan(n_last: int) -> None:
        def stops() -> bool:
            return len(seen) >= n_last

        if task == "refinement":
            spec = build_network("interpolation").spec
            steps = plan_refinement_steps(inside, 1, spec, 4, 10**12, stops)
        else:
            spec = build_network("surface_unet", channels=(4,), upscale_factor=1).spec
            steps = plan_mask_steps(inside, spec, 4, 10**12, should_stop=stops)
        seen.clear()
        seen.extend(steps)

    plan(100)
    assert isinstance(seen[0], StageStarted)
    assert [(s.done, s.total) for s in seen[1:]] == [(z, 48) for z in range(8, 49, 8)]
    for n_last in (3, 7):  # between slabs, and while sizes of blocks are tried
        with pytest.raises(Cancelled):
            plan(n_last)
        assert len(seen) == n_last


def test_a_refinement_is_stopped_while_it_is_planned() -> None:
    config = RefineShapeConfig(model="trilinear", threads=1)
    seen: list[Step] = []
    steps = plan_shape_steps(
        Volume(NOISE.view(np.uint8), "ZYX"),
        config,
        lambda: bool(seen) and "surface" in getattr(seen[-1], "message", ""),
    )
    with pytest.raises(Cancelled):
        seen.extend(steps)
    assert seen[-1] == StageStarted(message="Finding the surface")


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


def counted(monkeypatch, module, name: str) -> list:
    """Count the calls of a function of a module."""
    done = []
    function = getattr(module, name)
    monkeypatch.setattr(
        module, name, lambda *given: done.append(name) or function(*given)
    )
    return done


def completed_until(done: list, n: int) -> None:
    """Complete a skull; it must stop as soon as `done` has `n` entries."""
    inside = simulated_skull(3, 56, "sphere").incomplete
    config = CompleteShapeConfig.create(device="cpu", threads=1)
    steps = complete_mask_steps(inside, config, should_stop=lambda: len(done) >= n)
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert len(done) == n


@pytest.mark.parametrize("n", [1, 3])
def test_a_completion_is_stopped_between_its_rays(n: int, monkeypatch) -> None:
    monkeypatch.setattr(_shells, "_AT_ONCE", 500)
    completed_until(counted(monkeypatch, _shells, "_outermost_wall"), n)


def test_a_completion_is_stopped_before_its_pieces_are_counted(monkeypatch) -> None:
    removed = counted(monkeypatch, shell, "_without_crust")
    counting = []
    monkeypatch.setattr(parts.np, "bincount", lambda *_: counting.append(1))
    completed_until(removed, 1)
    assert not counting


def test_layers_are_removed_slab_by_slab(monkeypatch) -> None:
    thick = np.full(3, 5.0)
    part = np.random.default_rng(1).random((23, 9, 11)) < 0.9
    whole = shell._without_crust(part, thick)
    assert 0 < whole.sum() < part.sum()
    for planes in (1, 2, 3, 7):
        monkeypatch.setattr(shell, "_AT_ONCE", planes * 9 * 11)
        np.testing.assert_array_equal(shell._without_crust(part, thick), whole)
    asked = []
    with (
        interruptible(lambda: asked.append(1) or len(asked) > 2),
        pytest.raises(Cancelled),
    ):
        shell._without_crust(part, thick)
    assert len(asked) == 3
