"""Writes the checks of a reconstruction: values, residual map, Fourier support."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.figure_png import as_png
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.sim.check import folder_files
from napari_geosr.operations.sim.config import METHOD_TITLES, SimConfig
from napari_geosr.operations.sim.plane_run import trust_summary
from napari_geosr.operations.sim.run import SimResult
from napari_geosr.operations.sim.trust.support import draw_circles

#: Names of the files of a report.
FILES = {
    "json": "checks.json",
    "residual": "residual.ome.tif",
    "picture": "checks.png",
}
#: Residual, in units of the noise, at the upper end of the colour scale.
RESIDUAL_TOP = 4.0


def check_report(folder: Path, config: SimConfig, *, overwrite: bool) -> None:
    """Refuse, before a run, a report that could not be written.

    Raises
    ------
    ConfigError
        If the checks are switched off.
    FileError
        If files of the report exist and `overwrite` is False.
    """
    if not config.checks:
        raise ConfigError(
            "A report contains the checks of the result, but they are switched off. "
            "Remove --no-checks or --report."
        )
    folder_files(folder, FILES, overwrite)


def write_report(folder: Path, result: SimResult, *, overwrite: bool = False) -> None:
    """Write ``checks.json``, ``residual.ome.tif`` and ``checks.png``.

    Raises
    ------
    FileError
        If the files cannot be written.
    """
    checks, residual = result.checks, result.residual
    assert checks is not None, "a run without checks has no report"
    assert residual is not None, "a run with checks has a residual"
    files = folder_files(folder, FILES, overwrite)
    with atomic.created_folder(folder):
        summary = trust_summary({(0, 0): checks, **result.other_checks})
        values = {**summary.pop("checks"), **summary}
        text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
        atomic.write_text(files["json"], text, overwrite=overwrite)
        io.write(residual, files["residual"], overwrite=overwrite)
        atomic.write_bytes(files["picture"], picture(result), overwrite=overwrite)


def picture(result: SimResult) -> bytes:
    """Return a PNG with the residual map and the Fourier support."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checks, support = result.checks, result.support
    assert checks is not None, "a run without checks has no picture"
    assert support is not None, "a run with checks has a Fourier support"
    figure = Figure(figsize=(10, 4.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    figure.suptitle(METHOD_TITLES[result.method])
    left, right = figure.subplots(1, 2)
    shown = left.imshow(checks.residual, vmin=0, vmax=RESIDUAL_TOP, cmap="inferno")
    left.set_title(f"Residual of the result\nin noise units, RMS {checks.rms:.2f}")
    left.set_axis_off()
    figure.colorbar(shown, ax=left)
    half = support.upscale_factor / 2
    low, high = np.percentile(support.spectrum, (5, 99.9))
    right.imshow(
        support.spectrum,
        cmap="magma",
        vmin=float(low),
        vmax=float(high),
        extent=(-half, half, half, -half),
    )
    draw_circles(right, support.widefield, support.reconstruction)
    right.set_title("Spectrum\ncut-offs of widefield (dashed) and result (solid)")
    return as_png(canvas)
