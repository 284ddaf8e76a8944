"""Learned algorithms of a study: trained on one half of the rows, and stored."""

from __future__ import annotations

import threading

import pytest

from napari_geosr import simulate
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import BlockDone, WarningIssued, run_to_end
from napari_geosr.io.projections import read_projections
from napari_geosr.jobs.cluster import submission
from napari_geosr.jobs.cluster.queue_record import MAX_IDLE, QueueRecord, write_record
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.models import bundle
from napari_geosr.operations.study import StudyConfig, study_steps
from napari_geosr.operations.study import report as study_report
from napari_geosr.operations.study.job import StudyJob

TINY = {
    "counts": (12,),
    "threads": 1,
    "steps": 2,
    "batch_size": 1,
    "patch": 16,
    "splits": 2,
    "sample": "circle",
}


@pytest.fixture(autouse=True)
def quick_pictures(monkeypatch):
    """Pictures take most of the time of small studies; one study draws them."""
    for name in ("curves_png", "table_png", "volumes_png"):
        monkeypatch.setattr(study_report, name, lambda *_: b"")


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    made = simulate(
        "blobs",
        tmp_path_factory.mktemp("scan"),
        size=24,
        rows=24,
        projections=24,
        radius=(3, 5),
    )
    return read_projections(made.files["projections"], centre=15.5)


@pytest.mark.every(2)
@pytest.mark.parametrize("name", ["msdnet", "noise2inverse", "tomogan-w"])
def test_it_is_trained_kept_and_judged(scan, tmp_path, name):
    config = StudyConfig.create(algorithms=(name,), **TINY)
    row = run_to_end(study_steps(scan, tmp_path, config)).rows[1]
    assert row["algorithm"] == name
    assert row["training_seconds"] > 0
    assert row["settings"]["steps"] == 2
    model = bundle.load(tmp_path / row["settings"]["model"])
    assert model.card.name == f"{name}-12"
    assert model.card.n_parameters == row["settings"]["parameters"]
    trained_on = model.card.provenance["inputs"]["source 1"]
    assert trained_on["shape"] == [10, 32, 32]
    assert "failed" not in row
    assert row["psnr"] > 0


def stop_in_training(scan, out, config):
    """Run until training has made some steps, and request a stop."""
    stop = threading.Event()
    for step in study_steps(scan, out, config, should_stop=stop.is_set):
        if isinstance(step, BlockDone) and step.total == config.steps and step.done:
            stop.set()


def test_a_training_that_is_stopped_goes_on(scan, tmp_path):
    config = StudyConfig.create(algorithms=("msdnet",), **{**TINY, "steps": 30})
    with pytest.raises(Cancelled):
        stop_in_training(scan, tmp_path, config)
    assert (
        tmp_path / "work" / "12" / "training" / "msdnet-12-1" / "checkpoints"
    ).is_dir()
    done = run_to_end(study_steps(scan, tmp_path, config))
    assert done.rows[1]["settings"]["steps"] == 30
    assert not (tmp_path / "work").exists()


def test_walltimes_within_a_cell_count_as_progress(scan, tmp_path):
    """A cell that takes longer than several walltimes is finished in the end."""
    changes = {"steps": 10**5, "algorithms": ("msdnet",), "centre": 15.5}
    values = {"data": {"projections": scan.source}, "settings": TINY | changes}
    made = StudyJob.from_values(values).to_values()
    job = JobFolder.create(tmp_path / "job", made, name="study")
    write_record(job.path, QueueRecord(queue="slurm", number="12"))

    reached = [0]

    def run(*, is_over: bool = False) -> bool:
        """Run until the walltime; return whether the job starts again."""
        stop = threading.Event()
        for step in run_steps(job, should_stop=stop.is_set):
            in_training = isinstance(step, BlockDone) and step.total == 10**5
            if is_over or (in_training and step.done > reached[-1]):
                stop.set()
                reached.append(step.done)
        assert job.status().state == "paused"
        return submission.note_walltime(job, 7000.0)

    assert [run() for _ in range(MAX_IDLE + 1)] == [True] * (MAX_IDLE + 1)
    assert job.status().done == 0
    # Runs that save nothing do not count.
    assert [run(is_over=True) for _ in range(MAX_IDLE)][-1] is False


@pytest.mark.parametrize("file", [bundle.WEIGHTS_FILE, bundle.CARD_FILE])
def test_a_kept_model_that_is_damaged_is_trained_again(scan, tmp_path, file):
    config = StudyConfig.create(algorithms=("msdnet",), **TINY)
    first = run_to_end(study_steps(scan, tmp_path, config)).rows[1]
    (tmp_path / "cells" / "12-msdnet.json").unlink()
    (tmp_path / first["settings"]["model"] / file).write_text("[" * 100)
    said = []
    done = run_to_end(
        study_steps(scan, tmp_path, config),
        lambda step: (
            said.append(step.message) if isinstance(step, WarningIssued) else None
        ),
    )
    assert "failed" not in done.rows[1]
    assert done.rows[1]["psnr"] == pytest.approx(first["psnr"], rel=1e-4)
    assert any(file in text and "trained again" in text for text in said)
