"""Make the pictures of the tutorials from the files that their commands write.

Usage: ``python scripts/tutorial_pictures.py --work FOLDER [NAME…]``, where FOLDER is
where the commands of ``docs/tutorials`` were run. ``python scripts/run_tutorials.py
--work FOLDER`` runs them. Without names all pictures are made.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from rich.console import Console
from rich.text import Text

import napari_geosr as geosr

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
INK, PAPER = "#f2f2f2", "#16181d"


def middle(path: Path) -> Any:
    """The middle slice of a volume."""
    volume = geosr.read(path)
    return np.asarray(volume[volume.shape[0] // 2])


def slices(
    path: Path,
    panels: dict[str, Any],
    *,
    limits: tuple[float, float] | None = None,
    maps: dict[str, str] | None = None,
) -> None:
    """Write slices side by side with their titles, on one grey scale where given."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        1, len(panels), figsize=(4 * len(panels), 4.4), layout="constrained"
    )
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
    figure.savefig(path, dpi=80, pil_kwargs={"quality": 80})
    pyplot.close(figure)


def terminal(path: Path, command: str, output: str, width: int = 88) -> None:
    """Write a command and what it printed as a picture of a terminal."""
    console = Console(record=True, width=width, file=io.StringIO())
    console.print(Text.assemble(("$ ", "bold green"), (command, "bold")))
    console.print(Text(output.rstrip()))
    path.parent.mkdir(parents=True, exist_ok=True)
    console.save_svg(str(path), title="napari-geosr")


def trust(work: Path) -> None:
    """A scan, its restoration, the deviation of each voxel and the residual."""
    limits = (0.0, 1.0)
    panels = {
        "scan": middle(work / "demo" / "scan.ome.tif"),
        "restored": middle(work / "trusted.ome.tif"),
        "deviation": middle(work / "trusted_std.ome.tif"),
    }
    slices(IMAGES / "trust.webp", panels, limits=limits, maps={"deviation": "magma"})


def command_line(work: Path) -> None:
    """The table that ``measure`` prints."""
    words = "napari-geosr measure restored.ome.tif --reference demo/scan.ome.tif"
    terminal(IMAGES / "command_line.svg", f"{words} --out report", said(work, words))


def said(work: Path, command: str) -> str:
    """What a command printed when the tutorials were run."""
    log = (work / "log.txt").read_text(encoding="utf-8")
    for part in f"\n{log}".split("\n$ ")[1:]:
        first, _, rest = part.partition("\n")
        if first.startswith(command):
            return rest
    raise SystemExit(f"{work}/log.txt lacks {command}: run scripts/run_tutorials.py")


PICTURES: dict[str, Callable[[Path], None]] = {
    "trust": trust,
    "command_line": command_line,
}


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("names", nargs="*", choices=[[], *PICTURES])
    choice = parser.parse_args()
    for name in choice.names or PICTURES:
        PICTURES[name](choice.work)
        print(name)


if __name__ == "__main__":
    main()
