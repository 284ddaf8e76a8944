"""The records of a job about its parts and its energy, and their display."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr.core.steps import TargetReady, TileDone
from napari_geosr.core.volume import Volume
from napari_geosr.jobs import local
from napari_geosr.jobs.cluster import queue_record, submission
from napari_geosr.jobs.cluster.profiles import Profile
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.cost import ProcessorTime, cost_of, recorded_time
from napari_geosr.jobs.folder import JobFolder, JobStatus
from napari_geosr.jobs.job_files import foreign_files
from napari_geosr.jobs.meter import MAX_PARTS, Coverage
from napari_geosr.jobs.run import run_steps

WHOLE = slice(0, 10)


def tile(done: int, *slices: slice) -> TileDone:
    return TileDone(done, 10, slices=slices)


def volume(*shape: int) -> TargetReady:
    return TargetReady(volume=Volume(np.zeros(shape, np.uint8), "TCZYX"[-len(shape) :]))


def test_parts_follow_the_tiles_in_any_order() -> None:
    coverage = Coverage()
    assert coverage.parts == []
    coverage.record(volume(4, 10, 10))
    coverage.record(tile(1, slice(3, 4), WHOLE, WHOLE))
    coverage.record(tile(2, slice(0, 2), WHOLE, slice(0, 5)))
    assert coverage.parts == [50, 50, 0, 100]


def test_many_planes_and_series_are_combined() -> None:
    coverage = Coverage()
    coverage.record(volume(2, 3 * MAX_PARTS, 10, 10))
    coverage.record(tile(1, slice(1, 2), slice(0, 3 * MAX_PARTS), WHOLE, WHOLE))
    half = MAX_PARTS // 2
    assert coverage.parts == [0] * half + [100] * half


def test_a_single_image_has_one_part() -> None:
    coverage = Coverage()
    coverage.record(volume(10, 10))
    coverage.record(tile(1, slice(0, 5), WHOLE))
    assert coverage.parts == [50]


def test_a_resumed_run_adds_to_what_is_finished() -> None:
    coverage = Coverage([100, 30, 50])
    assert coverage.parts == [100, 30, 50]  # until the result is opened
    finished = [(slice(0, 1), WHOLE, WHOLE)]
    coverage.record(replace(volume(3, 10, 10), finished=finished))
    assert coverage.parts == [100, 0, 0]
    coverage.record(tile(2, slice(1, 2), WHOLE, WHOLE))
    assert coverage.parts == [100, 100, 0]


def test_processor_time_includes_child_processes() -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass\ninput()"
    watch = ProcessorTime(100.0)
    child = subprocess.Popen([sys.executable, "-c", spin], stdin=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while watch.seconds < 100.5 and time.monotonic() < deadline:
        time.sleep(0.05)
    alive = watch.seconds
    assert alive >= 100.5
    child.communicate(b"\n")
    # on other systems, the time of ended processes is unknown
    if sys.platform == "linux":
        assert watch.seconds >= alive


def test_processor_time_includes_the_other_processes_of_a_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    watch = ProcessorTime(100.0, tmp_path)
    for n_runs in (1, 2):
        with recorded_time(tmp_path):
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
        # This process counts as the first and as the second one. The system counts
        # in steps of 10 ms.
        assert watch.seconds >= 100 + 2 * 0.18 * n_runs
    assert ProcessorTime(100.0, tmp_path).seconds < 100.2


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    rng = np.random.default_rng(3)
    data = rng.normal(100, 10, (12, 32, 32)).astype(np.float32)
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    values = {
        "operation": "restore",
        "method": "gaussian",
        "name": "clean",
        "settings": {"model": "gaussian", "threads": 1},
        "data": {"volume": str(tmp_path / "scan.tif")},
    }
    return JobFolder.create(tmp_path / "clean.job", values, name="clean")


def test_a_job_records_parts_and_processor_time(job: JobFolder) -> None:
    began = time.process_time()
    for _ in run_steps(job):
        pass
    status = job.status()
    assert status.state == "done"
    assert set(status.parts) == {100}
    used = time.process_time() - began
    assert 0.3 * used < status.processor_seconds < used + 1


def test_another_process_of_a_job_records_its_processor_time(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RANK", "1")
    for _ in run_steps(job):
        pass
    facts = json.loads((job.path / "processor_time" / "1.json").read_text())
    assert facts["processor_seconds"] > 0
    assert foreign_files(job.path) == []


def status_with(job: JobFolder, seconds: float) -> JobStatus:
    job.set_state("paused", processor_seconds=seconds)
    return job.status()


def test_the_estimate_names_its_assumptions(job: JobFolder) -> None:
    cost = cost_of(status_with(job, 36_000.0))
    assert cost is not None
    # Ten hours of one core at 10 W, and 60 g for a kilowatt-hour.
    assert cost.kilowatt_hours == pytest.approx(0.1)
    assert cost.kilograms_co2eq == pytest.approx(0.006)
    assert cost.text == "about 0.1 kWh, 6 g CO₂eq"
    assert "10 h of CPU time, with 10 W for each core and 60 g" in cost.basis


def test_small_values_have_small_units(job: JobFolder) -> None:
    cost = cost_of(status_with(job, 9.0))
    assert cost is not None
    assert cost.text == "about 0.025 Wh, 1.5 mg CO₂eq"
    cost = cost_of(status_with(job, 9000.0))
    assert cost is not None
    assert cost.text == "about 0.025 kWh, 1.5 g CO₂eq"


def test_the_profile_of_the_job_is_used(job: JobFolder) -> None:
    profile = {"watts_per_core": 25, "grams_per_kilowatt_hour": 400_0}
    record = QueueRecord("slurm", "SLURM", "12", profile=profile)
    queue_record.write_record(job.path, record)
    cost = cost_of(status_with(job, 3.6e6))
    assert cost is not None
    assert cost.text == "about 25 kWh, 100 kg CO₂eq"


def test_the_profile_of_a_job_on_this_computer_is_used(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local, "start", lambda *_: 1)
    profile = Profile(queue="local", watts_per_core=25, grams_per_kilowatt_hour=4000)
    for each, text in ((profile, "about 25 kWh, 100 kg"), (Profile(), "about 10 kWh")):
        submission.submit(job, each.model_copy(update={"queue": "local"}))
        cost = cost_of(status_with(job, 3.6e6))
        assert cost is not None
        assert cost.text.startswith(text)
        assert not job.status().queue.queue


def test_a_measured_energy_takes_precedence(job: JobFolder) -> None:
    sums = {"kilowatt_hours": 0.5, "kilograms_co2eq": 2.0, "seconds": 3.0}
    (job.path / "energy.json").write_text(json.dumps(sums))
    cost = cost_of(status_with(job, 3.6e6))
    assert cost is not None
    assert cost.text == "0.5 kWh, 2 kg CO₂eq"
    assert cost.basis == "Measured by codecarbon."


def test_a_job_that_has_not_run_costs_nothing(job: JobFolder) -> None:
    assert cost_of(job.status()) is None


@pytest.mark.parametrize("value", ["x", [1] * 2000, {"a": 1}, None])
def test_invalid_parts_are_ignored(job: JobFolder, value: Any) -> None:
    job.send_heartbeat(parts=value, processor_seconds=value)
    assert job.status().parts == ()
    assert job.status().processor_seconds == 0
