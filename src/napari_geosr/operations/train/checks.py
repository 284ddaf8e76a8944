"""What can be seen to be wrong with a training before its process is started."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.energy import known_countries
from napari_geosr.learning.statistics import grey_scale
from napari_geosr.operations.scan.questions import questions_about
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
            "another preview slice, or none for the middle one."
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
                "slices at once. Set dimensions to 2D."
            )
        if depth < planes:
            odd = depth - 1 + depth % 2
            said.append(
                f"{volume.title} has {depth} slices, but the network sees {planes} at "
                f"once, so some are shown to it twice. Set adjacent slices to {odd}, "
                "or dimensions to 2D."
            )
    return said


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
        for note in (*volume.metadata.get("notes", ()), *questions_about(volume)):
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
