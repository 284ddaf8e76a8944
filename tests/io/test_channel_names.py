"""Channel names are preserved in every format, and read from third-party files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from napari_geosr import io
from napari_geosr.core.volume import Volume

NAMES = ("DAPI", "β-tubulin")


def named(names: tuple[str, ...] = NAMES, axes: str = "CYX") -> Volume:
    shape = tuple({"T": 3, "C": 2, "Z": 4, "Y": 20, "X": 24}[a] for a in axes)
    data = np.random.default_rng(0).random(shape, np.float32)
    return Volume(data, axes, metadata={"channels": names})


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
@pytest.mark.parametrize("axes", ["CYX", "TCZYX"])
def test_names_survive(tmp_path: Path, suffix: str, axes: str) -> None:
    path = io.write(named(axes=axes), tmp_path / f"a{suffix}")
    assert io.read(path).metadata["channels"] == NAMES


@pytest.mark.parametrize("suffix", [".tif", ".ome.tif", ".ome.zarr"])
def test_names_of_another_image_are_not_written(tmp_path: Path, suffix: str) -> None:
    path = io.write(named(("one", "two", "three")), tmp_path / f"a{suffix}")
    assert "channels" not in io.read(path).metadata
    flat = named().take(channel=0)
    path = io.write(flat, tmp_path / f"b{suffix}")
    assert "channels" not in io.read(path).metadata


def test_other_programs_find_them(tmp_path: Path) -> None:
    import zarr

    tif = io.write(named(), tmp_path / "a.ome.tif")
    with tifffile.TiffFile(tif) as file:
        assert 'Name="DAPI"' in (file.ome_metadata or "")
    folder = io.write(named(), tmp_path / "a.ome.zarr")
    block = dict(zarr.open_group(folder, mode="r").attrs)["ome"]["omero"]
    assert [channel["label"] for channel in block["channels"]] == list(NAMES)
    data = named().data
    for c, channel in enumerate(block["channels"]):
        assert channel["window"]["start"] == pytest.approx(float(data[c].min()))
        assert channel["window"]["end"] == pytest.approx(float(data[c].max()))
        assert len(channel["color"]) == 6


def test_the_block_passes_the_schema_of_others(tmp_path: Path) -> None:
    models = pytest.importorskip(
        "ome_zarr_models.v05", reason="pip install ome-zarr-models, as tox does"
    )
    import zarr

    folder = io.write(named(axes="TCZYX"), tmp_path / "a.ome.zarr")
    models.Image.from_zarr(zarr.open_group(folder, mode="r"))


def test_names_are_read_from_ome(tmp_path: Path) -> None:
    path = tmp_path / "theirs.ome.tif"
    tifffile.imwrite(
        path,
        np.zeros((2, 20, 24), np.uint16),
        metadata={"axes": "CYX", "Channel": {"Name": list(NAMES)}},
    )
    assert io.read(path).metadata["channels"] == NAMES
