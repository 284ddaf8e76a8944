"""Several processes reconstruct the slices: identical bytes, even after kills."""

from __future__ import annotations

import itertools
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask
import h5py
import numpy as np
import pytest
import tifffile

from napari_geosr import reconstruct
from napari_geosr.cli.app import run as command
from napari_geosr.core.errors import ConfigError, DeviceMemoryError, FileError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import Step, TileDone, WarningIssued, run_to_end
from napari_geosr.io.projections import read_projections, write_projections
from napari_geosr.operations.cluster import worker_settings
from napari_geosr.operations.inputs import open_volume
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    find_unfinished,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct.blocks import gaps
from napari_geosr.operations.reconstruct.scan import given_centre, ready_scan
from napari_geosr.operations.reconstruct.workers import SlabRun
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

if TYPE_CHECKING:
    from distributed import Client

distributed = pytest.importorskip("distributed")

ROWS, N = 37, 34
#: Fields of a record that differ between two identical runs.
TIMES = ("time", "seconds", "started", "workers", "inputs")


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """Two processes for all tests, as their start takes seconds."""
    with dask.config.set(worker_settings(1)):
        cluster = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            dashboard_address="127.0.0.1:0",
            silence_logs=60,
        )
        with distributed.Client(cluster, set_as_default=False) as client:
            yield client
        with suppress(KeyError):  # of a worker that was killed
            cluster.close()


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def counts() -> Projections:
    """A scan with stripes, dead pixels and pixels without light."""
    rng = np.random.default_rng(3)
    axis = np.arange(N) - (N - 1) / 2
    disc = (np.hypot(axis[:, None], axis) < 12).astype(np.float32)
    volume = disc * rng.uniform(0.4, 1, (ROWS, 1, 1)).astype(np.float32)
    made = simulate_scan(volume, ScanConfig(projections=37, photons=5e3, rings=0.02))
    data = np.array(made.data)
    data[5, 3, 7:9] = 0
    flats = np.array(made.flats)
    flats[:, 20, 30] = 0
    angles = np.linspace(0, 180, len(data), endpoint=False)
    return made.replace(data=data, flats=flats, angles=angles, centre=N / 2)


