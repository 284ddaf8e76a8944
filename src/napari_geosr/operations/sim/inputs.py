"""Open raw frames and a point-spread function; refuse unusable ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.errors import ConfigError, VolumeError
from napari_geosr.core.questions import implausibility_reasons, voxel_size_question
from napari_geosr.core.sim_frames import (
    SimFrames,
)
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.sim_frames.optics import Optics
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.io.optics import StatedOptics, read_optics
from napari_geosr.operations.inputs import InputConfig, open_series
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.frame_checks import refuse_extreme
from napari_geosr.operations.sim.known_patterns import Source, pattern_counts
from napari_geosr.physics.illumination.otf import Otf
from napari_geosr.sim.noise import dark_level

FloatArray = npt.NDArray[np.float32]

#: Refractive index of immersion oil, used if no other is given or stated in the file.
OIL = 1.515
#: Maximum number of slices among which the dimmest is searched for.
_MOST_SLICES = 16
#: Metadata key that marks frames with an unknown slice spacing.
_NO_STEP = "sim_slice_distance_assumed"
STEP_ASSUMED = (
    "The slice spacing is unknown, and was set to the pixel size. Correct the voxel "
    "size of the result before you measure along Z."
)
#: Relative difference up to which two pixel sizes count as equal.
_SAME_SIZE = 0.01


def open_frames(
    path: str | Path, config: FramesConfig, reading: InputConfig | None = None
) -> SimFrames:
    """Open the raw frames of a file lazily.

    Raises
    ------
    FileError, VolumeError, ConfigError
        If the file cannot be opened, or does not contain raw frames.
    """
    return frames_of(open_series(path, reading), config)


def known_patterns(frames: SimFrames, config: FramesConfig) -> Source | None:
    """Return the known patterns, or their file, if there are any."""
    return frames.patterns if config.patterns is None else config.patterns


def frames_of(
    volume: Volume,
    config: FramesConfig,
    *,
    psf: Volume | None = None,
    patterns: PatternSet | AnyMapping | Volume | None = None,
) -> SimFrames:
    """Return the raw frames in a volume, with optics from its file and the settings.

    Parameters
    ----------
    volume : Volume
    config : FramesConfig
    psf : Volume, optional
        Measured point-spread function, instead of a file.
    patterns : PatternSet, mapping or Volume, optional
        Known patterns, instead of a file.

    Raises
    ------
    VolumeError, ConfigError
        If the volume does not contain raw frames, or the settings do not match it.
    """
    stated = _stated_optics(volume)
    if config.pixel is not None:
        edge = config.pixel / 1000
        sizes = (volume.voxel_size[0], edge, edge)[-len(volume.spatial_axes) :]
        is_step_assumed = len(sizes) == 3 and not volume.has_physical_size
        if is_step_assumed:
            sizes = (edge,) * 3
        elif len(sizes) == 3:
            depth = convert_length(volume.voxel_size[0], volume.unit, "µm")
            sizes = (depth, edge, edge)
        volume = volume.with_geometry(sizes, "µm")
        if is_step_assumed:
            volume = volume.replace(metadata={**volume.metadata, _NO_STEP: True})
    else:
        volume = _with_stated_pixels(volume)
    _refuse_oblong(volume)
    refuse_extreme(volume)
    optics = Optics(
        config.na or stated.numerical_aperture,
        config.wavelength or stated.wavelengths,
        config.index or stated.refractive_index or OIL,
    )
    angles, phases = config.angles, config.phases
    known = patterns if config.patterns is None else config.patterns
    if known is not None and angles is phases is None:
        angles, phases = pattern_counts(known)
    frames = SimFrames.from_volume(
        volume,
        angles=angles,
        phases=phases,
        order=config.order,
        optics=optics,
    )
    n_images = math.prod(volume.length(axis) for axis in frames.frame_axes)
    has_slices = n_images > frames.n_frames and frames.plane_axis != "T"
    if frames.angles == 1 and has_slices and config.order is None:
        raise ConfigError(
            f"{volume.title} has more images than there are patterns. With a single "
            "angle, the images do not show whether slices or patterns change first. "
            "Give the order: --order zap if slices change last, or apz if they change "
            "first.",
            fields=("order",),
        )
    harmonics = config.harmonics or 1
    if frames.phases < 2 * harmonics + 1 and known is None:
        raise ConfigError(
            f"{harmonics} harmonics need at least {2 * harmonics + 1} "
            f"phases per angle, but there are {frames.phases}. Use fewer harmonics "
            "(--harmonics), or check --phases."
        )
    given = len(config.wavelength or ())
    if given > 1 and given != frames.n_channels:
        n = frames.n_channels
        raise ConfigError(
            f"{given} wavelengths are given, but {volume.title} has {n} "
            f"channel{'s' * (n > 1)}. Give "
            "one for each channel, or one for all (--wavelength).",
            fields=("wavelength",),
        )
    given_offset = config.offset
    offsets = camera_offsets(frames) if given_offset is None else (given_offset,)
    return replace(frames, offsets=offsets, psf=psf, patterns=patterns)


def _with_stated_pixels(volume: Volume) -> Volume:
    """Use the pixel size in the file if only the slice spacing is implausible.

    If the frames are stored along Z, they have no spacing, and programs write arbitrary
    values for it.
    """
    question = voxel_size_question(volume.metadata)
    if question is None or volume.has_physical_size:
        return volume
    edge, unit = question.voxel_size[-1], question.unit
    if implausibility_reasons(question.voxel_size[-2:], unit)[0]:
        return volume
    sizes = (edge, *question.voxel_size[-2:])[-len(volume.spatial_axes) :]
    volume = volume.with_geometry(sizes, unit)
    return volume.replace(metadata={**volume.metadata, _NO_STEP: True})


def _refuse_oblong(volume: Volume) -> None:
    """Refuse pixels that are not square.

    Raises
    ------
    VolumeError
        If width and height differ by more than 1 %.
    """
    height, width = volume.voxel_size[-2:]
    if abs(height - width) > _SAME_SIZE * max(height, width):
        raise VolumeError(
            f"The pixels of {volume.title} are {width:.4g} {volume.unit} wide and "
            f"{height:.4g} {volume.unit} high, but structured illumination needs "
            "square pixels. If the pixel size in the file is wrong, give the correct "
            "one (--pixel)."
        )


def _stated_optics(volume: Volume) -> StatedOptics:
    """Return the optics from the file, or from the record of a simulation."""
    for entry in volume.provenance:
        optics = entry.get("optics")
        if isinstance(optics, dict):
            return StatedOptics(
                optics.get("numerical_aperture"),
                optics.get("refractive_index"),
                tuple(optics.get("wavelengths", ())),
            )
    return StatedOptics() if volume.source is None else read_optics(volume.source)


def camera_offsets(frames: SimFrames) -> tuple[float, ...]:
    """Return the grey value without light in each channel.

    This is the grey value of the darkest parts of the smoothed mean frame, in the
    middle slice or in the dimmest slice of the first or last time point, whichever is
    lower, because out-of-focus light can fill a whole slice. Padding is ignored.

    Parameters
    ----------
    frames : SimFrames
        Frames with an offset of 0.

    Returns
    -------
    tuple of float
        A single value if all channels have the same offset.
    """
    found = [_dark_level(frames, channel) for channel in range(frames.n_channels)]
    return tuple(found) if len(set(found)) > 1 else (found[0],)


def _dark_level(frames: SimFrames, channel: int) -> float:
    planes = np.linspace(0, frames.n_planes - 1, min(frames.n_planes, _MOST_SLICES))
    places = list(
        product(
            sorted({round(float(plane)) for plane in planes}),
            sorted({0, frames.n_times - 1}),
        )
    )
    used = [(frames.n_planes // 2, 0)]
    if len(places) > 1:
        means = [float(frames.frame(0, 0, *at, channel).mean()) for at in places]
        if np.isfinite(means).any():
            used.append(places[int(np.nanargmin(means))])
    levels = []
    for plane, time in dict.fromkeys(used):
        block = frames.frames(plane, time, channel)
        level = dark_level(block.reshape(-1, *block.shape[-2:]))
        if level is not None:  # the level of a missing slice is None
            levels.append(level)
    level = min(levels, default=0.0)
    # Noise can make a level of 0 slightly negative; signed integers have baselines.
    return level if frames.volume.dtype.kind == "i" else max(0.0, level)


def transfer_function(frames: SimFrames, config: FramesConfig, channel: int = 0) -> Otf:
    """Return the transfer function of the microscope for one channel.

    Raises
    ------
    ConfigError
        If numerical aperture, wavelength or pixel size is missing.
    FileError, VolumeError
        If the point-spread function cannot be used.
    """
    psf = measured_psf(frames, config)
    if psf is not None:
        return _measured(psf, frames, config)
    cut_off = frames.cut_off(channel)
    if cut_off is None:
        missing = {
            "na": frames.optics.numerical_aperture is None,
            "wavelength": not frames.optics.wavelengths,
            "pixel": frames.volume.unit == PIXEL,
        }
        titles = {
            "na": "the numerical aperture (--na)",
            "wavelength": "the emission wavelength (--wavelength)",
            "pixel": "the pixel size (--pixel)",
        }
        question = voxel_size_question(frames.volume.metadata)
        if missing["pixel"] and question is not None:
            raise ConfigError(
                f"{frames.volume.title} states a pixel size of "
                f"{question.voxel_size[-1]:.4g} {question.unit}, which is implausible "
                f"({question.reason}). Give the correct one (--pixel).",
                fields=("pixel",),
            )
        fields = [name for name, is_missing in missing.items() if is_missing]
        names = [titles[name] for name in fields]
        raise ConfigError(
            f"{frames.volume.title} does not state {_listed(names)}. Give "
            f"{'it' if len(names) == 1 else 'them'}, or a measured point-spread "
            "function (--psf).",
            fields=tuple(fields[:1]),
        )
    return Otf(cut_off, damping=config.damping)


def _listed(names: Sequence[str]) -> str:
    """Join names into a list for a sentence.

    Examples
    --------
    >>> _listed(["a", "b", "c"]), _listed(["a"])
    ('a, b and c', 'a')
    """
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def measured_psf(frames: SimFrames, config: FramesConfig) -> Volume | None:
    """Return the measured point-spread function, if there is one."""
    return frames.psf if config.psf is None else io.read(config.psf)


def _measured(volume: Volume, frames: SimFrames, config: FramesConfig) -> Otf:
    values = np.squeeze(np.asarray(volume.data, np.float64))
    if values.ndim == 3:  # keep the slice in focus
        values = values[int(np.argmax(values.max(axis=(1, 2))))]
    sampling = config.psf_sampling or _psf_sampling(volume, frames) or 1.0
    found = Otf.from_psf(values, sampling, volume.title)
    if not found.cut_off > 0.02:
        raise ConfigError(
            f"{volume.title} transmits no detail finer than 50 camera pixels. Check "
            "--psf-sampling, and crop the image to the spot."
        )
    return found


def _psf_sampling(psf: Volume, frames: SimFrames) -> float | None:
    """Return the number of PSF pixels per camera pixel; None if unknown.

    Raises
    ------
    ConfigError
        If the pixels of the point-spread function are larger than those of the camera.
    """
    if not (psf.has_physical_size and frames.volume.has_physical_size):
        return None
    edge = convert_length(psf.voxel_size[-1], psf.unit, frames.volume.unit)
    ratio = frames.pixel_size / edge
    if abs(ratio - 1) < _SAME_SIZE:
        return 1.0
    if ratio < 1:
        raise ConfigError(
            f"The pixels of {psf.title} ({edge:.4g} {frames.volume.unit}) are larger "
            f"than those of the camera ({frames.pixel_size:.4g} {frames.volume.unit}). "
            "Use an image of the point-spread function with pixels of at most this "
            "size, or correct one of the pixel sizes (--pixel, --psf-sampling).",
            fields=("psf",),
        )
    return ratio


def psf_remark(frames: SimFrames, config: FramesConfig) -> str:
    """Return a sentence on the assumptions about the point-spread function.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig

    Returns
    -------
    str
        Empty if the sampling is given or stated in the files.
    """
    psf = measured_psf(frames, config)
    if psf is None or config.psf_sampling is not None:
        return ""
    if _psf_sampling(psf, frames) is not None:
        return ""
    silent = frames.volume if psf.has_physical_size else psf
    return (
        f"{silent.title} does not state its pixel size, so the pixels of the "
        "point-spread function are assumed to be as large as those of the camera. If "
        "they are smaller, give their number per camera pixel (--psf-sampling)."
    )


def step_remark(frames: SimFrames) -> str:
    """Return a sentence if the slice spacing was set to the pixel size."""
    is_assumed = frames.n_planes > 1 and _NO_STEP in frames.volume.metadata
    return STEP_ASSUMED if is_assumed else ""


def wavelength_remark(frames: SimFrames, config: FramesConfig) -> str:
    """Return a sentence if one wavelength is used for several channels.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig

    Returns
    -------
    str
        Empty if each channel has its own wavelength, or none is needed.
    """
    wavelengths = frames.optics.wavelengths
    is_measured = config.psf is not None or frames.psf is not None
    if is_measured or frames.n_channels == 1 or len(wavelengths) != 1:
        return ""
    return (
        f"The wavelength of {wavelengths[0]:.4g} nm is used for all "
        f"{frames.n_channels} channels. If the channels differ, give one for each "
        "(--wavelength)."
    )


def axis_facts(frames: SimFrames) -> AnyMapping:
    """Describe the arrangement of the frames, for records and messages."""
    return {
        "angles": frames.angles,
        "phases": frames.phases,
        "order": frames.order,
        "slices": frames.n_planes,
        "time_points": frames.n_times,
        "channels": frames.n_channels,
        "offset": frames.offsets[0] if len(frames.offsets) == 1 else frames.offsets,
        "numerical_aperture": frames.optics.numerical_aperture,
        "wavelengths": list(frames.optics.wavelengths),
        "refractive_index": frames.optics.refractive_index,
    }
