"""Compare two volumes of the same voxels: grey values, and figures of their pores."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import Cancelled, ConfigError, VolumeError
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.core.volume import Volume
from napari_geosr.measure.quality import psnr, ssim
from napari_geosr.operations.measure import MeasureConfig, measure_several_steps
from napari_geosr.operations.measure.grey_levels import one_volume

if TYPE_CHECKING:
    import pandas as pd

    from napari_geosr.measure.report import PorosityReport

#: Width of the window of SSIM in voxels: a Gaussian of sd 1.5, cut at 3.5 sd.
_SSIM_WINDOW = 11
#: Relative difference of voxel sizes that rounding in files explains.
_SAME_SIZE = 0.01
#: Numbers of a report that are settings, not figures.
_SETTINGS = {"min_voxels", "connectivity"}


@dataclass(frozen=True, eq=False)
class Comparison:
    """How a volume differs from a reference.

    Attributes
    ----------
    psnr : float
        Peak signal-to-noise ratio in dB; infinite where both are equal.
    ssim : float or None
        Mean structural similarity; None where an axis has fewer than 11 voxels, the
        width of its window.
    data_range : float
        Range of grey values that both refer to.
    volume, reference : PorosityReport
        Pores of either, measured by the same rules.
    """

    psnr: float
    ssim: float | None
    data_range: float
    volume: PorosityReport = field(repr=False)
    reference: PorosityReport = field(repr=False)

    def to_dict(self) -> AnyDict:
        """All figures as what JSON can hold; `psnr` is None where it is infinite."""
        return {
            "psnr": self.psnr if math.isfinite(self.psnr) else None,
            "ssim": self.ssim,
            "data_range": self.data_range,
            "volume": self.volume.to_json_dict(),
            "reference": self.reference.to_json_dict(),
        }

    def to_dataframe(self) -> pd.DataFrame:
        """One row for either volume, one column for each figure.

        PSNR and SSIM stand in the row of the volume; figures that are not known are
        NaN.
        """
        import pandas as pd

        rows = {
            "volume": {"psnr": self.psnr, "ssim": self.ssim, **_figures(self.volume)},
            "reference": _figures(self.reference),
        }
        table = pd.DataFrame.from_dict(rows, orient="index")
        return table.astype(float)


def _figures(report: PorosityReport) -> dict[str, float | None]:
    """The single numbers of a report."""
    return {
        name: value
        for name, value in report.to_json_dict().items()
        if name not in _SETTINGS
        and (value is None or isinstance(value, int | float))
        and not name.endswith("unit")
    }


def compare_steps(
    volume: Volume,
    reference: Volume,
    config: MeasureConfig | None = None,
    *,
    data_range: float | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Comparison]:
    """Compare two volumes voxel by voxel, and measure the pores of both.

    Parameters
    ----------
    volume, reference : Volume
        Axes (Z, Y, X) or (Y, X), of the same shape and voxel size; read into memory.
    config : MeasureConfig, optional
        How pores are measured.
    data_range : float, optional
        Range of grey values that PSNR and SSIM refer to; by default from the smallest
        to the largest value of `reference`.

    Yields
    ------
    Step
        `StageStarted`, `BlockDone` and `Warned`.

    Returns
    -------
    Comparison

    Raises
    ------
    VolumeError
        If shapes or voxel sizes differ, or values are not finite, or `reference` is
        constant and there is no `data_range`.
    Cancelled
        If `should_stop` says so.
    """
    volume, reference = one_volume(volume), one_volume(reference)
    _refuse_other_voxels(volume, reference)
    yield StageStarted(message="Comparing grey values")
    image, truth = _finite(volume), _finite(reference)
    if data_range is None:
        data_range = float(truth.max()) - float(truth.min())
        if data_range == 0:
            raise VolumeError(
                f"{reference.title} has one grey value alone, so PSNR and SSIM have no "
                "range to refer to. Give the data range."
            )
    if not 0 < data_range < math.inf:
        raise ConfigError(
            f"The data range must be a number greater than zero, not {data_range}."
        )
    ratio = psnr(image, truth, data_range)
    if should_stop():
        raise Cancelled("The comparison was cancelled.")
    similarity = None
    if min(truth.shape) >= _SSIM_WINDOW:
        similarity = ssim(image, truth, data_range)
    reports = yield from measure_several_steps(
        {"volume": volume, "reference": reference},
        config or MeasureConfig(),
        keep_labels=False,
        should_stop=should_stop,
    )
    return Comparison(
        ratio, similarity, data_range, reports["volume"], reports["reference"]
    )


def _refuse_other_voxels(volume: Volume, reference: Volume) -> None:
    if (volume.axes, volume.shape) != (reference.axes, reference.shape):
        raise VolumeError(
            f"{volume.title} has shape {volume.shape} and {reference.title} "
            f"{reference.shape}: only volumes of the same voxels can be compared. "
            "Resample one of them first."
        )
    if not (volume.has_physical_size and reference.has_physical_size):
        return
    ours, theirs = (
        np.array(each.voxel_size) * MILLIMETRES[each.unit]
        for each in (volume, reference)
    )
    if not np.allclose(ours, theirs, rtol=_SAME_SIZE, atol=0):
        raise VolumeError(
            f"The voxels of {volume.title} ({volume.voxel_size} {volume.unit}) and of "
            f"{reference.title} ({reference.voxel_size} {reference.unit}) differ in "
            "size: only volumes of the same voxels can be compared. Check both sizes, "
            "or resample one of them."
        )


def _finite(volume: Volume) -> AnyArray:
    values = np.asarray(volume)
    missing = values.size - int(np.count_nonzero(np.isfinite(values)))
    if missing:
        raise VolumeError(
            f"{volume.title} has {missing} NaN or infinite voxels: PSNR and SSIM need "
            "all of them. Cut both volumes to where they are finite."
        )
    return values
