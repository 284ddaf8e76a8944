"""``napari-geosr restore`` of a time series or several channels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.cli.app import run
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import run as restore_run

NAMES = ("DAPI", "GFP µ")
FLAGS = ["--model", "ct-denoise", "--memory", "120MB", "--threads", "1"]


@pytest.fixture
def scan(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Two time points of two channels (T, C, Y, X)."""
    data = rng.normal(0.8, 0.1, (2, 2, 40, 44)).astype(np.float32)
    data[:, 1] = data[:, 1] * 50 + 7
    volume = Volume(
        data, "TCYX", (0.5, 0.5), "µm", (3.0, 4.0), metadata={"channels": NAMES}
    )
    return io.write(volume, tmp_path / "scan.ome.tif")


@pytest.mark.parametrize("suffix", [".ome.tif", ".tif", ".ome.zarr"])
def test_all_points_go_into_one_file(scan, tmp_path, capsys, suffix):
    out = tmp_path / f"out{suffix}"
    assert run(["restore", str(scan), "--out", str(out), *FLAGS, "--json"]) == 0
    captured = capsys.readouterr()
    said = json.loads(captured.out)
    assert (said["axes"], said["complete"]) == ("TCYX", True)
    assert "2 time points × 2 channels: 100 %" in captured.err.replace("\n", " ")
    found = io.read(out)
    assert (found.axes, found.shape) == ("TCYX", (2, 2, 40, 44))
    assert (found.voxel_size, found.unit) == ((0.5, 0.5), "µm")
    assert found.origin == (3.0, 4.0)
    assert found.metadata["channels"] == NAMES
    record = found.provenance[-1]
    assert record["series"]["points"][1] == {"time": 0, "channel": 1}
    means = [each["mean"] for each in record["intensities"]["channels"]]
    np.testing.assert_allclose(means, [0.8, 47], rtol=0.02)


def test_a_time_and_a_channel_can_still_be_chosen(scan, tmp_path):
    def restored(name: str, *chosen: str) -> Volume:
        out = tmp_path / f"{name}.ome.tif"
        assert run(["restore", str(scan), "--out", str(out), *FLAGS, *chosen]) == 0
        return io.read(out)

    both = restored("both", "--time", "1", "--channel", "0")
    assert both.axes == "YX"
    one_time = restored("time", "--time", "1")
    assert one_time.axes == "CYX"
    np.testing.assert_array_equal(one_time.data[0], both.data)
    assert restored("channel", "--channel", "1").axes == "TYX"


def test_what_is_not_there_cannot_be_chosen(scan, tmp_path, capsys):
    arguments = ["restore", str(scan), "--out", str(tmp_path / "out.tif"), *FLAGS]
    assert run([*arguments, "--time", "2"]) == 2
    assert "no time 2: choose 0 to 1" in capsys.readouterr().err
    flat = io.write(io.read(scan).select(time=0, channel=0), tmp_path / "flat.tif")
    assert run(["restore", str(flat), *arguments[2:], "--channel", "1"]) == 2
    assert "no channel axis" in capsys.readouterr().err


def test_axes_are_taken_from_the_command(tmp_path, rng):
    pages = rng.integers(0, 60000, (3, 40, 44)).astype(np.uint16)
    source = tmp_path / "pages.tif"
    tifffile.imwrite(source, pages, photometric="minisblack")
    out = tmp_path / "out.ome.tif"
    flags = [*FLAGS, "--axes", "TYX", "--output-dtype", "input"]
    assert run(["restore", str(source), "--out", str(out), *flags]) == 0
    found = io.read(out)
    assert (found.axes, found.dtype) == ("TYX", np.uint16)


def test_axes_in_another_order_are_sorted(tmp_path, rng):
    """The channel is the last axis of the file: no Z, and C follows Y and X."""
    source, out = tmp_path / "last.tif", tmp_path / "out.ome.tif"
    data = rng.random((40, 44, 2)).astype(np.float32)
    tifffile.imwrite(source, data, photometric="minisblack")
    flags = [*FLAGS, "--axes", "YXC"]
    assert run(["restore", str(source), "--out", str(out), *flags]) == 0
    found = io.read(out)
    assert (found.axes, found.shape) == ("CYX", (2, 40, 44))


