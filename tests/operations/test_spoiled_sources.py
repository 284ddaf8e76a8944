"""Files truncated during a run: one sentence, and the finished part is kept."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.errors import FileError
from napari_geosr.core.steps import TileDone, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference.tiles import planner as tile_planner
from napari_geosr.operations.restore import RestoreConfig, prepare_steps, run_steps

SHAPE = (24, 64, 64)


@pytest.fixture(autouse=True)
def _small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Several tiles of files that are not read completely."""
    run_module = importlib.import_module("napari_geosr.operations.restore.run")
    original = run_module.restore_tiles
    monkeypatch.setattr(
        run_module,
        "restore_tiles",
        lambda *args, **kwargs: original(*args, **kwargs, tile=(4, 64, 64)),
    )
    for module in ("formats.tiff.reading", "arrangement"):
        monkeypatch.setattr(f"napari_geosr.io.{module}.EAGER_BYTES", 0)


@pytest.fixture
def voxels(rng: np.random.Generator) -> np.ndarray:
    return rng.normal(2000, 300, SHAPE).astype(np.uint16)


def make_tiff(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    tifffile.imwrite(path, voxels, imagej=True, metadata={"axes": "ZYX"})
    return lambda: os.truncate(path, path.stat().st_size // 2)


def make_deflated(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    tifffile.imwrite(path, voxels, photometric="minisblack", compression="zlib")
    return lambda: os.truncate(path, path.stat().st_size // 2)


def make_hdf5(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=voxels, chunks=(2, 64, 64))
    return lambda: os.truncate(path, path.stat().st_size // 2)


def make_zarr(path: Path, voxels: np.ndarray) -> Callable[[], None]:
    io.write(Volume(voxels, "ZYX", (1, 1, 1), "µm"), path)

    def spoil() -> None:
        for chunk in path.rglob("*"):
            if chunk.is_file() and chunk.suffix != ".json":
                os.truncate(chunk, chunk.stat().st_size // 2)

    return spoil


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("scan.tif", make_tiff),
        ("deflated.tif", make_deflated),
        ("scan.h5", make_hdf5),
        ("scan.ome.zarr", make_zarr),
    ],
)
def test_a_source_that_is_cut_short_is_named_and_what_is_done_stays(
    name: str,
    make: Callable[[Path, np.ndarray], Callable[[], None]],
    voxels: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # Every tile reads its part of the file, as for files larger than the memory.
    monkeypatch.setattr(tile_planner, "read_unit", lambda _source: None)
    path = tmp_path / name
    spoil = make(path, voxels)
    volume = io.read(path)
    if hasattr(volume.data, "cache_bytes"):
        volume.data.cache_bytes = 0
    prepared = run_to_end(prepare_steps(volume, RestoreConfig()))
    steps = run_steps(prepared, out=tmp_path / "out.tif")
    done = 0

    def on_step(step: object) -> None:
        nonlocal done
        if isinstance(step, TileDone):
            done += 1
            if done == 1:
                spoil()

    with pytest.raises(FileError) as caught:
        run_to_end(steps, on_step)
    sentence = str(caught.value)
    assert name in sentence
    assert "The finished part is kept as" in sentence
    kept = [p for p in tmp_path.iterdir() if "out" in p.name]
    assert kept
