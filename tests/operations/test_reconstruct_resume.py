"""A stopped or killed reconstruction is resumed where it ended."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from napari_geosr import io
from napari_geosr.core.errors import (
    Cancelled,
    ConfigError,
    EngineError,
    FileError,
    ProjectionsError,
)
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import writing as io_writing
from napari_geosr.io.projections import write_projections
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files import journal as io_journal
from napari_geosr.io.unfinished_files.journal import Journal, journal_of
from napari_geosr.io.unfinished_files.unfinished import (
    FileInUseError,
    usable_unfinished_steps,
)
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    find_unfinished,
    reconstruct_steps,
)
from napari_geosr.operations.reconstruct import blocks as reconstruct_blocks
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.tomography_simulation import simulate_scan

ROWS, CENTRE = 9, 20.5
REAL_PID = os.getpid()


@pytest.fixture(scope="module")
def scan() -> Projections:
    axis = np.arange(34) - 16.5
    disc = (np.hypot(axis[:, None], axis[None, :]) < 14).astype(np.float32)
    volume = disc * np.linspace(0.5, 1, ROWS, dtype=np.float32)[:, None, None]
    return simulate_scan(volume, ScanConfig(projections=40))


@pytest.fixture(autouse=True)
def blocks_of_two(monkeypatch):
    monkeypatch.setattr(reconstruct_scan, "_GROUP_CPU", 2)


def run(projections, stop_after=None, **more):
    """Return the result, and the rows that were reconstructed."""
    settings = {"centre": CENTRE, "threads": 1} | more.pop("settings", {})
    done: list[TileDone] = []
    steps = reconstruct_steps(
        projections,
        ReconstructConfig.create(**settings),
        should_stop=lambda: stop_after is not None and len(done) >= stop_after,
        **more,
    )
    result = run_to_end(
        steps, lambda s: done.append(s) if isinstance(s, TileDone) else None
    )
    return result, [r for s in done for r in range(*s.slices[0].indices(ROWS))]


@pytest.mark.parametrize("suffix", ["", ".tif", ".ome.zarr"])
def test_it_goes_on_to_the_same_voxels(scan, tmp_path, suffix):
    out = {"out": tmp_path / f"v{suffix}"} if suffix else {}
    whole, all_rows = run(scan)
    assert all_rows == list(range(ROWS))
    part, before = run(scan, stop_after=2, **out)
    assert not part.complete
    assert before == [0, 1, 2, 3]
    assert np.isnan(np.asarray(part.volume.data[4:])).all()
    assert part.volume.provenance[-1]["finished"] == [[[0, 4], [0, 42], [0, 42]]]
    if suffix:
        assert [p.name for p in tmp_path.iterdir()] == [f"v.incomplete{suffix}"]
        unfinished = find_unfinished(out["out"])
    else:
        unfinished = part.volume
    result, after = run(scan, unfinished=unfinished, **out)
    assert result.complete
    assert after == list(range(4, ROWS))
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])
    record = result.volume.provenance[-1]
    assert record["complete"] is True
    assert "finished" not in record
    if suffix:
        assert [p.name for p in tmp_path.iterdir()] == [f"v{suffix}"]


def test_the_axis_that_was_found_is_found_only_once(scan, tmp_path, monkeypatch):
    auto = {"settings": {"centre": "auto"}}
    part, _ = run(scan, stop_after=1, out=tmp_path / "v.tif", **auto)
    module = "napari_geosr.operations.reconstruct.preparation.find_centre"
    monkeypatch.setattr(module, lambda *_, **__: pytest.fail("searched again"))
    unfinished = find_unfinished(tmp_path / "v.tif")
    result, _ = run(scan, out=tmp_path / "v.tif", unfinished=unfinished, **auto)
    assert result.complete
    assert result.centre.column == part.centre.column


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"filter": "hann"}}, "different settings"),
        ({"settings": {"centre": 21.0}}, "a different rotation centre"),
        ({"settings": {"size": 20}}, "different settings|a different shape"),
        ({"angles": 1.0}, "different angles"),
        ({"pixel_size": (2.0, 2.0)}, "a different pixel size"),
        ({"flats": 1}, "different flat or dark fields"),
        (
            {"geometry": "fan", "before": {"algorithm": "sirt", "iterations": 1}},
            "a different beam",
        ),
    ],
)
def test_what_was_made_otherwise_is_not_gone_on_with(scan, tmp_path, change, says):
    before = change.get("before", {})
    run(scan, stop_after=1, out=tmp_path / "v.tif", settings=before)
    unfinished = find_unfinished(tmp_path / "v.tif")
    given = scan
    if "angles" in change:
        given = scan.replace(angles=scan.angles + change["angles"])
    if "flats" in change:
        given = scan.replace(flats=np.asarray(scan.flats) + 1)
    if "geometry" in change:
        beam = {"source_distance": 200.0, "detector_distance": 0.0}
        given = scan.replace(geometry=change["geometry"], **beam)
    if "pixel_size" in change:
        given = scan.replace(pixel_size=change["pixel_size"])
    with pytest.raises(ConfigError, match=says):
        run(
            given,
            out=tmp_path / "v.tif",
            unfinished=unfinished,
            settings={**before, **change.get("settings", {})},
        )
    assert (tmp_path / "v.incomplete.tif").exists()


def test_nothing_is_left_of_a_run_stopped_at_once(scan, tmp_path):
    with pytest.raises(Cancelled):
        run(scan, stop_after=0, out=tmp_path / "v.tif")
    assert list(tmp_path.iterdir()) == []


def test_an_error_on_the_way_keeps_what_is_finished(scan, tmp_path, monkeypatch):
    real, calls = reconstruct_blocks.reconstruct_slices, []

    def failing(*args, **more):
        calls.append(1)
        if len(calls) == 3:
            raise EngineError("The device is gone.")
        return real(*args, **more)

    monkeypatch.setattr(reconstruct_blocks, "reconstruct_slices", failing)
    with pytest.raises(EngineError, match=r"gone. .* kept as v.incomplete.tif"):
        run(scan, out=tmp_path / "v.tif")
    unfinished = find_unfinished(tmp_path / "v.tif")
    assert "gone" in unfinished.provenance[-1]["error"]
    result, after = run(scan, out=tmp_path / "v.tif", unfinished=unfinished)
    assert result.complete
    assert after[0] == 4


def test_nothing_is_kept_of_bad_projections(scan, tmp_path):
    run(scan, stop_after=1, out=tmp_path / "v.tif")
    (before,) = tmp_path.iterdir()
    counts = np.array(scan.data, np.float32)
    counts[3, 7, 9] = np.nan
    with pytest.raises(ProjectionsError, match="projection 3, row 7, column 9"):
        run(scan.replace(data=counts), out=tmp_path / "w.tif")
    assert list(tmp_path.iterdir()) == [before]


def test_a_generator_that_is_closed_leaves_nothing(scan, tmp_path):
    config = ReconstructConfig.create(centre=CENTRE, threads=1)
    steps = reconstruct_steps(scan, config, out=tmp_path / "v.tif")
    next(step for step in steps if isinstance(step, TileDone))
    steps.close()
    assert list(tmp_path.iterdir()) == []


_KILLED = """
import os, signal, sys
from napari_geosr.core.steps import TileDone
from napari_geosr.operations.reconstruct import scan as reconstruct_scan
from napari_geosr.io.unfinished_files import journal
from napari_geosr.operations.reconstruct import ReconstructConfig, reconstruct_steps
reconstruct_scan._GROUP_CPU = 2
journal._MIN_INTERVAL = journal._INTERVAL_FACTOR = 0.0
config = ReconstructConfig.create(centre=20.5, threads=1)
n = 0
for step in reconstruct_steps(sys.argv[1], config, out=sys.argv[2]):
    n += isinstance(step, TileDone)
    if n == 2:
        os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.every(2)
