"""The same settings and projections give the same bytes, whatever the memory.

No digit of the volume or of its record depends on the number of slices computed at
once: neither on `memory`, nor on the free memory, nor on where a run was stopped.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    blocks,
    find_unfinished,
    reconstruct_steps,
    scan,
)
from napari_geosr.physics.projection import batches
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

ROWS, N = 21, 34
#: Fields of a record that differ between two identical runs.
TIMES = ("time", "seconds", "started")


@pytest.fixture(scope="module")
def counts() -> Projections:
    """Uneven angles, stripes, a dead pixel, zingers and pixels without light."""
    rng = np.random.default_rng(3)
    axis = np.arange(N) - (N - 1) / 2
    disc = (np.hypot(axis[:, None], axis) < 12).astype(np.float32)
    volume = disc * rng.uniform(0.4, 1, (ROWS, 1, 1)).astype(np.float32)
    made = simulate_scan(volume, ScanConfig(projections=37, photons=5e3, rings=0.02))
    data = np.array(made.data)
    data[5, 3, 7:9] = 0
    data[9, 17, 20] = data.max()
    flats = np.array(made.flats)
    flats[:, 11, 30] = 0
    angles = np.sort(rng.uniform(0, 180, len(data)))
    return made.replace(data=data, flats=flats, angles=angles, centre=N / 2)


def beam(counts: Projections, geometry: str) -> Projections:
    """The same counts, treated as those of another beam."""
    if geometry == "parallel":
        return counts
    turn = np.linspace(0, 360, counts.n_angles, endpoint=False)
    return counts.replace(
        geometry=geometry, angles=turn, source_distance=150.0, detector_distance=20.0
    )


def run(projections: Projections, at_once: int | None = None, **more: Any) -> Any:
    """The result with at most `at_once` slices at a time, as if memory were limited."""
    settings = {"threads": 1, "zingers": 6.0, "stripes": "all"} | more.pop("settings")
    stop_after = more.pop("stop_after", None)
    n_done = 0

    def count(step: object) -> None:
        nonlocal n_done
        n_done += isinstance(step, TileDone)

    with pytest.MonkeyPatch.context() as patch:
        if at_once is not None:
            patch.setattr(scan.ReconstructionInput, "max_rows", lambda _: at_once)
        steps = reconstruct_steps(
            projections,
            ReconstructConfig.create(**settings),
            should_stop=lambda: stop_after is not None and n_done >= stop_after,
            **more,
        )
        return run_to_end(steps, count)


def content(result: Any) -> tuple[bytes, dict[str, Any]]:
    """Voxels, and the record without times."""

    def timeless(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {k: timeless(v) for k, v in entry.items() if k not in TIMES}
        return entry

    volume = result.volume
    voxels = np.ascontiguousarray(volume.data[:])
    return voxels.tobytes(), timeless(dict(volume.provenance[-1]))


@pytest.mark.parametrize("at_once", [1, 2, 5, 11])
@pytest.mark.parametrize(
    ("geometry", "algorithm"),
    [
        ("parallel", "fbp"),
        ("parallel", "sirt"),
        ("parallel", "cgls"),
        ("parallel", "tv"),
        ("fan", "fbp"),
        ("fan", "sirt"),
        ("cone", "fdk"),
    ],
)
def test_memory_changes_no_byte(counts, geometry, algorithm, at_once, monkeypatch):
    monkeypatch.setattr(scan, "_GROUP_CONE", 16)
    settings = {"algorithm": algorithm}
    if algorithm not in ("fbp", "fdk"):
        settings["iterations"] = 3
    given = beam(counts, geometry)
    usual = content(run(given, settings=settings))
    assert content(run(given, at_once, settings=settings)) == usual
    assert usual[1]["run"]["preparation"]["n_zingers"] > 0


def test_neither_what_is_free_nor_the_budget_shows(counts, monkeypatch):
    settings = {"algorithm": "sirt", "iterations": 2}
    usual = content(run(counts, settings=settings))
    monkeypatch.setattr(scan, "free_memory", lambda _: 36 * 10**6)
    summary = run(counts, settings=settings).summary
    assert summary["rows_per_block"] < 16  # otherwise, nothing was tested
    assert content(run(counts, settings=settings)) == usual
    assert content(run(counts, settings={**settings, "memory": "17.5MB"})) == usual


def test_views_all_around_that_are_joined_are_the_same_in_parts(counts):
    turn = np.linspace(0, 360, counts.n_angles, endpoint=False)
    given = counts.replace(angles=turn, centre=6.0)
    settings = {"full_turn": "join"}
    assert content(run(given, 3, settings=settings)) == content(
        run(given, settings=settings)
    )


@pytest.mark.parametrize("geometry", ["parallel", "cone"])
@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_stop_within_a_group_changes_no_byte(counts, tmp_path, geometry, suffix):
    """Stopped with little memory, resumed with plenty."""
    settings = {"algorithm": "fdk" if geometry == "cone" else "sirt"}
    if geometry == "parallel":
        settings["iterations"] = 3
    given = beam(counts, geometry)
    whole = run(given, settings=settings, out=tmp_path / f"whole{suffix}")
    out = tmp_path / f"v{suffix}"
    part = run(given, 3, settings=settings, out=out, stop_after=2)
    assert part.volume.provenance[-1]["finished"][0][0] == [0, 6]
    result = run(given, settings=settings, out=out, unfinished=find_unfinished(out))
    assert content(result) == content(whole)
    assert "sums" not in result.volume.provenance[-1]["run"]


def test_memory_that_runs_out_changes_no_byte(counts, monkeypatch):
    settings = {"algorithm": "tv", "iterations": 3}
    usual = content(run(counts, settings=settings))
    real = blocks.reconstruct_slices

    def greedy(engine: str, name: str, sinogram: Any, *args: Any, **more: Any) -> Any:
        if len(sinogram) > 3:
            raise MemoryError
        return real(engine, name, sinogram, *args, **more)

    monkeypatch.setattr(blocks, "reconstruct_slices", greedy)
    result = run(counts, settings=settings)
    assert result.summary["retries"] == 3
    assert content(result) == usual


@pytest.mark.parametrize("size", [100, 724, 1024, 2048, 4096])
@pytest.mark.parametrize("copies", [1, 2])
def test_parts_of_a_batch_are_computed_by_its_loops(size, copies):
    most = batches.max_together(size, copies)
    for batch in range(1, most + 1):
        for given in range(1, batch + 1):
            parts = [*batches.passes(given, size, copies, batch)]
            assert {is_many for _, is_many in parts} == {
                batch >= batches.MIN_JOINT_SLICES
            }
            covered = [i for part, _ in parts for i in range(part.start, part.stop)]
            assert covered == list(range(given))
