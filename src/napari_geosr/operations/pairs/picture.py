"""Draws pictures of pairs: overlays before and after alignment, or side by side."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.figure_png import as_label, as_png
from napari_geosr.core.volume import Volume

Plane = npt.NDArray[np.float32]
Extent = tuple[float, float, float, float]

_RANGE = (1.0, 99.0)
#: Maximum height of a panel, as a multiple of its width.
_MAX_ASPECT = 2.5
#: Colour of the low-resolution scan. The two colours add up to white and differ in
#: brightness, so that they can be distinguished with any colour vision.
LOW_COLOUR = (1.0, 0.45, 0.0)
#: Colour of the high-resolution scan.
HIGH_COLOUR = (0.0, 0.55, 1.0)
#: Width of a panel, in inches.
_PANEL_WIDTH = 3.6
#: Margins in inches: left of a panel, below it, and above all panels; labels of up to
#: eight digits fit.
_MARGINS = (0.9, 0.6, 0.4)
_SLICE, _ALONG_Z = "slice", "cut along Z"


def overlay_png(low: Volume, panels: dict[str, Volume]) -> bytes:
    """Draw middle slices of `low` (orange), overlaid with each panel's volume (blue).

    The picture is grey where the two are equal.

    Parameters
    ----------
    low : Volume
        Volume with spatial axes only.
    panels : dict of Volume
        Volumes by title, on the same grid; NaN where there are no data.
    """
    cuts = [_SLICE] if low.axes == "YX" else [_SLICE, _ALONG_Z]
    columns = {
        title: [
            (_overlay(_cut(low, cut), _cut(volume, cut)), _extent(low, cut))
            for cut in cuts
        ]
        for title, volume in panels.items()
    }
    return _draw_png(columns, low.unit)


def side_by_side_png(panels: dict[str, Volume]) -> bytes:
    """Draw the middle slice of each volume in grey, each with its own contrast.

    Parameters
    ----------
    panels : dict of Volume
        Volumes by title, all in the same unit. Volumes larger than the first are
        cropped to its extent.
    """
    first = next(iter(panels.values()))
    size = _extent(first, _SLICE)
    columns = {}
    for title, volume in panels.items():
        plane = _cut(volume, _SLICE)
        key = []
        for n, voxel, shown_size in zip(
            plane.shape, volume.voxel_size[-2:], (size[2], size[1]), strict=True
        ):
            kept_voxels = min(n, max(1, round(shown_size / voxel)))
            key.append(
                slice((n - kept_voxels) // 2, (n - kept_voxels) // 2 + kept_voxels)
            )
        plane = plane[tuple(key)]
        height, width = (
            n * v for n, v in zip(plane.shape, volume.voxel_size[-2:], strict=True)
        )
        grey = np.repeat(_with_contrast(plane)[..., None], 3, axis=2)
        columns[title] = [(grey, (0.0, width, height, 0.0))]
    return _draw_png(columns, first.unit)


def _cut(volume: Volume, cut: str) -> Plane:
    data: Any = volume.data
    if volume.axes == "YX":
        return np.asarray(data[:], np.float32)
    if cut == _SLICE:
        return np.asarray(data[volume.shape[0] // 2], np.float32)
    return np.asarray(data[:, volume.shape[1] // 2], np.float32)


def _extent(volume: Volume, cut: str) -> Extent:
    size = dict(zip(volume.axes, volume.voxel_size, strict=True))
    shape = dict(zip(volume.axes, volume.shape, strict=True))
    down = "Z" if cut == _ALONG_Z else "Y"
    return (0.0, shape["X"] * size["X"], shape[down] * size[down], 0.0)


def _with_contrast(plane: Plane) -> Plane:
    seen = plane[np.isfinite(plane)]
    low, high = np.percentile(seen, _RANGE) if seen.size else (0.0, 1.0)
    values = (plane - low) / max(float(high - low), 1e-30)
    return np.nan_to_num(np.clip(values, 0, 1)).astype(np.float32)


def _overlay(low: Plane, high: Plane) -> Plane:
    """Overlay two planes in colours that add up to grey."""
    mixed = _with_contrast(low)[..., None] * np.array(LOW_COLOUR, np.float32)
    mixed = mixed + _with_contrast(high)[..., None] * np.array(HIGH_COLOUR, np.float32)
    return np.clip(mixed, 0, 1).astype(np.float32)


def _draw_png(columns: dict[str, list[tuple[Plane, Extent]]], unit: str) -> bytes:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    first = next(iter(columns.values()))
    heights = [
        _PANEL_WIDTH * min(extent[2] / extent[1], _MAX_ASPECT) for _, extent in first
    ]
    left, below, title_height = _MARGINS
    width = len(columns) * (left + _PANEL_WIDTH) + 0.2
    height = sum(heights) + below * len(heights) + title_height
    figure = Figure(figsize=(width, height))
    canvas = FigureCanvasAgg(figure)
    grid: Any = figure.subplots(
        len(heights), len(columns), squeeze=False, height_ratios=heights
    )
    # Matplotlib's automatic layout would take longer than the drawing itself.
    figure.subplots_adjust(
        left=left / width,
        right=1 - 0.2 / width,
        bottom=below / height,
        top=1 - title_height / height,
        wspace=left / _PANEL_WIDTH,
        hspace=below / (sum(heights) / len(heights)),
    )
    for column, (title, panels) in enumerate(columns.items()):
        grid[0][column].set_title(as_label(title))
        for row, (plane, extent) in enumerate(panels):
            axis = grid[row][column]
            axis.imshow(plane, extent=extent, interpolation="nearest")
            axis.set_xlabel(unit)
    return as_png(canvas)
