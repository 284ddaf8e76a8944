"""Checks settings and data before the process of a training run starts.

For a target with finer voxels than its source, suitable settings are suggested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.file_warnings import file_warnings
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.learning.energy import known_countries
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.statistics import grey_scale
from napari_geosr.networks import NETWORKS
from napari_geosr.operations.inputs.scan import question_texts
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.config import TrainingConfig

#: Number of slices checked for contrast, evenly spaced, excluding the first and last.
_N_PLANES = 5


def check_country(code: str) -> None:
    """Refuse a country for which the carbon intensity of electricity is unknown.

    Raises
    ------
    ConfigError
        If `code` is unknown; the message lists some codes with the same first letter.
    """
    known = known_countries()
    if not known or code in known:
        return
    similar = [f"{key} ({name})" for key, name in known.items() if key[0] == code[0]]
    listed = ", ".join(similar[:6])
    raise ConfigError(
        f"The carbon intensity of electricity in country {code!r} is unknown. Give the "
        f"three-letter ISO code of another country, such as {listed or 'FRA (France)'}."
    )


def check_slices(training: TrainingConfig, volumes: Sequence[Volume]) -> list[str]:
    """Check settings that depend on the number of slices.

    Parameters
    ----------
    volumes : sequence of Volume
        The sources, in order.

    Returns
    -------
    list of str
        A warning for each volume with fewer slices than the network uses at once.

    Raises
    ------
    ConfigError
        If the preview slice does not exist, or a single image has no adjacent slices.
    """
    first, index = volumes[0], training.preview_slice
    depth = _depth(first)
    if index is not None and index >= depth:
        extent = "is a single image" if depth == 1 else f"has slices 0 … {depth - 1}"
        raise ConfigError(
            f"There is no preview slice {index}: {first.title} {extent}. Choose "
            "another preview slice, or none for the middle one.",
            fields=["preview_slice"],
        )
    planes = 1 if training.images_as_slices else training.planes
    warnings = []
    for volume in volumes:
        depth = _depth(volume)
        if is_simulated(volume.name):
            continue  # simulated volumes may be single images
        if depth == 1 < planes:
            raise ConfigError(
                f"{volume.title} is a single image, but a 2.5D network takes {planes} "
                "slices at once. Set dimensions to 2D.",
                fields=["dimensions"],
            )
        if depth < planes:
            n_adjacent = depth - 1 + depth % 2
            warnings.append(
                f"{volume.title} has {depth} slices, but the network takes {planes} "
                "at once, so some are used twice. Set adjacent slices to "
                f"{n_adjacent}, or dimensions to 2D."
            )
    return warnings


def smaller_patch_warnings(
    training: TrainingConfig, volumes: Sequence[Volume]
) -> list[str]:
    """Warn if a volume is smaller than the patch size that the user set.

    Parameters
    ----------
    volumes : sequence of Volume
        The sources.

    Returns
    -------
    list of str
        One sentence; empty if the patch fits, or has its default size, which is reduced
        without a warning.
    """
    patch = training.patch
    if patch == type(training).model_fields["patch"].default:
        return []
    for volume in volumes:
        shape = volume.shape[-training.ndim :]
        if min(shape) < patch:
            edges = " × ".join(map(str, shape))
            return [
                f"A patch of {patch} voxels is larger than {volume.title} ({edges} "
                "voxels): smaller patches are used. Set the patch to "
                f"{min(shape)} or less."
            ]
    return []


def reading_warnings(volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
    """Return the assumptions made about axes and voxel sizes not stated in the files.

    Parameters
    ----------
    volumes : mapping of str to sequence of Volume
        Opened volumes, by role.

    Returns
    -------
    list of str
        A sentence for each assumption, with one file name and the number of other
        files.
    """
    titles: dict[str, dict[str, None]] = {}
    for volume in (v for group in volumes.values() for v in group):
        notes = (*file_warnings(volume.metadata), *volume.metadata.get("notes", ()))
        for note in (*notes, *question_texts(volume)):
            titles.setdefault(str(note), {})[volume.title] = None
    warnings = []
    for note, names in titles.items():
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        warnings.append(f"{first}{more}: {note}")
    return warnings


def check_distinct(sources: Sequence[Volume]) -> None:
    """Refuse a file given more than once, because all copies have the same noise.

    Raises
    ------
    ConfigError
        If two sources are the same file.
    """
    known: list[object] = []
    for volume in sources:
        if volume.source is not None and volume.source in known:
            raise ConfigError(
                f"{volume.title} is given twice: both copies have the same noise, so "
                "nothing can be learned from the pair. Use reconstructions from "
                "different projections."
            )
        known.append(volume.source)


def check_contents(volumes: Mapping[str, Sequence[Volume]]) -> None:
    """Refuse volumes without contrast, judged by a few slices of each.

    Raises
    ------
    VolumeError
        If a volume has no finite grey value, all grey values of a role are equal, or
        float32 cannot represent them.
    """
    for group in volumes.values():
        has_digits = any(not np.can_cast(v.dtype, np.float32) for v in group)
        if has_digits or not all(is_simulated(v.name) or _varies(v) for v in group):
            # A few slices may miss the object, so check the sample that training uses.
            grey_scale(group)


def _varies(volume: Volume) -> bool:
    """Return whether one of a few evenly spaced slices has more than one grey value."""
    depth = _depth(volume)
    if volume.axes == "YX":
        return _has_contrast(volume.data[:])
    indices = np.unique(np.linspace(0, depth - 1, _N_PLANES + 2)[1:-1].astype(int))
    return any(_has_contrast(volume.data[int(z)]) for z in indices)


def _has_contrast(plane: object) -> bool:
    values = np.asarray(plane)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() < values.max())


def _depth(volume: Volume) -> int:
    return volume.shape[0] if volume.axes == "ZYX" else 1


#: Settings that are specific to a network, with the values that reset them.
_NETWORK_SPECIFIC: AnyDict = {
    "layers": None,
    "width": None,
    "dilations": None,
    "network_options": {},
}


def suggest_upscaling(
    method: str, training: TrainingConfig, source: Volume, target: Volume
) -> str:
    """Suggest settings for a target with finer voxels than the source.

    Each suggestion has been validated: the method accepts it, and its upscale factor
    matches the target.

    Parameters
    ----------
    method : str
        Name of a learning method.
    training : TrainingConfig
    source, target : Volume

    Returns
    -------
    str
        One or two sentences; empty if no upscale factor relates the two shapes.
    """
    upscaling = _upscaling(source, target)
    if upscaling is None:
        return ""
    factor, dimensions, axes = upscaling
    begin = f"The voxels of {target.title} are {factor} times smaller along {axes}"
    flags = _flags(method, training, factor, dimensions)
    if flags is not None:
        return f"{begin}. To learn this upscaling, set {flags}."
    others = [
        f"{other} ({flags})"
        for other in METHODS.names()
        if other != method
        and _learns_pairs(other)
        and (flags := _flags(other, None, factor, dimensions)) is not None
    ]
    if not others:
        return f"{begin}, which no method supports: resample the target."
    return f"{begin}. {method} cannot learn this, but {' and '.join(others)} can."


def _upscaling(
    source: Volume, target: Volume
) -> tuple[int, tuple[str, ...], str] | None:
    """Return the upscale factor, suitable dimensions (best first) and the axes."""
    if source.axes != target.axes or source.axes not in ("YX", "ZYX"):
        return None
    times = [
        t // s if s and t % s == 0 else 0
        for s, t in zip(source.shape, target.shape, strict=True)
    ]
    factor = times[-1]
    if factor < 2:
        return None
    if times == [factor] * 3:
        return factor, ("3D",), "Z, Y and X"
    if times == [1, factor, factor]:
        return factor, ("2.5D", "2D"), "Y and X"
    return (factor, ("2D",), "Y and X") if times == [factor] * 2 else None


def _learns_pairs(method: str) -> bool:
    kind = METHODS.load(method).Method
    return bool(kind.paired and {"source", "target"} <= set(kind.roles))


def _flags(
    method: str,
    training: TrainingConfig | None,
    factor: int,
    dimensions: Sequence[str],
) -> str | None:
    """Return flags that set the upscale factor of the method; None if no flags do.

    Parameters
    ----------
    training : TrainingConfig, optional
        Current settings of the method; by default its defaults.
    """
    kind = config_class(method)
    if "upscale_factor" not in kind.model_fields:
        return None
    now: Any = training or kind()
    for changes in _candidates(now, kind().network, factor, dimensions):
        values = now.model_dump() | {"source": ["a"], "target": ["b"]} | changes
        try:
            config = kind.create(**values)
            METHODS.load(method).Method.check(config)
            upscale_factor = METHODS.load(method).Method(config).upscale_factor
        except ConfigError:
            continue
        if upscale_factor == factor:
            return _format_flags(
                {k: v for k, v in changes.items() if getattr(now, k) != v}
            )
    return None


def _format_flags(changes: AnyMapping) -> str:
    """Format changed settings as flags, and name the flags to remove."""
    flags = {name: f"--{name.replace('_', '-')}" for name in changes}
    given = [
        f"{flags[k]} {v}" for k, v in changes.items() if k not in _NETWORK_SPECIFIC
    ]
    removed = [flags[name] for name in changes if name in _NETWORK_SPECIFIC]
    without = f" without {' and '.join(removed)}" if removed else ""
    return " ".join(given) + without


def _candidates(
    now: TrainingConfig, default: str, factor: int, dimensions: Sequence[str]
) -> Iterator[AnyDict]:
    """Yield settings to try, those closest to the current ones first."""
    for network in dict.fromkeys((now.network, default, *NETWORKS.names())):
        fields = type(now).model_fields if network != now.network else {}
        cleared = {k: v for k, v in _NETWORK_SPECIFIC.items() if k in fields}
        current = [d for d in dimensions if d == now.dimensions]
        for chosen in dict.fromkeys((*current, *dimensions)):
            yield {
                "network": network,
                "upscale_factor": factor,
                "dimensions": chosen,
                **cleared,
            }
