"""Back-project filtered projections, as in the last step of FBP and FDK.

Every voxel receives the linearly interpolated value at its projected position. Filtered
back-projection assumes this interpolation. The result is smoother than that of the
exact adjoint of Joseph's projection, which weights a pixel differently for each angle.
The operation is not the adjoint of any projector in this package.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.batches import passes
from napari_geosr.physics.projection.geometry import (
    ConeGeometry,
    FanGeometry,
    ParallelGeometry,
)
from napari_geosr.physics.projection.taps import chunk_length, linear_taps

#: Number of copies of a slice in memory during back-projection.
COPIES = 1


def smear(projections: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Back-project: sum over all angles, distance-weighted for fan and cone beams.

    Parameters
    ----------
    projections : Tensor of shape (B, angle, column), float32
        For a cone beam (row, angle, column). Filtered and multiplied by the weights of
        the angles.
    geometry : ParallelGeometry

    Returns
    -------
    Tensor of shape (B, N, N); cone: (Z, N, N)
        Not differentiable.
    """
    if projections.device.type != "cpu":
        return smear_tensors(projections, geometry)
    values = projections.detach().numpy()
    if isinstance(geometry, ConeGeometry):
        return torch.from_numpy(_cone_loops(values, geometry))
    out = torch.empty((len(values), *geometry.volume_shape), dtype=torch.float32)
    parts = passes(len(values), geometry.size, COPIES, geometry.batch)
    for part, is_many in parts:
        out[part] = torch.from_numpy(_loops(values[part], geometry, is_many))
    return out


def _turns(
    geometry: ParallelGeometry,
) -> tuple[AnyArray, AnyArray, np.float32, np.float32]:
    """Return the cosines, sines, centre and k, as `smear_compiled` needs them."""
    angle = np.deg2rad(geometry.angles)
    k = 0.0
    if isinstance(geometry, FanGeometry):
        k = geometry.voxel_size / geometry.source_distance
    return (
        np.cos(angle).astype(np.float32),
        np.sin(angle).astype(np.float32),
        np.float32(geometry.centre),
        np.float32(k),
    )


def _loops(values: AnyArray, geometry: ParallelGeometry, is_many: bool) -> AnyArray:
    from napari_geosr.physics.projection import smear_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    n, margin = geometry.size, (loops.LEFT, loops.RIGHT)
    if not is_many:
        padded = np.pad(values[0], ((0, 0), margin))
        out = np.zeros((n, n), np.float32)
        in_threads(loops.smear_one, n, *_turns(geometry), padded, out)
        return out[None]
    padded = np.pad(values.transpose(1, 2, 0), ((0, 0), margin, (0, 0)))
    out = np.zeros((n, n, len(values)), np.float32)
    in_threads(loops.smear_many, n, *_turns(geometry), padded, out)
    return out.transpose(2, 0, 1)


def _cone_loops(values: AnyArray, geometry: ConeGeometry) -> AnyArray:
    from napari_geosr.physics.projection import smear_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    n, margin = geometry.size, (loops.LEFT, loops.RIGHT)
    padded = np.pad(values.transpose(1, 2, 0), ((0, 0), margin, margin))
    out = np.zeros((n, n, geometry.n_slices), np.float32)
    # Use positions relative to the whole cone: positions relative to a slab would be
    # rounded differently.
    rise = (
        np.float32(geometry.row_centre + geometry.first_row),
        np.float32(geometry.slice_centre + geometry.first_slice),
        np.float32(geometry.pixel_size / geometry.row_size),
        np.int32(geometry.first_row),
        np.int32(geometry.first_slice),
    )
    in_threads(loops.smear_cone, n, *_turns(geometry), *rise, padded, out)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def smear_tensors(projections: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Back-project with tensor operations only, on any device; see `smear`."""
    cone = isinstance(geometry, ConeGeometry)
    if cone:  # flattened (angle, row, column)
        table = projections.transpose(0, 1).reshape(-1, 1).contiguous()
    else:  # flattened (angle, column), one column per slice
        table = projections.reshape(len(projections), -1).T.contiguous()
    shape = geometry.volume_shape
    out = torch.zeros((int(np.prod(shape)), table.shape[1]), device=projections.device)
    chunk = chunk_length(projections.device, len(out) * (160 if cone else 80))
    for start in range(0, geometry.n_angles, chunk):
        part = slice(start, start + chunk)
        index, weight = _places(geometry, part, projections.device)
        out += functional.embedding_bag(
            index, table, per_sample_weights=weight, mode="sum"
        )
    if cone:
        return out.reshape(shape)
    return out.T.reshape(-1, *shape).contiguous()


def _places(
    geometry: ParallelGeometry, part: slice, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return detector positions and weights (voxel, taps) at some angles."""
    n, n_columns = geometry.size, geometry.n_columns
    cos, sin, centre, k = _turns(geometry)
    c = torch.from_numpy(cos[part]).to(device)[None]
    s = torch.from_numpy(sin[part]).to(device)[None]
    number = torch.arange(geometry.n_angles, device=device)[part][None]
    position = torch.arange(n, device=device) - (n - 1) / 2
    x, y = position.repeat(n)[:, None], position.repeat_interleave(n)[:, None]
    over = 1 / (1 + float(k) * (y * c - x * s))
    column, share = linear_taps(
        float(centre) + (x * c + y * s) * over, n_columns, dim=-1
    )
    weight = share * over[..., None] ** 2  # (pixel, angle, 2)
    if not isinstance(geometry, ConeGeometry):
        index = number[..., None] * n_columns + column
        return index.flatten(1), weight.flatten(1)
    n_rows, n_slices = geometry.n_rows, geometry.n_slices
    z = torch.arange(n_slices, device=device)[:, None, None] - geometry.slice_centre
    height = z * over * (geometry.pixel_size / geometry.row_size)
    place = geometry.row_centre + geometry.first_row + height
    row, row_share = linear_taps(place, n_rows, dim=-1, first=geometry.first_row)
    line = (number[..., None] * n_rows + row) * n_columns  # (Z, pixel, angle, 2)
    index = line[..., None] + column[..., None, :]
    weight = row_share[..., None] * weight[..., None, :]
    return index.flatten(0, 1).flatten(1), weight.flatten(0, 1).flatten(1)
