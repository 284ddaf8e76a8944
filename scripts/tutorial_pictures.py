"""Make the pictures of the tutorials from the files that their commands write.

Usage: ``python scripts/tutorial_pictures.py --work FOLDER [NAME…]``, where FOLDER is
the folder in which ``python scripts/run_tutorials.py --work FOLDER`` has run the
commands of ``docs/tutorials``. Without names, all pictures are made.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import matplotlib
import numpy as np
from rich.console import Console
from rich.text import Text

import napari_geosr as geosr

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
INK, PAPER = "#f2f2f2", "#16181d"


def middle(path: Path) -> Any:
    """Return the middle slice of a volume."""
    volume = geosr.read(path)
    return np.asarray(volume[volume.shape[0] // 2])


def slices(
    path: Path,
    panels: dict[str, Any],
    *,
    limits: tuple[float, float] | None = None,
    maps: dict[str, str] | None = None,
) -> None:
    """Write slices side by side with their titles, on a common grey scale if given."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 4.4), layout="constrained"
    )
    figure.get_layout_engine().set(h_pad=0.1)
    figure.set_facecolor(PAPER)
    for axis, (title, values) in zip(np.atleast_1d(axes), panels.items(), strict=True):
        color = (maps or {}).get(title, "gray")
        low, high = limits or tuple(np.quantile(values, [0.005, 0.995]))
        if color != "gray":
            low, high = 0, float(np.quantile(values, 0.995))
        axis.imshow(values, cmap=color, vmin=low, vmax=high)
        axis.set(xticks=[], yticks=[])
        axis.set_title(title, color=INK, fontsize=13)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(
        path,
        dpi=80,
        bbox_inches="tight",  # crops the empty margin below
        pad_inches=0.05,
        pil_kwargs={"quality": 80},
    )
    pyplot.close(figure)


def terminal(path: Path, command: str, output: str, width: int = 88) -> None:
    """Write a command and its output as a picture of a terminal."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text(output.rstrip()))
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="napari-geosr")


def trust(work: Path) -> None:
    """A scan, its restoration, the deviation of each voxel and the residual."""
    folder = work / "trust_it"
    panels = {
        "scan": middle(folder / "demo" / "scan.ome.tif"),
        "restored": middle(folder / "restored.ome.tif"),
        "deviation": middle(folder / "restored_std.ome.tif"),
    }
    slices(IMAGES / "trust.webp", panels, limits=(0, 1), maps={"deviation": "magma"})
    residual = middle(folder / "restored_residual.ome.tif")
    slices(IMAGES / "tutorial_trust_residual.webp", {"residual": residual})
    table(folder, "tutorial_trust_measured", "napari-geosr measure restored.ome.tif")


def foam(work: Path) -> None:
    """The first tutorial: scan, ranking, result and tables."""
    folder = work / "denoise_and_measure"
    scan = middle(folder / "demo" / "scan.ome.tif")
    clean = middle(folder / "demo" / "truth.ome.tif")
    restored = middle(folder / "restored.ome.tif")
    pair = {"noisy scan": scan, "ground truth": clean}
    slices(IMAGES / "tutorial_foam_scan.webp", pair, limits=(0, 1))
    three = {"scan": scan, "restored": restored, "ground truth": clean}
    slices(IMAGES / "tutorial_foam_restored.webp", three, limits=(0, 1))
    measure = "napari-geosr measure restored.ome.tif --reference demo/"
    table(folder, "tutorial_foam_rank", "napari-geosr models rank")
    table(folder, "command_line", f"{measure}scan")
    table(folder, "tutorial_foam_truth", f"{measure}truth")


def training(work: Path) -> None:
    """The second tutorial: two scans, and the restoration of one."""
    folder = work / "train_on_two_scans"
    one, two = (middle(folder / f"scan{n}.ome.tif") for n in (1, 2))
    pair = {"first scan": one, "second scan": two}
    slices(IMAGES / "tutorial_train_scans.webp", pair, limits=(0, 1))
    three = {
        "scan": one,
        "your model": middle(folder / "restored.ome.tif"),
        "ground truth": middle(folder / "demo" / "truth.ome.tif"),
    }
    slices(IMAGES / "tutorial_train_restored.webp", three, limits=(0, 1))
    table(folder, "tutorial_train_measured", "napari-geosr measure")


def projections(work: Path) -> None:
    """The third tutorial: projections, reconstructions and the study."""
    folder = work / "projections_to_pores"
    with h5py.File(folder / "foam" / "projections.h5") as file:
        counts = np.asarray(file["exchange/data"])
    scan = {
        "one projection": counts[0],
        "one sinogram": counts[:, counts.shape[1] // 2],
    }
    slices(IMAGES / "tutorial_projections_scan.webp", scan)
    three = {
        "120 projections": middle(folder / "all.ome.tif"),
        "30 projections": middle(folder / "few.ome.tif"),
        "30 projections, SIRT": middle(folder / "few_sirt.ome.tif"),
    }
    limits = tuple(np.quantile(three["120 projections"], [0.005, 0.995]))
    slices(IMAGES / "tutorial_projections_few.webp", three, limits=limits)
    table(folder, "tutorial_projections_measured", "napari-geosr measure")
    table(folder, "tutorial_projections_study", "napari-geosr study")


def resolution(work: Path) -> None:
    """The fourth tutorial: coarse scan, fine spot, and the super-resolved result."""
    folder = work / "super_resolve"
    scans = {
        "coarse scan, 8 µm": middle(folder / "coarse.ome.tif"),
        "fine spot, 4 µm": middle(folder / "spot.ome.tif"),
    }
    slices(IMAGES / "tutorial_sr_scans.webp", scans, limits=(0, 1))
    three = {
        "cubic interpolation": middle(folder / "cubic.ome.tif"),
        "your model": middle(folder / "sr.ome.tif"),
        "ground truth": middle(folder / "fine.ome.tif"),
    }
    slices(IMAGES / "tutorial_sr_restored.webp", three, limits=(0, 1))
    table(folder, "tutorial_sr_measured", "napari-geosr measure sr")


def table(folder: Path, name: str, command: str) -> None:
    """Draw a command of a tutorial and its output as a picture of a terminal."""
    whole, output = said(folder, command)
    terminal(IMAGES / f"{name}.svg", whole, output)


def said(folder: Path, command: str) -> tuple[str, str]:
    """Return the full command that begins with the given text, and its output."""
    log = (folder / "log.txt").read_text(encoding="utf-8")
    for part in f"\n{log}".split("\n$ ")[1:]:
        first, _, rest = part.partition("\n")
        if first.startswith(command):
            return first, rest
    raise SystemExit(f"{folder}/log.txt lacks {command}: run scripts/run_tutorials.py")


PICTURES: dict[str, Callable[[Path], None]] = {
    "trust": trust,
    "foam": foam,
    "training": training,
    "projections": projections,
    "resolution": resolution,
}


def main() -> None:
    """Make the requested pictures, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*")
    choice = parser.parse_args()
    for name in choice.names or PICTURES:
        PICTURES[name](choice.work)
        print(name)


if __name__ == "__main__":
    main()
