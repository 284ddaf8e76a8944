"""Exact halo tiling: windows that make tiled and whole results identical.

Tile starts are multiples of the network's stride. Every window contains the tile's core
and the halo (rounded up to the stride). Windows are clamped to the volume, so that the
network's own padding acts only at the true border, as it does for the whole volume.
Sizes that are not multiples of the stride are padded once, for the whole volume, by
reflection at the far border; the reader generates these voxels without copying the
volume.

Everything here is in Z, Y, X order; an image is a volume of one plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.types import AnyArray
from napari_geosr.networks.spec import NetworkSpec

Size = tuple[int, int, int]
Box = tuple[slice, slice, slice]


@dataclass(frozen=True)
class Layout:
    """A network's spec applied to an array of a given shape, in Z, Y, X order.

    Attributes
    ----------
    shape, padded : tuple of int
        Size of the input, and the size after padding, which the network treats as the
        whole volume.
    halo, stride, scale, minimum : tuple of int
        One value per axis; for networks on planes, the values along Z are 0, 1, 1 and
        1.
    context : int
        Number of planes on either side that are passed as channels (2.5D).
    per_plane : bool
        Whether the planes pass through the network one by one.
    ndim : int
        Array axes of the source: 2 or 3.
    """

    shape: Size
    padded: Size
    halo: Size
    stride: Size
    scale: Size
    minimum: Size
    context: int
    per_plane: bool
    ndim: int

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the restored array, with as many axes as the source."""
        full = tuple(n * s for n, s in zip(self.shape, self.scale, strict=True))
        return full[3 - self.ndim :]


@dataclass(frozen=True)
class Tile:
    """The unit of work of a run: a part of the volume that is restored at once.

    Attributes
    ----------
    core : tuple of slice
        Input voxels (inside the array) that this tile restores.
    window : tuple of slice
        Voxels that the network reads, in the coordinates of the padded volume.
    """

    core: Box
    window: Box

    @property
    def window_shape(self) -> Size:
        """Voxels of the window along each axis."""
        return _lengths(self.window)

    @property
    def core_shape(self) -> Size:
        """Voxels of the core along each axis."""
        return _lengths(self.core)

    def output(self, layout: Layout, origin: Size = (0, 0, 0)) -> Box:
        """Locate the core in an output that starts at the input voxel `origin`."""
        return _box(
            slice((c.start - o) * s, (c.stop - o) * s)
            for c, o, s in zip(self.core, origin, layout.scale, strict=True)
        )

    def crop(self, layout: Layout) -> Box:
        """Return the position of the core in the network's output for the window."""
        return _box(
            slice((c.start - w.start) * s, (c.stop - w.start) * s)
            for c, w, s in zip(self.core, self.window, layout.scale, strict=True)
        )


@dataclass(frozen=True)
class TilePlan:
    """Tiles that cover a box of the input exactly once.

    Attributes
    ----------
    tile : tuple of int
        Size of a full tile's core.
    cost_factor : float
        Voxels computed ÷ voxels of the padded box; 1 if nothing is computed twice.
    """

    layout: Layout
    box: Box
    tile: Size
    tiles: tuple[Tile, ...]
    cost_factor: float


def lay_out(shape: Sequence[int], spec: NetworkSpec) -> Layout:
    """Apply a network's spec to a 2D or 3D array.

    Raises
    ------
    VolumeError
        If the array is not 2D or 3D, is empty, or is an image but the network is 3D.
    """
    sizes = tuple(int(n) for n in shape)
    ndim = len(sizes)
    if ndim not in (2, 3) or min(sizes) < 1:
        raise VolumeError(
            f"An array of shape {sizes} cannot be restored: it needs the axes Y, X or "
            "Z, Y, X and at least one voxel. Choose one channel and one time point."
        )
    per_plane = spec.axes == "YX"
    if ndim == 2 and not per_plane:
        raise VolumeError(
            "This model works on volumes (Z, Y, X), but the input is a single image. "
            "Choose a 2D or 2.5D model for it."
        )
    full = (1,) * (3 - ndim) + sizes
    lead = (1,) if per_plane else ()
    stride = lead + spec.stride
    minimum = lead + minimum_window(spec)
    if spec.local:
        halo = (0,) * len(lead) + spec.halo
    else:  # only processing the whole volume at once is exact
        halo = (0,) * len(lead) + full[-len(spec.axes) :]
    return Layout(
        shape=_size(full),
        padded=_size(
            _round_up(max(n, m), s)
            for n, m, s in zip(full, minimum, stride, strict=True)
        ),
        halo=_size(_round_up(h, s) for h, s in zip(halo, stride, strict=True)),
        stride=_size(stride),
        scale=_size(lead + spec.upscale_factor),
        minimum=_size(minimum),
        context=spec.adjacent_slices // 2,
        per_plane=per_plane,
        ndim=ndim,
    )


