"""Compare two volumes."""

from __future__ import annotations

from typing import Literal

from napari_geosr.api.arrays import VolumeLike, as_pair
from napari_geosr.api.running import run_with_warnings
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure.comparison import Comparison, compare_steps


def compare(
    volume: VolumeLike,
    reference: VolumeLike,
    *,
    axes: str | None = None,
    data_range: float | None = None,
    threshold: Literal["otsu", "multi-otsu", "li", "triangle"] | float = "otsu",
    phase: Literal["dark", "bright"] = "dark",
    min_voxels: int = 8,
    connectivity: Literal[6, 26] = 26,
) -> Comparison:
    """Compare the grey values and the pores of two volumes of the same voxels.

    Both are read into memory.

    Parameters
    ----------
    volume, reference : Volume or array
        Shape (Z, Y, X) or (Y, X), finite real values, the same shape and voxel size.
        An array lies where the other one does.
    axes : str, optional
        Meaning of the axes of plain arrays, ``"ZYX"`` or ``"YX"`` by default.
    data_range : float, optional
        Range of grey values that PSNR and SSIM refer to; by default that of
        `reference`, from its smallest to its largest value.
    threshold : {"otsu", "multi-otsu", "li", "triangle"} or float
        Rule that finds the grey value between pore and solid in each of the two, or
        one value for both.
    phase : {"dark", "bright"}
        Dark pores are at or below the threshold, bright pores above it.
    min_voxels : int
        Smaller pores are not counted.
    connectivity : {6, 26}
        Neighbours that join pore voxels; in images 4 and 8.

    Returns
    -------
    Comparison
        With `psnr`, `ssim`, a `PorosityReport` of each, `to_dict` and `to_dataframe`.

    Raises
    ------
    ConfigError, VolumeError
        With one sentence saying what is wrong and what to do.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> true = np.full((16, 32, 32), 200.0)
    >>> true[4:10, 5:15, 5:15] = 100
    >>> noisy = true + np.random.default_rng(0).normal(0, 10, true.shape)
    >>> found = geosr.compare(noisy, true)
    >>> round(found.psnr), found.reference.pore_count
    (20, 1)
    >>> found.to_dataframe()[["psnr", "pore_count"]].round(1)
               psnr  pore_count
    volume     20.0         1.0
    reference   NaN         1.0
    """
    config = MeasureConfig.create(
        threshold=threshold,
        phase=phase,
        min_voxels=min_voxels,
        connectivity=connectivity,
    )
    first, second = as_pair(volume, reference, axes, ("volume", "reference"))
    steps = compare_steps(first, second, config, data_range=data_range)
    return run_with_warnings(steps)
