"""Simulate a tomographic scan of a known sample: counts, flat and dark fields.

References
----------
.. [1] Pelt, Hendriksen, Batenburg. Foam-like phantoms for comparing tomography
   algorithms. J. Synchrotron Rad. 29, 254-265 (2022). doi:10.1107/S1600577521013322
"""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import Cancelled, ConfigError
from napari_geosr.core.projections import Projections
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop, run_to_end
from napari_geosr.core.types import AnyArray, AnyMapping
from napari_geosr.core.version import __version__
from napari_geosr.physics.blur import gaussian_blur
from napari_geosr.physics.projection.geometry import ParallelGeometry
from napari_geosr.physics.scan_config import ScanConfig
from napari_geosr.physics.specimens.phantoms import Phantom

FloatArray = npt.NDArray[np.float32]

#: Maximum memory for line integrals that are processed at once, in bytes.
_BLOCK_BYTES = 128 * 1024**2
#: Number of views from which the scale of the attenuation is determined.
_SCALING_VIEWS = 8
#: Range of the intensity added by a zinger, in units of the beam's intensity without a
#: sample.
_ZINGER = (2.0, 8.0)
#: Index of the random stream for the flat fields; projections use their own indices.
_FLAT_STREAM = 2**32
#: Index of the random stream for the dark fields.
_DARK_STREAM = 2**32 + 1
#: Index of the random stream for the gains of the detector's pixels.
_GAIN_STREAM = 2**32 + 2


@dataclass(frozen=True, eq=False)
class PorousSample:
    """A porous cylinder that fits into its slices, with its exact porosity.

    Attributes
    ----------
    attenuation : ndarray of shape (Z, N, N), float32
        1 (or the density) in the solid, 0 in pores and outside, intermediate at
        surfaces.
    fraction : ndarray of the same shape
        Pore fraction of each voxel.
    pores, inside : ndarray of bool, shape (Z, N, N)
        Pore voxels, and the part of the cylinder in which porosity is measured.
    porosity : float
        Pore volume divided by the volume of `inside`; voxels cut by a surface
        contribute their pore fraction.
    porosity_at_half : float
        Fraction of pore voxels in `inside`, as given by a threshold at half the
        contrast.
    """

    attenuation: FloatArray
    fraction: FloatArray
    pores: npt.NDArray[np.bool_]
    inside: npt.NDArray[np.bool_]
    porosity: float
    porosity_at_half: float


def cylinder_sample(
    phantom: Phantom, margin: float = 2.0, density: FloatArray | None = None
) -> PorousSample:
    """Cut a cylinder out of a phantom, for use as a rotating sample [1]_.

    Parameters
    ----------
    phantom : Phantom
        Phantom of shape (Z, N, N), i.e. with square slices.
    margin : float
        Number of voxels between the cylinder and the edge of the slice.
    density : ndarray of shape (Z, N, N), optional
        Attenuation of the solid; 1 by default.

    Raises
    ------
    ConfigError
        If the slices are not square, or too small for the margin.
    """
    _, height, width = phantom.fraction.shape
    radius = width / 2 - margin
    if height != width or radius < 2:
        raise ConfigError(
            "A scan can be simulated only from square slices of at least "
            f"{math.ceil(4 + 2 * margin)} voxels along each side, not {height} × "
            f"{width}."
        )
    axis = np.arange(width) - (width - 1) / 2
    distance = np.hypot(axis[:, None], axis[None, :])
    covered = np.clip(radius - distance + 0.5, 0, 1).astype(np.float32)
    inside = np.broadcast_to(distance <= radius - 1, phantom.mask.shape)
    pores = phantom.mask & inside
    solid = (1 - phantom.fraction) * covered
    return PorousSample(
        attenuation=solid if density is None else solid * density,
        fraction=phantom.fraction,
        pores=pores,
        inside=inside,
        # `inside` excludes the cylinder's surface: only pore and solid are averaged.
        porosity=float(phantom.fraction[inside].mean(dtype=np.float64)),
        porosity_at_half=float(pores.sum() / inside.sum()),
    )


