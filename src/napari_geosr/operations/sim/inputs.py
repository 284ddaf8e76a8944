"""Open raw frames, a point-spread function and patterns; refuse unusable ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr import io
from napari_geosr.core.documents import load_yaml, read_document
from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.sim_frames import (
    Optics,
    SimFrames,
    guess_order,
    unclear_order,
)
from napari_geosr.core.sim_frames.fringes import PatternSet
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.units import PIXEL, convert_length
from napari_geosr.core.volume import Volume
from napari_geosr.io.optics import StatedOptics, read_optics
from napari_geosr.operations.inputs import InputConfig, open_series
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.physics.illumination.otf import Otf

FloatArray = npt.NDArray[np.float32]

#: Maximum fraction of a frame's pixels at the camera's maximum value; with more, the
#: frame counts as saturated.
MAX_SATURATED = 0.01
#: Refractive index of immersion oil, used if no other is given or stated in the file.
OIL = 1.515
#: Percentile of the mean frame that is used as the camera offset.
_DARK_PERCENTILE = 0.1
#: Maximum frequency of a pattern, relative to the cut-off.
MAX_FREQUENCY = 1.2
#: Growth of differences above which images are not raw frames of one plane; see
#: `difference_growth`.
MAX_GROWTH = 1.8
#: Standard deviation, relative to the mean, below which a frame has no detail.
_CONSTANT = 1e-6


def open_frames(
    path: str | Path, config: FramesConfig, reading: InputConfig | None = None
) -> SimFrames:
    """Open the raw frames of a file lazily.

    Raises
    ------
    FileError, VolumeError, ConfigError
        If the file cannot be opened, or does not contain such frames.
    """
    return frames_of(open_series(path, reading), config)


def frames_of(volume: Volume, config: FramesConfig) -> SimFrames:
    """Return the raw frames in a volume, with optics from its file and the settings.

    Raises
    ------
    VolumeError, ConfigError
        If the volume does not contain such frames, or the optics contradict each other.
    """
    stated = _stated_optics(volume)
    if stated.is_colour:
        raise VolumeError(
            f"{volume.title} is a colour image; structured illumination needs "
            "greyscale frames. Export the raw frames in greyscale."
        )
    if config.pixel is not None:
        edge = config.pixel / 1000
        sizes = (volume.voxel_size[0], edge, edge)[-len(volume.spatial_axes) :]
        if len(sizes) == 3 and not volume.has_physical_size:
            sizes = (edge,) * 3
        elif len(sizes) == 3:
            depth = convert_length(volume.voxel_size[0], volume.unit, "µm")
            sizes = (depth, edge, edge)
        volume = volume.with_geometry(sizes, "µm")
    optics = Optics(
        config.na or stated.numerical_aperture,
        config.wavelength or stated.wavelengths,
        config.index or stated.refractive_index or OIL,
    )
    frames = SimFrames.from_volume(
        volume,
        angles=config.angles,
        phases=config.phases,
        order=config.order,
        optics=optics,
    )
    if frames.phases < 2 * config.harmonics + 1 and config.patterns is None:
        raise ConfigError(
            f"{config.harmonics} harmonics need at least {2 * config.harmonics + 1} "
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
    offset = config.offset
    return replace(frames, offset=_dark_level(frames) if offset is None else offset)


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


def _dark_level(frames: SimFrames) -> float:
    """Return the grey value of the darkest parts of the smoothed mean frame."""
    from scipy import ndimage

    block = frames.frames(frames.n_planes // 2)
    mean = block.mean(axis=(0, 1))
    if not np.isfinite(mean).all():
        return 0.0
    smooth = ndimage.uniform_filter(mean, 3, mode="nearest")
    return max(0.0, float(np.percentile(smooth, _DARK_PERCENTILE)))


def transfer_function(frames: SimFrames, config: FramesConfig, channel: int = 0) -> Otf:
    """Return the transfer function of the microscope for one channel.

    Raises
    ------
    ConfigError
        If numerical aperture, wavelength or pixel size is missing.
    FileError, VolumeError
        If the point-spread function cannot be used.
    """
    if config.psf is not None:
        return _measured(frames, config)
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


def _measured(frames: SimFrames, config: FramesConfig) -> Otf:
    assert config.psf is not None
    volume = io.read(config.psf)
    values = np.squeeze(np.asarray(volume.data, np.float64))
    if values.ndim == 3:  # the slice in focus
        values = values[int(np.argmax(values.max(axis=(1, 2))))]
    sampling = config.psf_sampling or _psf_sampling(volume, frames) or 1
    found = Otf.from_psf(values, sampling, config.psf.name)
    if not found.cut_off > 0.02:
        raise ConfigError(
            f"{config.psf.name} transmits no detail finer than 50 camera pixels. Check "
            "--psf-sampling, and crop the image to the spot."
        )
    return found


def _psf_sampling(psf: Volume, frames: SimFrames) -> int | None:
    """Return the number of PSF pixels per camera pixel; None if unknown."""
    if not (psf.has_physical_size and frames.volume.has_physical_size):
        return None
    edge = convert_length(psf.voxel_size[-1], psf.unit, frames.volume.unit)
    return max(1, round(frames.pixel_size / edge))


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
    if config.psf is None or config.psf_sampling is not None:
        return ""
    psf = io.read(config.psf)
    if _psf_sampling(psf, frames) is not None:
        return ""
    silent = frames.volume if psf.has_physical_size else psf
    return (
        f"{silent.title} does not state its pixel size, so the pixels of the "
        "point-spread function are assumed to be as large as those of the camera. If "
        "they are smaller, give their number per camera pixel (--psf-sampling)."
    )


def order_remark(frames: SimFrames, config: FramesConfig) -> str:
    """Explain in a sentence why the order of the frames is uncertain.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig

    Returns
    -------
    str
        Empty if the order is given or clear from the frames.
    """
    if config.order is not None or config.patterns is not None:
        return ""
    growth = difference_growth(frames)
    if growth > MAX_GROWTH:
        return (
            f"{frames.volume.title} does not look like raw SIM frames: images far "
            f"apart in the stack differ {growth:.1f} times as much as adjacent ones, "
            "as do slices of a volume or images of a time series. Choose raw frames "
            "or, if these are raw frames, give their order (--order)."
        )
    _, misfit = guess_order(frames)
    orders = unclear_order(misfit)
    if orders is None:
        return ""
    best, rival = orders
    return (
        f"The order of the frames of {frames.volume.title} is unclear: {best} fits "
        f"only slightly better than {rival} (misfits {misfit[best]:.2f} and "
        f"{misfit[rival]:.2f}). Check that the stack is complete and unshuffled, and "
        "give the order (--order)."
    )


def difference_growth(frames: SimFrames) -> float:
    """Return the ratio of the differences between distant and between adjacent images.

    Frames of one plane differ only in their patterns, and therefore by similar amounts:
    the ratio of the mean squared differences is 0.9 for such frames, and 2.8 to 40 for
    real volumes and time series.

    Parameters
    ----------
    frames : SimFrames
        Only the frames of the middle plane are read.
    """
    plane = frames.n_planes // 2
    block = np.nan_to_num(frames.frames(plane)).astype(np.float64)
    counts = range(frames.angles), range(frames.phases)
    places = [frames.index(angle, phase, plane) for angle, phase in product(*counts)]
    images = block.reshape(-1, *block.shape[2:])[np.argsort(places)]
    means = images.mean((1, 2), keepdims=True)
    images = images * (means.mean() / np.where(means > 0, means, 1))
    distances: dict[int, list[float]] = {}
    for i, j in combinations(range(len(images)), 2):
        difference = float(np.square(images[i] - images[j]).mean())
        distances.setdefault(j - i, []).append(difference)
    adjacent = float(np.mean(distances[1]))
    far = [np.mean(d) for n, d in distances.items() if n > len(images) // 2]
    return float(np.mean(far)) / adjacent if adjacent > 0 and far else 1.0


def read_patterns(path: Path, frames: SimFrames) -> PatternSet:
    """Read known patterns from a YAML file, or from images with one pattern per frame.

    Raises
    ------
    FileError, ConfigError
        If the file cannot be read, or its patterns do not fit the frames.
    """
    if path.suffix.lower() in (".yaml", ".yml", ".json"):
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
        found = PatternSet.from_dict(values, path.name)
        counts = (len(found.fringes), len(found.fringes[0].phases))
        if counts != (frames.angles, frames.phases):
            raise ConfigError(
                f"{path.name} describes {counts[0]} angles × {counts[1]} phases, but "
                f"{frames.volume.title} has {frames.angles} × {frames.phases}. Check "
                "--angles and --phases."
            )
        if found.shape != frames.plane_shape:
            raise ConfigError(
                f"{path.name} is for frames of {found.shape[0]} × {found.shape[1]} "
                f"pixels, but those of {frames.volume.title} have "
                f"{frames.plane_shape[0]} × {frames.plane_shape[1]}. Find the "
                "patterns in these frames instead (omit --patterns)."
            )
        return found
    images = np.asarray(io.read(path).data, np.float32)
    images = images.reshape(-1, *images.shape[-2:])
    if len(images) != frames.n_frames:
        raise ConfigError(
            f"{path.name} has {len(images)} patterns, but there are {frames.n_frames} "
            "frames. Give one pattern for each frame."
        )
    if not np.isfinite(images).all():
        raise ConfigError(
            f"{path.name} contains NaN or infinite values. Use complete patterns."
        )
    mean = float(images.mean())
    if images.min() < 0 or not mean > 0:
        raise ConfigError(
            f"{path.name} has negative values or contains no signal. "
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


def check_plane(block: FloatArray, frames: SimFrames, where: str = "") -> None:
    """Refuse the frames of a plane that cannot be reconstructed.

    Parameters
    ----------
    block : ndarray of shape (angles, phases, Y, X)
    frames : SimFrames
    where : str
        Name of the plane in messages.

    Raises
    ------
    VolumeError
        If frames have NaN or infinite pixels, lack light or detail, are saturated, or
        are very small.
    """
    title = f"{frames.volume.title}{where}"
    if min(block.shape[-2:]) < 16:
        raise VolumeError(
            f"{title} has frames of {block.shape[-2]} × {block.shape[-1]} pixels; at "
            "least 16 × 16 are needed. Use larger frames."
        )
    unknown = ~np.isfinite(block)
    if unknown.any():
        angle, phase = np.argwhere(unknown)[0][:2]
        raise VolumeError(
            f"{title} has {int(unknown.sum())} NaN or infinite pixels, the first in "
            f"angle {angle + 1}, phase {phase + 1}. Replace or crop them."
        )
    mean = block.mean(axis=(2, 3), dtype=np.float64)
    if mean.min() < 0:
        angle, phase = np.unravel_index(int(np.argmin(mean)), mean.shape)
        raise VolumeError(
            f"{title}: the frame of angle {angle + 1}, phase {phase + 1} has a "
            f"mean of {mean.min():.4g} after the camera offset of "
            f"{frames.offset:.4g} is subtracted, so it contains no light. Correct "
            "the offset (--offset)."
        )
    _refuse_saturated(block, frames, title)
    spread = block.std(axis=(2, 3))
    flat = np.argwhere(spread <= _CONSTANT * np.maximum(mean, 1e-30))
    if len(flat):
        angle, phase = flat[0]
        raise VolumeError(
            f"{title}: the frame of angle {angle + 1}, phase {phase + 1} has the same "
            "grey value everywhere. Check that the acquisition is complete."
        )


def _refuse_saturated(block: FloatArray, frames: SimFrames, title: str) -> None:
    shares = saturated_fraction(block, frames)
    if shares.max() > MAX_SATURATED:
        angle, phase = np.unravel_index(int(np.argmax(shares)), shares.shape)
        raise VolumeError(
            f"{title}: {100 * shares.max():.1f} % of the pixels of angle {angle + 1}, "
            f"phase {phase + 1} have the largest grey value, so the frame is "
            "saturated. Record it with less light or a shorter exposure."
        )


def saturated_fraction(block: FloatArray, frames: SimFrames) -> FloatArray:
    """Return the fraction of pixels in each frame at the camera's maximum value.

    For integers, the camera's maximum is that of the lowest bit depth (8, 10, 12, 14 or
    16) that holds all values; for floating point, it is the largest grey value of all
    frames.
    """
    values = block + np.float32(frames.offset)
    top = float(values.max())
    if frames.volume.dtype.kind in "iu":
        limits = [2**b - 1 for b in (8, 10, 12, 14, 16) if 2**b - 1 >= top]
        limit = limits[0] if limits else top
        if top < limit:
            return np.zeros(block.shape[:2], np.float32)
        top = limit
    found: FloatArray = (values >= top - 1e-6 * abs(top)).mean(
        axis=(2, 3), dtype=np.float32
    )
    return found


def axis_facts(frames: SimFrames) -> AnyMapping:
    """Describe the arrangement of the frames, for records and messages."""
    return {
        "angles": frames.angles,
        "phases": frames.phases,
        "order": frames.order,
        "slices": frames.n_planes,
        "time_points": frames.n_times,
        "channels": frames.n_channels,
        "offset": frames.offset,
        "numerical_aperture": frames.optics.numerical_aperture,
        "wavelengths": list(frames.optics.wavelengths),
        "refractive_index": frames.optics.refractive_index,
    }


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
