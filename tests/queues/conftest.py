"""Queues for tests: a real SLURM where it is installed, and an emulated OAR."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile

sys.path.insert(0, str(Path(__file__).parent))

import oar_emulator
import slurm_cluster
from queue_helpers import Cluster

from napari_geosr.cli.app import run


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests with several waits may take longer than others on a busy computer."""
    for item in items:
        is_own = Path(__file__).parent in item.path.parents
        if is_own and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(1800))


@pytest.fixture(autouse=True)
def own_settings(
    new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test reads or writes the user's profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(new_folder()))


@pytest.fixture(scope="session")
def slurm_conf() -> Iterator[Path]:
    if reason := slurm_cluster.why_missing():
        pytest.skip(reason)
    # A socket's name must be short.
    with (
        tempfile.TemporaryDirectory(prefix="slurm") as folder,
        slurm_cluster.slurm(Path(folder), n_nodes=2) as conf,
    ):
        yield conf


def _call(*words: str) -> None:
    subprocess.run(words, check=False, capture_output=True)


@pytest.fixture
def slurm(slurm_conf: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """A running SLURM, empty afterwards."""
    monkeypatch.setenv("SLURM_CONF", str(slurm_conf))
    yield Cluster(
        "slurm",
        warn=lambda number: _call("scancel", "--signal=USR1", "--batch", number),
        # SLURM makes a job wait for two minutes after `scontrol requeue`.
        hasten=lambda number: _call(
            "scontrol", "update", f"JobId={number}", "StartTime=now"
        ),
    )
    _call("scancel", "--user=root")


@pytest.fixture
def oar(
    new_folder: Callable[[], Path], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """An emulated OAR."""
    programs, place = new_folder(), new_folder()
    oar_emulator.install(programs)
    monkeypatch.setenv("PATH", str(programs), prepend=":")
    monkeypatch.setenv("OAR_EMULATOR", str(place))
    yield Cluster(
        "oar",
        warn=lambda number: _call("oardel", "-c", number),
        hasten=lambda _number: None,
    )
    oar_emulator.end_all()


@pytest.fixture
def idle_oar(oar: Cluster) -> None:
    """An OAR that accepts jobs but never starts them."""
    place = Path(os.environ["OAR_EMULATOR"])
    busy = {"state": "Running", "types": [], "resubmit_job_id": 0}
    (place / "jobs.json").write_text(json.dumps({"36000": busy}))


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Cluster:
    """The queue with which a test is parametrized, by the name of its fixture."""
    found: Cluster = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A small volume in a folder with a name that needs quotes."""
    folder = tmp_path / "it's a scan $(touch hacked)"
    folder.mkdir()
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (16, 48, 48)).astype(np.float32)
    data[:, 15:30, 15:30] -= 0.5
    tifffile.imwrite(folder / "scan.tif", data, imagej=True)
    return folder / "scan.tif"


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    angles = np.linspace(0, 180, 40, endpoint=False)
    rng = np.random.default_rng(0)
    with h5py.File(tmp_path / "scan.h5", "w") as file:
        file["exchange/data"] = rng.poisson(500, (40, 8, 32)).astype(np.uint16)
        file["exchange/data_white"] = np.full((2, 8, 32), 1000, np.uint16)
        file["exchange/data_dark"] = np.zeros((2, 8, 32), np.uint16)
        file["exchange/theta"] = angles
    return tmp_path / "scan.h5"


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> Path:
    """Raw frames in the current folder."""
    monkeypatch.chdir(tmp_path)
    words = ["simulate", "sim", "--structure", "er", "--size", "64", "-o", "raw"]
    assert run([*words, "--snr", "50"]) == 0
    capsys.readouterr()
    return Path("raw/raw.ome.tif")
