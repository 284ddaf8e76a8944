"""Evaluates the reconstructions of a study: pores first, then image quality."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.steps import ShouldStop, Step, recount
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.core.volume import Volume
from napari_geosr.measure.comparison import quality
from napari_geosr.measure.config import PorosityConfig
from napari_geosr.measure.porosity import porosity_steps
from napari_geosr.measure.segment import phase_mask
from napari_geosr.operations.study.config import StudyConfig

if TYPE_CHECKING:
    from napari_geosr.measure.reports.report import PorosityReport

Mask = npt.NDArray[np.bool_]
Picture = npt.NDArray[np.uint8]

#: Maximum number of planes for the mean structural similarity.
_SSIM_PLANES = 8
#: Width of the window for the structural similarity, in pixels.
_SSIM_WINDOW = 11
#: Edge length of the pictures, in voxels.
_PICTURE_EDGE = 320
#: Edge length of the rendered cube of pores, in voxels.
_CUBE_EDGE = 96
#: Percentiles of the reference's grey values that pictures show as black and white.
_LEVELS = (0.5, 99.5)
#: Direction of the light for renderings (depth, y, x).
_LIGHT = (0.7, -0.5, -0.5)


@dataclass(frozen=True, eq=False)
class StudyReference:
    """The reference with which all reconstructions are compared.

    Attributes
    ----------
    volume : Volume
        The evaluated rows of the ground truth, or of the full reconstruction.
    sample : ndarray of bool or None
        Sample mask; None: all voxels are sample.
    report : PorosityReport
    contrast : float
        Difference between the mean grey values of solid and pores, which is used as the
        range for the PSNR.
    levels : tuple of float
        Grey values shown as black and white in pictures.
    """

    volume: Volume
    sample: Mask | None
    report: PorosityReport
    contrast: float
    levels: tuple[float, float]


#: Number of bins per decade of the pore-volume histogram.
VOLUMES_PER_DECADE = 4


def measured_steps(
    volume: Volume, sample: Mask | None, config: StudyConfig, should_stop: ShouldStop
) -> Generator[Step, None, PorosityReport]:
    """Measure the pores with the settings of the study.

    Parameters
    ----------
    volume : Volume
    sample : ndarray of bool or None
        Sample mask; None: all voxels are sample.
    config : StudyConfig
    should_stop : callable
    """
    rules = PorosityConfig(
        threshold=config.threshold, phase=config.phase, min_voxels=config.min_voxels
    )
    steps = porosity_steps(
        volume, rules, mask=sample, keep_labels=False, should_stop=should_stop
    )
    return (yield from recount(steps))


def reference_steps(
    volume: Volume, sample: Mask | None, config: StudyConfig, should_stop: ShouldStop
) -> Generator[Step, None, StudyReference]:
    """Measure the reference volume.

    Parameters
    ----------
    volume : Volume
    sample : ndarray of bool or None
        Sample mask; None: all voxels are sample.
    config : StudyConfig
    should_stop : callable
    """
    report = yield from measured_steps(volume, sample, config, should_stop)
    voxels = np.asarray(volume.data)
    inside = voxels.ravel() if sample is None else voxels[sample]
    low = inside <= report.threshold
    contrast = float(abs(inside[~low].mean() - inside[low].mean()))
    black, white = (float(v) for v in np.percentile(inside, _LEVELS))
    return StudyReference(volume, sample, report, contrast, (black, white))


def judged_steps(
    voxels: npt.NDArray[np.float32],
    reference: StudyReference,
    config: StudyConfig,
    should_stop: ShouldStop,
) -> Generator[Step, None, tuple[AnyDict, dict[str, Picture]]]:
    """Compare a reconstruction with the reference; return the values and pictures.

    Values are JSON-serialisable; pictures are ``slice`` and ``pores``.

    Parameters
    ----------
    voxels : ndarray of shape (Z, Y, X)
        A reconstruction.
    reference : StudyReference
    config : StudyConfig
    should_stop : callable
    """
    volume = reference.volume.replace(data=voxels, source=None)
    report = yield from measured_steps(volume, reference.sample, config, should_stop)
    true = reference.report
    truth = np.asarray(reference.volume.data)
    pores = pore_mask(voxels, report.threshold, reference.sample, config)
    true_pores = pore_mask(truth, true.threshold, reference.sample, config)
    distance = quality.volume_histogram_distance(_sizes(report), _sizes(true))
    sample = reference.sample
    inside = (slice(None),) if sample is None else (sample,)
    figures = {
        **measured_figures(report),
        "porosity_error": quality.relative_error(report.porosity, true.porosity),
        "pores_per_mm3_error": quality.relative_error(
            report.pore_count, true.pore_count
        ),
        "volume_histogram_distance": distance,
        "euler_error": quality.relative_error(report.euler_number, true.euler_number),
        "dice": quality.dice(pores, true_pores),
        "psnr": quality.psnr(voxels[inside], truth[inside], reference.contrast),
        "ssim": _ssim(voxels, truth, reference),
    }
    plain = {key: _json_value(value) for key, value in figures.items()}
    pictures = {"slice": grey_slice(voxels, reference.levels), "pores": rendered(pores)}
    return plain, pictures


def measured_figures(report: PorosityReport) -> AnyDict:
    """Return the values measured in one volume."""
    components = report.pore_count + report.small_pore_count
    density = None
    if report.pores_per_mm3 is not None and report.pore_count:
        # Connectivity: tunnels minus enclosed solids, b1 - b2 = b0 - χ.
        volume = report.pore_count / report.pores_per_mm3
        density = (components - report.euler_number) / volume
    return {
        "porosity": report.porosity,
        "porosity_uncertainty": report.porosity_uncertainty,
        "threshold": report.threshold,
        "pore_count": report.pore_count,
        "pores_per_mm3": report.pores_per_mm3,
        "euler_number": report.euler_number,
        "connectivity_per_mm3": density,
        "pore_volume_counts": volume_counts(_sizes(report)),
    }


def volume_counts(voxels: npt.NDArray[np.float64]) -> list[int]:
    """Count pore volumes in bins of a quarter decade, starting at one voxel."""
    places = np.floor(VOLUMES_PER_DECADE * np.log10(voxels) + 1e-9).astype(int)
    return [int(n) for n in np.bincount(places)]


def pore_mask(
    voxels: AnyArray, threshold: float, sample: Mask | None, config: StudyConfig
) -> Mask:
    """Return the mask of the pore voxels.

    Parameters
    ----------
    voxels : ndarray
    threshold : float
    sample : ndarray of bool or None
        Sample mask; None: all voxels are sample.
    config : StudyConfig
        Defines whether pores are dark or bright.
    """
    pores: Mask = phase_mask(voxels, threshold, config.phase)
    return pores if sample is None else pores & sample


def _sizes(report: PorosityReport) -> npt.NDArray[np.float64]:
    return np.asarray(report.table["voxels"], np.float64)


def _json_value(value: object) -> Any:
    """Convert NaN and infinite values to None, because JSON cannot represent them."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.item() if isinstance(value, np.generic) else value


