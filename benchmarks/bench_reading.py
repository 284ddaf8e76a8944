"""Reading and writing volumes: target P10.

Plain reads: slabs, planes, tiles with a halo and slices in other directions from an
uncompressed TIFF, compared with `tifffile.memmap` (which ends the process if the file
shrinks). First slice: time for opening an uncompressed TIFF and reading its middle
slice, compared with `tifffile.imread` of the whole file. Tiles: tiles of 64 × 128 × 128
voxels with a halo of 16, compared with the same tiles without a halo, in Z-Y-X order,
from files with compressed blocks. Shards: number of shards of an OME-Zarr that are
written twice if the tiles do not fit its grid. All alternatives run in turn in one
process; the shortest CPU time of several runs is used.

    python benchmarks/bench_reading.py [--quick]
"""

from __future__ import annotations

import argparse
import itertools
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

TILE = (64, 128, 128)
HALO = 16
FIRST_SLICE_TARGET = 5.0
HALO_TARGET = 1.5
PLAIN_TARGET = 1.2
#: Shape of the plain reads; the planes are as large as those of scanners.
PLAIN_SHAPE = (24, 2048, 2048)


def best(functions: dict[str, Callable[[], Any]], n: int) -> dict[str, float]:
    """Best of `n` interleaved runs of each function, in seconds of CPU time."""
    seconds = dict.fromkeys(functions, float("inf"))
    for _ in range(n):
        for name, function in functions.items():
            start = time.process_time()
            function()
            seconds[name] = min(seconds[name], time.process_time() - start)
    return seconds


def tiles(shape: tuple[int, ...], halo: int) -> Iterator[tuple[slice, ...]]:
    """Yield tiles of size `TILE` with a halo, clipped at the border, in Z-Y-X order."""
    starts = [range(0, n, t) for n, t in zip(shape, TILE, strict=True)]
    for corner in itertools.product(*starts):
        yield tuple(
            slice(max(0, a - halo), min(n, a + t + halo))
            for a, t, n in zip(corner, TILE, shape, strict=True)
        )


class Counting:
    """A source that counts the decoded voxels."""

    def __init__(self, source: Any) -> None:
        self.source, self.shape, self.dtype = source, source.shape, source.dtype
        self.decoded = 0

    def __getitem__(self, key: tuple[slice, ...]) -> Any:
        block = self.source[key]
        self.decoded += block.size
        return block


def sweep(path: Path, halo: int) -> float:
    """Read every tile of a freshly opened volume; return decoded voxels per voxel."""
    from napari_geosr import io

    volume = io.read(path)
    counting = volume.data.source = Counting(volume.data.source)
    for key in tiles(volume.shape, halo):
        np.asarray(volume.data[key])
    return float(counting.decoded / np.prod(volume.shape))


def make_files(folder: Path, shape: tuple[int, ...]) -> dict[str, Path]:
    """Write the same noise in four formats."""
    import h5py
    import tifffile

    from napari_geosr import io
    from napari_geosr.core.volume import Volume

    rng = np.random.default_rng(0)
    voxels = (rng.normal(size=shape) * 300 + 3000).astype(np.uint16)
    volume = Volume(voxels, "ZYX", (1, 1, 1), "µm")
    files = {
        "TIFF, plain": io.write(volume, folder / "plain.tif"),
        "OME-Zarr": io.write(volume, folder / "volume.ome.zarr"),
        "TIFF, deflate": folder / "deflate.tif",
        "HDF5, gzip": folder / "volume.h5",
    }
    tifffile.imwrite(
        files["TIFF, deflate"],
        voxels,
        compression="zlib",
        photometric="minisblack",
        metadata=None,
    )
    with h5py.File(files["HDF5, gzip"], "w") as file:
        file.create_dataset("data", data=voxels, chunks=(8, 128, 128), compression=1)
    return files


