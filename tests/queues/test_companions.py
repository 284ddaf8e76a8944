"""All files that a job writes are protected, not only its result."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import run_here, said_by, submit

from napari_geosr import io
from napari_geosr.cli import sim as sim_commands
from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import StageStarted, TileDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.restore import deviation_path, residual_path
from napari_geosr.operations.shapes.simulation import simulated_skull
from napari_geosr.operations.sim import job as sim_jobs

#: What another program has written since a job was submitted.
FOREIGN = b"written since by another program"
RESTORE = ["-m", "gaussian", "--threads", "1"]
UNCERTAIN = [*RESTORE, "--uncertainty", "tta"]


@pytest.fixture
def here(scan: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the scan, with labels painted on it and a folder for a report."""
    monkeypatch.chdir(scan.parent)
    scanned = io.read(scan)
    painted = np.zeros(scanned.shape, np.uint8)
    painted[4, :4], painted[4, 20:24, 20:24] = 1, 2
    io.write(scanned.replace(data=painted), "painted.tif", kind="labels")
    Path("report").mkdir()
    return scan.parent


#: Two commands that write the same file, and the name of this file.
PAIRS = {
    "deviation": (
        ["restore", "scan.tif", *UNCERTAIN, "-o", "clean.tif"],
        ["restore", "scan.tif", *RESTORE, "-o", "clean_std.tif"],
        "clean_std.tif",
    ),
    "residual": (
        ["restore", "scan.tif", *RESTORE, "--check-consistency", "-o", "clean.tif"],
        ["restore", "scan.tif", *RESTORE, "-o", "clean_residual.tif"],
        "clean_residual.tif",
    ),
    "two residuals": (
        ["restore", "scan.tif", *RESTORE, "-o", "clean_residual.tif"],
        ["restore", "scan.tif", *RESTORE, "--check-consistency", "-o", "clean.tif"],
        "clean_residual.tif",
    ),
    "probabilities": (
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "a.tif", "-p", "p.tif"],
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "b.tif", "-p", "p.tif"],
        "p.tif",
    ),
    "labels of a measurement": (
        ["measure", "scan.tif", "-o", "report"],
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "report/pores.ome.tif"],
        "report/pores.ome.tif",
    ),
}


@pytest.mark.parametrize("names", PAIRS)
@pytest.mark.usefixtures("idle_oar")
def test_two_jobs_do_not_write_the_same_companion(
    here: Path, capsys: Any, names: str
) -> None:
    first, other, common = PAIRS[names]
    submit(capsys, *first, "--queue", "oar")
    before = sorted(here.iterdir())
    assert run(["submit", *other, "--queue", "oar"]) == 2
    assert f"also writes {here / common}" in said_by(capsys)
    assert sorted(here.iterdir()) == before


@pytest.mark.usefixtures("idle_oar")
def test_two_jobs_do_not_write_the_same_report_of_checks(
    frames: Path, tmp_path: Path, capsys: Any
) -> None:
    words = ["sim", str(frames), "--method", "wiener", "--queue", "oar"]
    submit(capsys, *words, "-o", "one.tif", "--report", "checks")
    Path("checks").mkdir()
    assert run(["submit", *words, "-o", "checks/residual.ome.tif"]) == 2
    assert f"also writes {tmp_path}/checks/residual.ome.tif" in said_by(capsys)


