"""Pores of a chunked array: compare `measure_porosity` with other libraries.

`measure_porosity` (with its full table), and `dask_image.ndmeasure.label` together with
`skimage.measure.regionprops_table`, measure the same zarr in turn. Prints the CPU
times of both (the first run of `measure_porosity` compiles its loops), and whether all
pores have the same numbers of voxels. Requires ``pip install dask-image``.

    python benchmarks/bench_labels.py [--edge 256] [--repeats 2]
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import zarr
from scipy import ndimage
from skimage.measure import regionprops_table

import napari_geosr as geosr

THRESHOLD = 120
CHUNK = 64
COLUMNS = ("label", "area", "bbox", "centroid", "euler_number", "inertia_tensor")


def write_scan(path: Path, edge: int) -> None:
    """Write a porous solid of two grey values."""
    rough = np.random.default_rng(0).normal(size=(edge,) * 3).astype(np.float32)
    solid = ndimage.gaussian_filter(rough, 2, mode="wrap") <= 0.06
    grey = np.where(solid, 200, 40).astype(np.uint8)
    stored = zarr.create_array(
        path, shape=grey.shape, chunks=(CHUNK,) * 3, dtype=grey.dtype
    )
    stored[:] = grey


def ours(path: Path) -> np.ndarray[Any, Any]:
    """Return the sizes of the pores in voxels."""
    report = geosr.measure_porosity(
        da.from_zarr(path), threshold=THRESHOLD, phase="dark"
    )
    return np.sort(report.table["voxels"])


def others(path: Path) -> np.ndarray[Any, Any]:
    """Return the sizes of the pores from dask-image, also with 26 neighbours."""
    from dask_image import ndmeasure

    mask = da.from_zarr(path) < THRESHOLD
    labels, _ = ndmeasure.label(mask, structure=np.ones((3, 3, 3), int))
    table = regionprops_table(np.asarray(labels), properties=COLUMNS)
    return np.sort(table["area"])


def main() -> None:
    """Print a line for each run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--edge", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=2)
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "scan.zarr"
        write_scan(path, options.edge)
        for _ in range(options.repeats):
            sizes, seconds = [], []
            for measure in (ours, others):
                began = time.process_time()
                sizes.append(measure(path))
                seconds.append(time.process_time() - began)
            mine, theirs = sizes
            counted = theirs[theirs >= mine.min()]  # specks have a separate count
            print(
                f"{len(mine)} pores: {seconds[0]:.1f} s and {seconds[1]:.1f} s; "
                f"equal sizes: {np.array_equal(mine, counted)}",
                flush=True,
            )


if __name__ == "__main__":
    main()
