"""Build training pairs of low- and high-resolution volumes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from napari_geosr.api.arrays import VolumeLike, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.volume import Volume
from napari_geosr.operations.pairs import Pairs, PairsConfig, pairs_steps


def build_pairs(
    low: VolumeLike,
    high: VolumeLike,
    out: str | Path,
    *,
    axes: str | None = None,
    overwrite: bool = False,
    upscale_factor: int | None = None,
    dimensions: Literal["3D", "2D"] = "3D",
    memory: str | None = None,
    start: Literal["search", "centres", "positions"] = "search",
    offset: tuple[float, ...] | None = None,
    search_angle: float = 10.0,
    transform: Literal["translation", "rigid", "similarity"] = "rigid",
    intensity: Literal["linear", "histogram", "none"] = "linear",
) -> Pairs:
    """Align a low- and a high-resolution scan of one object and write them as a pair.

    The low-resolution scan is cropped to the common region; the high-resolution scan is
    resampled onto its grid, subdivided by the upscale factor. Requires SimpleITK (``pip
    install "napari-geosr[registration]"``).

    Parameters
    ----------
    low, high : Volume or array
        Shape (Z, Y, X) or (Y, X), with any voxel sizes and units of length. Two
        plain arrays require `upscale_factor`, because they have no voxel size; their
        corners at the start of all axes are assumed to coincide.
    out : path
        Folder for the files; created if missing.
    axes : str, optional
        Meaning of the axes of plain arrays, ``"ZYX"`` or ``"YX"`` by default.
    overwrite : bool
        Whether to replace the files of an earlier pair.
    upscale_factor : int, optional
        Number of high-resolution voxels per low-resolution voxel along an axis; by
        default calculated from the voxel sizes.
    dimensions : {"3D", "2D"}
        ``"2D"``: upscale only Y and X, for networks that work on slices.
    memory : str, optional
        Memory limit, e.g. ``"4GB"``; by default a fraction of the free memory.
    start : {"search", "centres", "positions"}
        Initial position of the high-resolution scan: found by a search in the whole
        low-resolution scan, with the centres aligned, or according to the origins.
    offset : tuple of float, optional
        Initial position instead of `start`: vector from the corner of the
        low-resolution scan (at the start of all axes) to the same corner of the
        high-resolution scan, as (Z, Y, X) in the unit of the low-resolution scan.
    search_angle : float
        Maximum rotation around Z in the search, in degrees, in either direction.
    transform : {"translation", "rigid", "similarity"}
        Degrees of freedom of the alignment: shift; shift and rotation; or shift,
        rotation and scale.
    intensity : {"linear", "histogram", "none"}
        How the grey values of the high-resolution scan are matched to those of the
        low-resolution scan.

    Returns
    -------
    Pairs
        Contains the paths of the `files`, a `report` on how well the scans match, and
        `layers` to view.

    Raises
    ------
    ConfigError
        If SimpleITK is not installed, or a setting does not fit the scans.
    VolumeError
        If the scans do not overlap, or contain NaN or infinite voxels.
    FileError
        If a file exists and `overwrite` is False, or if a file cannot be written.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> rng = np.random.default_rng(0)
    >>> coarse = rng.random((8, 8, 8)).repeat(6, 0).repeat(6, 1).repeat(6, 2)
    >>> high = geosr.Volume.from_array(coarse.astype("f4"), voxel_size=1.0, unit="µm")
    >>> means = high.data.reshape(24, 2, 24, 2, 24, 2).mean((1, 3, 5))
    >>> low = geosr.Volume.from_array(means, voxel_size=2.0, unit="µm")
    >>> pair = geosr.build_pairs(low, high, "pair", start="centres")
    >>> pair.report["upscale_factor"], sorted(pair.files)
    (2, ['high', 'low', 'picture', 'report'])
    """
    config = PairsConfig.create(
        upscale_factor=upscale_factor,
        dimensions=dimensions,
        memory=memory,
        start=start,
        offset=offset,
        search_angle=search_angle,
        transform=transform,
        intensity=intensity,
    )
    # If only one input is a volume, `axes` describes the other one, an array.
    is_volume = isinstance(low, Volume), isinstance(high, Volume)
    coarse = as_volume(low, None if is_volume == (True, False) else axes, name="low")
    fine = as_volume(high, None if is_volume[1] else axes, name="high")
    if not any(is_volume) and upscale_factor is not None:
        factors = config.factors(len(fine.axes), upscale_factor)
        fine = _refined(fine, factors)
    steps = pairs_steps(
        coarse,
        fine,
        out,
        config,
        overwrite=overwrite,
    )
    return run_with_warnings(steps)


def _refined(volume: Volume, factors: Sequence[int]) -> Volume:
    """Divide the voxel size by the factor along each axis; keep the extent.

    `volume` must have a voxel size of 1 pixel, and its first voxel must be centred
    at 0.
    """
    size = tuple(1 / factor for factor in factors)
    origin = tuple((edge - 1) / 2 for edge in size)
    return volume.replace(voxel_size=size, origin=origin)
