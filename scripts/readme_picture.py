"""Make the wide picture at the top of the README from two real scans.

Usage: ``python scripts/readme_picture.py --data FOLDER [--out FILE]``, where FOLDER
contains ``projections/tooth.h5`` (tomoPy project, BSD-style licence) and
``ct_volumes/cement_128x128x128.tif`` (qim3d, MIT). The scans are not part of this
project.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

import napari_geosr as geosr

PICTURE = Path(__file__).resolve().parents[1] / "docs" / "images" / "real_data.webp"
#: Slice and region of the cement paste; every n-th projection of the tooth is used.
PLANE, WINDOW, EVERY = 64, (slice(20, 112), slice(20, 112)), 6
#: Column of the rotation axis, as determined by the tomoPy project.
AXIS = 295.5
INK, PAPER = "#f2f2f2", "#16181d"


def tooth(path: Path) -> tuple[Any, Any, int]:
    """Reconstruct a slice from few projections by FBP and by total variation."""
    settings: dict[str, Any] = {"every": EVERY, "rows": (0, 1), "size": 400}
    fast = geosr.reconstruct(path, algorithm="fbp", centre=AXIS, **settings)
    slow = geosr.reconstruct(path, algorithm="tv", centre=AXIS, **settings)
    return np.asarray(fast)[0], np.asarray(slow)[0], -(-181 // EVERY)


def split(
    axis: Any, before: Any, after: Any, names: tuple[str, str], brighter: float = 1
) -> None:
    """Combine the left half of one picture with the right half of another."""
    middle = before.shape[1] // 2
    both = np.concatenate([before[:, :middle], after[:, middle:]], axis=1)
    low, high = np.quantile(after, [0.002, 0.998]) * np.array([1, brighter])
    axis.imshow(both, cmap="gray", vmin=low, vmax=high, interpolation="bilinear")
    axis.axvline(middle - 0.5, color="#ffb000", linewidth=2)
    for name, x, side in ((names[0], 0.03, "left"), (names[1], 0.97, "right")):
        axis.text(
            x,
            0.03,
            name,
            color=INK,
            fontsize=11,
            ha=side,
            transform=axis.transAxes,
            bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 3},
        )


def pores(axis: Any, plane: Any, labels: Any, volumes: dict[int, float]) -> None:
    """Draw the pores of a slice on top of it, coloured by volume."""
    sizes = np.zeros(plane.shape)
    for label in np.unique(labels[labels > 0]):
        sizes[labels == label] = np.log10(volumes.get(int(label), 1.0))
    axis.imshow(plane, cmap="gray", interpolation="bilinear")
    shown = np.ma.masked_where(labels == 0, sizes)
    axis.imshow(shown, cmap="plasma", vmin=1, vmax=4.5, interpolation="nearest")


def draw(data: Path, path: Path) -> None:
    """Write the picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    fast, slow, count = tooth(data / "projections" / "tooth.h5")
    scan = geosr.read(data / "ct_volumes" / "cement_128x128x128.tif")
    restored = geosr.restore(scan, "ct-denoise")
    report = geosr.measure_porosity(restored)
    table = report.to_dataframe()
    volumes = dict(zip(table["label"], table["voxels"], strict=True))
    figure, axes = pyplot.subplots(1, 4, figsize=(16, 4.35), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.1)
    figure.set_facecolor(PAPER)
    split(axes[0], fast, slow, ("back-projection", "total variation"), 1.4)
    before, after = (np.asarray(v)[PLANE][WINDOW] for v in (scan, restored))
    split(axes[1], before, after, ("scan", "ct-denoise"))
    pores(axes[2], after, np.asarray(report.labels)[PLANE][WINDOW], volumes)
    removed = before.astype("f4") - after
    limit = 4 * float(np.std(removed))
    axes[3].imshow(removed, cmap="gray", vmin=-limit, vmax=limit)
    titles = (
        f"Reconstruct: a tooth from {count} projections",
        "Restore: cement paste, as measured",
        "Measure: pores by volume",
        "Check: what was removed is noise",
    )
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, color=INK, fontsize=14)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, pil_kwargs={"quality": 80})
    pyplot.close(figure)
    print(f"{path}: {path.stat().st_size / 1000:.0f} kB")


def main() -> None:
    """Write the picture to the given file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=PICTURE)
    choice = parser.parse_args()
    draw(choice.data, choice.out)


if __name__ == "__main__":
    main()
