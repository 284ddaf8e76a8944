"""Reconstruct images from raw frames of structured illumination microscopy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from napari_geosr.api.arrays import VolumeLike, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.operations.sim import SimConfig, sim_steps


def reconstruct_sim(
    frames: VolumeLike | str | Path,
    *,
    method: Literal["widefield", "wiener", "joint-rl", "pinn"] = "joint-rl",
    na: float | None = None,
    wavelength: float | str | tuple[float, ...] | None = None,
    index: float | None = None,
    pixel: float | str | None = None,
    angles: int | None = None,
    phases: int | None = None,
    order: str | None = None,
    offset: float | None = None,
    psf: VolumeLike | str | Path | None = None,
    psf_sampling: float | None = None,
    damping: float = 1.0,
    patterns: PatternSet | AnyMapping | VolumeLike | str | Path | None = None,
    harmonics: int | None = None,
    upscale_factor: int = 2,
    regularisation: float | None = None,
    apodisation: Literal["lukosz", "cosine", "none"] = "cosine",
    notch: float = 0.0,
    iterations: int | None = None,
    tv: float = 0.0,
    recipe: Literal["refine", "published"] = "refine",
    steps: int = 200,
    features: int = 16,
    patterns_after: int | None = 200,
    checks: bool = True,
    memory: str | None = None,
    device: str = "auto",
    threads: int | None = None,
) -> Volume:
    """Reconstruct images from raw frames of structured illumination microscopy (SIM).

    Wave vectors, phases and modulation of the patterns are estimated from the frames.

    Parameters
    ----------
    frames : Volume, array or path
        A stack with all angles and phases; slices, time points and channels may be
        interleaved or have their own axes.
    method : {"widefield", "wiener", "joint-rl", "pinn"}
        Mean of the frames, Wiener-SIM (fast), joint Richardson–Lucy of all frames
        (best quality), or an untrained physics-informed network (slow).
    na : float, optional
        Numerical aperture; by default read from the file.
    wavelength : float, str or tuple of float, optional
        Emission wavelength in nm, or as text with a unit; one for each channel. By
        default read from the file.
    index : float, optional
        Refractive index of the immersion medium; by default read from the file, or
        1.515 if the file gives none.
    pixel : float or str, optional
        Edge length of a camera pixel in nm, or as text such as ``"0.065um"``; by
        default read from the file.
    angles, phases : int, optional
        Number of pattern directions, and of phases per direction; by default derived
        from the number of frames.
    order : str, optional
        Order of angle (a), phase (p) and slice (z), slowest-varying first; by default
        determined from the frames.
    offset : float, optional
        Grey value without light; by default estimated from the darkest pixels.
    psf : Volume, array or path, optional
        Image of a measured point-spread function; replaces `na` and `wavelength`.
    psf_sampling : float, optional
        Pixels of the point-spread function per camera pixel; by default calculated from
        the two pixel sizes.
    damping : float
        Transfer of high frequencies relative to an ideal objective.
    patterns : path, Volume, array or mapping, optional
        Known patterns: ``patterns.yaml`` written by ``napari-geosr sim check``, its
        contents, or an image stack with one pattern per frame.
    harmonics : int, optional
        Number of harmonics of the pattern; 2 for three-beam illumination, 2 or more for
        nonlinear illumination. By default 2 if the frames contain two patterns in each
        direction, otherwise 1.
    upscale_factor : int
        Pixels of the result per camera pixel along each axis.
    regularisation : float, optional
        Wiener parameter w; by default derived from the noise.
    apodisation : {"lukosz", "cosine", "none"}
        How Wiener-SIM tapers the spectrum towards the highest frequency.
    notch : float
        Suppression of out-of-focus haze in Wiener-SIM, 0 to 1.
    iterations : int, optional
        Iterations of joint Richardson–Lucy; by default chosen with held-out photons.
    tv : float
        Weight of the total variation in joint Richardson–Lucy.
    recipe : {"refine", "published"}
        For pinn: use the network to correct the joint Richardson–Lucy result, or follow
        the recipe of Burns and Liu (2023).
    steps : int
        For pinn: maximum number of optimiser steps.
    features : int
        For pinn: number of feature maps of the U-Net at full resolution.
    patterns_after : int, optional
        For pinn: step after which wave vectors, phases and modulation are fitted
        together with the network; None keeps them fixed.
    checks : bool
        Check whether the patterns fit the frames; a warning is issued if they do not.
        The results of the checks are in the last record of ``provenance``, under
        ``"run"``, ``"checks"``.
    memory : str, optional
        Memory limit, e.g. ``"4GB"``; by default a fraction of the free memory.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    threads : int, optional
        CPU threads; by default the number of cores minus one.

    Returns
    -------
    Volume
        float32, on a grid `upscale_factor` times finer, with voxel size, unit and
        origin.

    Raises
    ------
    FileError, VolumeError, ConfigError
        If the frames cannot be used, or no pattern is found in them; the message
        states what is wrong and what to do.

    Warns
    -----
    GeoSRWarning
        If the patterns do not fit the frames, or if they drift.

    Examples
    --------
    Spots illuminated by fringes with three directions and three phases:

    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> from scipy.ndimage import gaussian_filter
    >>> rng = np.random.default_rng(0)
    >>> spots = (rng.random((96, 96)) > 0.99) * 1e5
    >>> y, x = np.mgrid[:96, :96]
    >>> frames = []
    >>> for angle in np.pi * np.arange(3) / 3:
    ...     for phase in 2 * np.pi * np.arange(3) / 3:
    ...         wave = 0.2 * (y * np.sin(angle) + x * np.cos(angle))
    ...         light = 1 + np.cos(2 * np.pi * wave + phase)
    ...         frames.append(rng.poisson(gaussian_filter(spots * light, 1.2)))
    >>> raw = geosr.Volume.from_array(np.array(frames, "f4"), 0.1, "um", axes="ZYX")
    >>> result = geosr.reconstruct_sim(raw, na=1.0, wavelength=700, iterations=5)
    >>> result.shape, result.voxel_size, result.unit
    ((192, 192), (0.05, 0.05), 'µm')
    """
    config = SimConfig.create(
        method=method,
        na=na,
        wavelength=wavelength,
        index=index,
        pixel=pixel,
        angles=angles,
        phases=phases,
        order=order,
        offset=offset,
        psf=psf if isinstance(psf, str | Path) else None,
        psf_sampling=psf_sampling,
        damping=damping,
        patterns=patterns if isinstance(patterns, str | Path) else None,
        harmonics=harmonics,
        upscale_factor=upscale_factor,
        regularisation=regularisation,
        apodisation=apodisation,
        notch=notch,
        iterations=iterations,
        tv=tv,
        recipe=recipe,
        steps=steps,
        features=features,
        patterns_after=patterns_after,
        checks=checks,
        memory=memory,
        device=device,
        threads=threads,
    )
    if not isinstance(frames, str | Path):
        frames = as_volume(frames, name="frames")
    known = None if isinstance(patterns, str | Path) else patterns
    if known is not None and not isinstance(known, Mapping | PatternSet):
        known = as_volume(known, name="patterns")
    spot = None if psf is None or isinstance(psf, str | Path) else as_volume(psf)
    run = sim_steps(frames, config, psf=spot, patterns=known)
    return run_with_warnings(run).volume
