"""Plan how many spots of a sample to scan."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from napari_geosr.api.arrays import VolumeLike, as_companion, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.operations.measure.mask import check_known_place
from napari_geosr.operations.measure.planning import PlanConfig, plan_steps

if TYPE_CHECKING:
    from napari_geosr.operations.measure.planning import ScanPlan


def plan_scan(
    volume: VolumeLike,
    mask: VolumeLike | None = None,
    *,
    axes: str | None = None,
    spot: float | str = "10%",
    precision: float | str = 0.05,
    confidence: float | str = 0.95,
    scan: Literal["whole", "spot"] = "whole",
    threshold: Literal["otsu", "multi-otsu", "li", "triangle"] | float = "otsu",
    local_window: int | None = None,
    hysteresis: float | None = None,
    phase: Literal["dark", "bright"] = "dark",
    sample_mask: Literal["none", "auto", "cortex", "marrow"] = "none",
    mask_closing: int = 5,
    connectivity: Literal[6, 26] = 26,
    seed: int = 0,
    hours_per_spot: float | None = None,
    kilowatts: float | None = None,
    kilograms_per_kilowatt_hour: float = 0.06,
    memory: str | None = None,
) -> ScanPlan:
    """Plan the number, size and positions of scans to measure porosity precisely.

    Parameters
    ----------
    volume : Volume or array
        A low-resolution scan of the whole sample, or a high-resolution scan of one
        spot.
    mask : Volume or array, optional
        Sample mask; non-zero voxels belong to the sample.
    axes : str, optional
        Axes of an array, such as ``"ZYX"``.
    spot : float or str
        Edge length of a spot: ``"200um"``, ``"50voxels"``, a number in the unit of the
        voxel size, or ``"10%"`` of the scan's shortest edge.
    precision : float or str
        Largest acceptable relative error of the porosity, such as ``"5%"`` or 0.05.
    confidence : float or str
        Probability that the error does not exceed `precision`, such as ``"95%"`` or
        0.95.
    scan : {"whole", "spot"}
        Whether the scan shows the whole sample, or one spot of a larger one.
    threshold : str or float
        Method used to find the threshold, or a grey value.
    local_window : int, optional
        Compare grey values with their local mean in a window of this many voxels.
    hysteresis : float, optional
        Keep only pores with at least one voxel that lies beyond the threshold by this
        fraction of the distance between the threshold and the mean grey value of the
        pores.
    phase : {"dark", "bright"}
        Whether pores are at or below the threshold, or above it.
    sample_mask : {"none", "auto", "cortex", "marrow"}
        Whether the sample is the whole volume, the largest solid object with its pores,
        or part of a bone aligned with Z.
    mask_closing : int
        For an automatic sample mask: close openings up to twice this many voxels wide.
    connectivity : {6, 26}
        Number of neighbours of a voxel that can belong to the same pore; used for the
        hysteresis.
    seed : int
        Seed for the random positions.
    hours_per_spot : float, optional
        Duration of the scan of one spot, in hours; adds scan times to the plan.
    kilowatts : float, optional
        Power of the scanner, in kW; adds energy and CO2eq to the plan.
    kilograms_per_kilowatt_hour : float
        Mass of CO2eq per kWh of electricity, in kilograms.
    memory : str, optional
        Memory limit, such as ``"4GB"``; by default a fraction of the free memory.

    Returns
    -------
    ScanPlan
        Contains the number of spots (`n_spots`), their positions (`spots`), the
        half-width of the resulting confidence interval (`half_width`), and the same
        values for other spot sizes (`sizes`).

    Raises
    ------
    ConfigError, VolumeError
        If a setting or the volume is invalid; the message states what is wrong.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> import warnings
    >>> warnings.simplefilter("ignore")
    >>> grey = np.random.default_rng(0).choice([50, 200], (64, 64, 64), p=[0.2, 0.8])
    >>> scan = geosr.Volume.from_array(grey.astype("u1"), voxel_size=5.0, unit="µm")
    >>> plan = geosr.plan_scan(scan, spot="80um", precision="2%")
    >>> plan.n_spots, plan.n_possible
    (8, 64)
    """
    config = PlanConfig.create(
        spot=spot,
        precision=precision,
        confidence=confidence,
        scan=scan,
        threshold=threshold,
        local_window=local_window,
        hysteresis=hysteresis,
        phase=phase,
        sample_mask=sample_mask,
        mask_closing=mask_closing,
        connectivity=connectivity,
        seed=seed,
        hours_per_spot=hours_per_spot,
        kilowatts=kilowatts,
        kilograms_per_kilowatt_hour=kilograms_per_kilowatt_hour,
        memory=memory,
    )
    scanned = as_volume(volume, axes)
    sample = None
    if mask is not None:
        sample = as_companion(mask, axes, name="mask", like=scanned)
        check_known_place(sample, scanned)
    return run_with_warnings(plan_steps(scanned, config, sample))