def minimum_window(spec: NetworkSpec) -> tuple[int, ...]:
    """Return the smallest window along the spec's axes, a multiple of the stride."""
    n = len(spec.axes)
    minimum = ((1,) * n + tuple(spec.minimum_size))[-n:]
    return tuple(
        _round_up(max(1, m), s) for m, s in zip(minimum, spec.stride, strict=True)
    )


def whole(layout: Layout) -> Box:
    """Return the box of the whole input."""
    return _box(slice(0, n) for n in layout.shape)


def plan(
    shape: Sequence[int],
    spec: NetworkSpec,
    tile: Sequence[int],
    *,
    box: Sequence[slice] | None = None,
    priority_region: Sequence[slice] | None = None,
) -> TilePlan:
    """Cut `box` (by default, the whole input) into tiles of size `tile`.

    Parameters
    ----------
    shape : sequence of int
        Shape of the input, 2D or 3D.
    tile : sequence of int
        Core size along Z, Y, X (Y, X for an image); rounded up to the stride.
    box : sequence of slice, optional
        Input voxels to restore.
    priority_region : sequence of slice, optional
        Input voxels that are visible: tiles that touch them come first.
    """
    layout = lay_out(shape, spec)
    target = clip_box(layout, box)
    core = _size(
        _round_up(max(1, min(t, p)), s)
        for t, p, s in zip(
            _to_three_axes(tile), layout.padded, layout.stride, strict=True
        )
    )
    pieces = [cut_axis(layout, axis, core[axis], target[axis]) for axis in range(3)]
    tiles = [
        Tile(core=(z[0], y[0], x[0]), window=(z[1], y[1], x[1]))
        for z in pieces[0]
        for y in pieces[1]
        for x in pieces[2]
    ]
    if priority_region is not None:
        visible = clip_box(layout, priority_region)
        tiles.sort(key=lambda tile: not _intersect(tile.core, visible))
    return TilePlan(
        layout, target, core, tuple(tiles), _cost_factor(layout, target, pieces)
    )


def cut_axis(
    layout: Layout, axis: int, tile: int, span: slice
) -> list[tuple[slice, slice]]:
    """Return the cores and windows along one axis; starts lie on the stride's grid.

    Parameters
    ----------
    layout : Layout
    axis : int
        0, 1 or 2, for Z, Y or X.
    tile : int
        Core size, a multiple of the stride.
    span : slice
        Part of the axis to be cut, in voxels of the input.

    Returns
    -------
    list of (slice, slice)
        Core and window of every piece, in voxels of the input.
    """
    stride = layout.stride[axis]
    start = span.start // stride * stride
    return [
        (
            slice(max(a, span.start), min(a + tile, span.stop)),
            window_along(layout, axis, a, a + tile),
        )
        for a in range(start, span.stop, tile)
    ]


def window_along(layout: Layout, axis: int, start: int, stop: int) -> slice:
    """Return the window that gives exact values between `start` and `stop`.

    Windows below the minimum size are enlarged.

    Parameters
    ----------
    layout : Layout
    axis : int
        0, 1 or 2, for Z, Y or X.
    start, stop : int
        Voxels of the input; `start` is on the stride's grid.
    """
    halo, end = layout.halo[axis], layout.padded[axis]
    stride = layout.stride[axis]
    a = max(0, start - halo)
    b = min(end, _round_up(stop, stride) + halo)
    missing = max(0, layout.minimum[axis] - (b - a))
    b = min(end, b + missing)
    a = max(0, min(a, b - layout.minimum[axis]))
    return slice(a, b)


