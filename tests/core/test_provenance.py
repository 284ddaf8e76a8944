"""Provenance: enough to do it again, and serialisable."""

from __future__ import annotations

import hashlib
import json

import numpy as np

from napari_geosr.core import provenance
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
    first = provenance.file_checksum(path)
    assert first.startswith("sha256-sampled:")
    path.write_bytes(bytes((2 << 20) - 1) + b"\x01")
    assert provenance.file_checksum(path) != first


def test_arrays_and_folders_have_checksums_that_see_changes(tmp_path):
    data = np.zeros((4, 5, 6), np.uint8)
    first = provenance.array_checksum(data)
    data[3, 4, 5] = 1
    assert provenance.array_checksum(data) != first

    (tmp_path / "a.tif").write_bytes(b"1")
    listing = provenance.folder_checksum(tmp_path)
    (tmp_path / "b.tif").write_bytes(b"2")
    assert provenance.folder_checksum(tmp_path) != listing
