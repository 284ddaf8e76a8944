"""A job never takes a file that another program has written for its own result."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import run_to_end
from napari_geosr.io.unfinished_files import finished
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    rng = np.random.default_rng(3)
    data = rng.normal(100, 10, (6, 24, 24)).astype(np.float32)
    path = tmp_path / "scan.tif"
    tifffile.imwrite(path, data, imagej=True, metadata={"axes": "ZYX"})
    return path


def restoration(scan: Path, out: Path, **more: Any) -> JobFolder:
    values = {
        "operation": "restore",
        "method": "gaussian",
        "name": "clean",
        "settings": {"model": "gaussian", "threads": 1},
        "data": {"volume": str(scan)},
        "out": str(out),
        **more,
    }
    return JobFolder.create(scan.parent / "clean.job", values, name="clean")


@pytest.mark.parametrize("is_replacing", [False, True])
def test_a_file_that_appears_while_a_job_waits_is_not_its_result(
    scan: Path, is_replacing: bool
) -> None:
    out, more = scan.parent / "clean.ome.tif", {}
    if is_replacing:
        out.write_bytes(b"the old result")
        more = {"replaces": out.stat().st_mtime_ns}
    job = restoration(scan, out, **more)
    shutil.copy(scan, out)  # while the job waits
    with pytest.raises(FileError, match="was written by another program after"):
        run_to_end(run_steps(job))
    assert job.status().state == "failed"
    assert out.read_bytes() == scan.read_bytes()
    out.rename(scan.parent / "mine.tif")
    assert run_to_end(run_steps(job)) == out
    assert io.read(out).provenance[-1]["operation"] == "restore"


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_a_job_killed_before_it_reported_finds_its_own_result(
    scan: Path, suffix: str
) -> None:
    out = scan.parent / f"clean{suffix}"
    job = restoration(scan, out)
    assert run_to_end(run_steps(job)) == out
    written = out.stat().st_mtime_ns
    job.set_state("interrupted")
    assert run_to_end(run_steps(job)) == out
    assert out.stat().st_mtime_ns == written
    # A file that has replaced it since is not taken for it.
    main = out / "zarr.json" if out.is_dir() else out
    os.utime(main, ns=(0, main.stat().st_mtime_ns + 10**10))
    job.set_state("interrupted")
    with pytest.raises(FileError, match="was written by another program"):
        run_to_end(run_steps(job))


@pytest.mark.parametrize("operation", ["restore", "reconstruct"])
def test_a_job_of_an_earlier_release_takes_only_a_result_of_its_kind(
    scan: Path, operation: str
) -> None:
    """Such a job has no record of its files."""
    out = scan.parent / "clean.ome.tif"
    job = restoration(scan, out)
    assert run_to_end(run_steps(job)) == out
    (job.path / finished.RECORD).unlink()
    job.set_state("interrupted")
    volume = io.read(out)
    last = {**volume.provenance[-1], "operation": operation}
    io.write(volume.replace(provenance=(last,)), out, overwrite=True)
    if operation == "restore":
        assert run_to_end(run_steps(job)) == out
        return
    with pytest.raises(FileError, match="was written by another program"):
        run_to_end(run_steps(job))


def test_a_damaged_record_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(b"a")
    for text in ("[1]", "{", '{"a.tif": [1, null]}', '{"a.tif": 3}'):
        (tmp_path / finished.RECORD).write_text(text)
        assert not finished.is_recorded(tmp_path / "a.tif", tmp_path)


def measurement(scan: Path, out: Path, **more: Any) -> JobFolder:
    values = {
        "operation": "measure",
        "method": "otsu",
        "name": "report",
        "data": {"volume": str(scan)},
        "out": str(out),
        **more,
    }
    return JobFolder.create(scan.parent / "report.job", values, name="report")


def test_a_report_that_appears_while_a_job_waits_is_kept(scan: Path) -> None:
    out = scan.parent / "report"
    job = measurement(scan, out)
    out.mkdir()
    (out / "report.html").write_text("another report")
    with pytest.raises(FileError, match="contains report.html, written by another"):
        run_to_end(run_steps(job))
    assert [path.name for path in out.iterdir()] == ["report.html"]
    assert (out / "report.html").read_text() == "another report"


def test_an_earlier_release_has_left_a_report(scan: Path) -> None:
    out = scan.parent / "report"
    job = measurement(scan, out)
    run_to_end(run_steps(job))
    (job.path / finished.RECORD).unlink()
    job.set_state("interrupted")
    assert run_to_end(run_steps(job)) == out / "report.html"


def test_a_report_that_appears_during_the_measurement_is_kept(scan: Path) -> None:
    out = scan.parent / "report"
    steps = run_steps(measurement(scan, out))
    next(steps)
    out.mkdir(exist_ok=True)  # claimed by the running job
    (out / "report.html").write_text("another report")
    with pytest.raises(FileError, match="The report was written to .*report_2"):
        run_to_end(steps)
    assert (out / "report.html").read_text() == "another report"
    assert (scan.parent / "report_2" / "report.html").exists()


def test_a_measurement_replaces_the_old_report_and_its_own_files(scan: Path) -> None:
    out = scan.parent / "report"
    out.mkdir()
    (out / "report.html").write_text("the old report")
    old = (out / "report.html").stat().st_mtime_ns
    job = measurement(scan, out, replaces=old)
    for _ in range(2):  # killed before it was reported, it starts again
        assert run_to_end(run_steps(job)) == out / "report.html"
        job.set_state("interrupted")
    assert "Porosity" in (out / "report.html").read_text()
