"""``submit segment``: the same labels and probabilities as those of the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import Cluster, run_here, said_by, submit, wait_for

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.documents import dump_yaml
from napari_geosr.core.errors import JobError
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_output_paths
from napari_geosr.jobs.kinds import describe_resume
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.segment import job as job_module

WORDS = ["segment", "scan.tif", "-l", "painted.tif"]


@pytest.fixture(autouse=True)
def here(scan: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scan, with two painted classes."""
    monkeypatch.chdir(scan.parent)
    scanned = io.read(scan)
    painted = np.zeros(scanned.shape, np.uint8)
    painted[4, :4], painted[4, 20:24, 20:24] = 1, 2
    io.write(scanned.replace(data=painted), "painted.tif", kind="labels")
    return scan.parent


@pytest.mark.parametrize("suffix", ["ome.tif", "ome.zarr"])
@pytest.mark.usefixtures("idle_oar")
def test_the_job_writes_what_the_command_writes(
    here: Path, capsys: Any, suffix: str
) -> None:
    sizes = ["--voxel-size", "2", "--unit", "um"]
    job = run_here(
        capsys, *WORDS, *sizes, "-o", f"far.{suffix}", "-p", f"p_far.{suffix}"
    )
    assert job.path == here / "far.job"
    assert run([*WORDS, *sizes, "-o", f"near.{suffix}", "-p", f"p_near.{suffix}"]) == 0
    for far, near in (("far", "near"), ("p_far", "p_near")):
        one, other = (io.read(f"{name}.{suffix}") for name in (far, near))
        np.testing.assert_array_equal(one.data, other.data)
        assert one.voxel_size == other.voxel_size == (2.0, 2.0, 2.0)
        records = [volume.provenance[-1] for volume in (one, other)]
        assert [each["operation"] for each in records] == ["segment"] * 2
        sums = [
            [given["checksum"] for given in each["inputs"].values()] for each in records
        ]
        assert sums[0] == sums[1]
    # The voxel size of the scan was also used for the labels.
    assert any("painted" in text for text in job.warnings())


@pytest.mark.usefixtures("idle_oar")
@pytest.mark.parametrize("most", [0, job_module._MAX_BYTES])
@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("scan.tif", "is both the scan and the labels"),
        ("sub/../scan.tif", "is both the scan and the labels"),
        ("grey.tif", "is not a whole number. Use a label image, not grey values."),
        ("empty.tif", "Nothing is painted in empty.tif"),
        ("one.tif", "Only class 1 is painted in one.tif"),
    ],
)
def test_labels_that_cannot_work_are_refused_before_the_queue(
    here: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    labels: str,
    said: str,
    most: int,
) -> None:
    """Large labels are not read as a whole, so their classes are not counted."""
    (here / "sub").mkdir()
    scanned = io.read("scan.tif")
    io.write(scanned, "grey.tif")
    for name, painted in (("empty", 0), ("one", 1)):
        data = np.zeros(scanned.shape, np.uint8)
        data[4, :4] = painted
        io.write(scanned.replace(data=data), f"{name}.tif", kind="labels")
    monkeypatch.setattr(job_module, "_MAX_BYTES", most)
    words = ["segment", "scan.tif", "-l", labels, "-o", "far.tif", "--queue", "oar"]
    if most == 0 and labels in ("empty.tif", "one.tif"):
        submit(capsys, *words)
        return
    assert run(["submit", *words]) == 2
    assert said in said_by(capsys)
    assert not (here / "far.job").exists()


@pytest.mark.usefixtures("idle_oar")
def test_a_stopped_or_killed_job_gives_the_same_result(here: Path, capsys: Any) -> None:
    assert run([*WORDS, "-o", "near.tif", "-p", "p_near.tif"]) == 0
    capsys.readouterr()
    words = [*WORDS, "-o", "far.tif", "-p", "p_far.tif", "--queue", "oar"]
    job = JobFolder(submit(capsys, *words)["job"])
    steps = run_steps(job)
    while not isinstance(next(steps), TileDone):
        pass
    steps.close()
    assert job.status().state == "paused"
    assert not Path("far.tif").exists()
    assert describe_resume("segment", job.path) == "starts again from the beginning"
    assert run_to_end(run_steps(job)) == here / "far.tif"
    # Killed before it was reported, the job finds its result, if it is complete.
    written = Path("far.tif").stat().st_mtime_ns
    job.set_state("interrupted")
    assert run_to_end(run_steps(job)) == here / "far.tif"
    assert Path("far.tif").stat().st_mtime_ns == written
    Path("p_far.tif").unlink()
    job.set_state("interrupted")
    assert run_to_end(run_steps(job)) == here / "far.tif"
    for far, near in (("far.tif", "near.tif"), ("p_far.tif", "p_near.tif")):
        np.testing.assert_array_equal(io.read(far).data, io.read(near).data)


def test_the_job_runs_in_the_queue_of_this_computer(here: Path, capsys: Any) -> None:
    said = submit(capsys, *WORDS, "-o", "far.tif", "-p", "p.tif", "--queue", "local")
    job = JobFolder(said["job"])
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done", job.status().message
    assert job.status().result == here / "far.tif"
    assert io.read("p.tif").shape == (2, 16, 48, 48)


@pytest.mark.parametrize("cluster", ["oar"], indirect=True)
def test_the_job_runs_in_a_queue(here: Path, capsys: Any, cluster: Cluster) -> None:
    said = submit(capsys, *WORDS, "-o", "far.tif", "--queue", cluster.name)
    job = JobFolder(said["job"])
    wait_for(job, lambda: job.status().state == "done")
    assert job.status().result == here / "far.tif"


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_says_that_nothing_is_kept(here: Path, capsys: Any) -> None:
    before = sorted(here.iterdir())
    assert run(["submit", *WORDS, "-o", "a.tif", "--queue", "oar", "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "segment: a" in said
    assert "the job must end within it, because a stopped run keeps nothing" in said
    assert sorted(here.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["-l", "small.tif", "-o", "a.tif"], "must be on the same grid"),
        (["-l", "painted.tif", "-o", "a.tif", "-p", "a.tif"], "Choose two names"),
        (["-l", "painted.tif", "-o", "painted.tif", "--overwrite"], "painted.tif"),
        (["-l", "painted.tif", "-o", "a.tif", "-m", "nothing"], "no model 'nothing'"),
        (["-l", "painted.tif", "-o", "a.tif", "--nodes", "2"], "in a single process"),
        (["-l", "missing.tif", "-o", "a.tif"], "missing.tif"),
    ],
)
@pytest.mark.usefixtures("idle_oar")
def test_wrong_segmentations_are_refused_here(
    here: Path, capsys: Any, words: list[str], reason: str
) -> None:
    small = io.read("painted.tif")
    io.write(small.replace(data=np.asarray(small.data)[:8]), "small.tif")
    before = sorted(here.iterdir())
    assert run(["submit", "segment", "scan.tif", *words, "--queue", "oar"]) == 2
    assert reason in said_by(capsys)
    assert sorted(here.iterdir()) == before


@pytest.mark.usefixtures("idle_oar")
def test_a_copied_job_writes_no_probabilities_outside(here: Path, capsys: Any) -> None:
    words = [*WORDS, "-o", "far.tif", "-p", "p.tif", "--queue", "oar"]
    copy = JobFolder(submit(capsys, *words)["job"]).path.rename(here / "copy")
    values = JobFolder(copy).values()
    values.pop("out")
    (copy / "config.yaml").write_text(dump_yaml(values))
    with pytest.raises(JobError, match="Remove `probabilities` from this file"):
        check_output_paths(JobFolder(copy))
