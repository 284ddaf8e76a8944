"""Reconstruct volumes from projections."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Literal

from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.errors import ProjectionsError
from napari_geosr.core.projections import Projections
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.reconstruct import ReconstructConfig, reconstruct_steps

if TYPE_CHECKING:
    from napari_geosr.operations.cluster import Workers


def reconstruct(
    projections: Projections | str | Path,
    *,
    algorithm: str = "fbp",
    filter: Literal["ramp", "shepp-logan", "cosine", "hamming", "hann"]  # noqa: A002
    | None = None,
    iterations: int | None = None,
    nonnegative: bool | None = None,
    options: AnyMapping | None = None,
    centre: Literal["auto"] | float = "auto",
    every: int = 1,
    half: Literal["all", "odd", "even"] = "all",
    rows: tuple[int, int] | None = None,
    size: int | None = None,
    full_turn: Literal["auto", "join", "keep"] = "auto",
    engine: Literal["own", "astra"] = "own",
    device: str = "auto",
    memory: str | None = None,
    threads: int | None = None,
    frames: Literal["mean", "median"] = "mean",
    incident: float | None = None,
    minimum_transmission: float = 1e-4,
    saturation: float | None = None,
    nonfinite: Literal["refuse", "fill"] = "refuse",
    zingers: float = 0.0,
    stripes: Literal["none", "sorting", "filtering", "large", "dead", "all"] = "none",
    stripe_size: int = 21,
    large_stripe_size: int = 61,
    stripe_contrast: float = 3.0,
    workers: Workers | None = None,
) -> Volume:
    """Reconstruct a volume from the projections of a tomographic scan.

    Parameters
    ----------
    projections : Projections or path
        A Data Exchange or NXtomo HDF5 file, a TIFF stack or a folder of projections;
        or `Projections` created from arrays.
    algorithm : str
        ``"fbp"`` (``"fdk"`` for cone beams), ``"sirt"``, ``"cgls"`` or ``"tv"``. The
        iterative algorithms give better results from few projections.
    filter : {"ramp", "shepp-logan", "cosine", "hamming", "hann"}, optional
        Filter of fbp and fdk; by default the ramp filter, which is the sharpest.
    iterations : int, optional
        Number of iterations of sirt, cgls and tv.
    nonnegative : bool, optional
        Set negative attenuation to zero; the default depends on the algorithm.
    options : mapping, optional
        Further settings of the algorithm, such as the weight of tv.
    centre : "auto" or float
        Column of the rotation axis (0: the middle of the first column); by default read
        from the file, or determined from the projections.
    every : int
        Use every n-th projection.
    half : {"all", "odd", "even"}
        Use only the odd-numbered or only the even-numbered projections among those
        selected by `every`. The two resulting volumes have independent noise, as
        Fourier shell correlation requires (`compare`).
    rows : (int, int), optional
        Range of detector rows (start, stop); by default all rows.
    size : int, optional
        Edge length of the slices in voxels; by default the number of detector
        columns.
    full_turn : {"auto", "join", "keep"}
        For scans over 360°: stitch opposite projections, or use them as they are; by
        default, they are stitched if the rotation axis is off centre.
    engine : {"own", "astra"}
        Library used for the computation; ``"astra"`` requires the ASTRA toolbox.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    memory : str, optional
        Memory limit, e.g. ``"4GB"``; by default a fraction of the free memory.
    threads : int, optional
        CPU threads; by default the number of cores minus one.
    frames : {"mean", "median"}
        How flat and dark fields are combined.
    incident : float, optional
        Counts without the sample, used if there are no flat fields; by default
        estimated from the brightest part of the projections.
    minimum_transmission : float
        Smaller transmissions are clipped to this value before taking the logarithm.
    saturation : float, optional
        Counts of a saturated pixel; by default the largest value of the file's integer
        type.
    nonfinite : {"refuse", "fill"}
        For NaN and infinity: raise `ProjectionsError`, or interpolate between columns.
    zingers : float
        Pixels that exceed the local median by more than this multiple of the noise
        level are replaced with the median; 8 is a common value; 0 disables the
        replacement.
    stripes : {"none", "sorting", "filtering", "large", "dead", "all"}
        Stripes to remove from sinograms; in slices, they would appear as rings.
    stripe_size : int
        Width of the median filter for narrow stripes, in columns.
    large_stripe_size : int
        Width of the median filter for wide stripes, in columns.
    stripe_contrast : float
        Contrast above which a wide stripe is removed; lower values find more stripes.
    workers : int or distributed.Client, optional
        Number of processes that share the slices, or a client of a Dask cluster. The
        result is the same for any number of processes. Needs the extra ``cluster``.

    Returns
    -------
    Volume
        float32, shape (Z, Y, X): attenuation per unit of the voxel size, one slice per
        detector row, with X along the detector columns at angle zero.

    Raises
    ------
    FileError, ProjectionsError, ConfigError, DeviceMemoryError
        If a file, the projections or a setting is invalid, or memory is insufficient.

    Examples
    --------
    A disk seen from 60 angles, as line integrals:

    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> angles = np.arange(60) * 3.0
    >>> column = np.arange(64) - 31.5
    >>> row = 0.02 * np.sqrt(np.clip(20.0**2 - column**2, 0, None))
    >>> scan = geosr.Projections(
    ...     np.tile(row, (60, 2, 1)), angles, is_line_integrals=True
    ... )
    >>> volume = geosr.reconstruct(scan, centre=31.5)
    >>> volume.shape
    (2, 64, 64)
    >>> round(float(np.mean(volume.data[:, 28:36, 28:36])), 3)
    0.01
    """
    if not isinstance(projections, Projections | str | Path):
        raise ProjectionsError(
            f"An object of type {type(projections).__name__} has no angles or flat "
            "fields. Give a path, or Projections(array, angles, flats, darks)."
        )
    config = ReconstructConfig.create(
        algorithm=algorithm,
        filter=filter,
        iterations=iterations,
        nonnegative=nonnegative,
        options=dict(options or {}),
        centre=centre,
        every=every,
        half=half,
        rows=rows,
        size=size,
        full_turn=full_turn,
        engine=engine,
        device=device,
        memory=memory,
        threads=threads,
        frames=frames,
        incident=incident,
        minimum_transmission=minimum_transmission,
        saturation=saturation,
        nonfinite=nonfinite,
        zingers=zingers,
        stripes=stripes,
        stripe_size=stripe_size,
        large_stripe_size=large_stripe_size,
        stripe_contrast=stripe_contrast,
    )
    steps = reconstruct_steps(projections, config, workers=workers)
    return run_with_warnings(steps).volume
