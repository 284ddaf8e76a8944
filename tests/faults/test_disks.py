"""Real disks that cannot be written: read-only, full, or with an exhausted quota.

They are mounted, which requires root; the quota uses btrfs (``apt-get install
btrfs-progs``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.io.projections import write_projections
from napari_geosr.io.unfinished_files import journal
from napari_geosr.io.unfinished_files.unfinished import find_unfinished
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

pytestmark = pytest.mark.skipif(
    sys.platform != "linux" or os.geteuid() != 0, reason="only root can mount disks"
)


def _call(*words: object) -> None:
    done = subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise OSError(done.stderr.strip())


@contextmanager
def _mounted(folder: Path, *words: object) -> Iterator[Path]:
    folder.mkdir()
    try:
        _call("mount", *words, folder)
    except OSError as error:
        pytest.skip(f"nothing can be mounted here ({error})")
    try:
        yield folder
    finally:
        _call("umount", "--lazy", folder)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """An empty disk of 64 MB."""
    with _mounted(tmp_path / "disk", "-t", "tmpfs", "-o", "size=64m", "tmpfs") as found:
        yield found


@pytest.fixture
def disk_with_quota(tmp_path: Path) -> Iterator[Path]:
    """A disk of 128 MB, of which 1 MB may be used."""
    if shutil.which("mkfs.btrfs") is None:
        pytest.skip("there is no mkfs.btrfs (apt-get install btrfs-progs)")
    image = tmp_path / "image"
    with image.open("wb") as file:
        file.truncate(128 << 20)
    _call("mkfs.btrfs", "-q", image)
    with _mounted(tmp_path / "disk", "-o", "loop", image) as found:
        _call("btrfs", "quota", "enable", found)
        set_quota(found, "1M")
        yield found


def set_quota(disk: Path, amount: str) -> None:
    _call("btrfs", "qgroup", "limit", amount, disk)


def make_read_only(disk: Path) -> None:
    _call("mount", "-o", "remount,ro", disk)


def make_writable(disk: Path) -> None:
    _call("mount", "-o", "remount,rw", disk)


def fill(disk: Path) -> None:
    """Use up all remaining space."""
    with suppress(OSError), (disk / "ballast").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(1 << 12))
    assert shutil.disk_usage(disk).free == 0


def empty(disk: Path) -> None:
    (disk / "ballast").unlink()


@pytest.fixture
def scan(tmp_path: Path) -> Path:
    """A volume of some tiles; it and its restoration have 614 kB each."""
    rng = np.random.default_rng(5)
    data = rng.normal(0.7, 0.1, (96, 40, 40)).astype(np.float32)
    data[:, 15:25, 15:25] -= 0.5
    tifffile.imwrite(tmp_path / "scan.tif", data, imagej=True)
    return tmp_path / "scan.tif"


@pytest.fixture
def projections(tmp_path: Path) -> Path:
    made = simulate_scan(np.ones((4, 16, 16), np.float32), ScanConfig(projections=8))
    return write_projections(made, tmp_path / "projections.h5")


@pytest.mark.parametrize(
    "words",
    [
        ["restore", "{scan}", "-m", "gaussian", "-o", "{disk}/a.ome.tif"],
        ["restore", "{scan}", "-m", "gaussian", "-o", "{disk}/a.ome.zarr"],
        ["restore", "{scan}", "-m", "gaussian", "-o", "{disk}/old/a.tif"],
        ["measure", "{scan}", "-o", "{disk}/report"],
        ["measure", "{scan}", "-o", "{disk}/old"],
        ["reconstruct", "{projections}", "--centre", "8", "-o", "{disk}/a.ome.tif"],
        ["train", "neighbor2neighbor", "--source", "{scan}", "-o", "{disk}/job"],
        ["submit", "restore", "{scan}", "-o", "{disk}/a.ome.tif", "--queue", "local"],
    ],
    ids=lambda words: f"{words[0]} {Path(words[-1]).name}",
)
def test_a_read_only_disk_is_refused_in_one_sentence(
    words: list[str], disk: Path, scan: Path, projections: Path, capsys: Any
) -> None:
    (disk / "old").mkdir()
    make_read_only(disk)
    named = [
        word.format(scan=scan, disk=disk, projections=projections) for word in words
    ]
    assert run(named) == 2
    said = capsys.readouterr().err
    assert "Traceback" not in said
    last = said.splitlines()[-1]
    assert "is not writable. Choose another" in last or "Read-only" in last
    assert [path.name for path in disk.rglob("*")] == ["old"]


def restored(
    scan: Path,
    out: Path,
    on_third_tile: Callable[[], object] = lambda: None,
    workers: int | None = None,
) -> Any:
    """Restore in some tiles, resuming the finished part of an earlier run."""
    config = RestoreConfig.create(model="ct-denoise", memory="130MB", threads=1)
    tiles: list[TileDone] = []

    def note(step: object) -> None:
        if isinstance(step, TileDone):
            tiles.append(step)
            if len(tiles) == 3:
                on_third_tile()

    parts = [*out.parent.glob(".*.partial*"), *out.parent.glob("*.incomplete.*")]
    steps = restore_steps(
        io.read(scan),
        config,
        out=out,
        workers=workers,
        unfinished=find_unfinished(out) if parts else None,
    )
    result = run_to_end(steps, note)
    return result, tiles


def voxels(path: Path) -> Any:
    return np.asarray(io.read(path).data)


@pytest.mark.parametrize(
    "workers", [None, pytest.param(2, marks=pytest.mark.slow)], ids=["alone", "workers"]
)
@pytest.mark.parametrize(
    ("fail", "mend", "said"),
    [(make_read_only, make_writable, "[Rr]ead-only"), (fill, empty, "is full")],
    ids=["read-only", "full"],
)
def test_a_disk_that_fails_during_a_run_costs_a_shard(
    fail: Callable[[Path], None],
    mend: Callable[[Path], None],
    said: str,
    workers: int | None,
    disk: Path,
    scan: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if workers:
        pytest.importorskip("distributed")
    # Usually, finished tiles are recorded within ten seconds.
    for name in ("_MIN_INTERVAL", "_INTERVAL_FACTOR"):
        monkeypatch.setattr(journal, name, 0.0)
    _, all_tiles = restored(scan, tmp_path / "whole.ome.zarr", workers=workers)
    assert len(all_tiles) > 3
    out = disk / "out.ome.zarr"
    with pytest.raises(FileError, match=said):
        restored(scan, out, lambda: fail(disk), workers)
    assert not out.exists()
    mend(disk)
    _, tiles = restored(scan, out, workers=workers)
    assert len(tiles) < len(all_tiles)
    np.testing.assert_array_equal(voxels(out), voxels(tmp_path / "whole.ome.zarr"))
    assert [path.name for path in disk.iterdir()] == [out.name]


@pytest.mark.parametrize("suffix", [".ome.zarr", ".ome.tif"])
def test_a_quota_that_is_used_up_is_named(
    suffix: str, disk_with_quota: Path, scan: Path, tmp_path: Path
) -> None:
    disk = disk_with_quota
    restored(scan, tmp_path / f"whole{suffix}")
    mine = disk / "mine"
    mine.write_bytes(os.urandom(500_000))
    os.sync()
    out = disk / f"out{suffix}"
    with pytest.raises(FileError, match="quota on the disk of .* is used up"):
        restored(scan, out)
    assert not out.exists()
    set_quota(disk, "20M")
    restored(scan, out)
    np.testing.assert_array_equal(voxels(out), voxels(tmp_path / f"whole{suffix}"))
    assert sorted(path.name for path in disk.iterdir()) == ["mine", out.name]
