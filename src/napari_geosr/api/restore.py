"""Denoise and super-resolve volumes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, cast

import numpy as np

from napari_geosr.api.arrays import VolumeLike, as_scan, as_volume, as_volumes
from napari_geosr.api.running import run_with_warnings
from napari_geosr.core.errors import ConfigError, GeoSRWarning
from napari_geosr.core.volume import Volume
from napari_geosr.operations.cluster import Workers
from napari_geosr.operations.inputs.noise_source import (
    NoiseKind,
    NoiseReference,
    with_noise_steps,
)
from napari_geosr.operations.models.catalogue import ModelLike, name_of
from napari_geosr.operations.restore import (
    RestoreConfig,
    restore_average_steps,
    restore_blocks_steps,
    restore_steps,
)


def restore(
    volume: VolumeLike | Sequence[VolumeLike],
    model: ModelLike = "ct-denoise",
    *,
    axes: str | None = None,
    device: str = "auto",
    memory: str | None = None,
    output_dtype: Literal["float32", "input"] = "float32",
    nonfinite: Literal["mean", "zero", "refuse"] = "mean",
    threads: int | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    strength: float = 1.0,
    sharpness: Literal["auto", "scan", "object"] = "scan",
    uncertainty: str = "none",
    uncertainty_members: int | None = None,
    ensemble_with: tuple[ModelLike, ...] = (),
    sampling_steps: int = 20,
    upscale_factor: int = 1,
    seed: int = 0,
    second: VolumeLike | None = None,
    noise_region: VolumeLike | None = None,
    blank: VolumeLike | None = None,
    workers: Workers | None = None,
) -> Volume:
    """Restore a volume (denoise or super-resolve) with a model.

    Parameters
    ----------
    volume : Volume or array, or sequence of them
        Shape (Z, Y, X) or (Y, X), any real dtype. If there is a time or channel axis,
        each time point and channel is restored separately, with the grey-value
        statistics of its channel over all time points. A sequence contains scans of the
        same object, such as the sub-reconstructions of Noise2Inverse; the result is the
        mean of their restorations.
    model : str, Path, Model or ZooEntry
        Name of a model, path of its bundle, or a result of `load_model`, `list_models`
        or `train`. ``"auto"`` chooses the model with the smallest expected error on
        this scan, or returns the scan if no model is expected to improve it; with an
        `upscale_factor`, it chooses a super-resolution model with this factor, or
        cubic interpolation.
    axes : str, optional
        Meaning of the axes of a plain array, e.g. ``"TYX"``; by default ``"YX"``,
        ``"ZYX"`` or ``"TZYX"``.
    device : str
        ``"auto"``, ``"cpu"``, ``"cuda"``, ``"cuda:1"`` or ``"mps"``.
    memory : str, optional
        Memory limit, e.g. ``"4GB"``; by default a fraction of the free memory.
    output_dtype : {"float32", "input"}
        Type of the result: float32, or the integer type of the input, rounded and
        clipped. Label images are always stored as integers.
    nonfinite : {"mean", "zero", "refuse"}
        Value that replaces NaN and infinite voxels in the input of the model; these
        voxels are NaN in a float32 result. ``"refuse"`` raises `VolumeError` instead.
    threads : int, optional
        CPU threads; by default the number of cores minus one.
    backend : {"auto", "torch", "openvino"}
        Library used for computation on the CPU.
    strength : float
        Noise to remove, relative to the level measured in the scan, from 0 (return the
        scan) to 2, for noise-bounded models; for filters, a factor for their setting.
    sharpness : {"auto", "scan", "object"}
        Sharpness of a super-resolved result. ``"scan"``: as sharp as the scan, so
        that the result agrees with the scan to within its noise; ``"object"``: as sharp
        as the object according to the model; ``"auto"``: ``"object"`` if that is
        consistent with the scan.
    uncertainty : str
        Method of uncertainty estimation: ``"none"``, ``"tta"``, ``"ensemble"`` or
        ``"diffusion"``. Unless it is ``"none"``, the result is the mean over the
        members; `restore_with_uncertainty` also returns their standard deviation.
    uncertainty_members : int, optional
        Number of flips and rotations for ``"tta"``, 2 to 16, or of samples for
        ``"diffusion"``, 2 to 64; by default 8, or fewer if 8 are not possible.
    ensemble_with : tuple of str, Path, Model or ZooEntry
        Further models for ``"ensemble"``, with the same task and upscale factor.
    sampling_steps : int
        Passes through the network per sample of a diffusion model (``"diffusion"``).
    upscale_factor : int
        Voxels of the result per voxel of the scan along each axis, for samples of a
        diffusion model and for the model ``"auto"``.
    seed : int
        Random seed for the samples of a diffusion model.
    second : Volume or array, optional
        Second scan of the object, with the same shape and independent noise. The noise
        is measured in the difference between the scans, and with the model ``"auto"``,
        errors are measured against this scan.
    noise_region : Volume or array, optional
        Mask of a region without structure, with the shape of the scan. The noise is
        measured in this region.
    blank : Volume or array, optional
        Scan or images without an object, recorded and processed in the same way. The
        noise is measured there.
    workers : int or distributed.Client, optional
        Number of processes on this computer that share the work, `memory` and
        `threads`, or the client of a Dask cluster. By default, only this process is
        used. Needs the extra ``cluster``. In a script, the call must be below
        ``if __name__ == "__main__":``.

    Returns
    -------
    Volume
        float32 or an integer type (see `output_dtype`), with the input's axes. Voxel
        size and origin follow from the model's upscale factor.

    Raises
    ------
    ConfigError, ModelError, VolumeError, DeviceMemoryError
        If a setting, the model or the volume is unsuitable, or memory is insufficient.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> rng = np.random.default_rng(0)
    >>> noisy = rng.normal(100, 10, (8, 48, 48)).astype("f4")
    >>> restored = geosr.restore(noisy)
    >>> restored
    <Volume 'array · ct-denoise': Z 8 × Y 48 × X 48, voxel size unknown, float32, ...>
    >>> bool(np.std(restored) < 0.5 * np.std(noisy))
    True

    A super-resolved volume covers the same region with more voxels:

    >>> scan = geosr.Volume.from_array(noisy, voxel_size=2.0, unit="µm")
    >>> geosr.restore(scan, "cubic-x2").shape
    (16, 96, 96)
    """
    config = RestoreConfig.create(
        model=name_of(model),
        device=device,
        memory=memory,
        output_dtype=output_dtype,
        nonfinite=nonfinite,
        threads=threads,
        backend=backend,
        strength=strength,
        sharpness=sharpness,
        uncertainty=uncertainty,
        uncertainty_members=uncertainty_members,
        ensemble_with=_model_names(ensemble_with),
        sampling_steps=sampling_steps,
        upscale_factor=upscale_factor,
        seed=seed,
    )
    if _is_several(volume):
        _question_slices(cast("Sequence[object]", volume))
        if workers is not None:
            raise ConfigError(
                "Workers can restore only one volume and cannot average several. Omit "
                "workers, or restore the scans one by one."
            )
        if any(each is not None for each in (second, noise_region, blank)):
            raise ConfigError(
                "When several scans are averaged, the noise of each is measured "
                "separately. Omit second, noise_region and blank."
            )
        several = cast("Sequence[VolumeLike]", volume)
        steps = restore_average_steps(as_volumes(several, axes), config)
    else:
        scan = as_scan(cast(VolumeLike, volume), axes)
        scan = _with_known_noise(
            scan, {"second": second, "region": noise_region, "blank": blank}, axes
        )
        steps = restore_steps(scan, config, workers=workers)
    return run_with_warnings(steps).volume


def _with_known_noise(
    scan: Volume, given: dict[NoiseKind, VolumeLike | None], axes: str | None
) -> Volume:
    """Measure the noise with the second scan, region or blank scan, if one is given."""
    found = {kind: each for kind, each in given.items() if each is not None}
    if not found:
        return scan
    if len(found) > 1:
        raise ConfigError(
            "The noise can be measured in only one place: give only one of second, "
            "noise_region and blank."
        )
    ((kind, like),) = found.items()
    is_array = kind == "second" and not isinstance(like, Volume)
    other = as_volume(like, axes if is_array else None, name=kind)
    return run_with_warnings(with_noise_steps(scan, NoiseReference(kind, other)))


def restore_with_uncertainty(
    volume: VolumeLike,
    model: ModelLike = "ct-denoise",
    uncertainty: str = "tta",
    *,
    axes: str | None = None,
    device: str = "auto",
    memory: str | None = None,
    output_dtype: Literal["float32", "input"] = "float32",
    nonfinite: Literal["mean", "zero", "refuse"] = "mean",
    threads: int | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    strength: float = 1.0,
    sharpness: Literal["auto", "scan", "object"] = "scan",
    uncertainty_members: int | None = None,
    ensemble_with: tuple[ModelLike, ...] = (),
    sampling_steps: int = 20,
    upscale_factor: int = 1,
    seed: int = 0,
) -> tuple[Volume, Volume]:
    """Restore a volume several times; return the mean and the standard deviation.

    Parameters
    ----------
    volume : Volume or array
        Shape (Z, Y, X) or (Y, X), optionally with a time or channel axis.
    model : str, Path, Model or ZooEntry
        As in `restore`.
    uncertainty : str
        ``"tta"``: the model applied to flips and rotations of the volume;
        ``"ensemble"``: the model and those of `ensemble_with`; ``"diffusion"``:
        samples consistent with the scan, drawn from a model trained with
        ``train("ddpm")``.
    axes : str, optional
        Meaning of the axes of a plain array.
    device : str
        As in `restore`.
    memory : str, optional
        As in `restore`.
    output_dtype : {"float32", "input"}
        As in `restore`.
    nonfinite : {"mean", "zero", "refuse"}
        As in `restore`.
    threads : int, optional
        As in `restore`.
    backend : {"auto", "torch", "openvino"}
        As in `restore`.
    strength : float
        As in `restore`.
    sharpness : {"auto", "scan", "object"}
        As in `restore`.
    uncertainty_members : int, optional
        Number of flips and rotations for ``"tta"``, 2 to 16, or of samples for
        ``"diffusion"``, 2 to 64; by default 8, or fewer if 8 are not possible. Each
        member takes as long as a run without uncertainty estimation.
    ensemble_with : tuple of str, Path, Model or ZooEntry
        Further models for ``"ensemble"``, with the same task and upscale factor.
    sampling_steps : int
        Passes through the network per sample of a diffusion model (``"diffusion"``).
    upscale_factor : int
        Voxels of the result per voxel of the scan along each axis, for samples of a
        diffusion model and for the model ``"auto"``.
    seed : int
        Random seed for the samples of a diffusion model.

    Returns
    -------
    mean, deviation : Volume
        Volumes of the same shape and position. The deviation is the sample standard
        deviation (n - 1), in grey values; for its relation to errors, see
        ``docs/trust.md``.

    Raises
    ------
    ConfigError, ModelError, VolumeError, DeviceMemoryError
        If a setting, the model or the volume is unsuitable, or memory is insufficient.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> noisy = np.random.default_rng(0).normal(100, 10, (32, 32)).astype("f4")
    >>> mean, deviation = geosr.restore_with_uncertainty(noisy, uncertainty_members=2)
    >>> mean.shape == deviation.shape == (32, 32)
    True
    >>> bool(np.min(deviation) >= 0)
    True
    """
    if uncertainty == "none":
        raise ConfigError(
            "Choose an uncertainty method: 'tta', 'ensemble' or 'diffusion'."
        )
    config = RestoreConfig.create(
        model=name_of(model),
        device=device,
        memory=memory,
        output_dtype=output_dtype,
        nonfinite=nonfinite,
        threads=threads,
        backend=backend,
        strength=strength,
        sharpness=sharpness,
        uncertainty=uncertainty,
        uncertainty_members=uncertainty_members,
        ensemble_with=_model_names(ensemble_with),
        sampling_steps=sampling_steps,
        upscale_factor=upscale_factor,
        seed=seed,
    )
    restored = run_with_warnings(restore_steps(as_scan(volume, axes), config))
    assert restored.deviation is not None
    return restored.volume, restored.deviation


def restore_blocks(
    volume: VolumeLike,
    model: ModelLike = "ct-denoise",
    *,
    axes: str | None = None,
    chunks: tuple[int, ...] | None = None,
    device: str = "auto",
    memory: str | None = None,
    output_dtype: Literal["float32", "input"] = "float32",
    nonfinite: Literal["mean", "zero", "refuse"] = "mean",
    threads: int | None = None,
    backend: Literal["auto", "torch", "openvino"] = "auto",
    strength: float = 1.0,
    sharpness: Literal["auto", "scan", "object"] = "scan",
) -> Volume:
    """Restore each block of a volume only when it is used.

    The statistics of the whole volume are computed immediately, but voxels are restored
    only when they are used. Each block is computed with the halo that the network
    needs, so it equals the same block of a fully restored volume, up to rounding.
    Blocks are recomputed every time they are used; if you need the whole volume more
    than once, use `restore`.

    Parameters
    ----------
    volume : Volume or array
        Shape (Z, Y, X) or (Y, X), any real dtype.
    model : str, Path, Model or ZooEntry
        As in `restore`; ``"auto"`` is not allowed.
    axes : str, optional
        Meaning of the axes of a plain array.
    chunks : tuple of int, optional
        Largest block to restore at once, in voxels of the result. By default, it
        depends on the free memory and the network.
    device : str
        As in `restore`.
    memory : str, optional
        As in `restore`, for each block.
    output_dtype : {"float32", "input"}
        As in `restore`.
    nonfinite : {"mean", "zero", "refuse"}
        As in `restore`.
    threads : int, optional
        As in `restore`, for each block.
    backend : {"auto", "torch", "openvino"}
        As in `restore`.
    strength : float
        As in `restore`.
    sharpness : {"auto", "scan", "object"}
        As in `restore`.

    Returns
    -------
    Volume
        Its `data` is a Dask array, which napari and Dask functions accept.

    Raises
    ------
    ConfigError, ModelError, VolumeError, DeviceMemoryError
        If a setting, the model or the volume is unsuitable, or memory is insufficient.

    Examples
    --------
    >>> import numpy as np
    >>> import napari_geosr as geosr
    >>> noisy = np.random.default_rng(0).normal(100, 10, (16, 64, 64)).astype("f4")
    >>> lazy = geosr.restore_blocks(noisy, "gaussian", chunks=(8, 32, 32))
    >>> lazy.data
    dask.array<..., shape=(16, 64, 64), dtype=float32, chunksize=(8, 32, 32), ...>
    >>> corner = lazy.data[:8, :32, :32].compute()  # one block of eight
    >>> np.allclose(corner, np.asarray(geosr.restore(noisy, "gaussian"))[:8, :32, :32])
    True
    """
    config = RestoreConfig.create(
        model=name_of(model),
        device=device,
        memory=memory,
        output_dtype=output_dtype,
        nonfinite=nonfinite,
        threads=threads,
        backend=backend,
        strength=strength,
        sharpness=sharpness,
    )
    steps = restore_blocks_steps(as_scan(volume, axes), config, chunks=chunks)
    return run_with_warnings(steps)


def _question_slices(volumes: Sequence[object]) -> None:
    """Warn if several volumes are probably the slices of one volume."""
    shapes = [np.shape(each) for each in volumes if isinstance(each, np.ndarray)]
    if len(shapes) == len(volumes) >= _MANY and all(len(s) == 2 for s in shapes):
        warnings.warn(
            f"{len(volumes)} images are given, so their restorations are averaged, as "
            "for repeated scans of one object. If they are the slices of a volume, "
            "give numpy.stack(images).",
            GeoSRWarning,
            stacklevel=3,
        )


#: Minimum number of images in a list that are probably the slices of one volume rather
#: than repeated scans.
_MANY = 4


def _is_several(volume: object) -> bool:
    """Whether several volumes are given, rather than one array or nested list."""
    if not isinstance(volume, list | tuple):
        return False
    return not (volume and isinstance(volume[0], list | tuple))


def _model_names(models: Sequence[ModelLike]) -> Sequence[ModelLike]:
    """Return the models' names; types other than list and tuple are rejected later."""
    if not isinstance(models, list | tuple):
        return models
    return tuple(map(name_of, models))
