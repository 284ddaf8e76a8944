"""Measure the pores of volumes."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Literal, TypeVar

from napari_geosr.api.arrays import VolumeLike, as_companion, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.errors import ConfigError
from napari_geosr.operations.measure import MeasureConfig, measure_steps
from napari_geosr.operations.measure.mask import check_known_place

if TYPE_CHECKING:
    from napari_geosr.operations.cluster import Workers
    from napari_geosr.operations.measure import PorosityReport

T = TypeVar("T")


def measure_porosity(
    volume: VolumeLike,
    mask: VolumeLike | None = None,
    *,
    deviation: VolumeLike | None = None,
    axes: str | None = None,
    threshold: Literal["otsu", "multi-otsu", "li", "triangle"] | float = "otsu",
    local_window: int | None = None,
    hysteresis: float | None = None,
    phase: Literal["dark", "bright"] = "dark",
    min_voxels: int = 8,
    connectivity: Literal[6, 26] = 26,
    sample_mask: Literal["none", "auto", "cortex", "marrow"] = "none",
    mask_closing: int = 5,
    histogram_bins: int = 20,
    interval_factor: float | None = None,
    graph: bool = False,
    statistics: tuple[str, ...] = (),
    bands: bool = False,
    group: str | None = None,
    memory: str | None = None,
    workers: Workers | None = None,
    uncertainty: VolumeLike | None = None,
    band_factor: float | None = None,
) -> PorosityReport:
    """Measure the pores of a volume or an image.

    Parameters
    ----------
    volume : Volume or array
        Shape (Z, Y, X) or (Y, X), any real dtype.
    mask : Volume or array, optional
        Sample mask; non-zero voxels belong to the sample. The mask is aligned by
        position, so its voxel size may differ from that of `volume`. An array of the
        same shape is placed at the position of `volume`. A mask that extends beyond
        `volume` needs an origin.
    deviation : Volume or array, optional
        Standard deviations that `restore_with_uncertainty` returned with `volume`; the
        report then contains an interval for the porosity.
    axes : str, optional
        Meaning of the axes of plain arrays, ``"ZYX"`` or ``"YX"`` by default; also
        for `mask` and `deviation`.
    threshold : {"otsu", "multi-otsu", "li", "triangle"} or float
        Method used to find the threshold, or the threshold itself.
    local_window : int, optional
        For uneven brightness: compare grey values with their local mean in a Gaussian
        window of this width, in voxels. By default, the threshold is the same
        everywhere.
    hysteresis : float, optional
        Keep only pores with at least one voxel that lies beyond the threshold by this
        fraction of the distance between the threshold and the mean grey value of the
        pores. By default, all pores are kept.
    phase : {"dark", "bright"}
        Dark pores are at or below the threshold, bright pores above it.
    min_voxels : int
        Minimum pore size in voxels; smaller pores are not counted or listed, but
        contribute to the porosity.
    connectivity : {6, 26}
        Number of neighbours to which a voxel can be connected (4 or 8 in images).
    sample_mask : {"none", "auto", "cortex", "marrow"}
        ``"none"``: the whole volume belongs to the sample; ``"auto"``: the sample is
        the largest solid object with its pores; ``"cortex"``, ``"marrow"``: the
        compact bone, or the marrow space with its trabeculae, of a bone aligned with Z.
    mask_closing : int
        Radius, in voxels, of the morphological closing for the automatic mask; openings
        up to twice this wide are closed.
    histogram_bins : int
        Number of logarithmic bins in the histogram of pore volumes.
    interval_factor : float, optional
        Half-width of the interval in standard deviations; by default the value
        calibrated for the model.
    graph : bool
        Whether to also trace the pores as a network of tubes; `report.graph` contains
        its nodes and branches with their lengths. This reads the volume into memory.
    statistics : tuple of str
        Further statistics, computed from the voxels of both phases, such as
        ``("trabecular", "thickness")``; their values are in `report.figures` under
        their standard names.
    bands : bool
        Whether to also measure these statistics with the threshold lowered and raised
        by 5 % of the contrast; the lowest and highest values are in the attribute
        ``bands`` of ``report.morphometry[name]``. This takes three times as long.
    group : str, optional
        Criteria for pores to be counted as a group, such as ``"diameter>20um &
        sphericity<0.6"`` (`report.group`). The column ``in_group`` of the table is 1
        for pores in the group, 0 for other pores, and NaN for pores that lack a value.
    memory : str, optional
        Memory limit, such as ``"4GB"``; by default a fraction of the free memory.
    workers : int or distributed.Client, optional
        Number of processes that share the labelling, or a client of a Dask cluster. The
        result is the same for any number of processes. Needs the extra ``cluster``.
    uncertainty : Volume or array, optional
        Earlier name of `deviation`.
    band_factor : float, optional
        Earlier name of `interval_factor`.

    Returns
    -------
    PorosityReport
        Porosity, number of pores per mm³, one row per pore (`to_dataframe`), and a
        label for every voxel.

    Raises
    ------
    ConfigError, VolumeError
        If a setting or a volume is invalid; the message states what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> solid = np.full((20, 40, 40), 200, "u1")
    >>> solid[4:10, 5:15, 5:15] = solid[4:10, 25:35, 25:35] = 50
    >>> scan = geosr.Volume.from_array(solid, voxel_size=10.0, unit="µm")
    >>> report = geosr.measure_porosity(scan)
    >>> report.porosity, report.pore_count
    (0.0375, 2)
    >>> report.to_dataframe()["volume"].tolist()
    [600000.0, 600000.0]
    """
    deviation = _current("deviation", deviation, "uncertainty", uncertainty)
    interval_factor = _current(
        "interval_factor", interval_factor, "band_factor", band_factor
    )
    config = MeasureConfig.create(
        threshold=threshold,
        local_window=local_window,
        hysteresis=hysteresis,
        phase=phase,
        min_voxels=min_voxels,
        connectivity=connectivity,
        sample_mask=sample_mask,
        mask_closing=mask_closing,
        histogram_bins=histogram_bins,
        interval_factor=interval_factor,
        graph=graph,
        statistics=statistics,
        bands=bands,
        group=group,
        memory=memory,
    )
    measured = as_volume(volume, axes)
    sample = None
    if mask is not None:
        sample = as_companion(mask, axes, name="mask", like=measured)
        check_known_place(sample, measured)
    steps = measure_steps(
        measured,
        config,
        sample,
        deviation=None
        if deviation is None
        else as_companion(deviation, axes, name="deviation", like=measured),
        workers=workers,
    )
    return run_with_warnings(steps)


def _current(name: str, value: T | None, earlier: str, former: T | None) -> T | None:
    """Return the value of the argument `name`, also if it was given as `earlier`."""
    if former is None:
        return value
    if value is not None:
        raise ConfigError(
            f"{earlier!r} is the earlier name of {name!r}. Give only one of the two."
        )
    # The warning refers to the line that called the public function.
    warnings.warn(
        f"{earlier!r} was renamed {name!r}.", DeprecationWarning, stacklevel=3
    )
    return former
