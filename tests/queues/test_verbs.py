"""Every verb can be submitted, and writes to the requested path."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import run_here, said_by, submit, wait_for

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import ConfigError, FileError, JobError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.jobs.cluster import allocation
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.job_files import check_output_paths
from napari_geosr.jobs.kinds import describe_resume
from napari_geosr.jobs.run import run_steps
from napari_geosr.operations.shapes.simulation import simulated_skull


@pytest.mark.usefixtures("idle_oar")
def test_measure(scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(scan.parent)
    scanned = io.read(scan)
    for name, dtype in (("mask", "u1"), ("deviation", "f4")):
        io.write(scanned.replace(data=np.ones(scanned.shape, dtype)), f"{name}.tif")
    words = ["measure", "scan.tif", "--voxel-size", "2", "--unit", "um"]
    # They repeat the voxel size of the scan, which was corrected.
    words += ["--mask", "mask.tif", "--deviation", "deviation.tif"]
    job = run_here(capsys, *words, "-o", "report")
    assert run([*words, "-o", "here", "--labels"]) == 0
    report, here = (
        json.loads((scan.parent / name / "report.json").read_text())
        for name in ("report", "here")
    )
    inputs = [each.pop("provenance")["inputs"] for each in (report, here)]
    assert [list(each) for each in inputs] == [["input", "mask", "deviation"]] * 2
    assert report == here
    assert job.path == scan.parent / "report.job"
    assert (scan.parent / "report" / "pores.ome.tif").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("idle_oar")
def test_restore_on_workers(scan: Path, capsys: Any) -> None:
    pytest.importorskip("distributed")
    words = ["restore", str(scan), "-m", "gaussian", "--threads", "2"]
    out, here = scan.parent / "clean.ome.zarr", scan.parent / "here.ome.zarr"
    run_here(capsys, *words, "-o", str(out), "--workers", "2")
    assert run([*words, "-o", str(here)]) == 0
    many, one = io.read(out), io.read(here)
    np.testing.assert_allclose(many.data, one.data, atol=1e-5 * np.std(one.data))
    assert many.provenance[-1]["workers"]["processes"] == 2


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_of_a_submitted_run_names_its_workers(scan: Path, capsys: Any) -> None:
    pytest.importorskip("distributed")
    words = ["submit", "restore", str(scan), "-m", "gaussian", "--queue", "oar"]
    words += ["-o", str(scan.parent / "clean.ome.zarr"), "--dry-run"]
    assert run([*words, "--workers", "2", "--threads", "2"]) == 0
    said = capsys.readouterr().out
    assert "; 2 workers" in said
    assert "for each worker" in said
    assert "processes  2 workers (--workers)\n" in said
    assert run([*words, "--workers", "0"]) == 2
    assert "at least one is needed" in capsys.readouterr().err
    # Without a number of workers, it depends on the nodes and GPUs.
    assert run([*words, "--nodes", "2", "--gpus", "2"]) == 0
    assert "processes  4 workers, one on each GPU\n" in capsys.readouterr().out
    assert run([*words, "--nodes", "3"]) == 0
    assert "processes  3 workers, one on each node\n" in capsys.readouterr().out


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_says_why_there_are_no_workers(
    scan: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["submit", "restore", str(scan), "-m", "gaussian", "--queue", "oar"]
    words += ["-o", str(scan.parent / "clean.ome.zarr"), "--dry-run"]

    def refuse() -> None:
        raise ConfigError("Install the extra.")

    monkeypatch.setattr(allocation, "check_installed", refuse)
    assert run([*words, "--gpus", "2"]) == 0
    said = capsys.readouterr().out
    assert "processes  one; only one GPU is used. Install the extra.\n" in said
    assert run([*words]) == 0
    assert "processes" not in capsys.readouterr().out


def _plan(capsys: Any, *words: str) -> dict[str, str]:
    assert run(["submit", *words, "--queue", "oar", "--dry-run"]) == 0
    rows = capsys.readouterr().out.partition("\n\n")[0].splitlines()
    return dict(row.split(maxsplit=1) for row in rows)


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_of_a_measurement(scan: Path, capsys: Any) -> None:
    words = ["measure", str(scan), "-o", str(scan.parent / "report")]
    plan = _plan(capsys, *words)
    assert plan["parts"] == "1 slab of 16 planes; slabs are thinner if memory is short"
    assert plan["data"] == "147 kB of voxels, which are read more than once"
    assert plan["time"] == "not estimated for measurements"
    least, most = re.match(r"(\S+) MB to (\S+) MB, dep", plan["memory"]).groups()
    assert 0 < float(least) <= float(most)
    # Each worker needs the memory of a slab.
    more = _plan(capsys, *words, "--workers", "2")["memory"]
    assert float(more.split()[0]) == pytest.approx(3 * float(least), rel=0.02)
    limited = _plan(capsys, *words, "--memory", f"{least}MB")["memory"]
    assert limited.startswith(f"{least} MB to {least} MB")


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_of_a_reconstruction(projections: Path, capsys: Any) -> None:
    words = ["reconstruct", str(projections), "--centre", "15.5"]
    words += ["-o", str(projections.parent / "volume.ome.tif")]
    plan = _plan(capsys, *words)
    # 40 x 8 x 32 values of 2 bytes; 8 x 32 x 32 values of 4 bytes
    assert plan["data"] == (
        "reads 20.5 kB of projections, writes 32.8 kB before compression"
    )
    assert plan["parts"] == "blocks of up to 8 slices"
    assert plan["memory"].endswith(" MB, plus the program")
    assert plan["time"] == "not estimated for reconstructions"
    plan = _plan(capsys, *words, "--gpus", "1")
    assert plan["data"] == "reads 20.5 kB of projections"
    assert "parts" not in plan


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_of_a_study_says_that_its_time_is_unknown(
    projections: Path, capsys: Any
) -> None:
    words = [str(projections), "-o", str(projections.parent / "study")]
    words += ["--counts", "20", "--algorithms", "fbp"]
    plan = _plan(capsys, "study", "projections", *words)
    assert plan["time"] == "not estimated for this kind of job"


@pytest.mark.slow
@pytest.mark.usefixtures("idle_oar")
def test_reconstruct(
    projections: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(projections.parent)
    words = ["reconstruct", "scan.h5", "--centre", "15.5"]
    run_here(capsys, *words, "-o", "volume.ome.zarr")
    assert run([*words, "-o", "here.ome.zarr"]) == 0
    one, other = (
        io.read(projections.parent / f"{name}.ome.zarr") for name in ("volume", "here")
    )
    np.testing.assert_array_equal(one.data, other.data)


@pytest.mark.usefixtures("idle_oar")
def test_a_file_is_replaced_when_the_result_is_complete(
    projections: Path, capsys: Any
) -> None:
    out = projections.parent / "volume.ome.tif"
    out.write_bytes(b"the old result")
    words = ["reconstruct", str(projections), "--centre", "15.5", "-o", str(out)]
    job = run_here(capsys, *words, "--overwrite")
    assert io.read(out).shape == (8, 32, 32)
    # Killed before it was reported, the job finds its result.
    job.set_state("interrupted")
    written = out.stat().st_mtime_ns
    assert run_to_end(run_steps(job)) == out
    assert out.stat().st_mtime_ns == written


@pytest.mark.slow
@pytest.mark.usefixtures("idle_oar")
def test_study(projections: Path, capsys: Any) -> None:
    out = projections.parent / "study"
    words = ["study", "projections", str(projections), "-o", str(out)]
    job = run_here(capsys, *words, "--counts", "20", "--algorithms", "fbp")
    assert (out / "report.html").exists()
    assert job.path == projections.parent / "study.job"


@pytest.mark.slow
@pytest.mark.usefixtures("idle_oar")
def test_train(scan: Path, capsys: Any) -> None:
    out = scan.parent / "job"
    words = ["train", "neighbor2neighbor", "--source", str(scan), "-o", str(out)]
    words += ["--steps", "2", "--batch-size", "2", "--patch", "24", "--layers", "3"]
    job = run_here(capsys, *words, "--width", "2", "--threads", "1", "--name", "m")
    assert job.path == out
    assert job.status().result == out / "result" / "m"


@pytest.mark.usefixtures("idle_oar")
def test_train_pinn_sim(frames: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["train", "pinn-sim", "--frames", str(frames)]
    words += ["--apply-to", str(frames), "--recipe", "published", "--steps", "2"]
    words += ["--features", "4", "--iterations", "2", "--refine-steps", "1"]
    words += ["--threads", "1", "--device", "cpu"]
    job = run_here(capsys, *words, "-o", "job")
    assert job.path == tmp_path / "job"
    assert job.status().result == tmp_path / "job" / "result" / "sim.ome.tif"
    names = sorted(path.name for path in (tmp_path / "job" / "result").iterdir())
    assert names == ["sim.ome.tif", "sim_raw.ome.tif"]
    assert run(["submit", *words, "-o", "other", "--queue", "oar", "--dry-run"]) == 0
    assert "pinn-sim: sim" in capsys.readouterr().out
    assert not (tmp_path / "other").exists()


@pytest.mark.usefixtures("idle_oar")
def test_sim(frames: Path, tmp_path: Path, capsys: Any) -> None:
    words = ["sim", str(frames), "--method", "wiener", "--threads", "1"]
    words += ["--patterns", "raw/patterns_truth.yaml"]
    job = run_here(capsys, *words, "-o", "far.ome.tif", "--report", "checks")
    assert run([*words, "-o", "near.ome.tif", "--report", "here"]) == 0
    far, near = (io.read(tmp_path / f"{name}.ome.tif") for name in ("far", "near"))
    np.testing.assert_array_equal(far.data, near.data)
    one, other = (volume.provenance[-1] for volume in (far, near))
    assert one["operation"] == other["operation"]
    assert one["inputs"]["frames"]["checksum"] == other["inputs"]["frames"]["checksum"]
    written = tmp_path / "checks" / "checks.json"
    assert written.read_text() == (tmp_path / "here" / "checks.json").read_text()
    # Killed before its report was complete, the job repeats the run.
    # So it does if a file of the report is older than the result.
    for spoil in (written.unlink, lambda: os.utime(written, (0, 0))):
        spoil()
        job.set_state("interrupted")
        assert run_to_end(run_steps(job)) == tmp_path / "far.ome.tif"
        assert written.stat().st_mtime > 0
    copy = job.path.rename(tmp_path / "copy")
    text = (copy / "config.yaml").read_text()
    (copy / "config.yaml").write_text(text.replace(f"out: {tmp_path}/far.ome.tif", ""))
    with pytest.raises(JobError, match="checks.*Remove `report` from this file"):
        check_output_paths(JobFolder(copy))


@pytest.mark.usefixtures("idle_oar")
def test_the_plan_of_a_run_that_cannot_be_divided(frames: Path, capsys: Any) -> None:
    words = ["submit", "sim", str(frames), "-o", "sim.ome.tif", "--queue", "oar"]
    assert run([*words, "--dry-run"]) == 0
    assert "the job must end within it" in capsys.readouterr().out
    assert run([*words, "--report", "checks", "--no-checks"]) == 2
    assert "they are switched off" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["raw"]


@pytest.mark.usefixtures("idle_oar")
def test_sim_refuses_a_report_that_cannot_be_written(
    frames: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a drive that is read-only; the folder of the report does not exist yet."""
    drive = read_only_drive(tmp_path, monkeypatch)
    words = ["sim", str(frames), "-o", "sim.ome.tif", "--report", f"{drive}/new/checks"]
    for start in (["submit"], []):
        end = ["--queue", "oar"] if start else []
        assert run([*start, *words, *end]) == 2
        assert f"cannot be written to {drive}/new/checks" in capsys.readouterr().err
    check = ["sim", "check", str(frames), "-o", f"{drive}/checks"]
    assert run(check) == 2
    assert f"cannot be written to {drive}/checks" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["drive", "raw"]


