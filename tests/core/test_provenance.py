"""Provenance is sufficient to repeat a run, and serialisable."""

from __future__ import annotations

import hashlib
import json
import os

import numpy as np
import pytest

from napari_geosr.core import provenance
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.steps import StageStarted
from napari_geosr.core.volume import Volume


def test_a_record_names_input_settings_and_model(tmp_path):
    path = tmp_path / "scan.raw"
    path.write_bytes(b"voxels")
    volume = Volume(np.zeros((2, 3)), "YX", source=path, unit="µm", name="scan")
    entry = provenance.record(
        "restore",
        inputs={"input": volume},
        settings={"device": "cpu"},
        model={"name": "m"},
        tile=[1, 2],
    )
    again = json.loads(json.dumps(entry))
    digest = hashlib.sha256(b"voxels").hexdigest()
    assert again["inputs"]["input"]["checksum"] == f"sha256:{digest}"
    assert again["settings"] == {"device": "cpu"}
    assert again["model"] == {"name": "m"}
    assert again["tile"] == [1, 2]
    assert again["operation"] == "restore"


def test_huge_files_are_hashed_in_samples(tmp_path, monkeypatch):
    monkeypatch.setattr(provenance, "_WHOLE_FILE_BYTES", 1000)
    path = tmp_path / "big.raw"
    path.write_bytes(bytes(2 << 20))
    first = provenance.checksum(path)
    assert first.startswith("sha256-sampled:")
    path.write_bytes(bytes((2 << 20) - 1) + b"\x01")
    assert provenance.checksum(path) != first


def test_arrays_and_folders_have_checksums_that_see_changes(tmp_path):
    data = np.zeros((4, 5, 6), np.uint8)
    first = provenance.array_checksum(data)
    data[3, 4, 5] = 1
    assert provenance.array_checksum(data) != first

    (tmp_path / "a.tif").write_bytes(b"1")
    listing = provenance.folder_checksum(tmp_path)
    (tmp_path / "b.tif").write_bytes(b"2")
    assert provenance.folder_checksum(tmp_path) != listing


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A file of five steps, last changed a while ago, and a list of its reads."""
    monkeypatch.setattr(provenance, "_BLOCK", 1000)
    path = tmp_path / "scan.raw"
    path.write_bytes(bytes(5 * provenance._BLOCKS_PER_REPORT * 1000))
    os.utime(path, (1e9, 1e9))
    return path


def test_the_checksum_of_a_large_file_reports_its_progress(large):
    seen = []
    found = provenance.checksum(large, on_progress=lambda *done: seen.append(done))
    assert [done / total for done, total in seen] == [0.2, 0.4, 0.6, 0.8, 1.0]
    digest = hashlib.sha256(large.read_bytes()).hexdigest()
    assert found == f"sha256:{digest}"
    seen = []
    again = provenance.checksum(large, on_progress=lambda *done: seen.append(done))
    assert (again, seen) == (found, [])
    content = bytearray(large.read_bytes())
    content[-1] = 7
    large.write_bytes(content)
    assert provenance.checksum(large) != f"sha256:{digest}"


def test_a_file_that_changed_just_now_is_read_again(large):
    """Its time stamps may be too coarse to distinguish the next change."""
    os.utime(large)
    provenance.checksum(large)
    seen = []
    provenance.checksum(large, on_progress=lambda *done: seen.append(done))
    assert len(seen) > 1


def test_people_are_told_while_a_large_file_is_read(large):
    volume = Volume(np.zeros((2, 3)), "YX", source=large)
    (started,) = provenance.describe_steps(volume)
    assert isinstance(started, StageStarted)
    assert list(provenance.describe_steps(volume)) == []


def test_a_checksum_can_be_stopped(large):
    n = iter(range(1000))
    volume = Volume(np.zeros((2, 3)), "YX", source=large)
    steps = provenance.record_steps(
        "restore",
        inputs={"input": volume},
        settings={},
        should_stop=lambda: next(n) > 70,
    )
    with pytest.raises(Cancelled):
        list(steps)
    assert next(n) < 75


def test_a_file_that_is_gone_is_named(large, monkeypatch):
    def broken(*_):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(provenance, "_state", broken)
    volume = Volume(np.zeros((2, 3)), "YX", source=large)
    with pytest.raises(FileError, match=r"scan.*cannot be read \(Input/output error\)"):
        provenance.record("restore", inputs={"input": volume}, settings={})
