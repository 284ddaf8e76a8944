"""What can be seen to be wrong with a training before its process is started.

And what to set so that targets with finer voxels than their sources can be learned.
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
from napari_geosr.operations.inputs.scan import questions_about
from napari_geosr.physics.simulated import is_simulated

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.config import TrainingConfig

_MOST_PLANES = 5


def check_country(code: str) -> None:
    """Refuse a country whose electricity is not known.

    Raises
    ------
    ConfigError
        With some codes that begin as `code` does.
    """
    known = known_countries()
    if not known or code in known:
        return
    alike = [f"{key} ({name})" for key, name in known.items() if key[0] == code[0]]
    listed = ", ".join(alike[:6])
    raise ConfigError(
        f"The electricity of country {code!r} is not known. Give the ISO code of three "
        f"letters of another one, such as {listed or 'FRA (France)'}."
    )


def check_slices(training: TrainingConfig, volumes: Sequence[Volume]) -> list[str]:
    """Compare settings that count slices with the slices that there are.

    Parameters
    ----------
    volumes : sequence of Volume
        Of the sources, in their order.

    Returns
    -------
    list of str
        A sentence for everything that works, but not as one may think.

    Raises
    ------
    ConfigError
        If the slice to show does not exist, or single images have no neighbours.
    """
    first, wanted = volumes[0], training.preview_slice
    depth = _depth(first)
    if wanted is not None and wanted >= depth:
        there = "is a single image" if depth == 1 else f"has slices 0 … {depth - 1}"
        raise ConfigError(
            f"There is no preview slice {wanted}: {first.title} {there}. Choose "
            "another preview slice, or none for the middle one.",
            fields=["preview_slice"],
        )
    planes = 1 if training.images_as_slices else training.planes
    said = []
    for volume in volumes:
        depth = _depth(volume)
        if is_simulated(volume.name):
            continue  # single images among them are meant: the model learns those, too
        if depth == 1 < planes:
            raise ConfigError(
                f"{volume.title} is a single image, but a 2.5D network sees {planes} "
                "slices at once. Set dimensions to 2D.",
                fields=["dimensions"],
            )
        if depth < planes:
            odd = depth - 1 + depth % 2
            said.append(
                f"{volume.title} has {depth} slices, but the network sees {planes} at "
                f"once, so some are shown to it twice. Set adjacent slices to {odd}, "
                "or dimensions to 2D."
            )
    return said


def smaller_patches(training: TrainingConfig, volumes: Sequence[Volume]) -> list[str]:
    """Say that patches will be smaller than a person wants: as large as the volumes.

    Parameters
    ----------
    volumes : sequence of Volume
        Of the sources.

    Returns
    -------
    list of str
        A sentence; nothing where the patch fits, or is as large as by default, which
        is made to fit any volume.
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
                "voxels): patches as large as fit are used. Set the patch to "
                f"{min(shape)} or less."
            ]
    return []


def doubts_of_reading(volumes: Mapping[str, Sequence[Volume]]) -> list[str]:
    """What was assumed or is in doubt where files do not say it: an axis, a size.

    Parameters
    ----------
    volumes : mapping of str to sequence of Volume
        What was opened, by role.

    Returns
    -------
    list of str
        A sentence for each assumption, with the names of its files.
    """
    titles: dict[str, dict[str, None]] = {}
    for volume in (v for found in volumes.values() for v in found):
        notes = (*file_warnings(volume.metadata), *volume.metadata.get("notes", ()))
        for note in (*notes, *questions_about(volume)):
            titles.setdefault(str(note), {})[volume.title] = None
    said = []
    for note, names in titles.items():
        first, *others = names
        more = f" and {len(others)} more" if others else ""
        said.append(f"{first}{more}: {note}")
    return said


def check_different(sources: Sequence[Volume]) -> None:
    """Refuse one file given several times: its noise is its own in every copy.

    Raises
    ------
    ConfigError
        With its name.
    """
    known: list[object] = []
    for volume in sources:
        if volume.source is not None and volume.source in known:
            raise ConfigError(
                f"{volume.title} is given twice: the same file has the same noise, so "
                "there is nothing to learn from it. Give reconstructions from "
                "different projections."
            )
        known.append(volume.source)


