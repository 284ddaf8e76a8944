"""Project a volume onto a flat detector with a cone beam, all slices at once.

The two implementations correspond to those in `slicewise`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.geometry import ConeGeometry
from napari_geosr.physics.projection.rays import rays_of, row_heights
from napari_geosr.physics.projection.taps import chunk_length, linear_taps


def project(volume: Tensor, geometry: ConeGeometry) -> Tensor:
    """Compute line integrals (B, row, angle, column) of volumes (B, Z, N, N)."""
    if volume.device.type != "cpu":
        return project_tensors(volume, geometry)
    results = [_project_loops(one.detach().numpy(), geometry) for one in volume]
    return torch.from_numpy(np.stack(results))


def backproject(sinogram: Tensor, geometry: ConeGeometry) -> Tensor:
    """Apply the exact adjoint of `project`."""
    if sinogram.device.type != "cpu":
        return backproject_tensors(sinogram, geometry)
    results = [_spread_loops(one.detach().numpy(), geometry) for one in sinogram]
    return torch.from_numpy(np.stack(results))


def _steps(geometry: ConeGeometry) -> Any:
    """Return the length of each ray (angle, column, row) between two voxel planes."""
    rays = rays_of(geometry)
    h = geometry.voxel_size
    rise = row_heights(geometry) * rays.depth_slope[..., None] * h
    return np.sqrt(rays.step[..., None] ** 2 + rise**2)


def _lines(geometry: ConeGeometry) -> tuple[AnyArray, AnyArray, AnyArray]:
    if geometry.size < 2:
        raise ProjectionsError("A cone beam needs slices of at least 2 × 2 voxels.")
    r = rays_of(geometry)
    parts = (r.offset, r.slope, r.depth_offset, r.depth_slope)
    return np.stack(parts, axis=-1), r.along_y, row_heights(geometry)


def _padded_slices(geometry: ConeGeometry, padding: int) -> Any:
    """Allocate zeros for slices in both orientations, with padding for the loops."""
    n, depth = geometry.size, geometry.n_slices + padding
    return np.zeros((2, n, n, depth), np.float32)


def _project_loops(volume: AnyArray, geometry: ConeGeometry) -> AnyArray:
    from napari_geosr.physics.projection import cone_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    both = _padded_slices(geometry, loops.LEFT + loops.RIGHT)
    both[0, ..., loops.LEFT : -loops.RIGHT] = volume.transpose(2, 1, 0)
    both[1, ..., loops.LEFT : -loops.RIGHT] = volume.transpose(1, 2, 0)
    n_rows, n_angles, n_columns = geometry.sinogram_shape
    out = np.zeros((n_angles, n_columns, n_rows), np.float32)
    lines = (*_lines(geometry), np.float32(geometry.slice_centre))
    in_threads(loops.project_cone, n_angles * n_columns, *lines, both, out)
    out *= _steps(geometry)
    return np.ascontiguousarray(out.transpose(2, 0, 1))


def _spread_loops(sinogram: AnyArray, geometry: ConeGeometry) -> AnyArray:
    from napari_geosr.physics.projection import cone_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    both = _padded_slices(geometry, loops.LEFT + loops.RIGHT)
    values = np.ascontiguousarray(sinogram.transpose(1, 2, 0)) * _steps(geometry)
    lines = (*_lines(geometry), np.float32(geometry.slice_centre))
    in_threads(loops.spread_cone, geometry.size, *lines, values, both)
    inner = both[..., loops.LEFT : -loops.RIGHT]
    return np.ascontiguousarray(
        inner[1].transpose(2, 0, 1) + inner[0].transpose(2, 1, 0)
    )


def project_tensors(volume: Tensor, geometry: ConeGeometry) -> Tensor:
    """Project with tensor operations only, on any device; see `project`."""
    voxels = volume.reshape(len(volume), -1).T.contiguous()
    n_rows, n_angles, n_columns = geometry.sinogram_shape
    out = torch.empty((n_angles * n_columns, n_rows, len(volume)), device=volume.device)
    for part, index, weight in _taps(geometry, volume):
        sums = torch.nn.functional.embedding_bag(
            index.flatten(0, 1),
            voxels,
            per_sample_weights=weight.flatten(0, 1),
            mode="sum",
        )
        out[part] = sums.reshape(*index.shape[:2], -1)
    out *= torch.from_numpy(_steps(geometry)).to(out.device).reshape(-1, n_rows, 1)
    shaped = out.reshape(n_angles, n_columns, n_rows, len(volume))
    return shaped.permute(3, 2, 0, 1).contiguous()


def backproject_tensors(sinogram: Tensor, geometry: ConeGeometry) -> Tensor:
    """Back-project with tensor operations only, on any device; see `backproject`."""
    batch, n_rows = sinogram.shape[:2]
    step = torch.from_numpy(_steps(geometry)).to(sinogram.device)
    values = sinogram.permute(2, 3, 1, 0) * step[..., None]
    values = values.reshape(-1, n_rows, batch)
    n_voxels = geometry.n_slices * geometry.size**2
    out = torch.zeros((n_voxels, batch), device=sinogram.device)
    for part, index, weight in _taps(geometry, sinogram):
        shares = weight[..., None] * values[part, :, None, :]
        out.index_add_(0, index.flatten(), shares.reshape(-1, batch))
    return out.T.reshape(batch, *geometry.volume_shape).contiguous()


def _taps(
    geometry: ConeGeometry, like: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield voxel indices and weights (column, row, 4 N) for chunks of columns."""
    n, nz, n_rows = geometry.size, geometry.n_slices, geometry.n_rows
    lines, along_y, heights = (
        torch.from_numpy(part).to(like.device) for part in _lines(geometry)
    )
    lines, along_y = lines.reshape(-1, 4), along_y.reshape(-1)
    along = torch.arange(n, device=like.device)
    chunk = chunk_length(like.device, 4 * n * n_rows * (40 + 4 * len(like)))
    for start in range(0, len(lines), chunk):
        part = slice(start, start + chunk)
        a, b, c, d = lines[part, :, None].unbind(1)
        x, x_weight = linear_taps(a + b * along, n, dim=1)  # (column, 2, N)
        depth = c + d * along
        z = geometry.slice_centre + heights[:, None] * depth[:, None, :]
        z, z_weight = linear_taps(z.flatten(0, 1), nz, dim=1)
        z = z.reshape(-1, n_rows, 2, 1, n)
        z_weight = z_weight.reshape(z.shape)
        flat = torch.where(along_y[part, None, None], along * n + x, x * n + along)
        index = flat[:, None, None] + z * n * n
        weight = x_weight[:, None, None] * z_weight
        yield part, index.flatten(2), weight.flatten(2)
