"""Draws a phase as a shaded surface in the box of its volume, without a display."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.figure_png import as_png
from napari_geosr.core.units import PIXEL, shown_units
from napari_geosr.measure.overview import Overview

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matplotlib.axes import Axes

    from napari_geosr.measure.reports.report import PorosityReport

Floats = npt.NDArray[np.float64]

#: Angle of the viewing direction around Z, from X towards Y.
_AZIMUTH = float(np.deg2rad(55))
#: Elevation angle of the viewer above the XY plane.
_ELEVATION = float(np.deg2rad(25))
#: Viewing direction along (Z, Y, X), from the corner at the origin. With the vectors to
#: the right and up, it forms a right-handed system, as in napari.
_FORWARD = np.array(
    [
        -np.sin(_ELEVATION),
        np.cos(_ELEVATION) * np.sin(_AZIMUTH),
        np.cos(_ELEVATION) * np.cos(_AZIMUTH),
    ]
)
_RIGHT = np.array([0.0, -np.cos(_AZIMUTH), np.sin(_AZIMUTH)])
_UP = np.cross(_FORWARD, _RIGHT)
#: Direction from the surface to the light, which is above and to the left of the
#: viewer.
_LIGHT = -_FORWARD - 0.5 * _RIGHT + 0.7 * _UP
_LIGHT /= np.linalg.norm(_LIGHT)
_COLOUR = {"pores": (0.86, 0.47, 0.16), "solid": (0.80, 0.72, 0.58)}
#: Colour of lines and text, visible on light and dark backgrounds.
_INK = "#8a8f98"
#: Number of pixels of the picture per cell.
_FINER = 2.0
#: Number of samples per cell along the viewing direction.
_STEPS = 1.4


def shown_phase(overview: Overview) -> Literal["pores", "solid"] | None:
    """Return the rarer phase, which hides less; None if there is only one."""
    pores, solid = overview.pores.mean(), overview.solid.mean()
    if not pores or not solid:
        return None
    return "pores" if pores <= solid else "solid"


def caption_of(overview: Overview, name: str, unit: str = "") -> str:
    """Describe the picture in a sentence; lengths are in `unit`."""
    phase = shown_phase(overview)
    lengths = " × ".join(f"{n:.4g}" for n in overview.lengths)
    unit = unit or ("voxels" if overview.unit == PIXEL else overview.unit)
    text = f"The {phase} of {name} in a box of {lengths} {unit} (Z × Y × X)"
    if overview.planes_apart > 1:
        n = len(overview.pores)
        text += f", drawn from {n} of {round(n * overview.planes_apart)} planes"
    return f"{text}."


def pictures_of(reports: Mapping[str, PorosityReport]) -> dict[str, bytes | Path]:
    """Draw a picture of each report that has an overview; return them by caption."""
    pictures: dict[str, bytes | Path] = {}
    for name, report in reports.items():
        if report.overview is not None:
            picture = draw(report.overview)
            if picture is not None:
                unit = shown_units(report.unit, report.voxel_size, flat=False)
                pictures[caption_of(report.overview, name, unit)] = picture
    return pictures


def draw(overview: Overview) -> bytes | None:
    """Draw the rarer phase in 3D; None if there is only one phase.

    Rays parallel to the direction of view end where the fraction of the phase,
    interpolated between cells, reaches one half. The surface is shaded by the gradient
    of the phase.

    Returns
    -------
    bytes or None
        PNG with a transparent background.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    phase = shown_phase(overview)
    if phase is None:
        return None
    cell = np.array(overview.cell)
    share = np.pad(getattr(overview, phase).astype(np.float32) / 255, 1)
    corners = np.array(list(itertools.product((0.0, 1.0), repeat=3))) * overview.lengths
    flat = corners @ np.stack([_RIGHT, _UP], axis=1)
    low, high = flat.min(axis=0), flat.max(axis=0)
    step = float(min(cell)) / _FINER
    picture = _shaded(share, cell, corners, low, high, step, _COLOUR[phase])
    width, height = high - low
    inches = np.array([width, height]) * 5.6 / max(width, height)
    figure = Figure(figsize=tuple(inches), dpi=110)
    figure.patch.set_alpha(0)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_axes((0.06, 0.06, 0.88, 0.88))
    axes.set_axis_off()
    axes.set_xlim(low[0], high[0])
    axes.set_ylim(low[1], high[1])
    axes.set_aspect("equal")
    _draw_box(axes, corners, flat, overview)
    extent = (low[0], high[0], low[1], high[1])
    axes.imshow(picture, extent=extent, origin="lower", zorder=1, aspect="equal")
    return as_png(canvas)