@pytest.mark.usefixtures("idle_oar")
def test_study_refuses_a_folder_that_cannot_be_written(
    projections: Path, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its job may be in another folder, so creating the job is no test."""
    drive = read_only_drive(tmp_path, monkeypatch)
    words = ["submit", "study", "projections", str(projections), "-o", f"{drive}/study"]
    words += ["--job-folder", f"{tmp_path}/study.job", "--queue", "oar"]
    words += ["--counts", "20", "--algorithms", "fbp"]
    assert run(words) == 2
    assert f"cannot be written to {drive}/study" in capsys.readouterr().err
    assert not (tmp_path / "study.job").exists()


def read_only_drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that even the administrator cannot write to."""
    drive = tmp_path / "drive"
    drive.mkdir()
    access = os.access

    def no_access(path: Any, mode: int, **more: Any) -> bool:
        is_inside = Path(path).is_relative_to(drive)
        return access(path, mode, **more) and not (is_inside and mode & os.W_OK)

    monkeypatch.setattr(os, "access", no_access)
    return drive


@pytest.mark.usefixtures("idle_oar")
def test_train_shapes(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    places = np.indices((24,) * 3) - 11.5
    ball = (np.sqrt((places**2).sum(0)) < 8).astype(np.uint8)
    io.write(Volume(ball, "ZYX", (1.0,) * 3), "ball.tif", kind="labels")
    words = ["train", "shape-sr", "--source", "ball.tif", "--steps", "2"]
    words += ["--channels", "4,4", "--patch", "16", "--threads", "1"]
    job = run_here(capsys, *words, "--name", "first", "-o", "job")
    assert job.path == tmp_path / "job"
    assert job.status().result == tmp_path / "job" / "result" / "first"
    # The job finds the model that it starts from, too.
    words += ["--from-model", "job/result/first", "--name", "second", "-o", "more"]
    assert run(["submit", *words, "--queue", "oar", "--dry-run"]) == 0
    assert "train shapes: second" in capsys.readouterr().out
    assert run_here(capsys, *words).values()["training"]["from_model"] == str(
        tmp_path / "job" / "result" / "first"
    )


#: What each task on a shape needs, in the folder of the fixture `shape_files`.
TASKS = {
    "refine": ["ball.tif", "--model", "trilinear"],
    "complete": ["skull.tif"],
    "segment": ["scan.tif", "--mask", "ball.tif", "--model", "model"],
}


@pytest.fixture
def shape_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Path:
    """Shapes, a scan and a model, in the current folder."""
    monkeypatch.chdir(tmp_path)
    places = np.indices((24,) * 3) - 11.5
    ball = (np.sqrt((places**2).sum(0)) < 8).astype(np.uint8)
    scan = np.random.default_rng(0).normal(40 * ball, 20).astype(np.float32)
    skull = simulated_skull(3, 56, "sphere").incomplete.astype(np.uint8)
    for name, data in (("ball", ball), ("labels", ball * (1 + (scan > 40)))):
        io.write(Volume(data, "ZYX", (1.0,) * 3), f"{name}.tif", kind="labels")
    io.write(Volume(skull, "ZYX", (1.0,) * 3), "skull.tif", kind="labels")
    io.write(Volume(scan, "ZYX", (1.0,) * 3), "scan.tif")
    words = ["train", "sparse-segmentation", "--source", "scan.tif", "--steps", "2"]
    words += ["--target", "labels.tif", "--n-labels", "2", "--channels", "4,4"]
    words += ["--patch", "16", "--threads", "1", "--name", "m", "-o", "model"]
    assert run(words) == 0
    capsys.readouterr()
    return tmp_path


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.usefixtures("idle_oar")
def test_shapes(shape_files: Path, capsys: Any, task: str) -> None:
    words = ["shapes", task, *TASKS[task], "--threads", "1"]
    more = ["--implant", "part.tif", "--mesh", "part.stl"] * (task == "complete")
    job = run_here(capsys, *words, "-o", "far.ome.tif", *more)
    assert job.path == shape_files / "far.job"
    assert run([*words, "-o", "near.ome.tif"]) == 0
    far, near = (io.read(f"{name}.ome.tif") for name in ("far", "near"))
    np.testing.assert_array_equal(far.data, near.data)
    one, other = (volume.provenance[-1] for volume in (far, near))
    assert one["operation"] == other["operation"] == f"shapes {task}"
    sums = [
        [each["checksum"] for each in record["inputs"].values()]
        for record in (one, other)
    ]
    assert sums[0] == sums[1]
    assert one.get("model") == other.get("model")
    assert describe_resume("shapes", job.path) == "starts again from the beginning"
    # Killed before it was reported, the job finds its result, if it is complete.
    written = Path("far.ome.tif").stat().st_mtime_ns
    for name in more[1::2]:
        Path(name).unlink()
    job.set_state("interrupted")
    assert run_to_end(run_steps(job)) == shape_files / "far.ome.tif"
    assert (Path("far.ome.tif").stat().st_mtime_ns == written) == (not more)
    assert all(Path(name).exists() for name in more[1::2])


@pytest.mark.parametrize("name", ["part.tif", "part.stl", "far.ome.tif"])
@pytest.mark.usefixtures("idle_oar")
def test_files_of_others_are_not_replaced(
    shape_files: Path, capsys: Any, name: str
) -> None:
    for given in ("part.tif", "part.stl"):
        Path(given).write_bytes(b"old")
    words = ["shapes", "complete", "skull.tif", "--threads", "1", "-o", "far.ome.tif"]
    words += ["--implant", "part.tif", "--mesh", "part.stl", "--queue", "oar"]
    job = JobFolder(submit(capsys, *words, "--overwrite")["job"])
    Path(name).write_bytes(b"written since by another program")
    with pytest.raises(FileError, match=f"{name} was written by another program"):
        run_to_end(run_steps(job))
    assert Path(name).read_bytes() == b"written since by another program"
    Path(name).unlink()
    assert run_to_end(run_steps(job)) == shape_files / "far.ome.tif"
    assert len(Path("part.stl").read_bytes()) > 100


@pytest.mark.parametrize("option", ["--implant", "--mesh"])
@pytest.mark.usefixtures("shape_files", "idle_oar")
def test_a_job_does_not_write_the_companion_of_another(
    capsys: Any, option: str
) -> None:
    kind = "tif" if option == "--implant" else "stl"
    words = ["shapes", "complete", "skull.tif", option, f"part.{kind}"]
    submit(capsys, *words, "-o", "one.ome.tif", "--queue", "oar")
    assert run(["submit", *words, "-o", "other.ome.tif", "--queue", "oar"]) == 2
    assert f"also writes {Path.cwd()}/part.{kind}" in said_by(capsys)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["refine", "scan.tif", "-m", "skull-complete"], "cannot refine shapes"),
        (["segment", "scan.tif", "-m", "model"], "voxels to segment are not specified"),
        (
            ["segment", "scan.tif", "-m", "model", "--mask", "skull.tif"],
            "must be on the same grid",
        ),
        (["complete", "ball.tif", "--mesh", "part.doc"], "part.doc"),
        (["complete", "ball.tif", "--implant", "scan.tif"], "scan.tif"),
        (["refine", "ball.tif", "--gpus", "2"], "runs in a single process"),
    ],
)
@pytest.mark.usefixtures("idle_oar")
def test_wrong_runs_on_shapes_are_refused_here(
    shape_files: Path, capsys: Any, words: list[str], reason: str
) -> None:
    before = sorted(shape_files.iterdir())
    words = ["submit", "shapes", *words, "-o", "out.ome.tif", "--queue", "oar"]
    assert run(words) == 2
    assert reason in capsys.readouterr().err
    assert sorted(shape_files.iterdir()) == before


