"""Project every slice onto its own detector row, with a parallel or fan beam.

There are two equivalent implementations: compiled loops on the CPU, and tensors of
indices and weights, in chunks of rays, on any other device.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from napari_geosr.core.types import AnyArray
from napari_geosr.physics.projection.batches import passes
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.projection.rays import rays_of
from napari_geosr.physics.projection.taps import chunk_length, linear_taps

#: Number of copies of a slice in memory during projection.
COPIES = 2


def project(volume: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Compute line integrals (B, angle, column) of slices (B, N, N), float32."""
    if volume.device.type == "cpu":
        return _by_groups(volume, geometry.sinogram_shape, _project_loops, geometry)
    return project_tensors(volume, geometry)


def backproject(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Apply the exact adjoint of `project`: (B, angle, column) to slices (B, N, N)."""
    if sinogram.device.type == "cpu":
        return _by_groups(sinogram, geometry.volume_shape, _spread_loops, geometry)
    return backproject_tensors(sinogram, geometry)


def _by_groups(
    source: Tensor,
    shape: tuple[int, ...],
    work: Callable[[Any, ParallelGeometry, bool], Any],
    geometry: ParallelGeometry,
) -> Tensor:
    """Apply `work` to groups of slices, with the slice axis moved to the end."""
    out = torch.empty((len(source), *shape), dtype=torch.float32)
    parts = passes(len(source), geometry.size, COPIES, geometry.batch)
    for part, is_many in parts:
        group = source[part].detach().movedim(0, -1)
        out[part] = torch.from_numpy(
            work(group.contiguous().numpy(), geometry, is_many)
        ).movedim(-1, 0)
    return out


def _project_loops(
    slices: AnyArray, geometry: ParallelGeometry, is_many: bool
) -> AnyArray:
    from napari_geosr.physics.projection import joseph_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    rays, n, batch = rays_of(geometry), geometry.size, slices.shape[-1]
    both = np.zeros((2, n, n + loops.LEFT + loops.RIGHT, batch), np.float32)
    both[0, :, loops.LEFT : -loops.RIGHT] = slices.swapaxes(0, 1)
    both[1, :, loops.LEFT : -loops.RIGHT] = slices
    out = np.zeros((*geometry.sinogram_shape, batch), np.float32)
    lines = (rays.runs, rays.offset, rays.slope)
    if not is_many:
        in_threads(loops.project_one, len(rays.runs), *lines, both[..., 0], out[..., 0])
    else:
        in_threads(loops.project_many, len(rays.runs), *lines, both, out)
    out *= rays.step[..., None]
    return out


def _spread_loops(sinogram: AnyArray, geometry: ParallelGeometry, is_many: bool) -> Any:
    from napari_geosr.physics.projection import joseph_compiled as loops
    from napari_geosr.physics.projection.compiled import in_threads

    rays, n, batch = rays_of(geometry), geometry.size, sinogram.shape[-1]
    both = np.zeros((2, n, n + loops.LEFT + loops.RIGHT, batch), np.float32)
    values = sinogram * rays.step[..., None]
    lines = (rays.runs, rays.offset, rays.slope)
    if not is_many:
        in_threads(loops.spread_one, n, *lines, values[..., 0], both[..., 0])
    else:
        in_threads(loops.spread_many, n, *lines, values, both)
    inner = both[:, :, loops.LEFT : -loops.RIGHT]
    return inner[1] + inner[0].swapaxes(0, 1)


def project_tensors(volume: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Project with tensor operations only, on any device; see `project`."""
    pixels = volume.reshape(len(volume), -1).T.contiguous()
    step = _ray_tensor(rays_of(geometry).step, volume)
    out = torch.empty((step.numel(), len(volume)), device=volume.device)
    for part, index, weight in _taps(geometry, volume):
        out[part] = torch.nn.functional.embedding_bag(
            index, pixels, per_sample_weights=weight, mode="sum"
        )
    out *= step[:, None]
    return out.T.reshape(len(volume), *geometry.sinogram_shape)


def backproject_tensors(sinogram: Tensor, geometry: ParallelGeometry) -> Tensor:
    """Back-project with tensor operations only, on any device; see `backproject`."""
    step = _ray_tensor(rays_of(geometry).step, sinogram)
    values = sinogram.reshape(len(sinogram), -1).T * step[:, None]
    out = torch.zeros((geometry.size**2, len(sinogram)), device=sinogram.device)
    for part, index, weight in _taps(geometry, sinogram):
        shares = weight[..., None] * values[part, None, :]
        out.index_add_(0, index.flatten(), shares.flatten(0, 1))
    return out.T.reshape(len(sinogram), *geometry.volume_shape)


def _taps(
    geometry: ParallelGeometry, like: Tensor
) -> Iterator[tuple[slice, Tensor, Tensor]]:
    """Yield the pixel indices and weights for chunks of rays: (ray, 2 N)."""
    n, rays = geometry.size, rays_of(geometry)
    offset, slope = _ray_tensor(rays.offset, like), _ray_tensor(rays.slope, like)
    along_y = _ray_tensor(rays.along_y, like)
    along = torch.arange(n, device=like.device)
    chunk = chunk_length(like.device, 2 * n * (40 + 4 * len(like)))
    for start in range(0, len(offset), chunk):
        part = slice(start, start + chunk)
        across = offset[part, None] + slope[part, None] * along
        both, weight = linear_taps(across, n, dim=1)
        index = torch.where(
            along_y[part, None, None], along * n + both, both * n + along
        )
        yield part, index.flatten(1), weight.flatten(1)


def _ray_tensor(values: object, like: Tensor) -> Tensor:
    return torch.from_numpy(values).flatten().to(like.device)
