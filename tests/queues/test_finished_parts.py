"""A submission with --overwrite discards a finished part only once its job starts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from queue_helpers import submit

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.steps import run_to_end
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files.discarded import RECORD
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.jobs.run import run_steps

SETTINGS = ["-m", "gaussian"]


@pytest.fixture
def out(scan: Path) -> Path:
    """Output of a stopped run with other settings, which finished some planes."""
    target = scan.parent / "clean.ome.tif"
    like = io.read(scan)
    finished = {"finished": [[[0, 4], [0, 48], [0, 48]]], "complete": False}
    spec = io.OutputSpec.like(
        like.replace(provenance=({"operation": "restore", **finished},))
    )
    with io.create(target, spec) as output:
        output.provenance = spec.provenance
        output.keep_incomplete()
    assert incomplete_path(target).exists()
    return target


def words(scan: Path, *more: str) -> list[str]:
    out = str(scan.parent / "clean.ome.tif")
    return ["restore", str(scan), "-o", out, *SETTINGS, *more]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--overwrite", "--queue", "slurm", "--mem", "1MB"], "--mem"),
        (["--overwrite", "--queue", "oar", "--project", "pr-other"], "valid project"),
        (["--queue", "oar"], "--continue"),
    ],
)
@pytest.mark.usefixtures("oar")
def test_a_refused_submission_keeps_it(
    scan: Path,
    out: Path,
    capsys: Any,
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    reason: str,
) -> None:
    monkeypatch.setenv("OAR_EMULATOR_PROJECT", "pr-aiax")
    assert run(["submit", *words(scan, *more)]) == 2
    assert reason in capsys.readouterr().err
    assert incomplete_path(out).exists()
    assert not list(scan.parent.glob("*.job"))


def test_a_dry_run_keeps_it(scan: Path, out: Path) -> None:
    more = ["--queue", "oar", "--dry-run"]
    assert run(["submit", *words(scan, "--overwrite", *more)]) == 0
    assert run(["submit", *words(scan, *more)]) == 2  # as without --dry-run
    assert run([*words(scan, "--overwrite"), "--dry-run"]) == 0
    assert incomplete_path(out).exists()


def test_a_refused_run_here_keeps_it(scan: Path, out: Path, capsys: Any) -> None:
    assert run(words(scan, "--overwrite", "--memory", "1kB")) == 2
    assert "memory" in capsys.readouterr().err.lower()
    assert incomplete_path(out).exists()
    assert run(words(scan, "--overwrite")) == 0
    assert not incomplete_path(out).exists()


@pytest.mark.usefixtures("idle_oar")
def test_the_job_discards_it_in_its_first_run(
    scan: Path, out: Path, capsys: Any
) -> None:
    said = submit(capsys, *words(scan, "--overwrite", "--queue", "oar"))
    assert incomplete_path(out).exists()
    job = JobFolder(said["job"])
    assert (job.path / RECORD).exists()
    assert run_to_end(run_steps(job)) == out
    assert not incomplete_path(out).exists()
    assert not (job.path / RECORD).exists()


@pytest.mark.usefixtures("idle_oar")
def test_jobs_of_other_kinds_discard_it_too(scan: Path, out: Path, capsys: Any) -> None:
    painted = np.zeros((16, 48, 48), np.uint8)
    painted[4, :4], painted[4, 20:24, 20:24] = 1, 2
    labels = scan.with_name("painted.tif")
    io.write(io.read(scan).replace(data=painted), labels, kind="labels")
    more = ["-l", str(labels), "-o", str(out), "--overwrite", "--queue", "oar"]
    job = JobFolder(submit(capsys, "segment", str(scan), *more)["job"])
    assert incomplete_path(out).exists()
    assert run_to_end(run_steps(job)) == out
    assert not incomplete_path(out).exists()
