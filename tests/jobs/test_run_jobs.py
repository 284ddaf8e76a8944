"""Restorations, reconstructions and measurements as jobs, stopped and resumed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import StepIterator, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io.projections import write_projections
from napari_geosr.io.unfinished_files import journal as journals
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.handover import (
    LayerVolume,
    StoppedMeasurement,
    StoppedReconstruction,
    StoppedRestoration,
    job_from_run_steps,
    plain_name,
)
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.kinds import describe_resume, read_job
from napari_geosr.jobs.run import run_steps
from napari_geosr.jobs.settings import change_training
from napari_geosr.operations import reconstruct as tomography
from napari_geosr.operations import restore as restoration
from napari_geosr.operations import storage
from napari_geosr.operations.cluster.passed_on import PRIVATE_FOLDERS
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.reconstruct.config import ReconstructConfig
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

SETTINGS = RestoreConfig.create(device="cpu", memory="120MB", threads=1)


@pytest.fixture
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    return tmp_path


@pytest.fixture
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    from napari_geosr.inference import compute

    monkeypatch.setattr(compute, "known_speed", lambda *_: 4e-5)
    monkeypatch.setattr(compute, "seconds_per_voxel", lambda *_: 4e-5)


def noise(shape: tuple[int, ...] = (48, 40, 40)) -> Any:
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, shape).astype(np.float32)
    data[..., 15:25, 15:25] -= 0.5
    return data


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, noise(), imagej=True)
    return path


def stopped_at(steps: Any, n_tiles: int, said: list[int]) -> Any:
    """Result of a run that is stopped after `n_tiles` tiles."""
    with StepIterator(steps) as iterator:
        for step in iterator:
            if isinstance(step, TileDone):
                said.append(step.total)
                assert len(said) <= n_tiles + 1
    return iterator.result


def stopped_restoration(volume: Volume, n_tiles: int = 2) -> Any:
    said: list[int] = []
    steps = restoration.restore_steps(
        volume, SETTINGS, should_stop=lambda: len(said) >= n_tiles
    )
    done = stopped_at(steps, n_tiles, said)
    assert not done.complete
    return done


def tiles_of(job: JobFolder) -> int:
    """Run the job to its end, and return the number of tiles."""
    with StepIterator(run_steps(job)) as iterator:
        return sum(isinstance(step, TileDone) for step in iterator)


@pytest.mark.parametrize("where", ["file", "memory", "swapped", "cache"])
def test_a_restoration_goes_on_as_a_job(
    own_home: Path, scan: Path, small_tiles: None, where: str, monkeypatch: Any
) -> None:
    volume = io.read(scan)
    if where == "memory":
        volume = volume.replace(data=np.asarray(volume.data), source=None)
    if where == "swapped":  # as tifffile reads ImageJ's files: with another byte order
        swapped = np.asarray(volume.data).astype(">f4")
        volume = volume.replace(data=swapped, source=None)
    if where == "cache":
        monkeypatch.setattr(storage, "free_host_memory", lambda: 1000)
    whole = run_to_end(restoration.restore_steps(volume, SETTINGS))
    done = stopped_restoration(volume)
    stopped = StoppedRestoration(
        LayerVolume(volume),
        SETTINGS,
        known_by_voxels=volume.source is None,
        finished_part=done.volume,
    )
    folder = run_to_end(
        job_from_run_steps(stopped, own_home / "jobs", start=False, progress=(2, 9))
    )
    job = JobFolder(folder)
    status = job.status()
    assert (status.state, status.operation) == ("paused", "restore")
    assert (status.name, status.method) == ("scan_ct-denoise", "ct-denoise")
    assert (status.done, status.total) == (2, 9)
    n_tiles = tiles_of(job)
    status = job.status()
    assert status.state == "done"
    assert status.result == folder / "result" / "scan_ct-denoise.ome.tif"
    result = io.read(status.result)
    np.testing.assert_array_equal(result.data, whole.volume.data)
    assert result.provenance[-1]["complete"] is True
    assert 0 < n_tiles < status.total
    assert foreign_files(folder) == []
    assert not (folder / "data" / "part.zarr").exists()


def test_a_job_killed_after_its_last_step_keeps_no_parts(
    own_home: Path, scan: Path, small_tiles: None
) -> None:
    volume = io.read(scan)
    done = stopped_restoration(volume)
    stopped = StoppedRestoration(
        LayerVolume(volume), SETTINGS, known_by_voxels=False, finished_part=done.volume
    )
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    part = folder / "data" / "part.zarr"
    assert part.exists()
    assert describe_resume("restore", folder) == "resumes from the finished tiles"
    (folder / "result").mkdir()
    io.write(volume, folder / "result" / "scan_ct-denoise.ome.tif")
    assert tiles_of(JobFolder(folder)) == 0
    assert list((folder / "data").iterdir()) == []
    assert describe_resume("restore", folder) == "starts again from the beginning"


def test_only_parts_of_the_job_itself_are_removed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "mine"
    elsewhere.mkdir()
    storage.remove_parts(tmp_path / "job", elsewhere, None)
    assert elsewhere.exists()


def test_a_finished_result_is_kept_as_a_job_too(own_home: Path, scan: Path) -> None:
    volume = io.read(scan)
    whole = run_to_end(restoration.restore_steps(volume, SETTINGS))
    stopped = StoppedRestoration(
        LayerVolume(volume), SETTINGS, known_by_voxels=False, finished_part=whole.volume
    )
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    job = JobFolder(folder)
    assert tiles_of(job) == 0
    result = job.status().result
    assert result is not None
    np.testing.assert_array_equal(io.read(result).data, whole.volume.data)


def test_a_restoration_job_is_paused_and_resumed_by_its_journal(
    own_home: Path, scan: Path, small_tiles: None, monkeypatch: Any
) -> None:
    monkeypatch.setattr(journals, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journals, "_INTERVAL_FACTOR", 0.0)
    values = {
        "operation": "restore",
        "method": "ct-denoise",
        "name": "scan",
        "data": {"volume": str(scan)},
        "settings": SETTINGS.model_dump(mode="json"),
    }
    job = JobFolder.create(own_home / "job", values, name="scan")
    said: list[int] = []
    with StepIterator(run_steps(job, should_stop=lambda: len(said) >= 2)) as steps:
        for step in steps:
            said += [step.done] if isinstance(step, TileDone) else []
    assert steps.result is None
    assert job.status().state == "paused"
    paused = job.status()
    resumes = "resumes from the finished tiles"
    assert describe_resume("restore", job.path) == resumes
    keys = job.path / PRIVATE_FOLDERS.replace("*", "0123abcd")  # of a killed run
    keys.mkdir()
    # Stopped again during preparation.
    assert run_to_end(run_steps(job, should_stop=lambda: True)) is None
    assert not keys.exists()
    again = job.status()
    assert (again.done, again.total) == (paused.done, paused.total)
    assert 0 < tiles_of(job) < job.status().total
    whole = run_to_end(restoration.restore_steps(io.read(scan), SETTINGS))
    result = job.status().result
    assert result is not None
    np.testing.assert_array_equal(io.read(result).data, whole.volume.data)
    assert foreign_files(job.path) == []


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    axis = np.arange(34) - 16.5
    disc = (np.hypot(axis[:, None], axis[None, :]) < 14).astype(np.float32)
    volume = disc * np.linspace(0.5, 1, 24, dtype=np.float32)[:, None, None]
    made = simulate_scan(volume, ScanConfig(projections=40))
    return write_projections(made, tmp_path / "scan.h5")


def test_a_reconstruction_goes_on_as_a_job(
    own_home: Path, projections: Path, monkeypatch: Any
) -> None:
    from napari_geosr.inference import compute
    from napari_geosr.operations.reconstruct import scan as scans

    monkeypatch.setattr(compute, "known_speed", lambda *_: 4e-5)
    monkeypatch.setattr(scans, "_GROUP_CPU", 2)
    config = ReconstructConfig(algorithm="sirt", iterations=3, device="cpu")
    whole = run_to_end(tomography.reconstruct_steps(projections, config))
    said: list[int] = []
    steps = tomography.reconstruct_steps(
        projections, config, should_stop=lambda: len(said) >= 1
    )
    done = stopped_at(steps, 3, said)
    assert not done.complete
    stopped = StoppedReconstruction(
        "scan", projections, {}, config, finished_part=done.volume
    )
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    job = JobFolder(folder)
    assert 0 < tiles_of(job) < sum(1 for _ in range(24))
    events, _ = job.events(0, 10**6)
    whats = [event.get("what") for event in events if event["event"] == "progress"]
    assert "iteration 1 of 3" in whats
    status = job.status()
    assert (status.operation, status.method, status.state) == (
        "reconstruct",
        "sirt",
        "done",
    )
    assert status.result is not None
    np.testing.assert_array_equal(io.read(status.result).data, whole.volume.data)
    assert foreign_files(folder) == []


def test_a_measurement_starts_again_as_a_job(own_home: Path, scan: Path) -> None:
    volume = io.read(scan)
    mask = Volume(np.ones(volume.shape, bool), "ZYX", name="sample")
    volumes = {"data": LayerVolume(volume), "mask": LayerVolume(mask)}
    stopped = StoppedMeasurement(volumes, MeasureConfig())
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    job = JobFolder(folder)
    assert job.status().method == "otsu"
    run_to_end(run_steps(job))
    status = job.status()
    assert (status.state, status.result) == ("done", folder / "result" / "report.html")
    assert status.done == status.total > 0
    report = json.loads((folder / "result" / "report.json").read_text())
    labels = io.read(folder / "result" / "pores.ome.tif")
    assert labels.shape == volume.shape
    assert np.asarray(labels.data).max() == report["pore_count"]
    assert foreign_files(folder) == []


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.uint32, np.float64, bool])
def test_no_voxel_changes_on_its_way_into_a_job(own_home: Path, dtype: Any) -> None:
    """Numbers beyond 32 bits do not wrap around to 0."""
    values = np.arange(6 * 20 * 20).reshape(6, 20, 20) % 7
    if np.dtype(dtype).itemsize == 8:
        values = values + 2**40 + 1
    given = Volume(values.astype(dtype), "ZYX", name="labels")
    stopped = StoppedMeasurement({"data": LayerVolume(given)}, MeasureConfig())
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    job, _ = read_job(JobFolder(folder).values(), folder)
    np.testing.assert_array_equal(job.data.open().data, given.data)  # type: ignore[attr-defined]


def test_settings_of_a_training_are_refused(own_home: Path, scan: Path) -> None:
    values = {"operation": "restore", "name": "scan", "data": {"volume": str(scan)}}
    job = JobFolder.create(own_home / "job", values, name="scan")
    job.set_state("paused")
    with pytest.raises(JobError, match="is not a training run, so steps cannot"):
        change_training(job, steps=5)


def test_a_file_that_holds_something_else_is_not_taken(
    own_home: Path, scan: Path
) -> None:
    volume = io.read(scan)
    edited = np.asarray(volume.data).copy()
    edited[:] += 1
    given = LayerVolume(volume.replace(data=edited, name="my core [2]"))
    assert not given.is_in_file()
    assert LayerVolume(volume).is_in_file()
    moved = volume.replace(origin=(5.0, 0.0, 0.0))
    assert not LayerVolume(moved).is_in_file()
    stopped = StoppedMeasurement({"data": given}, MeasureConfig())
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    opened, _ = read_job(JobFolder(folder).values(), folder)
    # Messages name the layer, not its role in the job.
    assert opened.data.open().title == "my_core_2.ome.zarr"  # type: ignore[attr-defined]
    assert foreign_files(folder) == []
    np.testing.assert_array_equal(opened.data.open().data, edited)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("text", "name"),
    [("foam µm [2].tif", "foam_µm_2_.tif"), ("···", "run"), ("a" * 60, "a" * 40)],
)
def test_names_of_jobs_are_plain(text: str, name: str) -> None:
    assert plain_name(text) == name


def test_the_command_line_shows_and_resumes_such_jobs(
    own_home: Path, scan: Path, capsys: Any
) -> None:
    volumes = {"data": LayerVolume(io.read(scan))}
    stopped = StoppedMeasurement(volumes, MeasureConfig())
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    assert command(["jobs", "list"]) == 0
    said = capsys.readouterr().out
    assert "scan_pores" in said
    assert "paused" in said
    assert command(["jobs", "resume", "scan_pores"]) == 0
    assert f"Report: {folder}" in capsys.readouterr().out
    assert command(["jobs", "show", "scan_pores"]) == 0
    assert "report.html" in capsys.readouterr().out
    assert command(["jobs", "show", "scan_pores", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["operation"], shown["state"]) == ("measure", "done")
    assert shown["progress"]["step"] == shown["progress"]["total"]
    assert command(["jobs", "watch", "scan_pores"]) == 0
    assert command(["jobs", "remove", "scan_pores"]) == 0
    assert not folder.exists()


def test_a_series_goes_on_as_a_job(own_home: Path, tmp_path: Path) -> None:
    path = tmp_path / "movie.ome.tif"
    io.write(Volume(noise((3, 40, 40)), "TYX", (2.0, 2.0), "µm"), path)
    volume = io.read(path).replace(name="movie")
    config = RestoreConfig.create(model="gaussian", device="cpu", threads=1)
    whole = run_to_end(restoration.restore_steps(volume, config))
    said: list[int] = []
    steps = restoration.restore_steps(
        volume, config, should_stop=lambda: len(said) >= 1
    )
    done = stopped_at(steps, 1, said)
    assert not done.complete
    stopped = StoppedRestoration(
        LayerVolume(volume, whole=True),
        config,
        known_by_voxels=False,
        finished_part=done.volume,
    )
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    assert tiles_of(JobFolder(folder)) == 2
    result = JobFolder(folder).status().result
    assert result is not None
    made = io.read(result)
    assert made.axes == "TYX"
    np.testing.assert_array_equal(made.data, whole.volume.data)


def test_standard_deviations_go_on_as_well(
    own_home: Path, scan: Path, small_tiles: None
) -> None:
    volume = io.read(scan)
    config = SETTINGS.model_copy(
        update={"model": "gaussian", "uncertainty": "tta", "uncertainty_members": 2}
    )
    whole = run_to_end(restoration.restore_steps(volume, config))
    assert whole.deviation is not None
    stopped = StoppedRestoration(
        LayerVolume(volume),
        config,
        known_by_voxels=False,
        finished_part=whole.volume,
        part_deviation=whole.deviation,
    )
    folder = run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    assert tiles_of(JobFolder(folder)) == 0
    result = JobFolder(folder).status().result
    assert result is not None
    np.testing.assert_array_equal(io.read(result).data, whole.volume.data)
    deviation = io.read(restoration.deviation_path(result))
    np.testing.assert_array_equal(deviation.data, whole.deviation.data)
    assert foreign_files(folder) == []


@pytest.mark.parametrize(
    "changes", [{"name": "../../elsewhere"}, {"part": "../precious"}]
)
def test_a_job_writes_and_removes_in_its_folder_alone(tmp_path, scan, changes):
    (tmp_path / "precious").mkdir()
    values = {
        "operation": "restore",
        "method": "ct-denoise",
        "name": "mine",
        "data": {"volume": str(scan)},
        "settings": {"model": "ct-denoise"},
    }
    job = JobFolder.create(tmp_path / "job", values | changes, name="mine")
    with pytest.raises(JobError, match="outside the job folder"):
        run_to_end(run_steps(job))
    assert (tmp_path / "precious").is_dir()
    assert not (tmp_path / "elsewhere.ome.tif").exists()


def test_voxels_painted_in_the_layer_are_not_those_of_the_file(scan):
    volume = io.read(scan)
    data = np.array(volume.data)
    same = LayerVolume(volume.replace(data=data))
    assert same.is_in_file()
    data[5, 3, 3] += 1
    assert not same.is_in_file()


def test_tiles_are_still_there_when_no_job_could_be_made(
    own_home, scan, small_tiles, monkeypatch
):
    monkeypatch.setattr(storage, "free_host_memory", lambda: 1000)
    volume = io.read(scan)
    done = stopped_restoration(volume)
    before = np.array(done.volume.data)
    stopped = StoppedRestoration(
        LayerVolume(volume), SETTINGS, known_by_voxels=False, finished_part=done.volume
    )

    def full(*_args, **_kwargs):
        raise JobError("The disk is full.")

    monkeypatch.setattr(JobFolder, "create", full)
    with pytest.raises(JobError, match="full"):
        run_to_end(job_from_run_steps(stopped, own_home / "jobs", start=False))
    np.testing.assert_array_equal(done.volume.data, before)
