"""A run that is stopped or killed leaves nothing that looks like a result."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tifffile

from napari_geosr import io


@pytest.fixture
def scan(tmp_path):
    """A volume whose restoration takes some seconds."""
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (64, 96, 96)).astype(np.float32)
    data[:, 30:60, 30:60] -= 0.5
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    return tmp_path / "scan.tif"


def start(scan, out):
    """Start restoring and wait until the first tenth is done."""
    command = [sys.executable, "-m", "napari_geosr", "restore", str(scan)]
    command += ["--out", str(out), "--memory", "120MB", "--threads", "1"]
    process = subprocess.Popen(
        command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    lines = []
    for line in process.stderr:
        lines.append(line)
        if "Restoring" in line and "%" in line and " 0 %" not in line:
            return process
    process.communicate()
    raise AssertionError(f"it ended before it could be interrupted: {lines}")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_asked_to_stop_it_keeps_the_finished_part(scan, tmp_path, number):
    out = tmp_path / "result.ome.tif"
    process = start(scan, out)
    process.send_signal(number)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 130
    assert not out.exists()
    kept = tmp_path / "result.incomplete.ome.tif"
    assert kept.name in output
    part = io.read(kept)
    assert part.provenance[-1]["complete"] is False
    done = np.isfinite(np.asarray(part.data)).all(axis=(1, 2))
    assert 0 < done.sum() < len(done)


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_killed_it_leaves_the_old_result_alone(scan, tmp_path):
    out = tmp_path / "result.ome.tif"
    out.write_bytes(b"the old result")
    command_out = tmp_path / "other.ome.tif"
    process = start(scan, command_out)
    process.kill()
    process.communicate(timeout=300)
    assert not command_out.exists()
    assert out.read_bytes() == b"the old result"
    left = {p.name for p in tmp_path.iterdir()} - {scan.name, out.name}
    assert all("other" in name for name in left), left
    for name in left:  # nothing left behind looks like a finished file
        assert not name.endswith("other.ome.tif"), name
