"""Simulate scans of samples with a known porosity."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from napari_geosr.api.running import run_with_warnings
from napari_geosr.operations.simulate import (
    SimulateConfig,
    SimulationResult,
    simulate_steps,
)


def simulate(
    structure: Literal["foam", "blobs", "bone", "lacunae", "dentin", "cells"],
    out: str | Path,
    *,
    overwrite: bool = False,
    projections: int = 500,
    angle_range: float = 180.0,
    first_angle: float = 0.0,
    sub_angles: int = 1,
    photons: float = 1e4,
    noise: bool = True,
    absorption: float = 1.5,
    columns: int | None = None,
    centre_offset: float = 0.0,
    blur: float = 0.0,
    gain: float = 0.02,
    rings: float = 0.0,
    dead_columns: float = 0.0,
    zingers: float = 0.0,
    dark: float = 100.0,
    read_noise: float = 2.0,
    flats: int = 10,
    darks: int = 10,
    seed: int = 0,
    size: int = 256,
    rows: int | None = None,
    porosity: float | None = None,
    radius: tuple[float, float] | None = None,
    gap: float | None = None,
    voxel_size: float | None = None,
    unit: str = "µm",
    continuous: bool = False,
    threads: int | None = None,
) -> SimulationResult:
    """Simulate a scan of a porous cylinder with an exactly known porosity.

    Parameters
    ----------
    structure : {"foam", "blobs", "bone", "lacunae", "dentin", "cells"}
        Shape of the pores.
    out : path
        Folder for the files; created if missing.
    overwrite : bool
        Whether to replace the files of an earlier simulation.
    projections : int
        Number of projections.
    angle_range : float
        Angular range in degrees. Projections are evenly spaced over this range,
        excluding its end.
    first_angle : float
        Angle of the first projection, in degrees.
    sub_angles : int
        Number of angles averaged per exposure: 1 if the sample stands still, 5 or more
        if it rotates.
    photons : float
        Counts per pixel where the beam does not pass through the sample.
    noise : bool
        Whether to simulate photon noise; otherwise, values are expected counts.
    absorption : float
        Maximum line integral of the sample.
    columns : int, optional
        Number of detector columns; by default as many as needed to cover the whole
        slice and a margin of air.
    centre_offset : float
        Distance of the rotation axis from the middle of the detector, in columns.
    blur : float
        Standard deviation of the detector's Gaussian point-spread function, in pixels.
    gain : float
        Standard deviation of the gain from pixel to pixel.
    rings : float
        Standard deviation of the gain error that flat fields do not correct; it
        causes rings.
    dead_columns, zingers : float
        Fractions of dead detector columns and of pixels hit by zingers.
    dark : float
        Counts without the beam.
    read_noise : float
        Standard deviation of the camera noise, in counts.
    flats, darks : int
        Numbers of flat and dark fields.
    seed : int
        The same seed gives the same scan.
    size : int
        Edge length of the slices in voxels.
    rows : int, optional
        Number of slices; by default `size`.
    porosity : float, optional
        Approximate porosity; by default 0.3 for foam, 0.2 for blobs, 0.75 for bone,
        0.01 for lacunae, 0.12 for dentin and 0.02 for cells. The result contains the
        exact value.
    radius : (float, float), optional
        Smallest and largest radius of the pores in voxels, by default in proportion to
        `size`; for cells, radius of the canaliculi and half the length of a lacuna.
    gap : float, optional
        Minimum wall thickness between two spheres of a foam, in voxels; by default 1.
    voxel_size : float, optional
        Edge length of a voxel; by default 10 µm (bone 20 µm, lacunae 1 µm, dentin
        and cells 0.2 µm).
    unit : str
        Unit of length of `voxel_size`.
    continuous : bool
        Whether the sample rotates during the exposures, which blurs the projections.
    threads : int, optional
        Number of CPU threads; it does not affect the result.

    Returns
    -------
    SimulationResult
        Contains `files` (projections, true attenuation, sample mask, JSON) and `truth`,
        the known properties of the sample.

    Raises
    ------
    ConfigError
        If the structure is unknown or the settings are invalid.
    FileError
        If a file exists and `overwrite` is False, or if a file cannot be written.

    Examples
    --------
    >>> import napari_geosr as geosr
    >>> scan = geosr.simulate("blobs", "scan", size=32, rows=4, projections=30)
    >>> round(scan.truth["porosity"], 1)
    0.2
    >>> geosr.read(scan.files["truth"])
    <Volume 'truth': Z 4 × Y 32 × X 32, voxel size 10 µm, float32, 16.4 kB...>
    >>> geosr.reconstruct(scan.files["projections"], centre=scan.truth["centre"]).shape
    (4, 40, 40)
    """
    config = SimulateConfig.create(
        projections=projections,
        angle_range=angle_range,
        first_angle=first_angle,
        sub_angles=sub_angles,
        photons=photons,
        noise=noise,
        absorption=absorption,
        columns=columns,
        centre_offset=centre_offset,
        blur=blur,
        gain=gain,
        rings=rings,
        dead_columns=dead_columns,
        zingers=zingers,
        dark=dark,
        read_noise=read_noise,
        flats=flats,
        darks=darks,
        seed=seed,
        size=size,
        rows=rows,
        porosity=porosity,
        radius=radius,
        gap=gap,
        voxel_size=voxel_size,
        unit=unit,
        continuous=continuous,
        threads=threads,
    )
    return run_with_warnings(
        simulate_steps(structure, out, config, overwrite=overwrite)
    )
