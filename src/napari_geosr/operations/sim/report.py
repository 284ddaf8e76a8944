"""Writes the checks of a reconstruction: values, residual map, Fourier support."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.figure_png import as_png
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.io.unfinished_files.claims import refuse_claimed
from napari_geosr.io.unfinished_files.finished import record_finished
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
    FileInUseError
        If a job is writing the report.
    """
    if not config.checks:
        raise ConfigError(
            "A report contains the checks of the result, but they are switched off. "
            "Remove --no-checks or --report."
        )
    for path in folder_files(folder, FILES, overwrite).values():
        if folder.is_dir():
            refuse_claimed(path)


def write_report(folder: Path, result: SimResult, *, overwrite: bool = False) -> str:
    """Write ``checks.json``, ``residual.ome.tif`` and ``checks.png``: all, or none.

    If files that must not be overwritten were created during the run, a new folder next
    to `folder` is used, so that the checks are not lost.

    Returns
    -------
    str
        A sentence that names the new folder; empty if it was not needed.

    Raises
    ------
    FileError
        If the files cannot be written.
    """
    checks, residual = result.checks, result.residual
    assert checks is not None, "a run without checks has no report"
    assert residual is not None, "a run with checks has a residual"
    asked, note = folder, ""
    existing = [name for name in FILES.values() if (folder / name).exists()]
    if existing and not overwrite:
        folder = _free_folder(asked)
        note = (
            f"{asked} already contains {', '.join(existing)}, created during this run. "
            f"The checks were written to {folder}."
        )
    files = folder_files(folder, FILES, overwrite)
    summary = trust_summary({(0, 0): checks, **result.other_checks})
    values = {**summary.pop("checks"), **summary}
    text = json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    with (
        atomic.created_folder(folder),
        atomic.replacing_all(list(files.values()), overwrite=overwrite) as made,
    ):
        atomic.write_text(made[files["json"]], text)
        io.write(residual, made[files["residual"]])
        atomic.write_bytes(made[files["picture"]], picture(result))
        record_finished(made)
    return note


def _free_folder(folder: Path) -> Path:
    """Return the first of ``NAME_2``, ``NAME_3``, … that does not exist."""
    there = folder.absolute()
    names = (there.with_name(f"{there.name}_{n}") for n in itertools.count(2))
    return next(path for path in names if not path.exists())


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
