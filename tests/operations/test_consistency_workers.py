"""A consistency check shared by processes gives the same result as one process."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import napari_geosr as geosr
from napari_geosr import io
from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.steps import BlockDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.measure import consistency as engine
from napari_geosr.operations.inputs import InputConfig
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.consistency import (
    consistency_figures_steps,
    consistency_steps,
)
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob

pytest.importorskip("distributed")

SHAPE = (40, 57, 43)


@pytest.fixture(autouse=True)
def small_boxes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(engine, "_SHARED_EDGE", 24)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def pair(rng: np.random.Generator) -> tuple[Volume, Volume]:
    """A scan, and a result with an object that the scan does not show."""
    true = np.zeros(SHAPE, np.float32)
    true[5:30, 12:40, 8:33] = 100
    scan = true + rng.normal(0, 6, SHAPE).astype(np.float32)
    scan[20:24, :, 10] = np.nan
    true[32:38, 44:52, 20:30] = 100
    return Volume(scan, "ZYX", name="scan"), Volume(true, "ZYX", name="restored")


def figures(found: Any) -> dict[str, Any]:
    return {name: getattr(found, name) for name in found.__dataclass_fields__}


class Here:
    """Does the work of a pool in this process, and counts the items."""

    per_host = 1

    def __init__(self) -> None:
        self.n_items = 0

    def results(
        self, work: Any, items: Sequence[Any], should_stop: Any
    ) -> Generator[Any, None, None]:
        for item in items:
            self.n_items += 1
            yield work(item, should_stop, 0)


def test_smaller_boxes_find_the_same(
    pair: tuple[Volume, Volume], monkeypatch: pytest.MonkeyPatch
) -> None:
    scan, restored = (volume.data for volume in pair)
    residuals = [np.zeros(SHAPE, np.float32) for _ in range(2)]
    here = Here()
    one, other = (
        run_to_end(
            engine.consistency_steps(
                engine.Pair(scan, restored, (1, 1, 1)), residual, (1, 1, 1), pool=pool
            )
        )
        for residual, pool in zip(residuals, (None, here), strict=True)
    )
    assert here.n_items == 2 * 3 * 2
    np.testing.assert_allclose(*residuals, rtol=1e-5, atol=1e-4)
    expected, found = figures(one), figures(other)
    places, more = expected.pop("places"), found.pop("places")
    assert [(p.index, p.voxels) for p in places] == [(p.index, p.voxels) for p in more]
    assert places[0].result_is == "brighter"
    assert found.pop("blur") == expected.pop("blur")
    assert found == pytest.approx(expected, rel=1e-5)


def test_any_number_of_workers_finds_the_same(pair: tuple[Volume, Volume]) -> None:
    steps: list[Any] = []
    found = []
    for workers in (1, 2):
        residual = np.zeros(SHAPE, np.float32)
        run = consistency_figures_steps(*pair, residual, workers=workers)
        found.append((run_to_end(run, steps.append), residual))
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])
    assert sum(isinstance(step, BlockDone) for step in steps) == 2 * 12
    assert "brighter" in {place.result_is for place in found[0][0].places}


def test_it_can_be_cancelled_and_needs_a_number(pair: tuple[Volume, Volume]) -> None:
    with pytest.raises(Cancelled):
        run_to_end(consistency_steps(*pair, workers=1, should_stop=lambda: True))
    with pytest.raises(ConfigError, match="workers is 0"):
        geosr.check_consistency(*pair, workers=0)


def job_of(scan: Path, name: str, **more: Any) -> JobFolder:
    config = RestoreConfig.create(model="gaussian", memory="100MB", threads=1)
    data = RestoreInput(volume=scan, reading=InputConfig())
    out = scan.parent / f"{name}.ome.tif"
    job = RestoreJob(name=name, data=data, settings=config, out=out, **more)
    return JobFolder.create(scan.parent / name, job.to_values(), name=name)


def test_a_job_checks_its_result(pair: tuple[Volume, Volume], tmp_path: Path) -> None:
    scan = tmp_path / "scan.tif"
    data = np.nan_to_num(pair[0].data)
    tifffile.imwrite(scan, data, imagej=True)
    expected = geosr.check_consistency(io.read(scan), geosr.restore(data, "gaussian"))
    steps: list[Any] = []
    job = job_of(scan, "checked", check_consistency=True)
    out = run_to_end(run_steps(job), steps.append)
    assert out == tmp_path / "checked.ome.tif"
    residual = np.asarray(io.read(tmp_path / "checked_residual.ome.tif"))
    np.testing.assert_allclose(residual, expected.residual, atol=1e-3)
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert any("more than noise" in sentence for sentence in said)
    assert job.status().state == "done"
    # A run stopped after the restoration is checked when it resumes.
    job = job_of(scan, "stopped", check_consistency=True)
    steps = []

    def compares() -> bool:
        return any("Comparing" in getattr(step, "message", "") for step in steps)

    for step in run_steps(job, should_stop=compares):
        steps.append(step)
    assert job.status().state == "paused"
    assert (tmp_path / "stopped.ome.tif").exists()
    assert not (tmp_path / "stopped_residual.ome.tif").exists()
    assert run_to_end(run_steps(job)) == tmp_path / "stopped.ome.tif"
    again = np.asarray(io.read(tmp_path / "stopped_residual.ome.tif"))
    np.testing.assert_array_equal(again, residual)
    run_to_end(run_steps(job_of(scan, "plain")))
    assert not (tmp_path / "plain_residual.ome.tif").exists()
