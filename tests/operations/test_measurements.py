"""Measurements of a scan are read again exactly, unless something has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.grey_values.hot_voxels import FarVoxels, HotVoxels
from napari_geosr.core.machine.file_state import file_state
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    StageStarted,
    Step,
    TileDone,
    WarningIssued,
)
from napari_geosr.inference.intensity import IntensityStatistics
from napari_geosr.models.distribution import TrainingLikeness
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import (
    RestoreInput,
    RestoreJob,
    restore_job_steps,
)
from napari_geosr.operations.restore.measurements import FILE, MeasurementStore
from napari_geosr.operations.restore.ranking.result import Ranking, RankingEntry
from napari_geosr.operations.restore.run import TileProgress
from napari_geosr.operations.restore.verdict.late import LateVerdict
from napari_geosr.operations.restore.verdict.run_verdict import RunVerdict

NOISE = Noise(
    level=0.1 + 0.2,
    contrast=1 / 3,
    greys=(0.0, 1e-300),
    levels=(0.5, 2**0.5),
    correlation={"z": 0.1},
    notes=("Clipped.",),
    doubts=("Too few voxels.",),
)
VALUES: tuple[Any, ...] = (
    NOISE,
    IntensityStatistics(
        np.float64(1 / 3),
        0.1,
        0,
        np.int64(255),
        100,
        input=(0.1, 0.2),
        hot=HotVoxels((0.0, 1.0), (-1.0, 2.0), 3),
        far=FarVoxels(0.1, (0.0, 1.0)),
    ),
    TrainingLikeness("caution", ("Blurred.",), {"structure": 1 / 7}),
    RunVerdict(
        "ok", "Fine.", noise=NOISE, gain=(1.0, -np.inf, np.inf), figures={"n": 1 / 9}
    ),
    Ranking((RankingEntry("tv", "TV", 0.1, 0.2, (0.1, 0.3), 0.4),), "tv", "So.", NOISE),
)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_measurements_are_read_exactly(tmp_path: Path, value: Any) -> None:
    MeasurementStore(tmp_path / FILE).keep("it", value)
    assert MeasurementStore(tmp_path / FILE).read("it", type(value)) == value


def test_values_that_would_change_are_not_kept(tmp_path: Path) -> None:
    large = IntensityStatistics(0.0, 1.0, 2**63 + 1, 2**64 - 1, 8)
    store = MeasurementStore(tmp_path / FILE)
    store.keep("statistics", large)
    assert store.read("statistics", IntensityStatistics) is None
    assert not (tmp_path / FILE).exists()


def test_measurements_depend_on_scan_model_and_channel(tmp_path: Path) -> None:
    path = tmp_path / FILE
    MeasurementStore(path, {"scan": "a"}).within("channel 1").keep("it", NOISE, of="m")
    same = MeasurementStore(path, {"scan": "a"})
    assert same.within("channel 1").read("it", Noise, of="m") == NOISE
    assert same.within("channel 1").read("it", Noise, of="other") is None
    assert same.within("channel 2").read("it", Noise, of="m") is None
    assert same.read("it", Noise, of="m") is None
    other = MeasurementStore(path, {"scan": "b"})
    assert other.within("channel 1").read("it", Noise, of="m") is None


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[",
        "[]",
        '{"depends_on": {}, "measurements": 3}',
        '{"depends_on": {}, "measurements": {"it": {"of": {}, "value": [1]}}}',
        '{"depends_on": {}, "measurements": {"it": {"of": {}, "value": {"a": 1}}}}',
        '{"depends_on": {}, "measurements": {"it": {"of": {}, "value": '
        '{"level": -1, "contrast": 1}}}}',
    ],
)
def test_a_damaged_file_is_replaced(tmp_path: Path, content: str) -> None:
    (tmp_path / FILE).write_text(content)
    store = MeasurementStore(tmp_path / FILE)
    assert store.read("it", Noise) is None
    store.keep("it", NOISE)
    assert MeasurementStore(tmp_path / FILE).read("it", Noise) == NOISE


def test_a_file_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    store = MeasurementStore(tmp_path / "missing" / FILE)
    store.keep("it", NOISE)
    assert store.read("it", Noise) == NOISE
    assert not (tmp_path / "missing").exists()


def test_the_state_of_a_file_has_the_same_digest_everywhere(tmp_path: Path) -> None:
    path = tmp_path / "scan.tif"
    path.write_bytes(b"1")
    state = file_state(path)
    assert state is not None
    status = path.stat()
    again = file_state(path)
    assert again is not None
    assert state.digest == again.digest
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    later = file_state(path)
    assert later is not None
    assert later.digest != state.digest


# Jobs


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    data = rng.normal(100, 10, (24, 64, 64)).astype(np.float32)
    data[:, 20:40, 20:40] += 100
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    return tmp_path / "scan.tif"


MEASURING = (
    "Reading the grey values",
    "Measuring the noise",
    "Checking what the model",
    "Comparing models",
    "Finding the best strength",
)


def run(job: RestoreJob, folder: Path, *, stop_at: str = "") -> list[Step]:
    """The steps of a run, which stops at a stage."""
    steps: list[Step] = []
    folder.mkdir(exist_ok=True)

    def is_reached() -> bool:
        return bool(stop_at) and any(text.startswith(stop_at) for text in stages(steps))

    steps.extend(restore_job_steps(job, folder, should_stop=is_reached))
    return steps


def stages(steps: list[Step]) -> list[str]:
    return [step.message for step in steps if isinstance(step, StageStarted)]


def measured(steps: list[Step]) -> list[str]:
    return [text for text in stages(steps) if text.startswith(MEASURING)]


def job_for(scan: Path, **settings: Any) -> RestoreJob:
    config = RestoreConfig.create(**{"memory": "100MB", "threads": 1, **settings})
    return RestoreJob(
        name="clean", data=RestoreInput(volume=scan), settings=config, look=True
    )


@pytest.mark.parametrize(
    "model",
    ["ct-denoise", "gaussian", pytest.param("auto", marks=pytest.mark.slow)],
)
def test_a_resumed_job_does_not_measure_again(
    scan: Path, tmp_path: Path, model: str
) -> None:
    job = job_for(scan, model=model)
    once = tmp_path / "once"
    assert measured(run(job, once))
    resumed = tmp_path / "resumed"
    first = run(job, resumed, stop_at="Restoring with")
    assert measured(first)
    assert not (resumed / "result" / "clean.ome.tif").exists()
    # Only the effect, which is predicted after the first tile, is still unknown.
    second = run(job, resumed)
    assert measured(second) == ["Checking what the model does"]
    names = [getattr(step, "message", "") for step in second]
    tiles = [isinstance(step, TileDone) for step in second]
    assert names.index("Checking what the model does") > tiles.index(True)
    expected, found = (
        tifffile.imread(folder / "result" / "clean.ome.tif")
        for folder in (once, resumed)
    )
    np.testing.assert_array_equal(found, expected)
    written = io.read(resumed / "result" / "clean.ome.tif").provenance[-1]
    assert written["verdict"]["sentence"]
    (resumed / "result" / "clean.ome.tif").unlink()
    assert measured(run(job, resumed)) == []


CHECKING = "Checking what the model does"


@pytest.mark.parametrize("stop_at", [CHECKING, ""])
@pytest.mark.parametrize("is_series", [False, True])
def test_a_resumed_run_checks_the_model_last(
    scan: Path, tmp_path: Path, stop_at: str, is_series: bool
) -> None:
    job, folder = job_for(scan, model="ct-denoise", memory="61MB"), tmp_path / "job"
    if is_series:
        job = two_time_points(job)
    first = run(job, folder, stop_at=CHECKING)
    assert any(isinstance(step, TileDone) for step in first)
    last = run(job, folder, stop_at=stop_at)
    tiles = [isinstance(step, TileDone) for step in last]
    checked = last.index(StageStarted(message=CHECKING))
    assert any(tiles[:checked])
    assert not any(tiles[checked:])
    assert ("was not predicted" in warnings_of(last)) == bool(stop_at)
    record = io.read(folder / "result" / "clean.ome.tif").provenance[-1]
    assert ("verdict" in record) != bool(stop_at)


def two_time_points(job: RestoreJob) -> RestoreJob:
    """Divide the scan of a job into two time points."""
    path = job.data.volume.with_name("series.tif")
    data = tifffile.imread(job.data.volume).reshape(2, 12, 1, 64, 64)
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "TZCYX"})
    data_of_job = job.data.model_copy(update={"volume": path, "whole": True})
    return job.model_copy(update={"data": data_of_job})


def test_the_tiles_are_saved_before_the_last_check() -> None:
    """If the run is killed during the check, the next one has no tiles left."""
    order: list[str] = []

    def tiles(n: int) -> Any:
        for _ in range(n):
            yield TileDone(n, n)
        return TileProgress(None, True, [])

    def check() -> Any:
        order.append("check")
        yield StageStarted(message=CHECKING)
        raise Cancelled("Stopped.")

    journal: Any = SimpleNamespace(commit=lambda: order.append("save"))
    for n in (2, 0):
        late = LateVerdict(check)
        steps = list(late.with_tiles(tiles(n), "", [journal], is_resumed=True))
        assert "was not predicted" in warnings_of(steps)
    assert order == ["save", "check"]


def warnings_of(steps: list[Step]) -> str:
    return " ".join(s.message for s in steps if isinstance(s, WarningIssued))


def test_a_changed_scan_is_measured_again(scan: Path, tmp_path: Path) -> None:
    job, folder = job_for(scan, model="ct-denoise"), tmp_path / "job"
    run(job, folder)
    before = json.loads((folder / FILE).read_text())
    (folder / "result" / "clean.ome.tif").unlink()
    tifffile.imwrite(scan, 2 * tifffile.imread(scan), imagej=True)
    assert len(measured(run(job, folder))) == 3
    after = json.loads((folder / FILE).read_text())
    assert after["depends_on"]["scan"] != before["depends_on"]["scan"]
    assert after["measurements"] != before["measurements"]


def test_other_settings_are_measured_again(scan: Path, tmp_path: Path) -> None:
    job, folder = job_for(scan, model="ct-denoise"), tmp_path / "job"
    run(job, folder)
    (folder / "result" / "clean.ome.tif").unlink()
    weaker = replace_settings(job, strength=0.5)
    assert len(measured(run(weaker, folder))) == 3


def replace_settings(job: RestoreJob, **changed: Any) -> RestoreJob:
    values = {**job.settings.model_dump(), **changed}
    return job.model_copy(update={"settings": RestoreConfig.create(**values)})
