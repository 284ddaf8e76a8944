"""A run that fails keeps its finished part, which is recorded."""

from __future__ import annotations

import errno
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_geosr import io, measure_porosity
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.steps import TargetReady, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, run_steps

SHAPE = (60, 48, 50)


class Breaking:
    """Voxels on a disk on which planes from `first_broken` on cannot be read."""

    def __init__(self, data):
        self.data, self.first_broken = data, SHAPE[0]
        self.shape, self.dtype, self.ndim = data.shape, data.dtype, data.ndim

    def __getitem__(self, key):
        planes = key[0] if isinstance(key, tuple) else key
        last = planes.stop - 1 if isinstance(planes, slice) else planes
        if last >= self.first_broken:
            raise OSError(errno.EIO, "Input/output error")
        return self.data[key]


@pytest.fixture
def prepared(rng):
    data = np.full(SHAPE, 0.8, np.float32)
    data[10:15, 10:20, 12:25] = 0.2
    data += rng.normal(0, 0.1, data.shape).astype(np.float32)
    source = Breaking(data)
    volume = Volume(source, "ZYX", (2.0,) * 3, "µm", name="block")
    config = RestoreConfig(memory="120MB", threads=1)
    return run_to_end(prepare_steps(volume, config))


def run(prepared, out=None, spare=50):
    """The volume that was being filled, and the error."""
    steps = run_steps(prepared, out=out)
    target = next(step for step in steps if isinstance(step, TargetReady))
    prepared.volume.data.first_broken = spare
    with pytest.raises(FileError) as error:
        list(steps)
    return target.volume, str(error.value)


@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_the_finished_part_of_a_file_is_kept(prepared, tmp_path, suffix):
    _, message = run(prepared, tmp_path / f"out{suffix}")
    kept = tmp_path / f"out.incomplete{suffix}"
    assert [p.name for p in tmp_path.iterdir()] == [kept.name]
    assert "Input/output error. Check that the file is" in message
    assert message.endswith(f"The finished part is kept as {kept.name}.")
    part = io.read(kept)
    done = np.isfinite(np.asarray(part.data)).all(axis=(1, 2))
    assert 0 < done.sum() < SHAPE[0]
    assert part.provenance[-1]["complete"] is False
    assert "Input/output error" in part.provenance[-1]["error"]


def test_nothing_is_kept_where_nothing_was_finished(prepared, tmp_path):
    run(prepared, tmp_path / "out.tif", spare=0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="no limit on file sizes there")
@pytest.mark.parametrize("suffix", [".tif", ".ome.zarr"])
def test_the_limit_on_file_sizes_says_what_is_kept(
    prepared, tmp_path, suffix, monkeypatch
):
    import resource

    monkeypatch.chdir(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, limits[1]))
        with pytest.raises(FileError) as error:
            list(run_steps(prepared, out=f"out{suffix}"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    message = str(error.value)
    assert f"the maximum file size in {tmp_path}. " in message
    assert message.endswith("No part of the result was finished, so nothing is kept.")
    assert not list(tmp_path.iterdir())


def test_what_a_failed_run_leaves_in_memory_is_not_taken_for_complete(prepared):
    left, _ = run(prepared)
    assert np.isnan(left.data).any()
    assert left.provenance[-1]["complete"] is False
    report = measure_porosity(left)
    assert any("unfinished restoration" in w for w in report.warnings)


def test_only_the_end_of_a_run_makes_it_complete(prepared):
    result = run_to_end(run_steps(prepared))
    assert result.volume.provenance[-1]["complete"] is True


def test_a_run_can_be_stopped_while_its_input_is_described(prepared, tmp_path):
    scan = tmp_path / "scan.tif"
    scan.write_bytes(bytes(3 << 20))
    named = replace(prepared, volume=prepared.volume.replace(source=scan))
    with pytest.raises(Cancelled):
        list(run_steps(named, out=tmp_path / "out.tif", should_stop=lambda: True))
    assert list(tmp_path.iterdir()) == [scan]
