"""A killed run leaves an unfinished file, and a journal of its contents."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from unfinished import NOBODY, SHAPE, SPEC, killed, names

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.io import formats
from napari_geosr.io.suffixes import incomplete_path, suffix_of
from napari_geosr.io.unfinished_files import atomic, hidden, journal
from napari_geosr.io.unfinished_files.claims import FileInUseError
from napari_geosr.io.unfinished_files.journal import Journal, journal_of, read_journal
from napari_geosr.io.unfinished_files.unfinished import (
    clear,
    discard_unfinished,
    find_unfinished,
    remove_unfinished,
    usable_unfinished_steps,
)

SUFFIXES = [".tif", ".ome.tif", ".ome.zarr"]
#: Writes planes, records some of them, and is killed as by `kill -9`.
_KILLED = """
import os, signal, sys
import numpy as np
from napari_geosr import io
from napari_geosr.io.unfinished_files import journal
journal._MIN_INTERVAL = journal._INTERVAL_FACTOR = 0.0
spec, n_noted, n_written = eval(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
rest = tuple(slice(0, n) for n in spec["shape"][1:])
with io.create(sys.argv[1], io.OutputSpec(**spec)) as output:
    if n_noted >= 0:
        kept = journal.Journal(output)
    for z in range(n_written):
        output.array[z] = z
        if z < n_noted:
            kept.note((slice(z, z + 1), *rest), {"run": {"tile": [1, 20, 30]}})
    os.kill(os.getpid(), signal.SIGKILL)
"""

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")


def killed_process(out: Path) -> Path:
    """The unfinished file left by a killed run."""
    command = [sys.executable, "-c", _KILLED, str(out), repr(SPEC), "3", "5"]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    (part,) = hidden.leftovers(out, suffix_of(out))
    return part


def usable(out: Path, warnings: list[str] | None = None) -> Volume | None:
    """The usable unfinished file of `out`, and the warnings about it."""

    def on_step(step: object) -> None:
        assert isinstance(step, WarningIssued)
        if warnings is not None:
            warnings.append(step.message)

    return run_to_end(usable_unfinished_steps(out), on_step)


def go_on(out: Path, part: Path, rows: range) -> bool:
    """Fill the rest, and return whether the file was filled in place."""
    entry = read_journal(part)
    assert entry is not None
    with io.create(out, io.OutputSpec(**SPEC), continues=part) as output:
        if not output.is_reopened:
            for box in entry.boxes:
                output.array[box] = np.asarray(io.read(part).data[box])
        for z in rows:
            output.array[z] = z
        output.provenance = ({"operation": "test", "complete": True},)
        return output.is_reopened


def check_whole(out: Path) -> None:
    back = io.read(out)
    expected = np.broadcast_to(np.arange(SHAPE[0])[:, None, None], SHAPE)
    np.testing.assert_array_equal(np.asarray(back.data), expected)
    assert back.provenance == ({"operation": "test", "complete": True},)
    assert back.voxel_size == (1, 2, 3)
    assert names(out.parent) == [out.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_file_of_a_killed_run_is_filled_further(
    suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / f"v{suffix}"
    part = killed_process(out)
    left = find_unfinished(out)
    record = left.provenance[-1]
    assert record["finished"] == [[[z, z + 1], [0, 20], [0, 30]] for z in range(3)]
    assert record["run"] == {"tile": [1, 20, 30]}
    assert left.source == part
    np.testing.assert_array_equal(np.asarray(left.data[:3, 0, 0]), [0, 1, 2])
    assert go_on(out, part, range(3, 8))
    check_whole(out)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_a_format_that_cannot_reopen_a_file_begins_a_new_one(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / f"v{suffix}"
    part = killed(out, noted=3)
    monkeypatch.setattr(
        type(formats.format_of(out)), "reopened", lambda *_: None, raising=True
    )
    left = find_unfinished(out)
    assert not go_on(out, part, range(3, 8))
    remove_unfinished(left, out)
    check_whole(out)


def killed_again(part: Path, noted: int, **record: object) -> Path:
    """A copy of the file of a killed run in which less is finished."""
    other = part.with_name(part.name.replace(f"{NOBODY:08x}.", f"{NOBODY + 1:08x}."))
    if part.is_dir():
        shutil.copytree(part, other)
    else:
        shutil.copy(part, other)
    entry = json.loads(journal_of(part).read_text())
    entry |= {"pid": NOBODY + 1, "boxes": entry["boxes"][:noted]}
    entry["stamp"]["provenance"][-1] |= record
    journal_of(other).write_text(json.dumps(entry))
    return other


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_of_a_run_that_was_killed_twice_one_file_remains(
    suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / f"v{suffix}"
    part = killed(out, noted=3)
    less = killed_again(part, noted=1)
    assert find_unfinished(out).source == part
    assert not less.exists()
    assert not journal_of(less).exists()
    assert go_on(out, part, range(3, 8))
    check_whole(out)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_killed_run_that_had_resumed_a_stopped_one_leaves_no_file(
    suffix: str, tmp_path: Path
) -> None:
    out = tmp_path / f"v{suffix}"
    finished = {"finished": [[[0, 3], [0, 20], [0, 30]]]}
    with io.create(out, io.OutputSpec(**SPEC)) as output:
        output.provenance = ({"operation": "test", **finished},)
        output.keep_incomplete()
    part = killed(out, noted=2)
    assert find_unfinished(out).source == incomplete_path(out)
    assert names(tmp_path) == [incomplete_path(out).name]
    assert not part.exists()


def test_a_killed_run_with_other_settings_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "v.tif"
    part = killed(out, noted=3)
    other = killed_again(part, noted=1, settings={"model": "another"})
    assert find_unfinished(out).source == part
    assert other.exists()


def test_a_file_in_another_place_is_begun_again(tmp_path: Path) -> None:
    """Voxel size and origin are stored at several positions of a TIFF file."""
    out = tmp_path / "v.tif"
    part = killed(out, noted=3)
    other = SPEC | {"voxel_size": (1, 1, 1)}
    with io.create(out, io.OutputSpec(**other), continues=part) as output:
        assert not output.is_reopened


def test_a_run_that_fails_does_not_throw_the_part_away(tmp_path: Path) -> None:
    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=3)
    with (
        pytest.raises(KeyboardInterrupt),
        io.create(out, io.OutputSpec(**SPEC), continues=part),
    ):
        raise KeyboardInterrupt
    left = find_unfinished(out)
    assert len(left.provenance[-1]["finished"]) == 3


def test_coarser_levels_of_a_killed_run_are_made_again(tmp_path: Path) -> None:
    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=3)
    (part / "1").mkdir()
    (part / "1" / "zarr.json").write_text("{")
    (part / "0" / "c" / "0.1234.partial").write_bytes(b"half a shard")
    assert go_on(out, part, range(3, 8))
    assert sorted(p.name for p in out.iterdir()) == ["0", "zarr.json"]
    assert not list(out.rglob("*.partial"))


@pytest.mark.parametrize("noted", [-1, 0], ids=["no journal", "nothing noted"])
def test_what_cannot_be_used_goes_when_the_file_is_written_again(
    noted: int, tmp_path: Path
) -> None:
    out = tmp_path / "v.tif"
    killed(out, noted=noted)
    with io.create(out, io.OutputSpec(**SPEC)) as output:
        output.array[...] = 1
        assert output.note == ""
    assert names(tmp_path) == ["v.tif"]


def test_nothing_to_go_on_with(tmp_path: Path) -> None:
    out = tmp_path / "v.tif"
    killed(out, noted=0)
    with pytest.raises(
        ConfigError, match=r"no unfinished run of v\.tif .* Omit --continue"
    ):
        find_unfinished(out)
    assert names(tmp_path) == []


def test_a_part_that_can_be_used_is_not_lost_unasked(tmp_path: Path) -> None:
    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=4)
    with pytest.raises(FileError, match=r"50 % of v\.ome\.zarr.*--continue.*--overwr"):
        io.check_output(out)
    with (
        pytest.raises(FileError, match="killed run had finished"),
        io.create(out, io.OutputSpec(**SPEC)),
    ):
        pass
    assert names(tmp_path) == [part.name, journal_of(part).name]
    for options in ({"continues": True}, {"overwrite": True}):
        io.check_output(out, **options)
        assert names(tmp_path) == [part.name, journal_of(part).name]
    with io.create(out, io.OutputSpec(**SPEC), overwrite=True):
        assert not part.exists()
        assert not journal_of(part).exists()
    assert names(tmp_path) == ["v.ome.zarr"]


def test_a_journal_alone_shows_that_a_run_is_writing(tmp_path: Path) -> None:
    """Some network drives do not share locks."""
    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=4)
    entry = json.loads(journal_of(part).read_text())
    entry |= {"host": "elsewhere", "pid": 1234}
    journal_of(part).write_text(json.dumps(entry))
    for options in ({}, {"overwrite": True}):
        with pytest.raises(FileInUseError, match="process 1234 on elsewhere"):
            io.check_output(out, **options)
    assert part.exists()
    os.utime(journal_of(part), (1e9, 1e9))  # no sign of life for a long time
    io.check_output(out, overwrite=True)
    with io.create(out, io.OutputSpec(**SPEC), overwrite=True):
        pass
    assert names(tmp_path) == [out.name]


def test_a_job_restarted_on_another_computer_resumes_at_once(tmp_path: Path) -> None:
    """A node failed a minute ago, and the queue has restarted its job elsewhere."""
    out, job = tmp_path / "v.ome.zarr", tmp_path / "v.job"
    with journal.written_by_job(job):
        part = killed(out, noted=4)
    entry = json.loads(journal_of(part).read_text())
    assert entry["job"] == str(job.resolve())
    entry |= {"host": "the-lost-node", "pid": 1234}
    journal_of(part).write_text(json.dumps(entry))
    with pytest.raises(FileInUseError, match="process 1234 on the-lost-node"):
        usable(out)  # it could still be running
    other = journal.written_by_job(tmp_path / "other.job")
    with other, pytest.raises(FileInUseError, match="the-lost-node"):
        usable(out)
    with journal.written_by_job(job):
        volume = usable(out)
    assert volume is not None
    assert len(volume.provenance[-1]["finished"]) == 4


def test_a_part_that_cannot_be_read_is_begun_again_by_who_may(tmp_path: Path) -> None:
    out = tmp_path / "v.tif"
    part = killed(out, noted=4)
    part.write_bytes(b"II*")
    with pytest.raises(ConfigError, match=r"The unfinished v\.tif .* cannot be read"):
        find_unfinished(out)
    warnings: list[str] = []
    assert usable(out, warnings) is None
    assert names(tmp_path) == []
    assert len(warnings) == 1
    assert re.search(r"unfinished v\.tif .* damaged and has been removed", warnings[0])


def test_a_part_with_a_damaged_journal_is_removed_with_a_warning(
    tmp_path: Path,
) -> None:
    out = tmp_path / "v.tif"
    part = killed(out, noted=4)
    journal_of(part).write_text("{")
    os.utime(part, (1e9, 1e9))
    warnings: list[str] = []
    assert usable(out, warnings) is None
    assert names(tmp_path) == []
    assert len(warnings) == 1
    assert "v.tif of an earlier run was damaged" in warnings[0]


@pytest.mark.parametrize("fails", ["journal", "part", "zarr"])
def test_a_read_error_of_the_system_stops_the_run_and_keeps_the_part(
    fails: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import zarr

    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=4)
    before = names(tmp_path)
    number = errno.EIO if fails == "journal" else errno.ESTALE

    scandir = os.scandir

    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), str(part))

    def scandir_elsewhere(path: Any) -> Any:
        return fail() if path == part else scandir(path)

    with monkeypatch.context() as broken:
        if fails == "journal":
            broken.setattr(Path, "read_text", fail)
        elif fails == "part":
            broken.setattr(os, "scandir", scandir_elsewhere)
        else:
            broken.setattr(zarr, "open", fail)
        for look in (usable, find_unfinished, io.check_output):
            if look is io.check_output and fails != "journal":
                continue  # it reads only the journal
            with pytest.raises(FileError, match="be read at the moment") as caught:
                look(out)
            assert os.strerror(number) in str(caught.value)
    assert names(tmp_path) == before
    volume = usable(out)
    assert volume is not None
    assert len(volume.provenance[-1]["finished"]) == 4


def test_the_journal_of_a_file_that_is_gone_goes_too(tmp_path: Path) -> None:
    out = tmp_path / "v.tif"
    killed(out, noted=2).unlink()
    io.check_output(out)
    assert names(tmp_path) == []


def test_of_two_parts_the_larger_one_is_taken(tmp_path: Path) -> None:
    out = tmp_path / "v.tif"
    with io.create(out, io.OutputSpec(**SPEC)) as output:
        output.provenance = ({"finished": [[[0, 3], [0, 20], [0, 30]]]},)
        output.keep_incomplete()
    for n, expected in ((2, "v.incomplete.tif"), (5, None)):
        part = killed(out, noted=n)
        left = find_unfinished(out)
        assert left.source is not None
        assert left.source.name == (expected or part.name)
        if expected:
            discard_unfinished(out)


class Clock:
    """A clock that advances only when set."""

    def __init__(self) -> None:
        self.now = 0.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return self.now


@pytest.mark.parametrize(("seconds", "pause"), [(0.01, 10.0), (0.3, 30.0), (5.0, 60.0)])
def test_writing_takes_a_hundredth_and_a_minute_is_the_most_to_lose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, pause: float
) -> None:
    clock = Clock()
    monkeypatch.setattr(journal, "time", clock)
    with io.create(tmp_path / "v.tif", io.OutputSpec(**SPEC)) as output:
        kept = Journal(output)
        secured: list[float] = []

        def flush_to_disk() -> None:
            secured.append(clock.now)
            clock.now += seconds

        monkeypatch.setattr(output, "flush_to_disk", flush_to_disk)
        for _ in range(3000):
            kept.note((slice(0, 1), slice(0, 20), slice(0, 30)))
            clock.now += 0.1
        between = np.diff(secured) - seconds
        assert between.min() == pytest.approx(pause, abs=0.2)
        assert between.max() == pytest.approx(pause, abs=0.2)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_voxels_are_on_the_disk_before_they_are_noted(
    suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "_MIN_INTERVAL", 0.0)
    monkeypatch.setattr(journal, "_INTERVAL_FACTOR", 0.0)
    with io.create(tmp_path / f"v{suffix}", io.OutputSpec(**SPEC)) as output:
        kept = Journal(output)
        order: list[str] = []
        flush_to_disk, write = output.flush_to_disk, journal.write_text
        monkeypatch.setattr(
            output, "flush_to_disk", lambda: order.append("file") or flush_to_disk()
        )
        monkeypatch.setattr(
            journal,
            "write_text",
            lambda *a, **k: order.append("journal") or write(*a, **k),
        )
        output.array[0] = 5  # a part of a shard
        kept.note((slice(0, 1), slice(0, 20), slice(0, 30)))
        assert order == ["file", "journal"]
        seen = np.asarray(io.read(output.temporary).data[0])
        assert (seen == 5).all()
        output.array[...] = 5
    assert names(tmp_path) == [f"v{suffix}"]


def test_hidden_names_say_who_writes(tmp_path: Path) -> None:
    path = tmp_path / "v.ome.zarr"
    ours = hidden.temporary_sibling(path, ".ome.zarr")
    assert (
        hidden.with_user_names(f"cannot write {ours.name}") == "cannot write v.ome.zarr"
    )
    ours.touch()
    assert not hidden.is_abandoned(ours)
    os.utime(ours, (1e9, 1e9))  # before this process was started, so by another one
    assert hidden.is_abandoned(ours)
    unknown = tmp_path / ".v.0123abcd.partial.ome.zarr"  # of an earlier release
    unknown.touch()
    assert hidden.leftovers(path, ".ome.zarr") == sorted([ours, unknown])
    assert not hidden.is_abandoned(unknown)


def test_files_of_another_computer_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "v.json"
    with monkeypatch.context() as there:
        there.setattr(hidden, "_computer", lambda: "0000")
        theirs = hidden.temporary_sibling(path)
    theirs.mkdir()
    inside = theirs / "0"
    inside.touch()

    def written(days: float, *paths: Path) -> None:
        moment = time.time() - days * 86400
        for each in paths:
            os.utime(each, (moment, moment))

    written(29, inside, theirs)
    assert not hidden.is_abandoned(theirs)
    written(31, theirs)
    assert not hidden.is_abandoned(theirs)  # its writer fills files in the folder
    written(31, inside, theirs)
    assert hidden.is_abandoned(theirs)


def test_a_job_removes_what_its_run_on_another_node_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node was lost before the file had a journal."""
    left = []
    with monkeypatch.context() as there:
        there.setattr(hidden, "_computer", lambda: "0000")
        for folder in ("job", "elsewhere"):
            (tmp_path / folder).mkdir()
            left.append(hidden.temporary_sibling(tmp_path / folder / "v.tif", ".tif"))
            left[-1].touch()
    own = hidden.temporary_sibling(tmp_path / "job" / "v.tif", ".tif")
    own.touch()
    for part in left:
        clear(part.parent / "v.tif")
    assert all(part.exists() for part in left)
    with journal.written_by_job(tmp_path / "job"):
        for part in left:
            clear(part.parent / "v.tif")
    assert [part.exists() for part in left] == [False, True]
    assert own.exists()


def test_a_run_on_another_node_counts_as_dead_only_for_its_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "v.tif"
    folder = tmp_path / "job"
    with journal.written_by_job(folder), monkeypatch.context() as there:
        there.setattr(socket, "gethostname", lambda: "node1")
        part = killed(out, noted=3)
    with pytest.raises(FileInUseError, match="on node1"):
        find_unfinished(out)
    with (
        journal.written_by_job(tmp_path / "other"),
        pytest.raises(FileInUseError, match="on node1"),
    ):
        find_unfinished(out)
    with journal.written_by_job(folder):
        assert find_unfinished(out).source == part
    silent = time.time() - journal._MAX_SILENCE - 1
    os.utime(journal_of(part), (silent, silent))
    assert find_unfinished(out).source == part


def test_small_files_do_not_pile_up(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    left = hidden.temporary_sibling(path)
    left.write_text("{")
    os.utime(left, (1e9, 1e9))
    other = hidden.temporary_sibling(path)
    other.write_text("{")  # by a thread of this process
    atomic.write_text(path, "{}")
    assert names(tmp_path) == sorted([path.name, other.name])