def plain_reads(folder: Path, n: int) -> bool:
    """Compare each kind of read with that from a memory-mapped file.

    The target applies only to planes, as in a sweep or a viewer: a network takes
    seconds for a tile, and for columns the mapping copies less than the system reads.
    """
    import tifffile

    from napari_geosr import io
    from napari_geosr.core.volume import Volume

    z, y, x = PLAIN_SHAPE
    voxels = np.random.default_rng(0).integers(0, 999, PLAIN_SHAPE, np.uint16)
    path = io.write(Volume(voxels, "ZYX", (1, 1, 1), "µm"), folder / "planes.tif")
    del voxels
    whole = slice(None)
    kinds: dict[str, list[tuple[Any, ...]]] = {
        "slabs of 8 planes": [(slice(i, i + 8),) for i in range(0, z, 8)],
        "planes": [(i,) for i in range(z)],
        "tiles with a halo": list(tiles((z, y, x), HALO)),
        "slices along Y": [(whole, i) for i in range(0, y, 32)],
        "slices along X": [(whole, whole, i) for i in range(0, x, 128)],
    }
    fine = True
    for name, keys in kinds.items():

        def mapped(keys: list[tuple[Any, ...]] = keys) -> None:
            array = tifffile.memmap(path, mode="r")
            for key in keys:
                np.array(array[key])

        def ours(keys: list[tuple[Any, ...]] = keys) -> None:
            array = io.read(path).data
            for key in keys:
                np.asarray(array[key])

        seconds = best({"mapped": mapped, "ours": ours}, 2 * n)
        ratio = seconds["ours"] / seconds["mapped"]
        each = f"{1000 * seconds['ours'] / len(keys):.2f} ms each"
        target = ""
        if "plane" in name:
            fine &= ratio <= PLAIN_TARGET
            target = f" (target <= {PLAIN_TARGET:g} x)"
        print(f"plain reads, {name}: {ratio:.2f} x mapped, {each}{target}")
    return fine


def first_slice(path: Path, n: int) -> bool:
    import tifffile

    from napari_geosr import io

    def ours() -> None:
        volume = io.read(path)
        np.array(volume.data[volume.shape[0] // 2])

    seconds = best({"imread": lambda: tifffile.imread(path), "ours": ours}, n)
    ratio = seconds["imread"] / seconds["ours"]
    print(
        f"first slice: imread of the whole takes {ratio:.1f} x ours "
        f"(target >= {FIRST_SLICE_TARGET:g} x)"
    )
    return ratio >= FIRST_SLICE_TARGET


def halo_reads(files: dict[str, Path], n: int) -> bool:
    fine = True
    for name, path in files.items():
        if name == "TIFF, plain":  # nothing is decoded, so the halo only adds bytes
            continue
        cases = {
            "halo": lambda path=path: sweep(path, HALO),
            "aligned": lambda path=path: sweep(path, 0),
        }
        seconds = best(cases, n)
        ratio = seconds["halo"] / seconds["aligned"]
        fine &= ratio <= HALO_TARGET
        print(
            f"tiles with halo {HALO}, {name}: {ratio:.2f} x aligned "
            f"(target <= {HALO_TARGET:g} x); {sweep(path, HALO):.2f} voxels decoded "
            f"for each, aligned {sweep(path, 0):.2f}"
        )
    return fine


def shard_writes(folder: Path, shape: tuple[int, ...]) -> bool:
    from napari_geosr import io

    with io.create(
        folder / "tiles.ome.zarr",
        io.OutputSpec(
            shape=shape,
            dtype=np.uint16,
            axes="ZYX",
            voxel_size=(1, 1, 1),
            unit="µm",
            origin=(0, 0, 0),
            multiscale=False,
        ),
    ) as output:
        block = np.ones(TILE, np.uint16)
        for key in tiles(shape, 0):
            output.array[key] = block[tuple(slice(0, s.stop - s.start) for s in key)]
        output.array.flush()
        n_rewrites = output.array.n_rewrites
        print(
            f"shards of {output.block_shape} from tiles of {TILE}: "
            f"{n_rewrites} written twice (target 0)"
        )
    return bool(n_rewrites == 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    shape, n = ((160, 384, 384), 2) if quick else ((160, 768, 768), 3)
    print(f"{' x '.join(map(str, shape))} uint16, {np.prod(shape) * 2 / 1e6:.0f} MB")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        files = make_files(folder, shape)
        met = [
            plain_reads(folder, n),
            first_slice(files["TIFF, plain"], n + 2),
            halo_reads(files, n),
            shard_writes(folder, shape),
        ]
    return 0 if all(met) else 1


if __name__ == "__main__":
    sys.exit(main())
