"""Damaged shards of an OME-Zarr are named, and restored to identical bytes."""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import TargetReady, TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import writing
from napari_geosr.io.formats.ome_zarr import shards
from napari_geosr.io.formats.ome_zarr import writer as zarr_writer
from napari_geosr.io.unfinished_files import journal as journal_module
from napari_geosr.io.unfinished_files import repairs
from napari_geosr.io.unfinished_files.atomic import explained
from napari_geosr.io.unfinished_files.journal import held_job, written_by_job
from napari_geosr.jobs.facts import State
from napari_geosr.jobs.folder import JobFolder
from napari_geosr.operations import restore as restoration
from napari_geosr.operations.restore import repair as repair_module
from napari_geosr.operations.restore.config import RestoreConfig
from napari_geosr.operations.restore.job import RestoreInput, RestoreJob
from napari_geosr.operations.restore.repair import Repair, repair_steps

SHAPE = (48, 96, 64)
#: Damage of the result: files that are missing, or have a flipped bit.
_MISSING, _FLIPPED = ("0/c/1/6/3",), ("0/c/0/0/0", "0/c/1/2/3", "1/c/0/0/0")


@pytest.fixture(scope="module", autouse=True)
def small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(zarr_writer, "SHARD_BYTES", 64 << 10)
        patched.setattr(zarr_writer, "_SMALLEST_LEVEL", 48)
        patched.setattr(shards, "_EDGE", 32)
        yield


@pytest.fixture(scope="module")
def finished(new_folder: Callable[[], Path], small_shards: None) -> Path:
    """A folder with a job and its result, with many shards and two levels."""
    folder = new_folder()
    rng = np.random.default_rng(0)
    data = rng.normal(0.8, 0.1, SHAPE).astype(np.float32)
    data[10:20, 20:40, 20:40] -= 0.6
    scan = folder / "scan.ome.tif"
    io.write(Volume(data, "ZYX", (2.0,) * 3, "µm", name="scan"), scan)
    settings = RestoreConfig.create(model="gaussian", memory="60MB", threads=1)
    described = RestoreJob(
        name="clean",
        data=RestoreInput(volume=scan),
        settings=settings,
        out=folder / "clean.ome.zarr",
    )
    made = JobFolder.create(folder / "clean.job", described.to_values(), name="clean")
    assert run(["jobs", "resume", str(made.path)]) == 0
    return folder


@pytest.fixture
def job(finished: Path, tmp_path: Path) -> Iterator[JobFolder]:
    """The finished job, in its original location because it names its files; unchanged
    afterwards.
    """
    kept = tmp_path / "kept"
    shutil.copytree(finished, kept)
    yield JobFolder(finished / "clean.job")
    shutil.rmtree(finished)
    shutil.copytree(kept, finished)


def result_of(job: JobFolder) -> Path:
    return job.path.with_name("clean.ome.zarr")


