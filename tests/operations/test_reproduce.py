"""Copy as command / Python: the texts can be run, and give the same numbers."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from napari_geosr import io, restore
from napari_geosr.core.volume import Volume
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.restore.reproduce import (
    as_command,
    as_python,
    default_output,
)


@pytest.fixture
def saved(tmp_path, rng) -> Volume:
    data = rng.normal(100, 10, (5, 40, 44)).astype(np.float32)
    data[:, 10:20, 10:20] -= 60
    volume = Volume(data, "ZYX", (2.0, 0.5, 0.5), "µm", (1.0, 2.0, 3.0), name="a scan")
    path = io.write(volume, tmp_path / "it's a scan.tif")
    return io.read(path)


CONFIG = RestoreConfig(device="cpu", memory="500MB", output_dtype="input")


def test_a_command_names_what_differs_from_the_defaults(saved):
    words = shlex.split(as_command(saved, CONFIG, time=3))
    assert words[:3] == ["napari-geosr", "restore", str(saved.source)]
    options = dict(zip(words[3::2], words[4::2], strict=True))
    assert options == {
        "--model": "ct-denoise",
        "--out": str(default_output(saved, CONFIG)),
        "--device": "cpu",
        "--memory": "500MB",
        "--output-dtype": "input",
        "--time": "3",
        "--voxel-size": "2.0,0.5,0.5",
        "--unit": "µm",
    }


def test_the_command_does_the_same_run(saved, tmp_path):
    out = tmp_path / "from the shell.tif"
    words = shlex.split(as_command(saved, CONFIG, out=out))
    subprocess.run(
        [sys.executable, "-m", "napari_geosr.cli.app", *words[1:]]
        if not _script().is_file()
        else [str(_script()), *words[1:]],
        check=True,
    )
    here = restore(saved, device="cpu", memory="500MB", output_dtype="input")
    there = io.read(out)
    np.testing.assert_allclose(there.data[:], here.data[:], atol=1e-5)
    assert there.voxel_size == pytest.approx(here.voxel_size)
    assert there.origin == pytest.approx(here.origin)


def _script() -> Path:
    return Path(sys.executable).with_name("napari-geosr")


def test_the_script_does_the_same_run(saved, tmp_path):
    out = tmp_path / "from python.tif"
    exec(compile(as_python(saved, CONFIG, out=out), "script", "exec"), {})
    here = restore(saved, device="cpu", memory="500MB", output_dtype="input")
    np.testing.assert_allclose(io.read(out).data[:], here.data[:], atol=1e-5)


def test_what_is_in_no_file_must_be_saved_first(saved):
    unsaved = saved.replace(source=None)
    for text in (as_command(unsaved, CONFIG), as_python(unsaved, CONFIG)):
        first, rest = text.split("\n", 1)
        assert first.startswith("# 'it's a scan'") or first.startswith('# "it')
        assert "Save it first" in first
        assert "INPUT.ome.tif" in rest


def test_pixels_are_no_voxel_size(saved):
    plain = saved.replace(unit="pixel", voxel_size=(1.0, 1.0, 1.0))
    assert "--voxel-size" not in as_command(plain, CONFIG)
    assert "voxel_size=" not in as_python(plain, CONFIG)
    chosen = as_python(plain, CONFIG, time=1, channel=2)
    assert "volume.select(time=1, channel=2)" in chosen


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("a.tif", "a.ct-denoise.ome.tif"),
        ("a.ome.tif", "a.ct-denoise.ome.tif"),
        ("a.nii.gz", "a.ct-denoise.ome.tif"),
        ("slices", "slices.ct-denoise.ome.tif"),
    ],
)
def test_outputs_lie_beside_their_input(saved, name, output):
    volume = saved.replace(source=Path("some") / name)
    assert default_output(volume, RestoreConfig()) == Path("some") / output


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("scan.hdf5", "scan"),
        ("cells.lsm", "cells"),
        ("big.btf", "big"),
        ("a.b.ome.zarr", "a.b"),
        ("head.nii.gz", "head"),
        ("picture.png", "picture"),
    ],
)
def test_results_are_named_after_the_input_whatever_its_format(name, stem, tmp_path):
    volume = Volume(np.zeros((2, 4, 4)), "ZYX").replace(source=tmp_path / name)
    assert default_output(volume, CONFIG) == tmp_path / f"{stem}.ct-denoise.ome.tif"
