"""Compare volumes of the same object."""

from __future__ import annotations

from typing import Literal

from napari_geosr.api.arrays import VolumeLike, as_companion, as_pair
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.volume import Volume
from napari_geosr.operations.compare import (
    CompareConfig,
    QualityReport,
    compare_steps,
)


def compare(
    before: VolumeLike,
    after: VolumeLike,
    reference: VolumeLike | None = None,
    *,
    mask: VolumeLike | None = None,
    halves: tuple[VolumeLike, VolumeLike] | None = None,
    axes: str | None = None,
    data_range: float | None = None,
    affine: bool = False,
    ssim: Literal["auto", "volume", "slices"] = "auto",
    pores: bool = True,
    graph: bool = False,
    graph_distance: float | None = None,
    difference: bool = True,
    threshold: Literal["otsu", "multi-otsu", "li", "triangle"] | float = "otsu",
    phase: Literal["dark", "bright"] = "dark",
    min_voxels: int = 8,
    connectivity: Literal[6, 26] = 26,
    memory: str | None = None,
    fsc: Literal["none", "halves", "pair", "single"] = "none",
) -> QualityReport:
    """Compare volumes of the same object by grey values, noise, resolution and pores.

    Voxel sizes, extents and origins may differ. Each volume is compared with the
    reference on the coarser of the two voxel grids, within their common region.

    Parameters
    ----------
    before, after : Volume or array
        Shape (Z, Y, X) or (Y, X). An array is assumed to have the position
        of the other volume.
    reference : Volume or array, optional
        Ground truth or best scan, with which `before` and `after` are compared. Without
        it, `after` is compared with `before`.
    mask : Volume or array, optional
        Sample mask; only voxels where the mask is non-zero are compared.
    halves : (Volume or array, Volume or array), optional
        Two halves of one scan, from which its resolution is computed by Fourier shell
        correlation.
    axes : str, optional
        Meaning of the axes of plain arrays, ``"ZYX"`` or ``"YX"`` by default.
    data_range : float, optional
        Range of grey values for PSNR and SSIM; by default from the 0.1th to the 99.9th
        percentile of `reference`; without a reference, the smallest such range among
        the volumes.
    affine : bool
        Fit the gain and offset before computing PSNR, SSIM, MS-SSIM, NRMSE and the
        difference.
    ssim : {"auto", "volume", "slices"}
        Whether the window of SSIM and MS-SSIM extends along all axes or lies in one
        slice.
    pores : bool
        Measure the pores of all volumes and match them one by one.
    graph : bool
        Trace the pores as networks of tubes and compare their branches.
    graph_distance : float, optional
        Maximum distance from the branches of the other volume at which a branch counts
        as found, in the unit of `before`; by default twice the voxel size of the volume
        with the larger voxels.
    difference : bool
        Compute the difference in units of the noise level.
    threshold : {"otsu", "multi-otsu", "li", "triangle"} or float
        Method used to find the threshold of each volume, or one threshold for all.
    phase : {"dark", "bright"}
        Dark pores are at or below the threshold, bright pores above it.
    min_voxels : int
        Minimum pore size, in voxels of the volume with the larger voxels; smaller pores
        are not counted.
    connectivity : {6, 26}
        Number of neighbours to which a voxel can be connected (4 or 8 in images).
    memory : str, optional
        Memory limit, such as ``"4GB"``; by default a fraction of the free memory.
    fsc : {"none", "halves", "pair", "single"}
        Data from which the resolution is computed by Fourier correlation: `halves`;
        `before` and `after`, if they are independent scans; or each volume, split in a
        checkerboard pattern.

    Returns
    -------
    QualityReport
        Contains `figures`, `shifts`, `noise`, `fourier`, `porosity`, `pores`, `graphs`,
        `scan_checks` and `differences` for each volume; `to_dict`, `to_dataframe` and
        `rows` convert it.

    Raises
    ------
    ConfigError, VolumeError
        If a setting or a volume is invalid; the message states what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> true = np.full((16, 32, 32), 200.0)
    >>> true[4:10, 5:15, 5:15] = 100
    >>> noisy = true + np.random.default_rng(0).normal(0, 10, true.shape)
    >>> found = geosr.compare(noisy, true)
    >>> round(found.psnr), found.porosity["after"].pore_count
    (20, 1)
    >>> found.to_dataframe()[["psnr", "pore_count"]].round(1)
            psnr  pore_count
    before   NaN         1.0
    after   20.0         1.0
    """
    if halves is not None and fsc == "none":
        fsc = "halves"
    config = CompareConfig.create(
        data_range=data_range,
        affine=affine,
        ssim=ssim,
        pores=pores,
        graph=graph,
        graph_distance=graph_distance,
        difference=difference,
        threshold=threshold,
        phase=phase,
        min_voxels=min_voxels,
        connectivity=connectivity,
        memory=memory,
        fsc=fsc,
    )
    first, second = as_pair(before, after, axes, ("before", "after"))
    volumes = {"before": first, "after": second}

    if halves is not None and (
        not isinstance(halves, list | tuple) or len(halves) != 2
    ):
        raise ConfigError("halves requires exactly two volumes.")

    def companion(given: VolumeLike, name: str) -> Volume:
        return as_companion(given, axes, name=name, like=first)

    if reference is not None:
        volumes["reference"] = companion(reference, "reference")
    steps = compare_steps(
        volumes,
        config,
        reference=None if reference is None else "reference",
        mask=None if mask is None else companion(mask, "mask"),
        halves=None
        if halves is None
        else (companion(halves[0], "half 1"), companion(halves[1], "half 2")),
    )
    return run_with_warnings(steps)
