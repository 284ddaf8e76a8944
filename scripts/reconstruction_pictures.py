"""Make the picture of a real scan for the documentation.

Usage: ``python scripts/reconstruction_pictures.py --data FOLDER [--out FOLDER]``, where
FOLDER contains ``tooth.h5`` of the tomoPy project. Writes ``reconstruct_tooth.png``:
the curve from which the rotation axis is determined, and a slice with the correct and
with a shifted axis.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np

from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import CentreFound, run_to_end
from napari_geosr.operations.reconstruct import (
    ReconstructConfig,
    open_projections,
    prepare_steps,
    reconstruct_slice,
)

DOCS = Path(__file__).resolve().parents[1] / "docs" / "images"
#: Column of the axis according to tomoPy, and shift of the axis in the second slice.
KNOWN, OFF = 295.5, 4.0
ROW, EDGE = 0, 400


def found_centre(scan: Projections, config: ReconstructConfig) -> Any:
    """Return the position of the rotation axis, determined as usual, with its curve."""
    centres: list[Any] = []

    def keep(step: Any) -> None:
        if isinstance(step, CentreFound):
            centres.append(step.centre)

    run_to_end(prepare_steps(scan, config), keep)
    return centres[0]


def draw(scan: Projections, path: Path) -> None:
    """Write the picture."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    config = ReconstructConfig(size=EDGE)
    centre = found_centre(scan, config)
    figure, axes = pyplot.subplots(1, 3, figsize=(12, 4.2), layout="constrained")
    axes[0].plot(centre.columns, centre.scores, color="0.25", linewidth=1)
    axes[0].axvline(centre.column, color="tab:red", label=f"found: {centre.column:.2f}")
    axes[0].axvline(
        KNOWN, color="tab:blue", linestyle="--", label=f"known: {KNOWN:.1f}"
    )
    axes[0].set(
        xlabel="column of the rotation axis",
        ylabel="energy that should not be there",
        title="Rotation axis",
    )
    axes[0].legend(frameon=False)
    right = np.asarray(reconstruct_slice(scan, ROW, config, centre.column).data)[0]
    wrong = np.asarray(reconstruct_slice(scan, ROW, config, centre.column + OFF).data)[
        0
    ]
    low, high = np.quantile(right, [0.005, 0.998])
    for axis, values, column in (
        (axes[1], right, centre.column),
        (axes[2], wrong, centre.column + OFF),
    ):
        axis.imshow(values, cmap="gray", vmin=low, vmax=high)
        axis.set(title=f"axis at column {column:.2f}", xticks=[], yticks=[])
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    pyplot.close(figure)
    print(f"axis at {centre.column:.3f}, known {KNOWN}: {path}")


def main() -> None:
    """Read the scan, and write the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=DOCS)
    given = parser.parse_args()
    scan = open_projections(given.data / "tooth.h5")
    draw(scan, given.out / "reconstruct_tooth.png")


if __name__ == "__main__":
    main()
