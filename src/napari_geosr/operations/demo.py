"""The demonstration: simulates a foam scan, restores it and measures its pores."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr import io
from napari_geosr.core.errors import Cancelled, FileError
from napari_geosr.core.figure_png import as_png
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.core.volume import Volume
from napari_geosr.io.unfinished_files.atomic import write_bytes
from napari_geosr.measure.reports import export
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.restore import RestoreConfig, restore_steps
from napari_geosr.physics.specimens import samples

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

#: Files written by the demonstration, in addition to the scan and its ground truth.
OUTPUTS = ("result.ome.tif", "report.json", "report.html", "overview.png")
INPUTS = ("scan.ome.tif", "truth.ome.tif")


@dataclass(frozen=True)
class DemoResult:
    """Reports by name (``degraded``, ``restored``, ``truth``) and the files written."""

    reports: dict[str, PorosityReport]
    files: dict[str, Path]

    @property
    def error_before(self) -> float:
        """Porosity error of the degraded scan, relative to the ground truth."""
        return self._error("degraded")

    @property
    def error_after(self) -> float:
        """Porosity error of the restored scan, relative to the ground truth."""
        return self._error("restored")

    def _error(self, name: str) -> float:
        truth = self.reports["truth"].porosity
        return float(abs(self.reports[name].porosity - truth) / truth)


def demo_steps(
    out: Path,
    *,
    model: str = "foam-denoise",
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, DemoResult]:
    """Simulate a noisy foam scan, restore it, measure it and write a report.

    The following files are written to `out`: the scan and its ground truth, the
    restored volume, the report as JSON and HTML, and a picture.

    Parameters
    ----------
    out : Path
        Folder for the files; created if missing.
    model : str
        Name of a denoising model.
    overwrite : bool
        Whether existing files are overwritten.
    should_stop : callable

    Returns
    -------
    DemoResult

    Raises
    ------
    FileError
        If one of the files exists and `overwrite` is False.
    """
    files = {name: out / name for name in (*INPUTS, *OUTPUTS)}
    _check_folder(out, files, overwrite)
    yield StageStarted(message="Simulating a noisy foam scan")

    noisy, truth = samples.noisy_foam()
    io.write(noisy, files["scan.ome.tif"], overwrite=overwrite)
    io.write(truth, files["truth.ome.tif"], overwrite=overwrite)
    scan = io.read(files["scan.ome.tif"])
    restored = yield from restore_steps(
        scan,
        RestoreConfig(model=model),
        out=files["result.ome.tif"],
        overwrite=overwrite,
        should_stop=should_stop,
    )
    if not restored.complete:
        raise Cancelled(
            f"Stopped; the finished part is in {restored.path}.",
            summary=restored.summary,
        )
    volumes = {"degraded": scan, "restored": restored.volume, "truth": truth}
    reports = yield from measure_several_steps(
        volumes, MeasureConfig(), keep_labels=False, should_stop=should_stop
    )
    yield StageStarted(message="Writing the report")
    _write_report(volumes, reports, files)
    return DemoResult(reports, files)


def _check_folder(out: Path, files: dict[str, Path], overwrite: bool) -> None:
    existing = [name for name, path in files.items() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{out} already contains {', '.join(existing)}. Choose another folder, or "
            "allow overwriting (--overwrite)."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(
            f"The folder {out} cannot be created: {error.strerror}. Choose another one."
        ) from error


def _write_report(
    volumes: dict[str, Volume],
    reports: dict[str, PorosityReport],
    files: dict[str, Path],
) -> None:
    picture = overview(volumes, reports)
    write_bytes(files["overview.png"], picture, overwrite=True)
    values = {name: report.to_json_dict() for name, report in reports.items()}
    export.write_json(files["report.json"], values, overwrite=True)
    export.write_html(
        files["report.html"],
        reports,
        title="Porosity before and after restoration",
        pictures={"The same slice of each volume": picture},
        provenance=volumes["restored"].provenance,
        overwrite=True,
    )


def overview(volumes: dict[str, Volume], reports: dict[str, PorosityReport]) -> bytes:
    """Draw the middle slice of each volume with its threshold and porosity, as PNG."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(volumes), 4.6), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid: Any = figure.subplots(1, len(volumes), squeeze=False)
    first = next(iter(volumes.values()))
    low, high = np.percentile(_middle(first), (0.5, 99.5))
    for axis, (name, volume) in zip(grid[0], volumes.items(), strict=True):
        plane, report = _middle(volume), reports[name]
        height, width = (
            n * v for n, v in zip(plane.shape, volume.voxel_size[-2:], strict=True)
        )
        axis.imshow(
            plane, cmap="gray", vmin=low, vmax=high, extent=(0, width, height, 0)
        )
        if plane.min() < report.threshold < plane.max():
            y, x = (
                (np.arange(n) + 0.5) * v
                for n, v in zip(plane.shape, volume.voxel_size[-2:], strict=True)
            )
            axis.contour(x, y, plane, [report.threshold], colors="C1", linewidths=0.6)
        axis.set_title(f"{name}: porosity {100 * report.porosity:.1f} %")
        axis.set_xlabel(volume.unit)
    return as_png(canvas)


def _middle(volume: Volume) -> AnyArray:
    return np.asarray(volume.data[volume.shape[0] // 2], dtype=np.float32)