@pytest.mark.usefixtures("idle_oar")
def test_a_volume_restored_after_training_is_not_written_by_two_jobs(
    projections: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(projections.parent)
    words = ["train", "noise2inverse", "--projections", "scan.h5", "--centre", "15.5"]
    words += ["--steps", "2", "--restore", "clean.ome.tif"]
    submit(capsys, *words, "-o", "job", "--queue", "oar")
    words = ["reconstruct", "scan.h5", "--centre", "15.5", "-o", "clean.ome.tif"]
    assert run(["submit", *words, "--queue", "oar"]) == 2
    assert f"also writes {projections.parent}/clean.ome.tif" in said_by(capsys)


#: Commands, and one of their companions.
COMPANIONS = {
    "deviation": (
        ["restore", "scan.tif", *UNCERTAIN, "-o", "out.tif"],
        deviation_path("out.tif"),
    ),
    "residual": (
        ["restore", "scan.tif", *RESTORE, "--check-consistency", "-o", "out.tif"],
        residual_path("out.tif"),
    ),
    "probabilities": (
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "out.tif", "-p", "p.tif"],
        Path("p.tif"),
    ),
    "labels": (
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "out.tif"],
        Path("out.tif"),
    ),
}


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("name", COMPANIONS)
@pytest.mark.usefixtures("here", "idle_oar")
def test_companions_written_by_others_are_found_before_the_run(
    capsys: Any, name: str, existed: bool
) -> None:
    words, path = COMPANIONS[name]
    if existed:  # and may be replaced, even if there is no result yet
        path.write_bytes(b"old")
    said = submit(capsys, *words, *["--overwrite"] * existed, "--queue", "oar")
    job = JobFolder(said["job"])
    path.write_bytes(FOREIGN)
    tiles = []
    with pytest.raises(FileError, match=f"{path.name} was written by another program"):
        tiles.extend(s for s in run_steps(job) if isinstance(s, TileDone))
    assert not tiles
    assert path.read_bytes() == FOREIGN
    path.unlink()
    assert run_to_end(run_steps(job)) == Path.cwd() / "out.tif"
    assert io.read(path).shape[-3:] == (16, 48, 48)


@pytest.mark.parametrize("name", COMPANIONS)
@pytest.mark.usefixtures("here", "idle_oar")
def test_companions_of_an_earlier_run_are_replaced_if_wanted(
    capsys: Any, name: str
) -> None:
    words, path = COMPANIONS[name]
    path.write_bytes(b"old")
    assert run(["submit", *words, "--queue", "oar"]) == 2
    assert f"{path} exists already" in said_by(capsys)
    run_here(capsys, *words, "--overwrite")
    assert io.read(path).shape[-3:] == (16, 48, 48)


@pytest.mark.usefixtures("frames", "idle_oar")
def test_checks_written_by_others_are_found_before_the_run(capsys: Any) -> None:
    words = ["sim", "raw/raw.ome.tif", "--method", "wiener", "--threads", "1"]
    words += ["--patterns", "raw/patterns_truth.yaml", "-o", "far.ome.tif"]
    said = submit(capsys, *words, "--report", "checks", "--queue", "oar")
    Path("checks").mkdir()
    written = Path("checks/checks.json")
    written.write_bytes(FOREIGN)
    with pytest.raises(FileError, match=r"contains checks\.json, written by another"):
        run_to_end(run_steps(JobFolder(said["job"])))
    assert not Path("far.ome.tif").exists()
    assert written.read_bytes() == FOREIGN


