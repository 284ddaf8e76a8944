"""Files of all kinds for `soak.py` to open; two of them are damaged."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def make_files(folder: Path) -> list[Path]:
    """Write the files; return their paths."""
    import h5py
    import tifffile

    from napari_geosr import io
    from napari_geosr.core.volume import Volume

    folder.mkdir()
    rng = np.random.default_rng(0)
    scan = np.full((16, 96, 96), 180, np.float32)
    scan[4:12, 20:50, 30:60] = 60
    scan += rng.normal(0, 10, scan.shape).astype(np.float32)
    volume = Volume(scan, "ZYX", (2.0, 0.5, 0.5), "µm")
    made = [
        io.write(volume, folder / f"scan{end}") for end in (".ome.tif", ".ome.zarr")
    ]
    counts = np.clip(scan, 0, 255).astype(np.uint16)
    for name, more in {"plain": {}, "packed": {"compression": "zlib"}}.items():
        path = folder / f"{name}.tif"
        tifffile.imwrite(path, counts, photometric="minisblack", **more)
        made.append(path)
    large = folder / "large.tif"  # large enough to be read lazily
    tifffile.imwrite(large, np.tile(counts, (5, 6, 4)), photometric="minisblack")
    path = folder / "scan.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=scan, chunks=(4, 32, 32))
    damaged = folder / "damaged.tif"
    damaged.write_bytes(made[2].read_bytes()[:5000])
    other = folder / "damaged.h5"
    other.write_bytes(path.read_bytes()[:3000])
    return [*made, large, path, damaged, other]