def flip_bit(path: Path, at: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[int(at * len(content))] ^= 4
    path.write_bytes(content)


def contents(zarr: Path) -> dict[str, str]:
    """Checksum of every file except the metadata of the group."""
    return {
        str(path.relative_to(zarr)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in zarr.rglob("*")
        if path.is_file() and path != zarr / "zarr.json"
    }


def repaired(capsys: Any, job: JobFolder) -> dict[str, Any]:
    code = run(["jobs", "repair", str(job.path), "--json"])
    said = capsys.readouterr()
    assert code == 0, said.err
    return json.loads(said.out)


def test_a_flipped_bit_is_named_and_repaired(job: JobFolder, capsys: Any) -> None:
    result = result_of(job)
    before = contents(result)
    record = io.read(result).provenance[-1]
    flip_bit(result / "0/c/1/2/3")
    assert contents(result) != before
    assert run(["jobs", "repair", str(job.path)]) == 0
    said = capsys.readouterr()
    n = len(before) - 2
    assert f"1 of {n} shards of clean.ome.zarr is damaged or missing: 0/c/1/2/3" in (
        " ".join(said.err.split())
    )
    assert f"Repaired {result}: 0/c/1/2/3" in said.out
    assert contents(result) == before
    # The record is still that of the run, and mentions the repair.
    now = dict(io.read(result).provenance[-1])
    (repair,) = now.pop("repaired")
    assert repair["shards"] == ["0/c/1/2/3"]
    assert now == record
    assert repaired(capsys, job)["repaired"] == []
    assert sorted(p.name for p in result.parent.iterdir()) == [
        "clean.job",
        "clean.ome.zarr",
        "scan.ome.tif",
    ]


def test_any_damage_is_found(job: JobFolder, capsys: Any) -> None:
    result = result_of(job)
    before = contents(result)
    flip_bit(result / "0/c/0/0/0", at=0.999)  # in the index of the shard
    (result / "0/c/1/6/3").unlink()
    (result / "0/c/0/3/1").write_bytes(b"")
    content = (result / "0/c/0/4/2").read_bytes()
    (result / "0/c/0/4/2").write_bytes(content[:-40])
    flip_bit(result / "1/c/0/0/0")
    found = repaired(capsys, job)
    assert found["repaired"] == [
        "0/c/0/0/0",
        "0/c/0/3/1",
        "0/c/0/4/2",
        "0/c/1/6/3",
        "1/c/0/0/0",
    ]
    assert found["shards"] == len(before) - 2
    assert contents(result) == before


def test_only_damaged_tiles_are_computed(job: JobFolder) -> None:
    flip_bit(result_of(job) / "0/c/1/2/3")
    tiles = [step for step in _repair(job) if isinstance(step, TileDone)]
    # A shard of this result holds two tiles of 112; the others count as done.
    assert [(step.done, step.total) for step in tiles] == [(111, 112), (112, 112)]


def _repair(job: JobFolder, **more: Any) -> list[Any]:
    values = job.values()
    values.pop("operation")
    steps = list[Any]()
    run_to_end(
        repair_steps(RestoreJob.from_values(values), job.path, **more), steps.append
    )
    return steps


@pytest.mark.parametrize("n_tiles", [0, 1])
def test_a_stopped_repair_leaves_the_result(
    job: JobFolder, capsys: Any, n_tiles: int
) -> None:
    result = result_of(job)
    before, record = contents(result), io.read(result).provenance[-1]
    names = ["0/c/0/0/0", "0/c/1/6/3"]
    for name in names:
        flip_bit(result / name)
    tiles = list[Any]()
    values = job.values()
    values.pop("operation")
    steps = repair_steps(
        RestoreJob.from_values(values),
        job.path,
        should_stop=lambda: ready[0] and len(tiles) >= n_tiles,
    )
    ready = [False]

    def on_step(step: Any) -> None:
        ready[0] = ready[0] or isinstance(step, TargetReady)
        if isinstance(step, TileDone):
            tiles.append(step)

    with pytest.raises(Cancelled):
        run_to_end(steps, on_step)
    assert io.read(result).shape == SHAPE
    assert repaired(capsys, job)["repaired"] == names
    assert contents(result) == before
    now = dict(io.read(result).provenance[-1])
    (repair,) = now.pop("repaired")
    assert repair["shards"] == names
    assert now == record


def test_a_repair_on_a_full_disk_can_be_repeated(
    job: JobFolder, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = result_of(job)
    before = contents(result)
    for name in (*_FLIPPED, "0/c/1/6/3"):
        flip_bit(result / name)
    write = shards.ShardBuffer._write
    n_written = []

    def full(buffer: Any, *args: Any) -> None:
        n_written.append(1)
        if len(n_written) > 1:
            with explained(buffer.path):
                raise OSError(errno.ENOSPC, "No space left on device")
        write(buffer, *args)

    with monkeypatch.context() as patched:
        patched.setattr(shards.ShardBuffer, "_write", full)
        said = refused(capsys, job)
    assert "is full. Free some space or choose another folder. clean.ome.zarr is" in (
        said
    )
    assert "incomplete" not in said
    assert result.is_dir()
    assert repaired(capsys, job)["repaired"] == sorted((*_FLIPPED, "0/c/1/6/3"))
    assert contents(result) == before


def test_a_killed_repair_is_resumed(
    job: JobFolder, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    result = result_of(job)
    before = contents(result)
    flip_bit(result / "0/c/0/0/0")
    steps = _killed(job)
    for step in steps:
        if isinstance(step, TileDone):
            break
    # Files left by a killed process: the hidden file with its journal.
    (part,) = (p for p in result.parent.glob(".clean*.zarr"))
    kept = result.parent / "kept"
    shutil.copytree(part, kept)
    journal = part.with_name(part.name + ".journal.json")
    text = journal.read_text()
    steps.close()
    shutil.rmtree(result)
    shutil.move(kept, part)
    journal.write_text(text)
    assert repaired(capsys, job)["repaired"] == ["0/c/0/0/0"]
    assert contents(result) == before


def test_a_result_that_an_interrupted_repair_has_hidden_is_found(
    job: JobFolder, capsys: Any
) -> None:
    """Otherwise, the result appears to be lost."""
    result = result_of(job)
    flip_bit(result / "0/c/0/0/0")
    with written_by_job(job.own_path):
        steps = _killed(job)
        for step in steps:
            if isinstance(step, TileDone):
                break
    kept = result.parent.with_name("kept")
    shutil.copytree(result.parent, kept)
    assert run(["info", str(result)]) == 2
    assert "clean.ome.zarr is being repaired" in capsys.readouterr().err
    steps.close()
    shutil.rmtree(result.parent)
    shutil.move(kept, result.parent)
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pid = ended.pid
    _change_process(result.parent, pid)
    hint = (
        "A repair of clean.ome.zarr was interrupted, and the file still has a hidden "
        f"name. Complete the repair: napari-geosr jobs repair {job.path}"
    )
    assert run(["info", str(result)]) == 2
    assert f"{result} does not exist. {hint}" in capsys.readouterr().err
    assert run(["jobs", "show", str(job.path)]) == 0
    assert hint in capsys.readouterr().out
    assert repaired(capsys, job)["repaired"] == ["0/c/0/0/0"]
    assert run(["jobs", "show", str(job.path)]) == 0
    assert "repair" not in capsys.readouterr().out


#: Functions before and after which a repair is killed.
_MOMENTS = (
    (repairs, "write_text"),
    (repairs, "move_into_place"),
    (journal_module, "write_text"),
    (repair_module, "find_unfinished"),
    (repair_module, "restore_steps"),
    (repair_module, "finish_repair"),
    (writing, "move_into_place"),
    (writing, "remove_with_journal"),
    (zarr_writer.ZarrOutput, "_write_attributes"),
    (zarr_writer.ZarrOutput, "_remove_remains"),
    (zarr_writer.ZarrOutput, "discard_unadopted"),
    (zarr_writer.ZarrOutput, "complete"),
    (shards.ShardBuffer, "_write"),
)


def test_a_repair_killed_at_any_moment_is_completed(
    job: JobFolder, capsys: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    result = result_of(job)
    before, record = contents(result), io.read(result).provenance[-1]
    for name in _FLIPPED:
        flip_bit(result / name)
    for name in _MISSING:
        (result / name).unlink()
    damaged = sorted((*_FLIPPED, *_MISSING))
    kept = _kept_at_each_moment(job, monkeypatch, tmp_path)
    for _, name in _MOMENTS:
        assert {f"{name} before", f"{name} after"} <= kept.keys()
    del kept["finish_repair after"]  # the repair is complete
    for moment, folder in kept.items():
        shutil.rmtree(result.parent)
        shutil.copytree(folder, result.parent)
        found = repaired(capsys, job)
        assert found["repaired"] == damaged, moment
        assert found["shards"] == len(before) - 2, moment
        assert contents(result) == before, moment
        now = dict(io.read(result).provenance[-1])
        (repair,) = now.pop("repaired")
        assert repair["shards"] == damaged, moment
        assert now == record, moment
        assert sorted(p.name for p in result.parent.iterdir()) == [
            "clean.job",
            "clean.ome.zarr",
            "scan.ome.tif",
        ], moment
    assert repaired(capsys, job)["repaired"] == []


def _kept_at_each_moment(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> dict[str, Path]:
    """Repair, and return copies of the folder as a killed process would leave it."""
    monkeypatch.setattr(journal_module, "_MIN_INTERVAL", 0.0)
    parent, kept = job.path.parent, dict[str, Path]()

    def keep(moment: str) -> None:
        if moment not in kept:
            kept[moment] = tmp_path / f"moment {len(kept)}"
            shutil.copytree(parent, kept[moment])

    for owner, name in _MOMENTS:
        keeping = _keeping(getattr(owner, name), name, keep)
        monkeypatch.setattr(owner, name, keeping)
    values = job.values()
    values.pop("operation")
    with written_by_job(job.own_path):
        run_to_end(
            repair_steps(RestoreJob.from_values(values), job.path),
            lambda step: keep(f"{type(step).__name__} {_tile_number(step)}"),
        )
    monkeypatch.undo()
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        pid = ended.pid
    for folder in kept.values():
        _change_process(folder, pid)
    return kept


def _keeping(
    function: Callable[..., Any], name: str, keep: Callable[[str], None]
) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        keep(f"{name} before")
        found = function(*args, **kwargs)
        keep(f"{name} after")
        return found

    return call


def _tile_number(step: Any) -> str:
    return str(step.done) if isinstance(step, TileDone) else ""


def _change_process(folder: Path, pid: int) -> None:
    """Change names and journals as if an ended process had written them."""
    own = f"{os.getpid():08x}"
    for path in sorted(folder.rglob("*"), reverse=True):
        if path.name.endswith(".journal.json"):
            entry = json.loads(path.read_text())
            path.write_text(json.dumps({**entry, "pid": pid}))
        if own in path.name:
            path.rename(path.with_name(path.name.replace(own, f"{pid:08x}")))


def _killed(job: JobFolder) -> Any:
    values = job.values()
    values.pop("operation")
    return repair_steps(RestoreJob.from_values(values), job.path)


def refused(capsys: Any, job: JobFolder) -> str:
    assert run(["jobs", "repair", str(job.path)]) == 2
    lines = capsys.readouterr().err.splitlines()
    return next(line for line in lines if line.startswith("napari-geosr: "))


def test_another_source_is_refused(job: JobFolder, capsys: Any) -> None:
    result, scan = result_of(job), job.path.with_name("scan.ome.tif")
    flip_bit(result / "0/c/0/0/0")
    before = contents(result)
    flip_bit(scan)
    assert "clean.ome.zarr was made with a different input" in refused(capsys, job)
    assert contents(result) == before
    scan.unlink()
    assert f"{scan} does not exist" in refused(capsys, job)
    assert contents(result) == before
    assert sorted(p.name for p in result.parent.iterdir()) == [
        "clean.job",
        "clean.ome.zarr",
    ]


def test_other_settings_are_refused(job: JobFolder, capsys: Any) -> None:
    flip_bit(result_of(job) / "0/c/0/0/0")
    config = job.path / "config.yaml"
    config.write_text(config.read_text().replace("model: gaussian", "model: nlm"))
    assert "was made with a different model" in refused(capsys, job)
    config.write_text(config.read_text().replace("model: nlm", "model: no-such-model"))
    assert "no-such-model" in refused(capsys, job)


@pytest.mark.parametrize("state", ["paused", "interrupted", "failed"])
def test_a_job_that_is_not_done_is_refused(
    job: JobFolder, capsys: Any, state: State
) -> None:
    """The repair would restore the whole volume, and the job could not be resumed."""
    flip_bit(result_of(job) / "0/c/0/0/0")
    before = contents(result_of(job))
    job.set_state(state)
    said = refused(capsys, job)
    assert f"is {state}, so its result cannot be repaired. Resume it first" in said
    assert contents(result_of(job)) == before


def test_a_repair_belongs_to_the_job(
    job: JobFolder, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, `jobs remove` would not find the files of a killed repair."""
    jobs = []

    def repair(*_: Any, **__: Any) -> Any:
        jobs.append(held_job())
        yield from ()
        return Repair(result_of(job), 1, ())

    monkeypatch.setattr(restoration, "repair_steps", repair)
    assert run(["jobs", "repair", str(job.path)]) == 0
    assert jobs == [str(job.path)]


def test_what_cannot_be_repaired(job: JobFolder, capsys: Any) -> None:
    result = result_of(job)
    (result / "zarr.json").write_text("{")
    assert "its metadata are damaged. Write it again" in refused(capsys, job)
    shutil.rmtree(result)
    assert "does not exist or is not an OME-Zarr" in refused(capsys, job)
    config = job.path / "config.yaml"
    text = config.read_text().replace("operation: restore", "operation: measure")
    config.write_text(text)
    assert "only restored volumes can be repaired" in refused(capsys, job)
