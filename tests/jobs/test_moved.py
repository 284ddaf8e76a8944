"""Jobs whose folder was moved, copied or deleted by the user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr.cli.app import run
from napari_geosr.core.errors import JobError
from napari_geosr.io.unfinished_files.hidden import temporary_sibling
from napari_geosr.io.unfinished_files.journal import (
    journal_of,
    load_journal,
    written_by_job,
)
from napari_geosr.jobs import index
from napari_geosr.jobs.facts import relocate_paths
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_output_paths, unfinished_results
from napari_geosr.jobs.kinds import describe_resume
from napari_geosr.jobs.run import run_steps
from napari_geosr.jobs.settings import change_training
from napari_geosr.operations.train import TrainJob, config_class


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    """A job that reads a file in its folder, as jobs of napari do, and another file."""
    folder = tmp_path / "first place" / "job"
    scans = [folder / "data" / "a.tif", tmp_path / "b.tif"]
    scans[0].parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for path in scans:
        tifffile.imwrite(path, rng.normal(size=(8, 40, 40)).astype(np.float32))
    config = config_class("noise2noise").create(
        source=[scans[0]],
        target=[scans[1]],
        name="foam",
        steps=4,
        batch_size=2,
        patch=24,
        layers=3,
        width=2,
        device="cpu",
        threads=1,
    )
    new_job = TrainJob(method="noise2noise", training=config)
    made = JobFolder.create(
        folder, new_job.to_values(), name="foam", allow_existing=True
    )
    index.register(made)
    return made


def move(job: JobFolder, name: str) -> JobFolder:
    target = job.path.parents[1] / name
    shutil.move(job.path, target)
    return JobFolder(target)


def states() -> dict[Path, str]:
    return {status.path: status.state for status in index.list_jobs()}


@pytest.mark.parametrize("command", ["show", "resume"])
def test_it_is_found_again_when_its_new_folder_is_used(
    job: JobFolder, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    for step in (steps := run_steps(job)):
        if step.done >= 2:
            break
    steps.close()
    now = move(job, "second place")
    (lost,) = index.list_jobs()
    assert (lost.path, lost.state) == (job.path, "missing")
    assert (lost.name, lost.method) == ("foam", "noise2noise")
    assert run(["jobs", "list"]) == 0
    listed = capsys.readouterr().out
    assert "gone or moved" in listed
    assert "jobs show FOLDER" in listed
    assert run(["jobs", "show", "foam"]) == 2
    assert str(job.path) in capsys.readouterr().err
    assert run(["jobs", command, str(now.path)]) == 0
    assert states() == {now.path: "paused" if command == "show" else "done"}
    assert index.find("foam").path == now.path
    capsys.readouterr()
    assert run(["jobs", "list"]) == 0
    assert "gone" not in capsys.readouterr().out


def test_what_lies_in_the_folder_moves_with_it(job: JobFolder) -> None:
    inside, outside = (job.values()["training"][role] for role in ("source", "target"))
    written = (job.path / "config.yaml").read_text()
    now = move(job, "second place")
    training = now.values()["training"]
    assert training["source"] == [str(now.path / "data" / "a.tif")] != inside
    assert training["target"] == outside
    change_training(now, steps=6)
    assert now.values()["training"] == training | {"steps": 6}
    # Nothing in it depends on the present location of the folder, which may move.
    expected = written.replace("steps: 4", "steps: 6")
    assert (now.path / "config.yaml").read_text() == expected
    third = move(now, "third place")
    assert third.values()["training"]["source"] == [str(third.path / "data" / "a.tif")]


def test_a_copy_is_a_job_of_its_own(job: JobFolder) -> None:
    copy = job.path.with_name("copy")
    shutil.copytree(job.path, copy)
    assert index.find(copy).path == copy
    assert states() == {job.path: "queued", copy: "queued"}


def test_the_folder_has_another_path_on_a_node(tmp_path: Path) -> None:
    """On a node, ``/scratch`` may be a link to ``/lustre/scratch``."""
    (tmp_path / "lustre").mkdir()
    (tmp_path / "scratch").symlink_to(tmp_path / "lustre")
    out = tmp_path / "scratch" / "clean.ome.zarr"
    values = {"operation": "restore", "name": "clean", "out": str(out)}
    job = JobFolder.create(tmp_path / "scratch" / "job", values, name="clean")
    given = str(tmp_path / "scratch" / "job")  # no link on the login node
    for name in ("job.json", "origin.json"):
        facts = json.loads((job.path / name).read_text())
        (job.path / name).write_text(json.dumps(facts | {"place": given}))
    assert str(job.path) != given
    assert job.was_created_here
    assert str(job.own_path) == given
    check_output_paths(job)
    # Records name the job by the path that all computers know.
    part = temporary_sibling(out, ".ome.zarr")
    part.mkdir()
    entry = {"boxes": [[[0, 4], [0, 8], [0, 8]]], "host": "node1", "job": given}
    journal_of(part).write_text(json.dumps(entry))
    assert unfinished_results(job) == [part]
    assert describe_resume("restore", job.path) == "resumes from the finished tiles"
    with written_by_job(job.own_path):
        known = load_journal(part)
        assert known is not None
        assert not known.is_running  # an earlier run of this job
    job.set_state("done", result=str(out))
    assert job.status().result == out


@pytest.mark.parametrize(
    "place",
    ["/proc/self/cwd", "//proc/self/cwd", "/./proc/self/cwd", "/tmp/../proc/self/cwd"],
)
def test_a_job_from_elsewhere_does_not_name_its_folder_by_a_link_of_the_process(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"operation": "restore", "name": "x", "out": str(tmp_path / "other.tif")}
    job = JobFolder.create(tmp_path / "job", values, name="x")
    monkeypatch.chdir(job.path)
    facts = json.loads((job.path / "job.json").read_text())
    facts["place"] = place
    (job.path / "job.json").write_text(json.dumps(facts))
    assert not job.was_created_here
    with pytest.raises(JobError, match="was created elsewhere"):
        check_output_paths(job)


def test_a_copy_of_a_running_job_does_not_run(job: JobFolder) -> None:
    copy = job.path.with_name("copy")
    with job.hold():
        job.claim("running")
        shutil.copytree(job.path, copy)
        assert states() == {job.path: "running"}
        assert JobFolder(copy).status().state == "interrupted"


def test_one_that_is_gone_is_taken_off_the_list(
    job: JobFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    other = JobFolder.create(job.path.with_name("o"), {"operation": "train"}, name="o")
    index.register(other)
    shutil.rmtree(job.path)
    with pytest.raises(JobError, match="deleted or moved"):
        index.find(job.path)
    assert run(["jobs", "remove", "foam"]) == 0
    assert "from the list" in capsys.readouterr().out
    assert states() == {other.path: "queued"}
    assert run(["jobs", "remove", "foam"]) == 2


def test_a_folder_with_a_config_alone_is_not_listed(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("operation: train\n")
    assert index.find(tmp_path).path == tmp_path
    assert index.list_jobs() == []


def test_entries_of_earlier_releases_hold_the_path_alone(job: JobFolder) -> None:
    (entry,) = index.index_folder().glob("*.path")
    facts = json.loads(entry.read_text())
    assert facts["path"] == str(job.path)
    entry.write_text(str(job.path))
    assert states() == {job.path: "queued"}
    for odd in ("{}", "{", '{"path": 3}'):
        entry.write_text(odd)
        assert states() == {}


def test_paths_as_other_systems_write_them() -> None:
    values = {
        "a": [r"C:\jobs\x\data\s.tif", r"C:\jobs\xy\s.tif"],
        "b": {"c": r"C:\jobs\x", "d": 3, "e": None},
    }
    assert relocate_paths(values, r"C:\jobs\x", "/new") == {
        "a": ["/new/data/s.tif", r"C:\jobs\xy\s.tif"],
        "b": {"c": "/new", "d": 3, "e": None},
    }
    assert relocate_paths(values, "", "/new") == values
