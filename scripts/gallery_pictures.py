"""Make the pictures of the gallery from real scans.

Usage: ``python scripts/gallery_pictures.py --data FOLDER``, where FOLDER contains
the files named in ``SCANS`` as published by their projects; sources and licences are in
``docs/gallery.md``. The scans are not part of this project.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

import napari_geosr as geosr
from tutorial_pictures import IMAGES, slices

#: File of each scan, and the noise added to it relative to its contrast.
SCANS = {
    "cement": ("ct_volumes/cement_128x128x128.tif", 0.0),
    "bone": ("ct_volumes/bone_128x128x128.tif", 0.0),
    "bone_noisy": ("ct_volumes/bone_128x128x128.tif", 0.2),
}


def read(path: Path, noise: float) -> geosr.Volume:
    """Return the middle of a scan, with added noise if requested."""
    volume = geosr.read(path)
    depth = volume.shape[0]
    planes = slice(max(depth // 2 - 12, 0), depth // 2 + 12)
    data = np.asarray(volume[planes]).astype("f4")
    contrast = float(np.subtract(*np.quantile(data, [0.98, 0.02])))
    data += np.random.default_rng(0).normal(0, noise * contrast + 1e-9, data.shape)
    return geosr.Volume.from_array(data.astype("f4"))


def draw(name: str, path: Path, noise: float) -> str:
    """Write the picture of one scan, and return the chosen model."""
    scan = read(path, noise)
    restored = geosr.restore(scan, "auto")
    middle = scan.shape[0] // 2
    before, after = (np.asarray(v)[middle] for v in (scan, restored))
    removed = before - after
    half = max(4 * float(np.std(removed)), 1e-3)
    limits = tuple(np.quantile(after, [0.002, 0.998]))
    panels: dict[str, Any] = {"scan": before, "restored": after}
    span = limits[1] - limits[0]
    panels["removed"] = (removed + half) / (2 * half) * span + limits[0]
    slices(IMAGES / f"gallery_{name}.webp", panels, limits=limits)
    return restored.name


def main() -> None:
    """Write the requested pictures, or all, and print the chosen models."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    choice = parser.parse_args()
    for name in choice.names or SCANS:
        file, noise = SCANS[name]
        print(name, draw(name, choice.data / file, noise), flush=True)


if __name__ == "__main__":
    main()
