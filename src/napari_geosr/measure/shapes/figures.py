"""Size, surface, thickness and connectivity of one shape."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.interruption import interruptible
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    never_stop,
)
from napari_geosr.core.types import AnyArray
from napari_geosr.measure.local_thickness.spheres import thickness_steps
from napari_geosr.measure.shapes.surface import (
    SMOOTHING,
    SurfaceMesh,
    extract_surface,
)

#: Maximum ratio of voxel edges at which a thickness in voxels is converted to a length.
_CUBIC = 1.05
#: Number of planes by which a shape is mirrored at the faces of its volume; further
#: planes do not affect the smoothed surface inside the volume.
_MIRRORED = 1 + round(4 * SMOOTHING)


@dataclass(frozen=True)
class ShapeFigures:
    """Measured values of a shape, such as its volume and surface area.

    Attributes
    ----------
    volume : float
        Volume of the shape, in `unit` cubed.
    fraction : float
        Fraction of the volume (box) that the shape fills.
    surface : float
        Area of the smoothed surface, in `unit` squared. Cuts through the shape at the
        faces of the volume (box) are not counted.
    thickness : float or None
        Mean local thickness in `unit`; None if the voxels are not cubic, or the shape
        fills the whole volume. If the edges of a voxel differ by up to 5 %, their
        geometric mean is used.
    euler : int
        Euler number: objects minus tunnels plus cavities.
    unit : str
    """

    volume: float
    fraction: float
    surface: float
    thickness: float | None
    euler: int
    unit: str


def describe_shape_steps(
    inside: AnyArray,
    voxel_size: Sequence[float],
    unit: str,
    origin: Sequence[float] = (0.0, 0.0, 0.0),
    *,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[ShapeFigures, SurfaceMesh]]:
    """Measure a shape and extract its surface.

    Parameters
    ----------
    inside : ndarray of bool, shape (Z, Y, X)
        Voxels of the shape; at least one.
    voxel_size, origin : sequence of float
        As in a `Volume`.
    unit : str

    Returns
    -------
    figures : ShapeFigures
    mesh : SurfaceMesh
        Surface with coordinates in `unit`.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.

    Examples
    --------
    >>> import numpy as np
    >>> from napari_geosr.core.steps import run_to_end
    >>> plate = np.zeros((12, 20, 20), bool)
    >>> plate[4:8] = True
    >>> steps = describe_shape_steps(plate, (0.5, 0.5, 0.5), "mm")
    >>> figures, mesh = run_to_end(steps)
    >>> figures.volume, figures.euler, round(figures.thickness, 2)
    (200.0, 1, 2.0)
    """

    def check() -> None:
        if should_stop():
            raise Cancelled("Stopped while measuring the shape.")

    yield StageStarted(message="Extracting the surface")
    check()
    with interruptible(should_stop):
        area = _area_without_cuts(inside, voxel_size)
        mesh = extract_surface(inside, voxel_size, unit, origin)
    if area is None:
        area = float(_areas(mesh).sum())
    count = int(np.count_nonzero(inside))
    thickness = None
    if max(voxel_size) <= _CUBIC * min(voxel_size):
        found = yield from thickness_steps(inside, check=check)
        if found.mean is not None:
            # Spheres are measured in voxels; the geometric mean edge preserves their
            # volume.
            thickness = found.mean * float(np.prod(voxel_size)) ** (1 / 3)
    figures = ShapeFigures(
        volume=count * float(np.prod(voxel_size)),
        fraction=count / inside.size,
        surface=area,
        thickness=thickness,
        euler=mesh.match.voxels.euler[0],
        unit=unit,
    )
    return figures, mesh


def _area_without_cuts(inside: AnyArray, voxel_size: Sequence[float]) -> float | None:
    """Return the area of a surface that continues beyond the faces of its volume.

    The shape is mirrored at the faces that it meets, so that its surface is
    perpendicular to them, and only the part of the surface inside the volume counts.
    The result is None if the shape does not meet a face.
    """
    ends = [
        [_MIRRORED * bool(inside.take(k, axis).any()) for k in (0, -1)]
        for axis in range(inside.ndim)
    ]
    if not any(map(any, ends)):
        return None
    mesh = extract_surface(np.pad(inside, ends, mode="symmetric"), voxel_size, "voxel")
    # Each triangle lies between the centres of neighbouring voxels. A face of the
    # volume is halfway between such centres, and the surface is symmetric there.
    weights: AnyArray = np.ones(len(mesh.faces))
    for axis, ((low, high), n) in enumerate(zip(ends, inside.shape, strict=True)):
        places = mesh.vertices[:, axis][mesh.faces].mean(1) / voxel_size[axis] - low
        if low:
            weights *= np.clip(np.ceil(places) + 1, 0, 2) / 2
        if high:
            weights *= np.clip(np.ceil(n - 1 - places) + 1, 0, 2) / 2
    return float(_areas(mesh) @ weights)


def _areas(mesh: SurfaceMesh) -> AnyArray:
    """Return the area of each triangle."""
    corners = mesh.vertices.astype(np.float64)[mesh.faces]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    areas: AnyArray = np.linalg.norm(sides, axis=1) / 2
    return areas
