"""Explain which voxels of a scan determine a voxel or pore of a restored volume."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from napari_geosr.api.arrays import VolumeLike, as_volume
from napari_geosr.api.running import run_with_warnings
from napari_geosr.operations.explain import (
    ExplainConfig,
    ExplainResult,
    explain_steps,
)
from napari_geosr.operations.models.catalogue import ModelLike, name_of


def explain(
    volume: VolumeLike,
    model: ModelLike = "ct-denoise",
    *,
    at: tuple[int, ...] | None = None,
    position: tuple[float, ...] | None = None,
    pores: str | Path | None = None,
    method: tuple[str, ...] = ("evidence", "reach"),
    axes: str | None = None,
    threshold: float | None = None,
    phase: Literal["dark", "bright"] | None = None,
    draws: int = 8,
    margin: int = 2,
    radius: int = 0,
    feature: Literal["grey", "edge"] = "grey",
    steps: int = 32,
    blur: float = 4.0,
    patch: int = 3,
    seed: int = 0,
    device: str = "auto",
    nonfinite: Literal["mean", "zero", "refuse"] = "mean",
    threads: int | None = None,
    strength: float = 1.0,
    sharpness: Literal["auto", "scan", "object"] = "scan",
) -> ExplainResult:
    """Show which voxels of a scan determine a voxel or pore of the restored volume.

    Parameters
    ----------
    volume : Volume or array
        The scan, not the result; shape (Z, Y, X) or (Y, X).
    model : str, Path, Model or ZooEntry
        The model used for the restoration, as in `restore`.
    at : tuple of int, optional
        Voxel of the result to explain, as indices (Z, Y, X) or (Y, X) counted from 0 in
        the result (after super-resolution, its voxels are smaller than those of the
        scan).
    position : tuple of float, optional
        Position (Z, Y, X) or (Y, X) in the unit of the scan, as an alternative to `at`.
    pores : str or Path, optional
        Pore table (``pores.csv``) measured on the result; every pore is explained
        instead of one voxel.
    method : tuple of str
        Methods to apply: ``"evidence"``, ``"reach"``, ``"filter"``, ``"lam"``,
        ``"occlusion"``, ``"similar"``; see ``docs/explain.md``.
    axes : str, optional
        Meaning of the axes of a plain array.
    threshold : float, optional
        Grey value that separates pores from solid in the result; by default that of the
        report to which `pores` belongs, or Otsu's threshold around the voxel.
    phase : {"dark", "bright"}, optional
        Whether pores are dark or bright; by default as in the report to which `pores`
        belongs, or dark.
    draws : int
        Number of noise realisations.
    margin : int
        Width, in voxels of the scan, of the zone around a pore that is replaced with
        solid along with the pore.
    radius : int
        If the voxel is not in a pore, explain a cube that extends this many voxels to
        each side.
    feature : {"grey", "edge"}
        Quantity that ``"lam"`` explains: the mean grey value, or the mean gradient.
    steps : int
        Number of steps of ``"lam"`` from the blurred to the sharp scan.
    blur : float
        Standard deviation of the initial blur of ``"lam"``, in voxels of the scan.
    patch : int
        Edge length of the cubes of ``"occlusion"``, in voxels of the scan.
    seed : int
        Seed for the random noise.
    device : str
        As in `restore`.
    nonfinite : {"mean", "zero", "refuse"}
        As in `restore`.
    threads : int, optional
        As in `restore`.
    strength : float
        As in `restore`.
    sharpness : {"auto", "scan", "object"}
        As in `restore`.

    Returns
    -------
    ExplainResult
        `sentence` is a summary. `explanations` contains the values of each method and
        its `overlays`, which are volumes at the position of the scan.

    Raises
    ------
    ConfigError, ModelError, VolumeError, FileError
        If a setting is invalid, or the model, the volume or a file cannot be used.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> rng = np.random.default_rng(0)
    >>> noisy = rng.normal(100, 10, (32, 32)).astype("f4")
    >>> scan = geosr.Volume.from_array(noisy, voxel_size=2.0, unit="µm")
    >>> found = geosr.explain(scan, "ct-denoise", at=(16, 16), method=("reach",))
    >>> found.sentence
    'This voxel depends on voxels within ... µm (90 % of the sensitivity).'
    >>> found.explanations[0].overlays["reach"].unit
    'µm'
    """
    config = ExplainConfig.create(
        model=name_of(model),
        method=method,
        at=at,
        position=position,
        threshold=threshold,
        phase=phase,
        draws=draws,
        margin=margin,
        radius=radius,
        feature=feature,
        steps=steps,
        blur=blur,
        patch=patch,
        seed=seed,
        device=device,
        nonfinite=nonfinite,
        threads=threads,
        strength=strength,
        sharpness=sharpness,
    )
    return run_with_warnings(explain_steps(as_volume(volume, axes), config, pores))