def simulate_scan(
    attenuation: FloatArray,
    config: ScanConfig | None = None,
    *,
    truth: AnyMapping | None = None,
    scale: float | None = None,
) -> Projections:
    """Simulate a scan of a sample; see `scan_steps`.

    Parameters
    ----------
    attenuation : ndarray of shape (Z, N, N)
    config : ScanConfig, optional
    truth : mapping, optional
        Known properties of the sample, such as its porosity, for the provenance.
    scale : float, optional
        As in `scan_steps`.
    """
    steps = scan_steps(attenuation, config, truth=truth, scale=scale)
    return run_to_end(steps)


def scan_steps(
    attenuation: FloatArray,
    config: ScanConfig | None = None,
    *,
    truth: AnyMapping | None = None,
    scale: float | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Projections]:
    """Simulate the scan of a sample in a parallel beam, in blocks of views.

    In each view, the beam is attenuated by exp(-line integral), averaged over the
    angles through which the sample rotates during the exposure, blurred by the
    detector, multiplied by the gain of each pixel, and counted as photons; then
    zingers, the dark level and read noise are added.

    Parameters
    ----------
    attenuation : ndarray of shape (Z, N, N)
        Non-negative, on any scale.
    config : ScanConfig, optional
    truth : mapping, optional
        Known properties of the sample, such as its porosity, for the provenance.
    scale : float, optional
        Scale factor for the attenuation, if `attenuation` is part of a larger sample;
        by default, it follows from `config.absorption`.
    should_stop : callable
        Called before every block of views.

    Yields
    ------
    Step
        `BlockDone` per block of views.

    Returns
    -------
    Projections
        Counts, flat and dark fields with Z rows; angles refer to the middle of the
        exposures.

    Raises
    ------
    ConfigError
        If the volume is not a stack of square slices, or does not attenuate the beam.
    Cancelled
        If `should_stop` returns True.
    """
    config = config or ScanConfig()
    volume = np.asarray(attenuation, np.float32)
    if volume.ndim != 3 or volume.shape[1] != volume.shape[2] or not volume.size:
        raise ConfigError(
            "A scan can be simulated only from square slices (Z, N, N), not "
            f"{volume.shape}."
        )
    detector = _Detector(volume, config, scale)
    n = config.projections
    per_view = volume.shape[0] * detector.n_columns * 4 * config.sub_angles
    block = max(1, _BLOCK_BYTES // per_view)
    counts = np.empty((n, volume.shape[0], detector.n_columns), detector.dtype)
    for start in range(0, n, block):
        if should_stop():
            raise Cancelled("Stopped before the scan was complete.")
        views = range(start, min(start + block, n))
        for view, transmitted in zip(views, detector.transmitted(views), strict=True):
            counts[view] = detector.count(transmitted, view)
        yield BlockDone(views[-1] + 1, n)
    known = {
        "centre": detector.centre,
        "attenuation_scale": detector.scale,
        **(truth or {}),
    }
    return detector.projections(counts, known)


def detector_columns(size: int, config: ScanConfig) -> int:
    """Return the number of detector columns for slices of `size` voxels."""
    room = 2 * math.ceil(abs(config.centre_offset)) + 8
    return config.columns or size + room


class _Detector:
    """Properties of the scan that are the same for all views."""

    def __init__(
        self, volume: FloatArray, config: ScanConfig, scale: float | None = None
    ) -> None:
        self.volume, self.config = volume, config
        self.n_columns = detector_columns(volume.shape[-1], config)
        self.centre = (self.n_columns - 1) / 2 + config.centre_offset
        step = config.angle_range / config.projections
        self.step = step
        views = np.arange(config.projections, dtype=np.float64)
        self.angles: npt.NDArray[np.float64] = config.first_angle + step * views
        self.scale = self._scale() if scale is None else scale
        self.dtype = self._dtype()
        self.flat_gain, self.gain = self._gains()

    def _scale(self) -> float:
        """Return the factor that scales line integrals to the requested maximum."""
        self.scale = 1.0
        config = self.config
        few = np.linspace(0, config.projections - 1, _SCALING_VIEWS).astype(int)
        largest = float(self._integrals(self.angles[np.unique(few)]).max())
        if not largest > 0:
            raise ConfigError(
                "The sample does not attenuate: every line integral is zero. Use a "
                "volume with values above zero."
            )
        return config.absorption / largest

    def _dtype(self) -> Any:
        if not self.config.noise:
            return np.float32
        highest = 2 * self.config.photons + self.config.dark
        return np.uint16 if highest < np.iinfo(np.uint16).max else np.uint32

    def _gains(self) -> tuple[FloatArray, FloatArray]:
        """Return the gain of each pixel in the flat fields, and in the projections."""
        rng = np.random.default_rng([self.config.seed, _GAIN_STREAM])
        shape = (self.volume.shape[0], self.n_columns)
        flat = 1 + self.config.gain * rng.standard_normal(shape)
        drift = 1 + self.config.rings * rng.standard_normal(shape)
        dead = rng.random(shape[1]) < self.config.dead_columns
        flat = np.clip(flat, 0.1, None)
        real = np.where(dead, 0.0, np.clip(drift, 0.1, None)) * flat
        return flat.astype(np.float32), real.astype(np.float32)

    def _integrals(self, angles: npt.NDArray[np.float64]) -> FloatArray:
        """Return the line integrals of shape (Z, angle, column)."""
        import torch

        from napari_geosr.physics.projection.projector import project

        geometry = ParallelGeometry(
            angles=angles,
            n_columns=self.n_columns,
            centre=self.centre,
            size=self.volume.shape[-1],
        )
        with torch.no_grad():
            lines = project(torch.from_numpy(self.volume), geometry)
        found: FloatArray = lines.numpy() * np.float32(self.scale)
        return found

    def transmitted(self, views: range) -> FloatArray:
        """Return the transmission of the sample, of shape (view, row, column)."""
        k = self.config.sub_angles
        within = self.step * ((np.arange(k) + 0.5) / k - 0.5)
        angles = (self.angles[views.start : views.stop, None] + within).ravel()
        weakened = np.exp(-self._integrals(angles))
        n_z, _, n_columns = weakened.shape
        mean = weakened.reshape(n_z, len(views), k, n_columns).mean(axis=2)
        return np.ascontiguousarray(mean.transpose(1, 0, 2), np.float32)

    def count(self, transmitted: FloatArray, view: int) -> AnyArray:
        """Return the counts of one view; its random numbers depend only on the view."""
        config = self.config
        if config.blur:
            transmitted = gaussian_blur(transmitted, config.blur)
        light = transmitted * self.gain * np.float32(config.photons)
        rng = np.random.default_rng([config.seed, view])
        return self._read_out(light, rng)

    def _read_out(
        self, light: FloatArray, rng: np.random.Generator, zingers: bool = True
    ) -> AnyArray:
        config = self.config
        if not config.noise:
            return (light + np.float32(config.dark)).astype(np.float32)
        counts = rng.poisson(light).astype(np.float64)
        if zingers and config.zingers:
            hit = rng.random(light.shape) < config.zingers
            flash = rng.uniform(*_ZINGER, light.shape) * config.photons
            counts += hit * flash
        counts += config.dark + config.read_noise * rng.standard_normal(light.shape)
        highest = np.iinfo(self.dtype).max
        return np.clip(np.rint(counts), 0, highest).astype(self.dtype)

    def _frames(self, n: int, light: FloatArray, stream: int) -> AnyArray:
        seed = self.config.seed
        frames = [
            self._read_out(light, np.random.default_rng([seed, stream, i]), False)
            for i in range(n)
        ]
        return np.stack(frames)

    def projections(self, counts: AnyArray, truth: AnyMapping) -> Projections:
        """Return the scan as a reader of its file would return it."""
        config = self.config
        beam = self.flat_gain * np.float32(config.photons)
        record = {
            "software": "napari-geosr",
            "version": __version__,
            "operation": "simulate",
            "settings": config.model_dump(mode="json"),
            "truth": dict(truth),
        }
        return Projections(
            data=counts,
            angles=self.angles,
            flats=self._frames(config.flats, beam, _FLAT_STREAM),
            darks=self._frames(config.darks, np.zeros_like(beam), _DARK_STREAM),
            provenance=(record,),
            name="simulated scan",
        )