def check_contents(volumes: Mapping[str, Sequence[Volume]]) -> None:
    """Refuse volumes without anything to learn from, by a few slices of each.

    Raises
    ------
    VolumeError
        If a volume has no finite grey value, or all of a role are the same.
    """
    for found in volumes.values():
        if not all(is_simulated(v.name) or _varies(v) for v in found):
            # Where few slices show nothing, all that training looks at decide.
            grey_scale(found)


def _varies(volume: Volume) -> bool:
    """Whether a few slices, spread over the volume, show more than one grey value."""
    depth = _depth(volume)
    if volume.axes == "YX":
        return _has_contrast(volume.data[:])
    places = np.unique(np.linspace(0, depth - 1, _MOST_PLANES + 2)[1:-1].astype(int))
    return any(_has_contrast(volume.data[int(z)]) for z in places)


def _has_contrast(plane: object) -> bool:
    values = np.asarray(plane)
    values = values[np.isfinite(values)]
    return bool(values.size and values.min() < values.max())


def _depth(volume: Volume) -> int:
    return volume.shape[0] if volume.axes == "ZYX" else 1


#: Settings that belong to one network and fit no other, where they are not given.
_OF_ONE_NETWORK: AnyDict = {
    "layers": None,
    "width": None,
    "dilations": None,
    "network_options": {},
}


def finer_targets(
    method: str, training: TrainingConfig, source: Volume, target: Volume
) -> str:
    """Say what learns a target whose shape is a multiple of its source's.

    Every setting named was tried: the method accepts it, and makes voxels that fine.

    Parameters
    ----------
    method : str
        Name of a learning method.
    training : TrainingConfig
    source, target : Volume

    Returns
    -------
    str
        A sentence or two; empty where the target has other voxels.
    """
    found = _times_finer(source, target)
    if found is None:
        return ""
    factor, dimensions, axes = found
    begin = f"The voxels of {target.title} are {factor} times finer along {axes}"
    own = _flags(method, training, factor, dimensions)
    if own is not None:
        return f"{begin}: to learn that set {own}."
    others = [
        f"{other} ({flags})"
        for other in METHODS.names()
        if other != method
        and _learns_pairs(other)
        and (flags := _flags(other, None, factor, dimensions)) is not None
    ]
    if not others:
        return f"{begin}, and no method learns that: resample it."
    return f"{begin}. {method} does not learn that; {' and '.join(others)} would."


def _times_finer(
    source: Volume, target: Volume
) -> tuple[int, tuple[str, ...], str] | None:
    """How many times, by which kinds of networks (the best first), along which axes."""
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
    """Flags of the first settings that work; None where there are none.

    Parameters
    ----------
    training : TrainingConfig, optional
        Settings of the method as they are; by default its own.
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
            makes = METHODS.load(method).Method(config).upscale_factor
        except ConfigError:
            continue
        if makes == factor:
            return _in_words({k: v for k, v in changes.items() if getattr(now, k) != v})
    return None


def _in_words(changes: AnyMapping) -> str:
    """Settings as flags, and those that are not to be given any more."""
    flags = {name: f"--{name.replace('_', '-')}" for name in changes}
    given = [f"{flags[k]} {v}" for k, v in changes.items() if k not in _OF_ONE_NETWORK]
    left_out = [flags[name] for name in changes if name in _OF_ONE_NETWORK]
    without = f" without {' and '.join(left_out)}" if left_out else ""
    return " ".join(given) + without


def _candidates(
    now: TrainingConfig, default: str, factor: int, dimensions: Sequence[str]
) -> Iterator[AnyDict]:
    """Settings to try, those nearest to what there is first."""
    for network in dict.fromkeys((now.network, default, *NETWORKS.names())):
        fields = type(now).model_fields if network != now.network else {}
        cleared = {k: v for k, v in _OF_ONE_NETWORK.items() if k in fields}
        kept = [d for d in dimensions if d == now.dimensions]
        for chosen in dict.fromkeys((*kept, *dimensions)):
            yield {
                "network": network,
                "upscale_factor": factor,
                "dimensions": chosen,
                **cleared,
            }