def split(tile: Tile, layout: Layout) -> tuple[Tile, ...]:
    """Return the halves of a tile, cut along the longest axis that the stride allows.

    Empty if the stride allows no cut.
    """
    lengths = tile.core_shape
    for axis in sorted(range(3), key=lambda a: -lengths[a]):
        core, stride = tile.core[axis], layout.stride[axis]
        begin = core.start // stride * stride
        middle = begin + _round_up(math.ceil((core.stop - begin) / 2), stride)
        if not core.start < middle < core.stop:
            continue
        halves = []
        for a, b in ((core.start, middle), (middle, core.stop)):
            window = window_along(layout, axis, a // stride * stride, b)
            halves.append(
                Tile(
                    core=_replace_axis(tile.core, axis, slice(a, b)),
                    window=_replace_axis(tile.window, axis, window),
                )
            )
        return tuple(halves)
    return ()


def reflect(positions: AnyArray, n: int) -> AnyArray:
    """Reflect positions outside ``0 … n - 1`` inwards, without repeating the edge."""
    if n == 1:
        return np.zeros_like(positions)
    period = 2 * (n - 1)
    folded: AnyArray = np.abs(positions) % period
    inside: AnyArray = np.where(folded < n, folded, period - folded)
    return inside


def clip_box(layout: Layout, box: Sequence[slice] | None) -> Box:
    """Convert a user's box to non-empty slices inside the input.

    Raises
    ------
    VolumeError
        If the box has the wrong number of axes, a step other than 1, or no voxels.
    """
    if box is None:
        return whole(layout)
    slices = tuple(box)
    if len(slices) == 2 and layout.ndim == 2:
        slices = (slice(0, 1), *slices)
    if len(slices) != 3:
        raise VolumeError(f"A region needs {layout.ndim} slices, not {len(slices)}.")
    clipped = []
    for part, n in zip(slices, layout.shape, strict=True):
        start, stop, step = part.indices(n)
        if step != 1 or stop <= start:
            raise VolumeError(
                f"The region {slices} contains no voxel of the volume {layout.shape}."
            )
        clipped.append(slice(start, stop))
    return _box(clipped)


def _cost_factor(
    layout: Layout, box: Box, pieces: Sequence[Sequence[tuple[slice, slice]]]
) -> float:
    factor = 1.0
    for axis in range(3):
        computed = sum(w.stop - w.start for _, w in pieces[axis])
        factor *= computed / padded_span(layout, axis, box[axis])
    return factor


def padded_span(layout: Layout, axis: int, part: slice) -> int:
    """Return the minimum number of voxels computed along an axis to restore `part`.

    Parameters
    ----------
    layout : Layout
    axis : int
        0, 1 or 2, for Z, Y or X.
    part : slice
        Part of the axis, in voxels of the input.
    """
    stride = layout.stride[axis]
    stop = _round_up(part.stop, stride)
    if part.stop == layout.shape[axis]:
        stop = layout.padded[axis]
    start: int = part.start // stride * stride
    return stop - start


def _intersect(one: Box, other: Box) -> bool:
    return all(
        a.start < b.stop and b.start < a.stop for a, b in zip(one, other, strict=True)
    )


def _round_up(n: int, step: int) -> int:
    return -(-n // step) * step


def _to_three_axes(sizes: Sequence[int]) -> tuple[int, ...]:
    return (1,) * (3 - len(sizes)) + tuple(int(n) for n in sizes)


def _lengths(box: Box) -> Size:
    return _size(s.stop - s.start for s in box)


def _replace_axis(box: Box, axis: int, part: slice) -> Box:
    return _box(part if i == axis else old for i, old in enumerate(box))


def _size(values: Any) -> Size:
    z, y, x = (int(v) for v in values)
    return z, y, x


def _box(values: Any) -> Box:
    z, y, x = values
    return z, y, x
