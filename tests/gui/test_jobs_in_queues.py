"""Jobs in queues, in the Jobs dock of real napari."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile
from train_helpers import JOBS, opened

from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import run_to_end
from napari_geosr.gui.jobs import _remove_steps
from napari_geosr.gui.jobs import view as view_module
from napari_geosr.jobs import index
from napari_geosr.jobs.cluster import queries, queue_record
from napari_geosr.jobs.cluster.queue_record import QueueRecord
from napari_geosr.jobs.folder import JobFolder


@pytest.fixture
def squeue(tmp_path, monkeypatch):
    """SLURM commands that return the contents of a file, and record their calls."""
    programs = tmp_path / "programs"
    programs.mkdir()
    said = tmp_path / "said"
    said.write_text("12|PENDING|Priority\n")
    for name in ("squeue", "scancel", "sbatch"):
        path = programs / name
        text = f'cat "{said}"' if name == "squeue" else "echo 13"
        path.write_text(f'#!/bin/sh\necho {name} "$@" >>"{tmp_path}/calls"\n{text}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    return said


@pytest.fixture
def job(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 8, 8), np.float32))
    values = {
        "operation": "restore",
        "method": "tv",
        "name": "mine",
        "data": {"volume": str(tmp_path / "a.tif")},
        "out": str(tmp_path / "out.ome.tif"),
    }
    made = JobFolder.create(tmp_path / "mine.job", values, name="mine")
    queue_record.write_record(made.path, QueueRecord("slurm", "SLURM", "12"))
    index.register(made)
    return made


def calls(tmp_path) -> str:
    path = tmp_path / "calls"
    return path.read_text() if path.exists() else ""


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_the_queue_is_asked_and_obeys(viewer, qtbot, tmp_path, squeue, job):
    dock = opened(viewer, JOBS)
    said = "waiting: priority"
    qtbot.waitUntil(
        lambda: [item.text(1) for item in dock._items()] == [said], timeout=10_000
    )
    qtbot.waitUntil(
        lambda: dock.view.state_label.text() == "Waiting: priority (SLURM job 12).",
        timeout=5000,
    )
    assert not dock.view.resume_button.isEnabled()
    # A cancellation elsewhere is noticed within five seconds.
    squeue.write_text("12|CANCELLED|None\n")
    qtbot.waitUntil(lambda: dock.view.state == "interrupted", timeout=5000)
    assert [item.text(1) for item in dock._items()] == ["interrupted"]
    reason = "SLURM job 12 was cancelled in the queue."
    qtbot.waitUntil(lambda: reason in dock.view.message.text, timeout=5000)
    # The job is resumed in the same queue, under a new number.
    squeue.write_text("13|PENDING|Resources\n")
    dock.view.resume_button.click()
    qtbot.waitUntil(
        lambda: [item.text(1) for item in dock._items()] == ["waiting: resources"],
        timeout=10_000,
    )
    assert job.status().queue.number == "13"
    qtbot.waitUntil(dock.view.pause_button.isEnabled, timeout=5000)
    dock.view.pause_button.click()
    qtbot.waitUntil(lambda: dock.view.state == "cancelled", timeout=5000)
    assert "scancel --quiet 13" in calls(tmp_path)


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_the_buttons_follow_the_list_after_a_walltime(
    viewer, qtbot, squeue, job, monkeypatch
):
    squeue.write_text("12|CANCELLED|None\n")
    job.set_state("paused", pid=0)
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(dock.view.resume_button.isEnabled, timeout=10_000)
    monkeypatch.setattr(view_module, "_READ_MS", 600_000)
    dock.view.refresh()  # the view itself is not read again soon
    squeue.write_text("12|PENDING|BeginTime\n")
    job.set_state("queued", pid=0)
    qtbot.waitUntil(lambda: not dock.view.resume_button.isEnabled(), timeout=10_000)
    text = "Waiting: starts again soon (SLURM job 12)."
    qtbot.waitUntil(lambda: dock.view.state_label.text() == text, timeout=10_000)
    assert dock.view.pause_button.isEnabled()


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_queue_that_does_not_respond_is_named(viewer, qtbot, squeue, job):
    dock = opened(viewer, JOBS)

    def states():
        return [item.text(1) for item in dock._items()]

    qtbot.waitUntil(lambda: states() == ["waiting: priority"], timeout=10_000)
    squeue.unlink()  # the command fails
    expected = ["waiting: priority (last known)"]
    qtbot.waitUntil(lambda: states() == expected, timeout=10_000)
    assert dock._items()[0].toolTip(1).startswith("SLURM does not respond: ")
    text = dock.view.state_label.text
    qtbot.waitUntil(lambda: "; state as of 20" in text(), timeout=5000)
    squeue.write_text("12|PENDING|Resources\n")
    qtbot.waitUntil(lambda: states() == ["waiting: resources"], timeout=10_000)
    assert "state as of" not in dock._items()[0].toolTip(1)


def test_a_running_job_has_the_words_of_its_queue(viewer, qtbot, job):
    record = QueueRecord("slurm", "SLURM", "12", resubmitted=1)
    queue_record.write_record(job.path, record)
    job.set_state("running", pid=1, host="node7", done=3, total=10)
    queue_record.write_state(
        job.path, "running", "suspended", job.status().updated, submitted="12"
    )
    dock = opened(viewer, JOBS)
    words = "(Suspended by SLURM, walltime reached, resubmitted once, 30 % done.)"
    text = dock.view.state_label.text
    qtbot.waitUntil(lambda: words in text(), timeout=10_000)


def test_a_result_outside_the_folder_is_named(viewer, qtbot, tmp_path, job):
    out = Path(tmp_path / "out.ome.tif")
    tifffile.imwrite(out, np.zeros((6, 8, 8), np.float32))
    job.set_state("done", result=str(out))
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.state == "done", timeout=10_000)
    assert dock.view.figures.text() == f"The volume is {out}."


def test_parts_and_energy_of_a_job_are_shown(viewer, qtbot, job):
    parts = [100] * 3 + [40] + [0] * 4
    job.set_state("paused", done=4, total=8, parts=parts, processor_seconds=36_000)
    dock = opened(viewer, JOBS)
    strip = dock.view.strip
    qtbot.waitUntil(lambda: strip.parts == tuple(parts), timeout=10_000)
    qtbot.waitUntil(strip.isVisible, timeout=5000)
    assert strip.toolTip().startswith("3 of 8 parts of the volume are finished, 1 in")
    assert dock.view.figures.text() == "about 0.1 kWh, 6 g CO₂eq"
    assert "10 W for each core and 60 g CO₂eq" in dock.view.figures.toolTip()
    # Finished cells are more opaque than others.
    image = strip.grab().toImage()
    ground = dock.view.palette().color(dock.view.backgroundRole())

    def distance(i: int) -> int:
        ratio = image.devicePixelRatio()
        x = int((i + 0.4) / len(parts) * strip.width() * ratio)
        color = image.pixelColor(x, image.height() // 2)
        return sum(
            abs(a - b)
            for a, b in zip(color.getRgb()[:3], ground.getRgb()[:3], strict=True)
        )

    assert distance(0) > distance(3) > distance(7)
    job.set_state("paused", done=8, total=8, parts=[100] * 8)
    qtbot.waitUntil(lambda: strip.parts == (100,) * 8, timeout=10_000)


def test_a_job_without_known_parts_has_no_strip(viewer, qtbot, job):
    dock = opened(viewer, JOBS)
    qtbot.waitUntil(lambda: dock.view.title.text() != "", timeout=10_000)
    assert not dock.view.strip.isVisible()
    assert "kWh" not in dock.view.figures.text()


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_job_in_a_queue_is_not_deleted(squeue, job, monkeypatch):
    monkeypatch.setattr(queries, "_FRESH_SECONDS", 0.0)
    with pytest.raises(JobError, match="is waiting: priority, so it cannot be removed"):
        run_to_end(_remove_steps(job.path))
    squeue.write_text("12|CANCELLED|None\n")
    run_to_end(_remove_steps(job.path))
    assert not job.path.exists()


@pytest.mark.skipif(sys.platform == "win32", reason="shell scripts")
def test_a_job_without_a_number_can_be_paused(viewer, qtbot, tmp_path, squeue, job):
    """No process would follow a request."""
    queue_record.write_record(job.path, QueueRecord("slurm", "SLURM"))
    dock = opened(viewer, JOBS)
    dock.show_job(job.path)
    qtbot.waitUntil(dock.view.pause_button.isEnabled, timeout=10_000)
    dock.view.pause_button.click()
    qtbot.waitUntil(lambda: dock.view.state == "cancelled", timeout=10_000)
    qtbot.waitUntil(dock.view.resume_button.isEnabled, timeout=5000)
    assert "scancel" not in calls(tmp_path)
