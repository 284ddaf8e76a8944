"""Restore and measure real CT volumes by the command line, and write the page about it.

Usage: ``python scripts/real_volumes.py --data FOLDER``, where FOLDER holds
``cement_128x128x128.tif`` and ``bone_128x128x128.tif`` of the qim3d project (MIT).
Writes ``docs/real_volumes.md`` and its pictures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from napari_geosr import io
from napari_geosr.core.volume import Volume
from napari_geosr.operations.demo import overview

DOCS = Path(__file__).resolve().parents[1] / "docs"
CASES = {
    "cement": ("Cement paste", "cement_128x128x128.tif", "unknown"),
    "bone": ("Trabecular bone", "bone_128x128x128.tif", "1.95, without a unit"),
}
MODELS = ("foam-denoise", "foam-sr-x2")
ROWS = {
    "porosity": ("porosity", lambda v: f"{100 * v:.2f} %"),
    "pore_count": ("pores", lambda v: f"{v}"),
    "closed_porosity": ("closed porosity", lambda v: f"{100 * v:.3f} %"),
    "euler_number": ("Euler number", lambda v: f"{v}"),
    "threshold": ("threshold (Otsu)", lambda v: f"{v:.1f}"),
}
HEAD = """# Real volumes

Made by `scripts/real_volumes.py`, which runs `napari-geosr restore` and
`napari-geosr measure` on two real X-ray CT volumes of 128³ voxels and writes this page.
Data: qim3d project (qim-center/qim3d, MIT licence), *not* part of this project. There
is no clean twin of these scans, so the figures say what changed, not what is right;
the models were trained on simulated porous volumes.
"""


class _Measured(dict[str, Any]):
    """The JSON of a measurement, with what `overview` needs."""

    porosity = property(lambda self: self["porosity"])
    threshold = property(lambda self: self["threshold"])


def call(*arguments: object) -> dict[str, Any]:
    """Run the command line and return its JSON."""
    command = [sys.executable, "-m", "napari_geosr", *map(str, arguments), "--json"]
    out = subprocess.run(command, capture_output=True, text=True, check=False)
    if out.returncode:
        raise SystemExit(out.stderr)
    return json.loads(out.stdout)


def study(name: str, path: Path, pictures: Path) -> str:
    """Restore and measure one volume with every model; return its part of the page."""
    title, _, voxel = CASES[name]
    parts = [f"\n## {title}\n", f"`{path.name}`, voxel size in the file: {voxel}.\n"]
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        volumes: dict[str, Volume] = {"original": io.read(path)}
        figures = {"original": call("measure", path, "--out", work / "m0")}
        verdicts = []
        for model in MODELS:
            out = work / f"{name}-{model}.ome.tif"
            run = call("restore", path, "--model", model, "--out", out)
            reasons = "; ".join(run["warnings"]) or "like the training data"
            verdicts.append(f"- `{model}`: **{run['likeness']}** – {reasons}")
            # The same physical smallest pore: 8 voxels before are 64 after ×2.
            smallest = 8 * (out_size(out) // out_size(path))
            figures[model] = call(
                "measure", out, "--out", work / model, "--min-voxels", smallest
            )
            volumes[model] = io.read(out)
        reports = {key: _Measured(value) for key, value in figures.items()}
        picture = pictures / f"real_{name}.png"
        picture.write_bytes(overview(volumes, reports))
    parts += ["Out-of-distribution verdict:\n", *verdicts, ""]
    parts.append(f"![{title}: before and after](images/{picture.name})\n")
    parts.append("| | " + " | ".join(figures) + " |")
    parts.append("|---" * (len(figures) + 1) + "|")
    for key, (label, text) in ROWS.items():
        cells = [text(values[key]) for values in figures.values()]
        parts.append(f"| {label} | " + " | ".join(cells) + " |")
    return "\n".join(parts) + "\n"


def out_size(path: Path) -> int:
    """Number of voxels in a file."""
    size = 1
    for n in io.read(path).shape:
        size *= n
    return size


def main() -> None:
    """Write the page and its pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    data = parser.parse_args().data
    pictures = DOCS / "images"
    pictures.mkdir(exist_ok=True)
    page = HEAD
    for name, (_, file, _) in CASES.items():
        page += study(name, data / file, pictures)
    (DOCS / "real_volumes.md").write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
