"""A killed run loses next to nothing; when resumed, it yields identical bytes.

By default, a measurement is killed twice; the tests marked as slow kill each operation
twenty times at random moments. test_run_jobs_killed.py kills a restoration once.
``pytest -m slow -s tests/faults/test_kills.py`` prints the table in
docs/evidence/reliability.md.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from kills import Commands, Tally, kill_often

from napari_geosr import io
from napari_geosr.core.types import AnyDict
from napari_geosr.io.projections import write_projections
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
#: Fields that also differ between two undisturbed runs.
TIMES = ("seconds", "training_seconds", "computing", "time", "run", "started")
HOW_OFTEN = [
    # On a busy computer, starting a command with its workers takes a minute.
    pytest.param(2, id="twice", marks=pytest.mark.timeout(1800)),
    pytest.param(20, id="often", marks=[pytest.mark.slow, pytest.mark.timeout(3600)]),
]


@pytest.fixture(scope="module")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A volume that is restored in some tiles."""
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (48, 40, 40)).astype(np.float32)
    data[:, 15:25, 15:25] -= 0.5
    path = tmp_path_factory.mktemp("scan") / "scan.tif"
    tifffile.imwrite(path, data, imagej=True)
    return path


@pytest.fixture(scope="module")
def projections(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan of 24 rows."""
    axis = np.arange(34) - 16.5
    disc = (np.hypot(axis[:, None], axis[None, :]) < 14).astype(np.float32)
    volume = disc * np.linspace(0.5, 1, 24, dtype=np.float32)[:, None, None]
    volume[:, 10:16, 12:18] = 0
    made = simulate_scan(volume, ScanConfig(projections=40))
    return write_projections(made, tmp_path_factory.mktemp("projections") / "scan.h5")


def content(path: Path) -> tuple[bytes, AnyDict]:
    """The voxels, and the record without times."""
    volume = io.read(path)
    last = volume.provenance[-1]
    record = {k: v for k, v in last.items() if k not in TIMES}
    if last["operation"] == "reconstruct":  # counts are resumed
        record["run"] = {k: v for k, v in last["run"].items() if k not in TIMES}
    if "backend" in record:  # the rest are comparisons made with the first tile
        record["backend"] = record["backend"]["name"]
    return np.ascontiguousarray(volume.data).tobytes(), record


def shards(path: Path) -> dict[str, bytes]:
    """Files of a zarr, byte by byte, except the one with the provenance."""
    files = (p for p in path.rglob("*") if p.is_file())
    found = {f"{p.relative_to(path)}": p.read_bytes() for p in files}
    del found["zarr.json"]
    return found


def same_volume(expected: Path) -> Callable[[Path], bool]:
    """Whether a volume has the bytes of another one."""

    def same(path: Path) -> bool:
        if path.suffix == ".zarr" and shards(path) != shards(expected):
            return False
        return content(path) == content(expected)

    return same


def check(tally: Tally, n_kills: int) -> None:
    assert tally.kills >= n_kills
    assert tally.identical == tally.finished >= 1
    assert tally.lost <= 1


def run(
    commands: Commands, words: list[str], folder: Path, name: str, **more: Any
) -> Tally:
    """Run once undisturbed, then with kills; `name` is the name of the output."""
    whole = folder / "whole" / name
    whole.parent.mkdir()
    code, said = commands.run([*words, "--out", str(whole)])
    assert code == 0, "\n".join(said)
    out = folder / "killed" / name
    out.parent.mkdir()
    return kill_often(
        commands,
        words=[*words, "--out", str(out)],
        out=out,
        n_tiles=sum(line.startswith("tile ") for line in said),
        **{"same": same_volume(whole), **more},
    )


def test_an_undisturbed_measurement_reports_its_tiles(
    commands: Commands, scan: Path, tmp_path: Path
) -> None:
    """The other tests depend on private names of the program, and are run rarely."""
    words = ["measure", str(scan), "--out", str(tmp_path / "report")]
    code, said = commands.run([*words, "--min-voxels", "2"])
    assert code == 0, "\n".join(said)
    assert any(line.startswith("tile ") for line in said)


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", HOW_OFTEN)
@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_restore(
    commands: Commands, scan: Path, tmp_path: Path, suffix: str, n_kills: int
) -> None:
    words = ["restore", str(scan), "--memory", "1GB", "--threads", "1"]
    tally = run(
        commands,
        words,
        tmp_path,
        f"restored{suffix}",
        operation=f"`restore` to {suffix}",
        n_kills=n_kills,
        seed=1,
    )
    check(tally, n_kills)
    assert tally.resumed >= 1


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", HOW_OFTEN)
@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_restore_on_workers(
    commands: Commands, scan: Path, tmp_path: Path, suffix: str, n_kills: int
) -> None:
    """The command is killed; its workers end by themselves."""
    pytest.importorskip("distributed")
    words = ["restore", str(scan), "--memory", "1GB", "--threads", "2"]
    tally = run(
        commands,
        [*words, "--workers", "2"],
        tmp_path,
        f"restored{suffix}",
        operation=f"`restore --workers 2` to {suffix}",
        n_kills=n_kills,
        seed=6,
    )
    check(tally, n_kills)
    assert tally.resumed >= 1


@pytest.mark.slow
@pytest.mark.parametrize("workers", [False, True], ids=["alone", "workers"])
@pytest.mark.parametrize("n_kills", HOW_OFTEN)
def test_reconstruct(
    commands: Commands, projections: Path, tmp_path: Path, n_kills: int, workers: bool
) -> None:
    words = ["reconstruct", str(projections), "--centre", "20.5", "--threads", "1"]
    words += ["--algorithm", "sirt", "--iterations", "100"]
    if workers:
        pytest.importorskip("distributed")
        words += ["--workers", "2"]
    tally = run(
        commands,
        words,
        tmp_path,
        "reconstructed.ome.zarr",
        operation=f"`reconstruct{' --workers 2' if workers else ''}`",
        n_kills=n_kills,
        seed=2,
    )
    check(tally, n_kills)
    assert tally.resumed >= 1


@pytest.mark.slow
@pytest.mark.parametrize("n_kills", HOW_OFTEN)
def test_study(
    commands: Commands, projections: Path, tmp_path: Path, n_kills: int
) -> None:
    """Its folder shows what is finished; the job is restarted in the same way."""
    words = ["study", "projections", str(projections), "--centre", "20.5"]
    words += ["--threads", "1", "--counts", "8,20", "--algorithms", "fbp,sirt"]

    def rows(folder: Path) -> list[AnyDict]:
        text = (folder / "study.json").read_text(encoding="utf-8")
        return [
            {k: v for k, v in row.items() if not k.startswith(TIMES)}
            for row in json.loads(text)["rows"]
        ]

    tally = run(
        commands,
        words,
        tmp_path,
        "study",
        operation="`study projections`",
        n_kills=n_kills,
        seed=3,
        same=lambda folder: rows(folder) == rows(tmp_path / "whole" / "study"),
        resuming=(),
    )
    check(tally, n_kills)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [True, False])
@pytest.mark.parametrize("workers", [False, True], ids=["alone", "workers"])
@pytest.mark.parametrize("n_kills", HOW_OFTEN)
def test_measure(
    commands: Commands,
    scan: Path,
    tmp_path: Path,
    n_kills: int,
    workers: bool,
    labels: bool,
) -> None:
    """When restarted in the same way, it resumes; its files exist all or none."""
    words = ["measure", str(scan), "--overwrite", "--min-voxels", "2"]
    words += ["--labels"] if labels else []
    if workers:
        pytest.importorskip("distributed")
        words += ["--workers", "2"]

    def files(folder: Path) -> dict[str, Any]:
        found: dict[str, Any] = {p.name: p.read_bytes() for p in folder.iterdir()}
        values = json.loads(found.pop("report.json"))
        values.pop("provenance")
        found.pop("report.html")  # it contains the time
        if labels:
            labelled = io.read(folder / "pores.ome.tif")
            found["pores.ome.tif"] = np.ascontiguousarray(labelled.data).tobytes()
        return found | {"json": values}

    tally = run(
        commands,
        words,
        tmp_path,
        "report",
        operation=f"`measure`{' --write-labels' if labels else ''}"
        f"{' --workers 2' if workers else ''}",
        n_kills=n_kills,
        seed=4,
        same=lambda folder: files(folder) == files(tmp_path / "whole" / "report"),
        resuming=(),
        seconds=0.1,
        noted=labelled_slabs,
        is_renamed=True,
    )
    check(tally, n_kills)
    assert tally.resumed >= 1


def labelled_slabs(part: Path) -> int:
    """Slabs in the state that a killed measurement has stored."""
    if part.suffix != ".npz":
        return 0  # files of the report that was being written
    with np.load(part) as state:
        return len(state["ends"])
