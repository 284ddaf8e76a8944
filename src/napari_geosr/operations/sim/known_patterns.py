"""Read known illumination patterns from a file, and refuse those that do not fit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from napari_geosr import io
from napari_geosr.core.documents import load_yaml, read_document
from napari_geosr.core.errors import ConfigError, FileError
from napari_geosr.core.sim_frames import SimFrames
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.physics.illumination.otf import Otf

#: Known patterns, or the file that contains them.
Source = Path | PatternSet | AnyMapping | Volume
#: Largest relative difference between the pixel sizes of patterns and frames.
_MAX_SCALE = 0.01
#: Maximum frequency of a pattern, relative to the cut-off.
MAX_FREQUENCY = 1.2


def pattern_counts(source: Source) -> tuple[int, int]:
    """Return the numbers of angles and phases of known patterns.

    Images count as one angle with a phase for each image.

    Raises
    ------
    FileError, ConfigError
        If the file cannot be read, or does not contain patterns.
    """
    found, name = _opened(source)
    if isinstance(found, Volume):
        return 1, math.prod(found.shape[:-2])
    if not isinstance(found, PatternSet):
        channels = found.get("channels")
        if isinstance(channels, list) and channels and isinstance(channels[0], dict):
            found = channels[0]
        found = PatternSet.from_dict(found, name)
    return len(found.fringes), len(found.fringes[0].phases)


def _opened(source: Source) -> tuple[PatternSet | AnyMapping | Volume, str]:
    """Read a file; also return a name for its patterns, for messages."""
    if isinstance(source, Path):
        is_document = source.suffix.lower() in (".yaml", ".yml", ".json")
        return _document(source) if is_document else io.read(source), source.name
    return source, source.title if isinstance(source, Volume) else "The pattern file"


def read_patterns(source: Source, frames: SimFrames, channel: int = 0) -> PatternSet:
    """Read known patterns from a YAML file, or from images with one pattern per frame.

    Images and a `PatternSet` apply to all channels. A YAML file contains the patterns
    of each channel in the list ``channels``; patterns for all channels need the entry
    ``channels: all``.

    Raises
    ------
    FileError, ConfigError
        If the file cannot be read, or its patterns do not fit the frames.
    """
    found, name = _opened(source)
    if isinstance(found, Volume):
        return _images(found, name, frames)
    if not isinstance(found, PatternSet):
        found = PatternSet.from_dict(_of_channel(found, name, frames, channel), name)
    counts = (len(found.fringes), len(found.fringes[0].phases))
    if counts != (frames.angles, frames.phases):
        raise ConfigError(
            f"{name} describes {counts[0]} angles × {counts[1]} phases, but "
            f"{frames.volume.title} has {frames.angles} × {frames.phases}. Check "
            "--angles and --phases."
        )
    if found.shape != frames.plane_shape:
        raise ConfigError(
            f"{name} is for frames of {found.shape[0]} × {found.shape[1]} "
            f"pixels, but those of {frames.volume.title} have "
            f"{frames.plane_shape[0]} × {frames.plane_shape[1]}. Find the "
            "patterns in these frames instead (omit --patterns)."
        )
    _check_pixel_size(found, name, frames)
    return found


def _check_pixel_size(patterns: PatternSet, name: str, frames: SimFrames) -> None:
    """Refuse patterns that were found in frames with another pixel size."""
    volume = frames.volume
    if not volume.has_physical_size or patterns.unit == PIXEL:
        return
    stated = convert_length(patterns.pixel_size, patterns.unit, volume.unit)
    if abs(stated - frames.pixel_size) > _MAX_SCALE * frames.pixel_size:
        raise ConfigError(
            f"{name} is for pixels of {stated:.4g} {volume.unit}, but those of "
            f"{volume.title} have {frames.pixel_size:.4g} {volume.unit}. Correct the "
            "pixel size of the frames (--pixel), or find the patterns in these frames "
            "(omit --patterns).",
            fields=("patterns",),
        )


def patterns_document(channels: Sequence[PatternSet]) -> AnyDict:
    """Return the patterns of all channels as values of a file for `read_patterns`."""
    if len(channels) == 1:
        return channels[0].to_dict()
    return {"channels": [patterns.to_dict() for patterns in channels]}


def _document(path: Path) -> AnyMapping:
    if not path.exists():
        raise FileError(f"{path} does not exist. Check the name and the folder.")
    try:
        values = load_yaml(read_document(path))
    except (OSError, UnicodeDecodeError, ConfigError) as error:
        raise FileError(
            f"{path} cannot be read as YAML: {str(error).rstrip('.')}. Use a file "
            "written by 'napari-geosr sim check'."
        ) from error
    if not isinstance(values, dict):
        raise ConfigError(
            f"{path.name} contains no patterns. Use a file written "
            "by 'napari-geosr sim check'."
        )
    return values


def _of_channel(
    values: AnyMapping, name: str, frames: SimFrames, channel: int
) -> AnyMapping:
    """Return the values of one channel."""
    channels, n = values.get("channels"), frames.n_channels
    if isinstance(channels, list):
        if len(channels) != n or not all(isinstance(row, dict) for row in channels):
            raise ConfigError(
                f"{name} describes the patterns of {len(channels)} channels, but "
                f"{frames.volume.title} has {n} channel{'s' * (n > 1)}. Use a file "
                "that 'napari-geosr sim check' wrote for these frames.",
                fields=("patterns",),
            )
        found: AnyMapping = channels[channel]
        return found
    if n > 1 and channels != "all":
        raise ConfigError(
            f"{name} contains the patterns of one channel, but {frames.volume.title} "
            f"has {n} channels. Use a file that 'napari-geosr sim check' wrote for "
            "these frames or, if the patterns are the same in all channels, add the "
            "line 'channels: all' to the file.",
            fields=("patterns",),
        )
    return values


def _images(volume: Volume, name: str, frames: SimFrames) -> PatternSet:
    """Read images with one pattern per frame."""
    images = np.asarray(volume.data, np.float32)
    images = images.reshape(-1, *images.shape[-2:])
    if len(images) != frames.n_frames:
        raise ConfigError(
            f"{name} has {len(images)} patterns, but there are {frames.n_frames} "
            "frames. Give one pattern for each frame."
        )
    _check_image_size(images.shape[1:], name, frames)
    if not np.isfinite(images).all():
        raise ConfigError(
            f"{name} contains NaN or infinite values. Use complete patterns."
        )
    mean = float(images.mean())
    if images.min() < 0 or not mean > 0:
        raise ConfigError(
            f"{name} has negative values or contains no signal. "
            "Subtract its offset, or choose another file."
        )
    # The file has the patterns in the order of the frames of one plane; the result has
    # those of one angle next to each other.
    flat = "".join(letter for letter in frames.order if letter != "z")
    if flat == "pa":
        images = images.reshape(frames.phases, frames.angles, *images.shape[1:])
        images = images.swapaxes(0, 1).reshape(-1, *images.shape[2:])
    return PatternSet(
        (),
        frames.plane_shape,
        frames.pixel_size,
        frames.volume.unit,
        images / np.float32(mean),
    )


def _check_image_size(shape: tuple[int, ...], name: str, frames: SimFrames) -> None:
    """Refuse images that do not have a whole number of pixels per camera pixel."""
    rows, columns = frames.plane_shape
    factor = shape[0] // rows
    if factor < 1 or shape != (factor * rows, factor * columns):
        raise ConfigError(
            f"The patterns of {name} have {shape[0]} × {shape[1]} pixels, but the "
            f"frames of {frames.volume.title} have {rows} × {columns}. Resample them "
            f"to {rows} × {columns} pixels, or to the size of the result "
            "(--upscale-factor).",
            fields=("patterns",),
        )


def check_patterns(patterns: PatternSet, otf: Otf) -> None:
    """Refuse patterns that the objective cannot transmit or the camera cannot sample.

    Raises
    ------
    ConfigError
        If a period is too short for the camera or the objective.
    """
    for i, fringe in enumerate(patterns.fringes, start=1):
        k = fringe.frequency
        if max(abs(v) for v in fringe.wave_vector) >= 0.5:
            raise ConfigError(
                f"Angle {i}: the pattern has a period of {1 / k:.3g} pixels, which the "
                "camera cannot resolve (at least 2 pixels are needed). Check the "
                "pixel size (--pixel) and the patterns."
            )
        if k > MAX_FREQUENCY * otf.cut_off:
            raise ConfigError(
                f"Angle {i}: the pattern has a period of {1 / k:.3g} pixels, but the "
                f"objective transmits no period below {1 / otf.cut_off:.3g} pixels. "
                "Check numerical aperture, wavelength and pixel size."
            )
