"""HDF5 files of every kind: types, filters, links, fill values, NeXus terms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
from hypothesis import strategies as st
from variants import DTYPES, EDGES, UNITS, Expected, voxels


@st.composite
def hdf5_files(draw: st.DrawFn, folder: Path) -> tuple[Path, Expected]:
    """Write an HDF5 file of any kind, and return the expected result of reading it."""
    path = folder / "made.h5"
    axes = draw(st.sampled_from(["YX", "ZYX", "ZYX", "TZYX", "TCZYX"]))
    shape = tuple(draw(st.integers(2, 9 if a in "YX" else 4)) for a in axes)
    dtype = np.dtype(draw(st.sampled_from([*DTYPES, "u8", "i8", "f2", "?"])))
    if dtype.kind != "b" and draw(st.booleans()):
        dtype = dtype.newbyteorder(">")
    array = voxels(draw, shape, dtype.str)
    name = draw(st.sampled_from(["data", "entry/data/data", "a/b/c/d/volume"]))
    options = _options(draw, shape)
    with h5py.File(
        path, "w", libver=draw(st.sampled_from(["earliest", "latest"]))
    ) as file:
        item = file.create_dataset(name, shape=shape, dtype=dtype, **options)
        part = draw(st.integers(0, shape[0]))
        item[:part] = array[:part]
        array[part:] = options.get("fillvalue", 0)  # chunks that were never written
        expected = _described(draw, item, axes)
        _more_links(draw, file, name)
    return path, Expected(array, axes, *expected)


def _options(draw: st.DrawFn, shape: tuple[int, ...]) -> dict[str, Any]:
    options: dict[str, Any] = {"fillvalue": draw(st.sampled_from([0, 1]))}
    if draw(st.booleans()):
        options["chunks"] = tuple(draw(st.integers(1, n)) for n in shape)
        options["compression"] = draw(st.sampled_from([None, "gzip", "lzf"]))
        options["shuffle"] = draw(st.booleans())
        options["fletcher32"] = draw(st.booleans())
        if draw(st.booleans()):
            options["maxshape"] = (None,) * len(shape)
    return options


def _described(
    draw: st.DrawFn, item: h5py.Dataset, axes: str
) -> tuple[dict[str, float], str, dict[str, float]]:
    """Store the geometry as Fiji or NeXus programs do, or not at all."""
    spatial = [a for a in axes if a in "ZYX"]
    how = draw(st.sampled_from(["nothing", "fiji", "nexus"]))
    if how == "nothing":
        return {}, "pixel", {}
    size = {a: draw(EDGES) for a in spatial}
    if how == "fiji":
        item.attrs["element_size_um"] = [size[a] for a in spatial]
        return size, "µm", {}
    spelling = draw(st.sampled_from(sorted(UNITS)))
    origin = {a: draw(st.sampled_from([-3.5, 0.0, 12.25])) for a in spatial}
    group = item.parent
    for letter, n in zip(axes, item.shape, strict=True):
        start, step = origin.get(letter, 0.0), size.get(letter, 1.0)
        group[f"{letter}_places"] = start + step * np.arange(n)
        group[f"{letter}_places"].attrs["units"] = spelling
    group.attrs["axes"] = [f"{a}_places" for a in axes]
    group.attrs["signal"] = item.name.rpartition("/")[2]
    return size, UNITS[spelling], origin


def _more_links(draw: st.DrawFn, file: h5py.File, name: str) -> None:
    """Links that lead to the same dataset, in circles, or nowhere."""
    if draw(st.booleans()):
        file["again"] = h5py.SoftLink(f"/{name}")
    if draw(st.booleans()):
        file["circle"] = h5py.SoftLink("/")
    if draw(st.booleans()):
        file["nowhere"] = h5py.SoftLink("/not/there")
    if draw(st.booleans()):
        file["elsewhere"] = h5py.ExternalLink("missing.h5", "/data")
    if draw(st.booleans()):
        file["angles"] = np.linspace(0, 180, 7)
        file["title"] = "a scan"