@pytest.mark.usefixtures("frames", "idle_oar")
def test_checks_written_by_others_during_the_run_are_kept(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checks of the job are not lost either."""
    words = ["sim", "raw/raw.ome.tif", "--method", "wiener", "--threads", "1"]
    words += ["--patterns", "raw/patterns_truth.yaml"]
    run_steps_of_sim = sim_jobs.run_steps
    written = Path("checks/checks.json")

    def run_and_write(*args: Any, **kwargs: Any) -> Any:
        result = yield from run_steps_of_sim(*args, **kwargs)
        Path("checks").mkdir(exist_ok=True)
        written.write_bytes(FOREIGN)
        return result

    monkeypatch.setattr(sim_jobs, "run_steps", run_and_write)
    said = submit(
        capsys, *words, "-o", "far.ome.tif", "--report", "checks", "--queue", "oar"
    )
    job = JobFolder(said["job"])
    notes = [s.message for s in run_steps(job) if isinstance(s, WarningIssued)]
    assert job.status().state == "done"
    assert any("The checks were written to" in note for note in notes)
    assert written.read_bytes() == FOREIGN
    names = {path.name for path in Path("checks_2").iterdir()}
    assert names == {"checks.json", "checks.png", "residual.ome.tif"}


@pytest.mark.usefixtures("frames")
def test_checks_of_a_local_run_are_not_lost_either(
    capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["sim", "raw/raw.ome.tif", "--method", "wiener", "--threads", "1"]
    words += ["--patterns", "raw/patterns_truth.yaml", "-o", "near.ome.tif"]
    run_steps_of_sim = sim_commands.run_steps

    def run_and_write(*args: Any, **kwargs: Any) -> Any:
        result = yield from run_steps_of_sim(*args, **kwargs)
        Path("checks").mkdir()
        Path("checks/checks.json").write_bytes(FOREIGN)
        return result

    monkeypatch.setattr(sim_commands, "run_steps", run_and_write)
    assert run([*words, "--report", "checks"]) == 0
    assert "already contains checks.json, created during" in capsys.readouterr().out
    assert Path("checks/checks.json").read_bytes() == FOREIGN
    assert len(list(Path("checks_2").iterdir())) == 3


#: Commands, another one that would write the same file, and this file.
LOCAL = {
    "report": (
        ["measure", "scan.tif", "-o", "report"],
        ["measure", "scan.tif", "-o", "report"],
        "report.json",
    ),
    "residual": (
        ["restore", "scan.tif", *RESTORE, "--check-consistency", "-o", "clean.tif"],
        ["restore", "scan.tif", *RESTORE, "-o", "clean_residual.tif"],
        "clean_residual.tif",
    ),
    "deviation": (
        ["restore", "scan.tif", *UNCERTAIN, "-o", "clean.tif"],
        ["restore", "scan.tif", *RESTORE, "-o", "clean_std.tif"],
        "clean_std.tif",
    ),
    "probabilities": (
        ["segment", "scan.tif", "-l", "painted.tif", "-o", "a.tif", "-p", "p.tif"],
        ["restore", "scan.tif", *RESTORE, "-o", "p.tif"],
        "p.tif",
    ),
}


@pytest.mark.parametrize("name", LOCAL)
@pytest.mark.usefixtures("here", "idle_oar")
def test_local_runs_do_not_write_the_files_of_a_running_job(
    capsys: Any, name: str
) -> None:
    words, other, path = LOCAL[name]
    refused_while_running(capsys, words, other, path)


@pytest.mark.usefixtures("frames", "idle_oar")
def test_local_runs_do_not_write_the_checks_of_a_running_job(capsys: Any) -> None:
    words = ["sim", "raw/raw.ome.tif", "--method", "wiener", "--threads", "1"]
    words += ["--report", "checks"]
    Path("checks").mkdir()
    refused_while_running(
        capsys, [*words, "-o", "a.tif"], [*words, "-o", "b.tif"], "checks.json"
    )


@pytest.mark.parametrize("option", ["--implant=part.tif", "--mesh=part.stl"])
@pytest.mark.usefixtures("idle_oar")
def test_local_runs_do_not_write_the_parts_of_a_running_job(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch, option: str
) -> None:
    monkeypatch.chdir(tmp_path)
    skull = simulated_skull(3, 56, "sphere").incomplete.astype(np.uint8)
    io.write(Volume(skull, "ZYX", (1.0,) * 3), "skull.tif", kind="labels")
    words = ["shapes", "complete", "skull.tif", "--threads", "1", option]
    name = option.partition("=")[2]
    refused_while_running(
        capsys, [*words, "-o", "a.tif"], [*words, "-o", "b.tif"], name
    )


def refused_while_running(
    capsys: Any, words: list[str], other: list[str], name: str
) -> None:
    """Run a job; another run in another thread is refused, and the job completes."""
    job = JobFolder(submit(capsys, *words, "--queue", "oar")["job"])
    steps = run_steps(job)
    while not isinstance(next(steps), StageStarted | TileDone):
        pass
    codes: list[int] = []
    local = threading.Thread(target=lambda: codes.append(run(other)))
    local.start()
    local.join()
    assert codes == [2]
    assert f"A run is still writing to {name}" in said_by(capsys)
    run_to_end(steps)
    assert job.status().state == "done", job.status().message