def test_one_frame_stays_a_series(tmp_path, rng):
    source, out = tmp_path / "one.tif", tmp_path / "out.ome.tif"
    tifffile.imwrite(source, rng.random((1, 40, 44)).astype(np.float32))
    flags = [*FLAGS, "--axes", "TYX", "--check-consistency"]
    assert run(["restore", str(source), "--out", str(out), *flags]) == 0
    assert io.read(out).axes == "TYX"


@pytest.mark.parametrize("suffix", [".ome.tif", ".ome.zarr"])
def test_what_was_stopped_is_continued(scan, tmp_path, capsys, monkeypatch, suffix):
    whole, out = tmp_path / f"whole{suffix}", tmp_path / f"out{suffix}"
    assert run(["restore", str(scan), "--out", str(whole), *FLAGS]) == 0
    fill = restore_run.fill_tiles
    filled = []

    def stops(prepared, targets, first, kept, should_stop, *more):
        filled.append(prepared)
        stop = (lambda: True) if len(filled) > 2 else should_stop
        return fill(prepared, targets, first, kept, stop, *more)

    monkeypatch.setattr("napari_geosr.operations.restore.series.run.fill_tiles", stops)
    assert run(["restore", str(scan), "--out", str(out), *FLAGS]) == 130
    assert "--continue" in capsys.readouterr().out
    left = io.read(tmp_path / f"out.incomplete{suffix}")
    assert left.metadata["channels"] == NAMES
    points = np.isfinite(np.asarray(left.data)).all(axis=(2, 3))
    assert points.tolist() == [[True, True], [False, False]]
    filled[:] = []
    monkeypatch.setattr(
        "napari_geosr.operations.restore.series.run.fill_tiles",
        lambda *a: (filled.append(a), fill(*a))[1],
    )
    assert run(["restore", str(scan), "--out", str(out), *FLAGS, "--continue"]) == 0
    assert len(filled) == 2
    np.testing.assert_array_equal(
        np.asarray(io.read(out).data), np.asarray(io.read(whole).data)
    )
    assert not (tmp_path / f"out.incomplete{suffix}").exists()


def test_a_check_wants_one_point_before_anything_runs(scan, tmp_path, capsys):
    out = tmp_path / "out.ome.tif"
    arguments = ["restore", str(scan), "--out", str(out), *FLAGS, "--check-consistency"]
    assert run(arguments) == 2
    said = capsys.readouterr().err.replace("\n", " ")
    assert "2 time points × 2 channels" in said
    assert "--time and --channel" in said
    assert not out.exists()


def test_a_mean_wants_one_point_of_each(scan, tmp_path, capsys):
    arguments = ["restore", str(scan), str(scan), "--average", *FLAGS]
    assert run([*arguments, "--out", str(tmp_path / "out.ome.tif")]) == 2
    assert "Choose one of them, 0 to 1 (--time)" in capsys.readouterr().err


def test_three_channels_of_a_real_file(shared_data, tmp_path):
    source = shared_data / "microscopy" / "hela-cells.tif"
    if not source.exists():
        pytest.skip(f"real data not found: {source} does not exist")
    small = tmp_path / "small.ome.tif"
    volume = io.read(source)
    io.write(volume.replace(data=volume.data[:, :64, :64]), small)
    out = tmp_path / "out.ome.tif"
    assert run(["restore", str(small), "--out", str(out), *FLAGS]) == 0
    found = io.read(out)
    assert (found.axes, found.shape, found.unit) == ("CYX", (3, 64, 64), "µm")


def test_a_real_time_series(shared_data, tmp_path):
    source = shared_data / "microscopy" / "cancer_cell_migration_crop.tif"
    if not source.exists():
        pytest.skip(f"real data not found: {source} does not exist")
    out = tmp_path / "out.ome.zarr"
    flags = [*FLAGS[2:], "--model", "fluo-denoise", "--axes", "TYX"]
    assert run(["restore", str(source), "--out", str(out), *flags]) == 0
    found = io.read(out)
    assert (found.axes, found.shape) == ("TYX", (48, 130, 130))
    assert np.isfinite(np.asarray(found.data)).all()