@pytest.mark.usefixtures("idle_oar")
def test_a_copied_job_writes_nothing_outside(scan: Path, capsys: Any) -> None:
    out = scan.parent / "clean.ome.tif"
    said = submit(capsys, "restore", str(scan), "-o", str(out), "--queue", "oar")
    copy = JobFolder(said["job"]).path.rename(scan.parent / "copy")
    with pytest.raises(JobError, match="names an output outside the job folder"):
        check_output_paths(JobFolder(copy))


@pytest.mark.usefixtures("idle_oar")
def test_a_reference_of_a_measurement(scan: Path, capsys: Any) -> None:
    other = scan.parent / f"other_{scan.name}"
    other.write_bytes(scan.read_bytes())
    out = scan.parent / "report"
    words = ["measure", str(scan), "-o", str(out), "--queue", "oar"]
    said = submit(capsys, *words, "--reference", str(other))
    text = (JobFolder(said["job"]).path / "config.yaml").read_text()
    assert f"reference: volume: {other}" in " ".join(text.split())
    more = ["submit", *words, "--overwrite", "--reference", str(other), str(other)]
    assert run(more) == 2
    assert "only one volume to compare with" in capsys.readouterr().err


def test_this_computer_is_a_queue(scan: Path, capsys: Any) -> None:
    out = scan.parent / "report"
    said = submit(capsys, "measure", str(scan), "-o", str(out), "--queue", "local")
    job = JobFolder(said["job"])
    wait_for(job, lambda: not job.status().is_alive)
    assert job.status().state == "done"
    assert job.status().queue.queue == ""
    assert "exec" in (job.path / "submit.sh").read_text()