@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL there")
@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_killed_run_loses_little(scan, tmp_path, monkeypatch, suffix):
    given = write_projections(scan, tmp_path / "scan.h5")
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / f"v{suffix}"
    command = [sys.executable, "-c", _KILLED, str(given), str(out)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    assert not out.exists()
    # Another one was killed before its first row.
    begun = folder / f".v.00000000.partial{suffix}"
    begun.write_bytes(b"")
    entry = {"boxes": [], "pid": 2**22 + 1, "host": socket.gethostname()}
    journal_of(begun).write_text(json.dumps(entry), encoding="utf-8")
    told = []
    monkeypatch.setattr(
        io_writing, "_note_on_leftovers", lambda left: told.extend(left) or ""
    )
    unfinished = find_unfinished(out)
    result, after = run(given, out=out, unfinished=unfinished)
    assert told == []
    assert after == list(range(4, ROWS))
    whole, _ = run(given)
    np.testing.assert_array_equal(result.volume.data[:], whole.volume.data[:])
    assert [p.name for p in folder.iterdir()] == [out.name]


@pytest.fixture
def writing(tmp_path, monkeypatch):
    """A file written by this process, as it appears to another one."""
    monkeypatch.setattr(io_journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(io_journal, "_INTERVAL_FACTOR", 0.0)
    place = {"axes": "ZYX", "voxel_size": (1,) * 3, "unit": "pixel", "origin": (0,) * 3}
    out = tmp_path / "v.tif"
    history = [{"operation": "reconstruct"}]
    with io.create(
        out,
        io.OutputSpec(shape=(4, 8, 8), dtype=np.float32, provenance=history, **place),
    ) as output:
        journal = Journal(output)
        other = SimpleNamespace(getpid=lambda: -1)
        monkeypatch.setattr(io_journal, "os", other)
        yield out, journal
        monkeypatch.undo()
    assert [p.name for p in tmp_path.iterdir()] == ["v.tif"]


def change_journal(journal, **changes):
    """Change entries of it; None removes an entry."""
    path = journal_of(journal.output.temporary)
    entry = json.loads(path.read_text(encoding="utf-8")) | changes
    kept = {key: value for key, value in entry.items() if value is not None}
    path.write_text(json.dumps(kept), encoding="utf-8")
    return path


def rows(start, stop):
    """A box of rows."""
    return (slice(start, stop), slice(0, 8), slice(0, 8))


def finished(unfinished):
    return [box[0] for box in unfinished.provenance[-1]["finished"]]


def usable(out):
    return run_to_end(usable_unfinished_steps(out))


@pytest.mark.parametrize("noted", [False, True], ids=["just begun", "with rows"])
@pytest.mark.parametrize("look", [find_unfinished, usable])
def test_a_run_that_still_goes_on_is_not_taken_over(writing, look, noted):
    out, journal = writing
    if noted:
        journal.note(rows(0, 1))
        change_journal(journal, pid=REAL_PID)
    with pytest.raises(FileInUseError, match="still writing"):
        look(out)


def test_a_stopped_run_that_is_gone_on_with_is_not_gone_on_with_twice(writing):
    out, _ = writing
    incomplete_path(out).touch()
    with pytest.raises(FileInUseError, match="still writing"):
        find_unfinished(out)
    incomplete_path(out).unlink()


def test_another_process_of_the_same_number_does_not_write(writing):
    out, journal = writing
    journal.note(rows(0, 2))
    born = psutil.Process(REAL_PID).create_time()
    change_journal(journal, pid=REAL_PID, started=born - 60, since_boot=None)
    assert finished(find_unfinished(out)) == [[0, 2]]


def test_a_journal_of_an_earlier_release_says_no_start(writing):
    out, journal = writing
    journal.note(rows(0, 2))
    path = change_journal(journal, pid=REAL_PID, started=None)
    with pytest.raises(FileInUseError, match="still writing"):
        find_unfinished(out)
    before = psutil.Process(REAL_PID).create_time() - 60
    os.utime(path, (before, before))
    assert finished(find_unfinished(out)) == [[0, 2]]


@pytest.mark.skipif(not hasattr(os, "waitid"), reason="no waitid there")
def test_a_killed_process_that_was_not_reaped_does_not_write(writing):
    out, journal = writing
    journal.note(rows(0, 2))
    with subprocess.Popen(["sleep", "60"]) as process:
        born = psutil.Process(process.pid).create_time()
        for started in (born, None):
            change_journal(journal, pid=process.pid, started=started)
            if started:
                with pytest.raises(FileInUseError, match=f"process {process.pid}"):
                    find_unfinished(out)
                process.kill()
                os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
            assert psutil.Process(process.pid).status() == psutil.STATUS_ZOMBIE
            assert finished(find_unfinished(out)) == [[0, 2]]


def test_there_must_be_something_to_go_on_with(tmp_path: Path):
    with pytest.raises(ConfigError, match="Omit --continue"):
        find_unfinished(tmp_path / "v.tif")


def test_a_run_of_another_computer_is_told_by_the_age_of_its_journal(writing):
    out, journal = writing
    journal.note(rows(0, 1))
    path = change_journal(journal, host="another", pid=REAL_PID)
    with pytest.raises(FileInUseError, match="on another"):
        find_unfinished(out)
    old = path.stat().st_mtime - 2 * io_journal._MAX_SILENCE
    os.utime(path, (old, old))
    assert finished(find_unfinished(out)) == [[0, 1]]


def test_a_part_of_a_killed_run_goes_when_another_part_holds_it(scan, tmp_path):
    """Killed, resumed and stopped: one file is left, and settings may be older."""
    run(scan, stop_after=1, out=tmp_path / "v.tif")
    (stopped,) = tmp_path.iterdir()
    killed = tmp_path / ".v.00000000.partial.tif"
    stopped.rename(killed)
    boxes = [[[0, 2], [0, 42], [0, 42]]]
    entry = {"boxes": boxes, "pid": 2**22 + 1, "host": socket.gethostname()}
    journal_of(killed).write_text(json.dumps(entry), encoding="utf-8")
    unfinished = find_unfinished(tmp_path / "v.tif")
    last = dict(unfinished.provenance[-1])
    last["settings"] = {k: v for k, v in last["settings"].items() if k != "engine"}
    unfinished = unfinished.replace(provenance=(*unfinished.provenance[:-1], last))
    run(scan, stop_after=1, out=tmp_path / "v.tif", unfinished=unfinished)
    assert [p.name for p in tmp_path.iterdir()] == ["v.incomplete.tif"]


def test_a_journal_that_cannot_be_written_is_told_by_the_name_of_the_result(
    writing, monkeypatch
):
    _, journal = writing

    def full(self, _):
        raise OSError(errno.ENOSPC, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(FileError, match=r"^v\.tif could not be written: the disk"):
        journal.note(rows(0, 2))


def test_what_a_killed_run_left_is_called_by_the_name_of_the_result(scan, tmp_path):
    part = tmp_path / ".v.0123abcd.partial.tif"
    boxes = [[[0, 2], [0, 34], [0, 34]]]
    entry = {"boxes": boxes, "pid": 2**22 + 1, "host": socket.gethostname()}
    journal_of(part).write_text(json.dumps(entry), encoding="utf-8")
    part.write_bytes(b"II*")
    with pytest.raises(ConfigError, match=r"The unfinished v\.tif .* cannot be read"):
        find_unfinished(tmp_path / "v.tif")
    unknown = Volume(np.zeros((9, 34, 34), np.float32), "ZYX", (1.0,) * 3, "pixel")
    part.unlink()
    io.write(unknown, part)
    unfinished = io.read(part)
    with pytest.raises(
        ConfigError, match=r"^v\.tif is not an unfinished reconstruction"
    ):
        run(scan, out=tmp_path / "v.tif", unfinished=unfinished)


def test_without_a_record_of_what_is_finished_all_is_computed(
    scan, tmp_path, monkeypatch
):
    """As on a disk with too little space for the record."""

    def full(self, *, pyramid):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as disk:
        disk.setattr("napari_geosr.io.formats.tiff.writer.TiffOutput.complete", full)
        run(scan, stop_after=1, out=tmp_path / "v.tif")
    unfinished = find_unfinished(tmp_path / "v.tif")
    _, after = run(scan, out=tmp_path / "v.tif", unfinished=unfinished)
    assert after == list(range(ROWS))
    assert [p.name for p in tmp_path.iterdir()] == ["v.tif"]