def _ssim(voxels: AnyArray, truth: AnyArray, reference: StudyReference) -> float | None:
    if min(voxels.shape[1:]) < _SSIM_WINDOW:
        return None
    planes = np.unique(np.linspace(0, len(voxels) - 1, _SSIM_PLANES).astype(int))
    return float(
        np.mean([quality.ssim(voxels[z], truth[z], reference.contrast) for z in planes])
    )


def grey_slice(voxels: AnyArray, levels: tuple[float, float]) -> Picture:
    """Return the middle slice as a picture, cropped to its centre if it is large."""
    plane = np.asarray(voxels[len(voxels) // 2], np.float32)
    y, x = (max(0, (n - _PICTURE_EDGE) // 2) for n in plane.shape)
    plane = plane[y : y + _PICTURE_EDGE, x : x + _PICTURE_EDGE]
    low, high = levels
    scaled = 255 * (plane - low) / max(high - low, 1e-30)
    return np.asarray(np.clip(np.nan_to_num(scaled), 0, 255), np.uint8)


def rendered(pores: Mask) -> Picture:
    """Render the pores in the centre of the volume, viewed obliquely from above.

    Each line of sight shows the first pore that it meets, lit from the upper left and
    darker with distance. The background is 0.
    """
    from scipy import ndimage

    middle = tuple(
        slice(
            max(0, (n - _CUBE_EDGE) // 2),
            max(0, (n - _CUBE_EDGE) // 2) + min(n, _CUBE_EDGE),
        )
        for n in pores.shape
    )
    cube = pores[middle].astype(np.float32)
    cube = ndimage.gaussian_filter(cube, 0.7, mode="constant")
    for angle, plane in ((30, (1, 2)), (-25, (0, 1))):
        cube = ndimage.rotate(cube, angle, axes=plane, order=1, reshape=True)
    inside = cube > 0.5
    seen = inside.any(axis=1)
    depth = np.where(seen, inside.argmax(axis=1), inside.shape[1]).astype(np.float32)
    slopes = np.gradient(ndimage.gaussian_filter(depth, 0.7))
    normal = np.stack([np.ones_like(depth), *slopes])
    normal /= np.linalg.norm(normal, axis=0)
    light = np.asarray(_LIGHT, np.float32)
    lit = np.clip(np.tensordot(light / np.linalg.norm(light), normal, 1), 0, 1)
    fog = 1 - 0.5 * depth / inside.shape[1]
    picture = np.where(seen, 40 + 215 * fog * (0.25 + 0.75 * lit), 0)
    return np.asarray(picture, np.uint8)
