"""Shape and position of a reconstruction, and of its planes."""

from __future__ import annotations

from napari_geosr.core.array_parts.indexing import Slices
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.types import AnyDict


def geometry(frames: SimFrames, upscale_factor: int) -> AnyDict:
    """Return the shape, axes, voxel size, unit and origin of a result."""
    volume = frames.volume
    axes = frames.result_axes
    lengths = {
        "T": frames.n_times,
        "C": frames.n_channels,
        "Z": frames.n_planes,
        "Y": upscale_factor * frames.plane_shape[0],
        "X": upscale_factor * frames.plane_shape[1],
    }
    sizes = dict(zip(volume.spatial_axes, volume.voxel_size, strict=True))
    places = dict(zip(volume.spatial_axes, volume.origin, strict=True))
    size, origin = [], []
    for axis in axes:
        if axis not in "ZYX":
            continue
        s = 1 if axis == "Z" else upscale_factor
        edge = sizes.get(axis, 1.0)
        size.append(edge / s)
        origin.append(places.get(axis, 0.0) - (s - 1) / (2 * s) * edge)
    return {
        "shape": tuple(lengths[a] for a in axes),
        "axes": axes,
        "voxel_size": tuple(size),
        "unit": volume.unit,
        "origin": tuple(origin),
    }


def place_of(
    frames: SimFrames, upscale_factor: int, time: int, channel: int, plane: int
) -> Slices:
    """Return the index of a plane in the array of a result."""
    at = {"T": time, "C": channel, "Z": plane}
    axes = [axis for axis in frames.result_axes if axis in at]
    rows, columns = (slice(0, n * upscale_factor) for n in frames.plane_shape)
    return (*(slice(at[a], at[a] + 1) for a in axes), rows, columns)