def _draw_box(axes: Axes, corners: Floats, flat: Floats, overview: Overview) -> None:
    """Draw the edges of the box, and label the length along each axis."""
    farthest = int(np.argmax(corners @ _FORWARD))
    unit = "" if overview.unit == PIXEL else f" {overview.unit}"
    labelled: dict[int, tuple[float, Floats]] = {}
    for a, b in itertools.combinations(range(8), 2):
        along = np.flatnonzero(corners[a] != corners[b])
        if len(along) != 1:
            continue
        hidden = farthest in (a, b)
        line, axis = flat[[a, b]], int(along[0])
        axes.plot(
            *line.T,
            color=_INK,
            linewidth=1,
            linestyle=":" if hidden else "-",
            zorder=0 if hidden else 2,
            clip_on=False,
        )
        # Label the lowest outer edge along each axis; of vertical edges, the leftmost.
        height = line[:, 0].mean() if axis == 0 else line[:, 1].mean()
        if axis not in labelled or height < labelled[axis][0]:
            labelled[axis] = height, line
    for axis, (_, line) in labelled.items():
        axes.annotate(
            f"{'ZYX'[axis]} {overview.lengths[axis]:.4g}{unit}",
            line.mean(axis=0),
            xytext=(-4, 0) if axis == 0 else (0, -4),
            textcoords="offset points",
            rotation=_angle(line),
            rotation_mode="anchor",
            ha="center",
            va="bottom" if axis == 0 else "top",
            color=_INK,
            fontsize=9,
            zorder=3,
            annotation_clip=False,
        )


def _angle(line: Floats) -> float:
    """Return the angle, in degrees, at which text along a line is not upside down."""
    across, up = line[1] - line[0]
    return 90 - (90 - float(np.rad2deg(np.arctan2(up, across)))) % 180


def _shaded(
    share: npt.NDArray[np.float32],
    cell: Floats,
    corners: Floats,
    low: Floats,
    high: Floats,
    step: float,
    colour: tuple[float, float, float],
) -> Floats:
    """Render the surface at a fraction of 0.5 as RGBA, rows from bottom to top.

    Parameters
    ----------
    share : ndarray, (Z, Y, X)
        Fraction of the phase in each cell, with one empty cell on each side.
    low, high : ndarray of 2 float
        Limits of the picture, to the right and up.
    step : float
        Size of a pixel of the picture.
    """
    from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates

    depths = corners @ _FORWARD
    near, far = float(depths.min()), float(depths.max())
    apart = float(min(cell)) / _STEPS
    n = (
        int((far - near) / apart) + 2,
        int((high[1] - low[1]) / step) + 1,
        int((high[0] - low[0]) / step) + 1,
    )
    # Convert depth, row and column to the index of a cell in the padded array.
    matrix = np.stack([_FORWARD * apart, _UP * step, _RIGHT * step], axis=1)
    first = _FORWARD * (near - apart) + _UP * low[1] + _RIGHT * low[0]
    matrix /= cell[:, None]
    offset = first / cell + 0.5
    ray = affine_transform(share, matrix, offset, n, order=1)
    inside = ray >= 0.5
    hit = inside.any(axis=0)
    index = np.where(hit, inside.argmax(axis=0), 1)
    rows, columns = np.indices(hit.shape)
    before, after = ray[index - 1, rows, columns], ray[index, rows, columns]
    with np.errstate(divide="ignore", invalid="ignore"):
        depth = index - np.where(hit, (after - 0.5) / (after - before), 0)
    places = np.stack([depth, rows, columns]).reshape(3, -1)[:, hit.ravel()]
    at = matrix @ places + offset[:, None]
    smooth = gaussian_filter(share, 1.0)
    normal = np.stack(
        [
            -map_coordinates(np.gradient(smooth, axis=axis), at, order=1) / cell[axis]
            for axis in range(3)
        ]
    )
    normal /= np.maximum(np.linalg.norm(normal, axis=0), 1e-12)
    light = 0.30 + 0.70 * np.clip(_LIGHT @ normal, 0, None)
    light *= 1 - 0.35 * (places[0] * apart) / max(far - near, 1e-12)
    picture = np.zeros((*hit.shape, 4))
    picture[hit, :3] = np.clip(light[:, None] * np.array(colour) * 1.15, 0, 1)
    picture[hit, 3] = 1
    return picture