@pytest.fixture(scope="module")
def file(counts: Projections, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_projections(counts, tmp_path_factory.mktemp("scan") / "scan.h5")


def cone(counts: Projections) -> Projections:
    turn = np.linspace(0, 360, counts.n_angles, endpoint=False)
    return counts.replace(
        geometry="cone", angles=turn, source_distance=150.0, detector_distance=20.0
    )


def run(
    scan: Projections | Path,
    workers: Any = None,
    *,
    on_slab: Any = lambda n: None,
    stop_after: int | None = None,
    out: Path | None = None,
    unfinished: Any = None,
    **settings: Any,
) -> tuple[Any, list[Step]]:
    """Return the result and its steps."""
    given = {"threads": 1, "algorithm": "sirt", "iterations": 5} | settings
    if given["algorithm"] in ("fbp", "fdk"):
        given.pop("iterations")
    n, seen = 0, []

    def note(step: Step) -> None:
        nonlocal n
        seen.append(step)
        if isinstance(step, TileDone):
            n += 1
            on_slab(n)

    steps = reconstruct_steps(
        scan,
        ReconstructConfig.create(**given),
        out=out,
        workers=workers,
        unfinished=unfinished,
        should_stop=lambda: stop_after is not None and n >= stop_after,
    )
    return run_to_end(steps, note), seen


def content(result: Any) -> tuple[bytes, dict[str, Any]]:
    """Voxels, and the record without times and workers."""

    def timeless(entry: Any) -> Any:
        if isinstance(entry, dict):
            return {k: timeless(v) for k, v in entry.items() if k not in TIMES}
        return list(entry) if isinstance(entry, tuple) else entry  # as in a file

    volume = result.volume
    voxels = np.ascontiguousarray(volume.data[:])
    return voxels.tobytes(), timeless(dict(volume.provenance[-1]))


@pytest.mark.parametrize(
    "settings",
    [
        {"algorithm": "fbp"},
        {},
        {"every": 2, "rows": (3, 30)},
        {"stripes": "all", "zingers": 6.0},
        {"memory": "42MB", "size": 20},
    ],
    ids=["fbp", "sirt", "part", "stripes", "memory"],
)
def test_workers_give_the_same_bytes(
    client: Client, file: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    shared, steps = run(file, client, out=tmp_path / "shared.ome.zarr", **settings)
    assert shared.complete
    alone, _ = run(file, out=tmp_path / "alone.ome.zarr", **settings)
    assert content(shared) == content(alone)
    record = shared.volume.provenance[-1]
    assert record["workers"] == {"processes": 2, "threads": 1}
    assert sum(isinstance(step, TileDone) for step in steps) >= 2


@pytest.mark.parametrize("algorithm", ["fdk", "sirt"])
def test_a_cone_beam_is_the_same_as_well(
    client: Client, counts: Projections, algorithm: str
) -> None:
    scan = cone(counts)
    shared, steps = run(scan, client, algorithm=algorithm)
    assert content(shared) == content(run(scan, algorithm=algorithm)[0])
    said = [step.message for step in steps if isinstance(step, WarningIssued)]
    alone = any("only 1 of 2 workers are used" in text for text in said)
    assert alone == (algorithm == "sirt")  # all its slices depend on each other


def stack(counts: Projections, folder: Path) -> Projections:
    """Images with flat and dark fields in a folder."""
    folder.mkdir()
    parts = {"proj": counts.data, "flat": counts.flats, "dark": counts.darks}
    for name, frames in parts.items():
        for i, frame in enumerate(np.asarray(frames)):
            tifffile.imwrite(folder / f"{name}_{i:03}.tif", frame)
    return read_projections(folder, angles=counts.angles, centre=counts.centre)


def nxtomo(counts: Projections, path: Path) -> Projections:
    """All frames in one dataset."""
    frames = [np.asarray(f) for f in (counts.darks, counts.flats, counts.data)]
    keys = np.repeat([2, 1, 0], [len(f) for f in frames])
    angles = np.zeros(len(keys))
    angles[keys == 0] = counts.angles
    with h5py.File(path, "w") as made:
        entry = made.create_group("entry/instrument/detector")
        made["entry"].attrs["definition"] = "NXtomo"
        entry["data"] = np.concatenate(frames)
        entry["image_key"] = keys
        made["entry/sample/rotation_angle"] = angles
        made["entry/sample/rotation_angle"].attrs["units"] = "deg"
    return read_projections(path, centre=counts.centre)


@pytest.mark.parametrize("kind", ["memory", "folder", "nxtomo"])
def test_scans_of_any_kind_reach_the_workers(
    client: Client,
    counts: Projections,
    tmp_path: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scan = counts
    if kind == "folder":
        scan = stack(counts, tmp_path / "scan")
    elif kind == "nxtomo":
        scan = nxtomo(counts, tmp_path / "scan.nxs")
    else:  # as if it were large
        monkeypatch.setattr(
            "napari_geosr.operations.reconstruct.workers._SENT_BYTES", 0
        )
    shared, _ = run(scan, client, algorithm="fbp")
    assert content(shared) == content(run(scan, algorithm="fbp")[0])
    with suppress(FileNotFoundError):
        assert not any((tmp_path / "cache/napari-geosr/results").iterdir())


@pytest.mark.parametrize("n_workers", [1, 2, 4])
@pytest.mark.parametrize("memory", ["17MB", "30MB", "1GB"])
@pytest.mark.parametrize("finished", [[], [(5, 21)], [(0, 16), (33, 37)]])
def test_slabs_cover_what_is_missing_and_cut_no_group_needlessly(
    counts: Projections, n_workers: int, memory: str, finished: list[tuple[int, int]]
) -> None:
    config = ReconstructConfig.create(threads=1, memory=memory)
    centre = given_centre(N / 2, "given")
    ready = ready_scan(counts, counts, config, centre, "cpu", 0)
    shared = SlabRun(ready, n_workers)
    slabs = shared.slabs(finished)
    assert list(itertools.chain(*(range(*slab) for slab in slabs))) == list(
        itertools.chain(*(range(*gap) for gap in gaps(finished, ROWS)))
    )
    assert len(slabs) >= min(n_workers, 2)
    for start, stop in slabs:
        parts = {i // ready.group for i in range(start, stop)}
        if len(parts) > 1:  # the slab then begins a group, or follows finished slices
            assert start % ready.group == 0 or start in {b for _, b in finished}


@pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")
def test_a_killed_worker_costs_a_slab(
    client: Client, file: Path, tmp_path: Path
) -> None:
    settings = {"iterations": 200, "memory": "42MB"}
    whole, steps = run(file, client, out=tmp_path / "whole.ome.zarr", **settings)
    pids = list(client.run(os.getpid).values())

    def kill(n: int) -> None:
        if n == 1:
            os.kill(pids[0], signal.SIGKILL)

    out = tmp_path / "out.ome.zarr"
    disturbed, again = run(file, client, out=out, on_slab=kill, **settings)
    assert pids[0] not in client.run(os.getpid).values()
    assert content(disturbed) == content(whole)
    slabs = [
        [s.slices for s in each if isinstance(s, TileDone)] for each in (steps, again)
    ]
    assert sorted(map(str, slabs[0])) == sorted(map(str, slabs[1]))


@pytest.mark.parametrize(
    ("first", "second"),
    [("workers", "one process"), ("one process", "workers"), ("workers", "workers")],
)
def test_a_stopped_run_resumes_with_and_without_workers(
    client: Client, file: Path, tmp_path: Path, first: str, second: str
) -> None:
    who = {"workers": client, "one process": None}
    out = tmp_path / "out.ome.zarr"
    settings = {"iterations": 50, "memory": "42MB"}
    stopped, _ = run(file, who[first], out=out, stop_after=1, **settings)
    assert not stopped.complete
    unfinished = find_unfinished(out)
    resumed, _ = run(file, who[second], out=out, unfinished=unfinished, **settings)
    assert resumed.complete
    assert content(resumed) == content(run(file, **settings)[0])


def test_what_is_finished_is_kept_if_the_scan_disappears(
    client: Client, counts: Projections, tmp_path: Path
) -> None:
    path = write_projections(counts, tmp_path / "scan.h5")

    def remove(n: int) -> None:
        if n == 1:
            path.rename(tmp_path / "gone.h5")

    out = tmp_path / "out.ome.zarr"
    settings = {"iterations": 100, "memory": "42MB"}
    with pytest.raises(FileError, match=r"kept as out\.incomplete"):
        run(path, client, out=out, on_slab=remove, **settings)
    (tmp_path / "gone.h5").rename(path)
    found, _ = run(path, client, out=out, unfinished=find_unfinished(out), **settings)
    assert content(found) == content(run(path, **settings)[0])


def test_too_little_memory_for_a_worker_says_what_helps(file: Path) -> None:
    """It is reported before the scan is read for its checksum."""
    with pytest.raises(DeviceMemoryError, match="fewer workers may be enough"):
        run(file, 4, memory="60MB")
    assert run(file, memory="60MB")[0].complete


@pytest.mark.slow
def test_local_workers_from_the_command_line_and_python(
    counts: Projections, file: Path, tmp_path: Path, capsys: Any
) -> None:
    """The command starts and ends four, two and one processes."""
    expected = reconstruct(file, threads=1, centre=N / 2)
    for n in (4, 2):
        out = tmp_path / f"out-{n}.ome.tif"
        words = ["reconstruct", str(file), "-o", str(out), "--workers", str(n)]
        assert command([*words, "--threads", "2", "--centre", f"{N / 2}"]) == 0
        assert f"Reconstructing on {n} workers" in capsys.readouterr().err
        found = np.asarray(open_volume(out).data)
        np.testing.assert_array_equal(found, np.asarray(expected))
    one = reconstruct(counts, threads=1, centre=N / 2, workers=1)
    np.testing.assert_array_equal(np.asarray(one), np.asarray(expected))


def test_without_the_extra_workers_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    out = tmp_path / "out.ome.zarr"
    assert command(["reconstruct", str(file), "-o", str(out), "--workers", "2"]) == 2
    said = capsys.readouterr().err
    assert 'pip install "napari-geosr[cluster]"' in said
    assert "Traceback" not in said
    assert not out.exists()


@pytest.mark.parametrize("workers", [0, -1, True, "two"])
def test_a_senseless_number_of_workers_is_refused(file: Path, workers: Any) -> None:
    with pytest.raises(ConfigError, match="workers"):
        run(file, workers)
