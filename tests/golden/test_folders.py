"""Folders written by the previous release are read, and their runs are completed.

``folders.tar.xz`` holds jobs that were paused, files that stopped commands left, and a
model bundle; ``write_folders.py`` made it with the release named below. Everything is
unpacked in a different place from where it was made, as on another machine.
"""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from golden_figures import JOBS, LEFT, figures_of_volume, job_figures

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.models import bundle

WRITTEN_BY = "22edfa684a8679357e8772d94d0b56dda5488fc1"
#: Rounding differs between processors, and a few steps of Adam enlarge it.
CLOSE = {"rel": 2e-2, "abs": 2e-3}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything, unpacked."""
    place = tmp_path_factory.mktemp("golden")
    with tarfile.open(Path(__file__).with_name("folders.tar.xz")) as packed:
        # The filter came with Python 3.11.4; Debian 12 has 3.11.2.
        safe = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
        packed.extractall(place, **safe)
    return place


@pytest.fixture(scope="module")
def expected(folders: Path) -> dict[str, Any]:
    """Results that the release that wrote the folders obtained from them."""
    found: dict[str, Any] = json.loads((folders / "expected.json").read_text())
    # Since then, pores that a face of the volume cuts belong to the sample mask.
    found["study"] |= {"16 full": 0.22989, "10 cgls": 0.24828}
    return found


def assert_close(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, **CLOSE), name


@pytest.mark.parametrize("name", JOBS)
def test_a_job_is_read_and_resumed(
    folders: Path,
    expected: dict[str, Any],
    tmp_path: Path,
    name: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    shutil.copytree(folders / name, tmp_path / name)
    job = JobFolder(tmp_path / name)
    before = job.status()
    assert (before.state, before.can_resume, before.name) == ("paused", True, "golden")
    assert 0 < before.done < before.total
    assert run(["jobs", "show", str(job.path)]) == 0
    assert "golden" in capsys.readouterr().out
    kept = {p: p.stat().st_mtime_ns for p in job.path.glob("result/cells/*.json")}
    n_events = len(job.events()[0])
    assert run(["jobs", "resume", str(job.path)]) == 0
    after = job.status()
    assert (after.state, after.done) == ("done", before.total)
    # The run was resumed, not restarted: finished steps and cells are kept.
    kinds = ("progress", "checkpoint")
    later = [e for e in job.events()[0][n_events:] if e["event"] in kinds]
    assert all(event["step"] >= before.done for event in later)
    assert all(path.stat().st_mtime_ns == time for path, time in kept.items())
    assert len(kept) == (before.done if name == "study" else 0)
    assert_close(job_figures(job.path), expected[name])


@pytest.mark.parametrize("name", LEFT)
def test_a_stopped_command_goes_on(
    folders: Path, expected: dict[str, Any], tmp_path: Path, name: str
) -> None:
    shutil.copytree(folders / name, tmp_path / name)
    (left,) = (tmp_path / name).glob("*.incomplete.ome.tif")
    before = io.read(left)
    (box, *_) = before.provenance[-1]["finished"]
    place = tuple(slice(*ends) for ends in box)
    done = np.asarray(before.data[place]).copy()
    assert 0 < done.size < np.prod(before.shape)
    words = {"folder": tmp_path / name, "bundle": folders / "bundle"}
    given = [word.format(**words) for word in LEFT[name]]
    assert run([*given, "--continue", "--threads", "1"]) == 0
    out = Path(given[given.index("--out") + 1])
    assert not left.exists()
    assert io.read(out).provenance[-1]["complete"] is True
    np.testing.assert_array_equal(np.asarray(io.read(out).data[place]), done)
    assert_close(figures_of_volume(out), expected[name])


def test_a_bundle_is_read_and_restores(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = folders / "bundle"
    assert run(["models", "verify", str(path)]) == 0
    card = bundle.load(path).card
    assert (card.name, card.network, card.task) == ("golden", "msdnet", "denoise")
    assert run(["models", "show", str(path)]) == 0
    assert "golden" in capsys.readouterr().out
    out = tmp_path / "restored.ome.tif"
    source = folders / "supervised" / "data" / "low.ome.tif"
    words = ["restore", str(source), "--model", str(path), "--out", str(out)]
    assert run([*words, "--device", "cpu", "--threads", "1"]) == 0
    record = io.read(out).provenance[-1]
    assert record["model"]["weights_sha256"] == card.weights_sha256
    np.testing.assert_allclose(io.read(out).origin, (10.0, 0.0, 0.0))


def test_settings_of_a_job_make_the_same_job(folders: Path, tmp_path: Path) -> None:
    before = JobFolder(folders / "supervised").values()
    settings = tmp_path / "train.yaml"
    shutil.copy(folders / "supervised" / "config.yaml", settings)
    data = folders / "supervised" / "data"
    words = ["train", "supervised", "--config", str(settings), "--prepare"]
    words += ["--out", str(tmp_path / "job")]
    words += ["--source", str(data / "low.ome.tif")]
    words += ["--target", str(data / "high.ome.tif")]
    assert run(words) == 0
    assert JobFolder(tmp_path / "job").values() == before
