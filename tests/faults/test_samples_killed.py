"""A killed run of diffusion samples resumes with the same samples."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

import napari_geosr as geosr
from napari_geosr.cli.app import run
from napari_geosr.io.unfinished_files.journal import JOURNAL, read_journal
from napari_geosr.operations.restore.resume import deviation_path

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
#: Number of samples; many steps, so that the kill falls into one of them.
N, STEPS = 3, 60
#: Seconds to wait for a file on a busy computer.
PATIENCE = 200
RESUME = ("--continue",)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A noisy scan, and a briefly trained model."""
    path = tmp_path_factory.mktemp("samples")
    field = gaussian_filter(np.random.default_rng(0).normal(size=(8, 48, 48)), 3)
    clean = (100 + 80 * (field > 0)).astype(np.float32)
    geosr.train(
        "ddpm",
        path / "model",
        clean,
        name="m",
        width=8,
        layers=1,
        steps=20,
        batch_size=2,
        patch=16,
        device="cpu",
        threads=1,
        averaging=0.9,
    )
    noise = np.random.default_rng(1).normal(0, 20, clean.shape)
    scan = (clean + noise).astype(np.float32)
    tifffile.imwrite(path / "scan.tif", scan, imagej=True, metadata={"axes": "ZYX"})
    return path


def words(folder: Path, out: Path, *more: str) -> list[str]:
    """Return the command that restores the scan with samples."""
    line = (
        f"restore {folder / 'scan.tif'} --model {folder / 'model'} --out {out} --quiet "
        f"--uncertainty diffusion --uncertainty-members {N} --sampling-steps {STEPS} "
        "--device cpu --threads 1"
    )
    return [*line.split(), *more]


def start(command: list[str]) -> subprocess.Popen[str]:
    """Run a command in another process."""
    return subprocess.Popen(
        [sys.executable, "-m", "napari_geosr", *command],
        stderr=subprocess.PIPE,
        text=True,
    )


def n_recorded(out: Path) -> int:
    """Number of samples that the journal of a run lists."""
    journals = out.parent.glob(f".{out.name.removesuffix('.ome.tif')}.*{JOURNAL}")
    parts = (path.with_name(path.name.removesuffix(JOURNAL)) for path in journals)
    entries = [entry for part in parts if (entry := read_journal(part))]
    return max((entry.n_samples for entry in entries), default=0)


def content(out: Path) -> tuple[list[Any], dict[str, Any]]:
    """Mean, deviation and the record of the samples."""
    volumes = [geosr.read(path) for path in (out, deviation_path(out))]
    record = volumes[0].provenance[-1]["porosity_samples"]
    return [np.asarray(volume.data) for volume in volumes], record


def kill_after_a_sample(process: subprocess.Popen[str], out: Path, n: int) -> None:
    """Kill a run when it has recorded `n` samples."""
    end = time.monotonic() + PATIENCE
    while n_recorded(out) < n:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < end
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert process.returncode == -9
    assert not out.exists()


def test_a_killed_run_gives_the_same_samples(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is killed twice; each time, the finished samples are kept."""
    whole, out = folder / "whole.ome.tif", folder / "killed.ome.tif"
    assert run(words(folder, whole)) == 0
    written: dict[str, int] = {}
    for n, more in ((1, ()), (2, RESUME)):
        kill_after_a_sample(start(words(folder, out, *more)), out, n)
        samples = (folder / f".{out.name}.samples").glob("sample_*.npy")
        now = {path.name: path.stat().st_mtime_ns for path in samples}
        assert now.items() >= written.items(), "a sample was drawn again"
        written = now
    capsys.readouterr()
    assert run(words(folder, out)) == 2
    said = " ".join(capsys.readouterr().err.split())
    assert f"had finished 2 samples of {out.name}. Resume it (--continue)" in said
    assert run(words(folder, out, *RESUME)) == 0
    arrays, record = content(out)
    expected, expected_record = content(whole)
    for found, wanted in zip(arrays, expected, strict=True):
        np.testing.assert_array_equal(found, wanted)
    assert record == expected_record
    assert not list(folder.glob(".*"))
