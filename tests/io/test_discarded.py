"""Finished parts of earlier runs are kept until a run that replaces them begins."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unfinished import SPEC, killed, names

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.io.suffixes import incomplete_path
from napari_geosr.io.unfinished_files.discarded import (
    RECORD,
    discard_recorded,
    record_discarded,
)
from napari_geosr.io.unfinished_files.journal import journal_of

pytestmark = pytest.mark.skipif(os.name == "nt", reason="no SIGKILL there")


def stopped(out: Path) -> Path:
    """The unfinished file left by a stopped run."""
    with io.create(out, io.OutputSpec(**SPEC)) as output:
        output.provenance = (
            {"complete": False, "finished": [[[0, 3], [0, 20], [0, 30]]]},
        )
        output.keep_incomplete()
    return incomplete_path(out)


@pytest.fixture
def job(tmp_path: Path) -> Path:
    """The folder of a job."""
    folder = tmp_path / "job"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("suffix", ["tif", "ome.zarr"])
def test_the_part_of_a_stopped_run_is_kept_until_another_run_begins(
    tmp_path: Path, suffix: str
) -> None:
    out = tmp_path / f"v.{suffix}"
    part = stopped(out)
    with pytest.raises(FileError, match="stopped run had finished"):
        io.check_output(out)
    io.check_output(out, overwrite=True)
    assert part.exists()
    with io.create(out, io.OutputSpec(**SPEC), overwrite=True):
        assert not part.exists()
    assert names(tmp_path) == [out.name]


@pytest.mark.parametrize("suffix", ["tif", "ome.zarr"])
def test_a_job_discards_the_recorded_parts_once(
    tmp_path: Path, job: Path, suffix: str
) -> None:
    out = tmp_path / f"v.{suffix}"
    parts = [stopped(out), killed(out, noted=4)]
    record_discarded(job, [out])
    assert all(part.exists() for part in parts)
    discard_recorded(job, [out])
    assert names(tmp_path) == ["job"]
    assert names(job) == []
    part = stopped(out)  # now by the job itself
    discard_recorded(job, [out])
    assert part.exists()


def test_only_parts_of_the_outputs_are_discarded(tmp_path: Path, job: Path) -> None:
    """A record that was copied from elsewhere may name any file."""
    part = killed(tmp_path / "v.ome.zarr", noted=4)
    record_discarded(job, [tmp_path / "v.ome.zarr"])
    discard_recorded(job, [tmp_path / "w.ome.zarr"])
    assert part.exists()


def test_a_part_that_has_been_resumed_meanwhile_is_kept(
    tmp_path: Path, job: Path
) -> None:
    out = tmp_path / "v.ome.zarr"
    part = killed(out, noted=4)
    record_discarded(job, [out])
    moment = journal_of(part).stat().st_mtime + 60
    os.utime(journal_of(part), (moment, moment))
    discard_recorded(job, [out])
    assert part.exists()


def test_without_parts_there_is_no_record(tmp_path: Path, job: Path) -> None:
    record_discarded(job, [tmp_path / "v.tif"])
    assert names(job) == []


def test_a_damaged_record_is_named(tmp_path: Path, job: Path) -> None:
    (job / RECORD).write_text('[["v.tif", 1')
    with pytest.raises(FileError, match="cannot be read: .* Delete it"):
        discard_recorded(job, [tmp_path / "v.tif"])
