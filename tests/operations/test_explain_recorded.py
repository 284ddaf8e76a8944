"""The scan of a result, opened again using the result's record."""

from __future__ import annotations

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.core import provenance
from napari_geosr.core.errors import FileError, VolumeError
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.explain import recorded_input, recorded_scan_steps


def grey(shape, axes, seed=0, **fields) -> Volume:
    data = np.random.default_rng(seed).integers(0, 200, shape).astype(np.uint8)
    return Volume(data, axes, **fields)


def facts_of(volume: Volume):
    record = provenance.record("restore", inputs={"input": volume}, settings={})
    return recorded_input(record)


def opened(facts, **more) -> Volume:
    return run_to_end(recorded_scan_steps(facts, **more))


def test_it_is_the_same_scan_with_the_voxel_size_of_the_run(tmp_path):
    path = geosr.write(grey((6, 8, 9), "ZYX"), tmp_path / "scan.tif")
    used = geosr.read(path, voxel_size=(3.0, 2.0, 2.0), unit="µm")
    found = opened(facts_of(used))
    assert np.array_equal(np.asarray(found.data), np.asarray(used.data))
    assert (found.voxel_size, found.unit) == (used.voxel_size, used.unit)


def test_a_scan_moved_next_to_its_result_is_found(tmp_path):
    (tmp_path / "old").mkdir()
    (tmp_path / "new").mkdir()
    path = geosr.write(grey((6, 8, 9), "ZYX"), tmp_path / "old" / "scan.tif")
    facts = facts_of(geosr.read(path))
    moved = path.rename(tmp_path / "new" / "scan.tif")
    with pytest.raises(FileError, match=r"no longer exists.*next to the result"):
        opened(facts)
    assert opened(facts, beside=tmp_path / "new" / "result.tif").source == moved
    # Another file of the same name is not mistaken for it.
    geosr.write(grey((6, 8, 9), "ZYX", seed=1), moved, overwrite=True)
    with pytest.raises(FileError, match="not the scan that was restored"):
        opened(facts, beside=tmp_path / "new" / "result.tif")


def test_one_of_several_channels_must_be_known(tmp_path):
    path = geosr.write(grey((2, 6, 8, 9), "CZYX"), tmp_path / "two.ome.tif")
    used = geosr.read(path).select(channel=1)
    facts = facts_of(used)
    with pytest.raises(VolumeError, match="several time points or channels"):
        opened(facts)
    found = opened(facts, position={"channel": 1})
    assert np.array_equal(np.asarray(found.data), np.asarray(used.data))


def test_scans_without_a_file_or_with_more_axes_have_no_record(tmp_path):
    assert facts_of(grey((6, 8, 9), "ZYX")) is None
    path = geosr.write(grey((2, 6, 8, 9), "TZYX"), tmp_path / "series.ome.tif")
    assert facts_of(geosr.read(path)) is None
    assert recorded_input({}) is None
