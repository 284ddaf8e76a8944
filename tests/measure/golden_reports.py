"""Small scans, and all output of their measurement for users and programs.

``python tests/measure/golden_reports.py`` writes the current texts to ``golden/``; run
it only after an intended change.
"""

from __future__ import annotations

import json
import os
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter

from napari_geosr import __version__

GOLDEN = Path(__file__).parent / "golden"
#: Width of the terminal to which figures are printed.
WIDTH = "100"
SHAPE = (20, 28, 32)
#: Arguments of ``napari-geosr measure``, by the name of the case.
CASES: dict[str, tuple[str, ...]] = {
    "volume": ("scan.tif", "--voxel-size", "4,2,2", "--unit", "µm"),
    "pixel": ("scan.tif",),
    "image": ("image.tif", "--voxel-size", "0.002,0.002", "--unit", "mm"),
    "interval": (
        *("scan.tif", "--voxel-size", "4,2,2", "--unit", "µm"),
        *("--deviation", "deviation.tif", "--interval-factor", "1.5"),
    ),
    "spread": (
        *("image.tif", "--voxel-size", "2,2", "--unit", "µm"),
        *("--deviation", "image_deviation.tif", "--connectivity", "6"),
    ),
    "compared": (
        *("scan.tif", "--voxel-size", "4,2,2", "--unit", "µm"),
        *("--reference", "clean.tif", "--min-voxels", "20"),
    ),
    "masked": ("scan.tif", "--mask", "mask.tif", "--voxel-size", "1,1,1"),
    "empty": (
        *("scan.tif", "--threshold", "-50"),
        *("--voxel-size", "4,2,2", "--unit", "µm"),
    ),
}


def simulated() -> dict[str, np.ndarray]:
    """A noisy foam of spheres, the clean foam, a slice, deviations and a mask."""
    rng = np.random.default_rng(7)
    grid = np.ogrid[tuple(slice(0, n) for n in SHAPE)]
    clean = np.full(SHAPE, 180, np.float32)
    for radius in (6, 5, 5, 4, 4, 3, 3, 3, 2, 2, 2, 1, 1, 1):
        centre = rng.uniform((0, 0, 0), SHAPE)
        squares = sum((g - c) ** 2 for g, c in zip(grid, centre, strict=True))
        clean[squares <= radius**2] = 60
    clean = gaussian_filter(clean, 0.7)
    noisy = (clean + rng.normal(0, 12, SHAPE)).astype(np.float32)
    noisy[3, 4, 5:8] = np.nan
    deviation = rng.uniform(4, 30, SHAPE).astype(np.float32)
    mask = np.zeros(SHAPE, np.uint8)
    mask[2:18, 3:25, 4:30] = 1
    return {
        "scan": noisy,
        "clean": clean,
        "image": noisy[10],
        "deviation": deviation,
        "image_deviation": deviation[10],
        "mask": mask,
    }


def write_inputs(folder: Path) -> None:
    """Write the scans of all cases into `folder`, without a voxel size."""
    import tifffile

    for name, data in simulated().items():
        tifffile.imwrite(
            folder / f"{name}.tif", data, metadata={"axes": "ZYX"[-data.ndim :]}
        )


def measured(case: str, folder: Path) -> dict[str, str]:
    """Output and files of ``measure``, without pictures and without its record."""
    from napari_geosr.cli.app import run

    first, *others = CASES[case]
    paths = [str(folder / o) if o.endswith(".tif") else o for o in others]
    out, printed, notes = folder / case, StringIO(), StringIO()
    with redirect_stdout(printed), redirect_stderr(notes):
        code = run(["measure", str(folder / first), *paths, "--out", str(out)])
    assert code == 0, notes.getvalue()
    values = json.loads((out / "report.json").read_text(encoding="utf-8"))
    del values["provenance"]
    page = (out / "report.html").read_text(encoding="utf-8")
    page = re.sub(r"data:image/png;base64,[\w+/=]+", "PICTURE", page)
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    page = re.sub(r"<pre>.*?</pre>", "", page, flags=re.DOTALL)
    texts = {
        "stdout": printed.getvalue(),
        "json": "".join(f"{key}: {dumped(value)}\n" for key, value in values.items()),
        "csv": (out / "pores.csv").read_text(encoding="utf-8"),
        "html": page,
    }
    program = f"napari-geosr {__version__}"
    return {
        kind: text.replace(str(folder), "FOLDER").replace(program, "napari-geosr")
        for kind, text in texts.items()
    }


def dumped(value: Any) -> str:
    """A value as one line of JSON."""
    return json.dumps(value, ensure_ascii=False)


def joined(texts: dict[str, str]) -> str:
    """Texts by kind as one file."""
    return "\n".join(f"===== {kind}\n{text}" for kind, text in texts.items())


if __name__ == "__main__":
    from tempfile import TemporaryDirectory

    os.environ["COLUMNS"] = WIDTH
    with TemporaryDirectory() as place:
        write_inputs(Path(place))
        for key in CASES:
            golden = joined(measured(key, Path(place)))
            (GOLDEN / f"{key}.txt").write_text(golden, encoding="utf-8")
