"""The noise of the scans to learn from: its strength, and whether voxels share it.

Blind-spot methods guess a voxel from its neighbours: noise that they share is guessed
as well. Reconstructions by filtered back-projection, interpolated images and cameras
that bin their pixels have such noise.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from typing import TYPE_CHECKING

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import StageStarted, Step, WarningIssued
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS
from napari_geosr.measure.noise import estimate_noise

if TYPE_CHECKING:
    from napari_geosr.core.noise import Noise
    from napari_geosr.learning.config import TrainingConfig
    from napari_geosr.learning.method import Method
    from napari_geosr.learning.patches import Patches


#: Correlation from which blind-spot training visibly begins to copy noise.
NOTEWORTHY = 0.1


def correlated_noise(volume: Volume, method: str, along: str = "xyz") -> str:
    """Say that the noise of a scan is correlated, or nothing.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.
    method : str
        What the method is called.
    along : str
        Axes along which the method takes noise as independent.

    Returns
    -------
    str
        One sentence with the correlation along each of these axes; empty where it is
        small, or there is no noise to speak of.
    """
    found = estimate_noise(volume)
    figures = {a: r for a, r in found.correlation.items() if a in along}
    correlated = max(map(abs, figures.values()), default=0.0) >= NOTEWORTHY
    if found.level == 0 or not correlated:
        return ""
    shown = ", ".join(f"{axis.upper()} {figures[axis]:.2f}" for axis in sorted(figures))
    return (
        f"The noise of {volume.title} is correlated between neighbouring voxels "
        f"({shown}; 0 is independent): {method} mistakes such noise for structure "
        "and keeps it. Training on two scans (noise2noise) or on parts of the "
        "projections (noise2inverse) is not affected."
    )


def doubts_about_noise(
    method: str, training: TrainingConfig, volumes: Sequence[Volume]
) -> list[str]:
    """What `correlated_noise` says of the scans that a method is to learn from.

    Parameters
    ----------
    method : str
        Name of the method.
    training : TrainingConfig
        Its settings.
    volumes : sequence of Volume
        The sources, with axes ZYX or YX.

    Returns
    -------
    list of str
        A sentence for each volume whose noise the method would keep.
    """
    along = METHODS.load(method).Method(training).independent_noise_along()
    if not along:
        return []
    said = (correlated_noise(volume, method, along) for volume in volumes)
    return [sentence for sentence in said if sentence]


Noises = dict[str, list["Noise"]]


def measured_steps(
    method: Method, volumes: Mapping[str, Sequence[Volume]], patches: Patches
) -> Generator[Step, None, Noises]:
    """Measure the noise of all volumes that the network restores.

    Parameters
    ----------
    method : Method
    volumes : mapping of str to sequence of Volume
        By role.
    patches : Patches

    Returns
    -------
    dict of list of Noise
        By role, in grey values.

    Raises
    ------
    ConfigError
        If sources and targets have different grey scales: a change of scale cannot be
        bounded by the noise.
    """
    if patches.grey["source"] != patches.grey[method.output_role]:
        raise ConfigError(
            "Sources and targets have different grey scales, and a network bounded by "
            "the noise keeps them: choose another one than "
            f"{method.config.network}, or bring both to one scale."
        )
    yield StageStarted(message="Measuring the noise")
    found: Noises = {}
    for role in method.denoises:
        found[role] = [estimate_noise(volume) for volume in volumes.get(role, ())]
    levels = [noise for noises in found.values() for noise in noises]
    if all(noise.is_negligible for noise in levels):
        yield WarningIssued(
            message="Hardly any noise was found (below 1 % of the contrast), and a "
            f"network like {method.config.network} leaves such scans as they are: "
            "there is next to nothing to learn."
        )
    return found


def noise_range(patches: Patches) -> tuple[float, float] | None:
    """Weakest and strongest noise of the sources, in units of their contrast."""
    known = [s.noises["source"] for s in patches.scenes if "source" in s.noises]
    contrasts = [noise for noise in known if noise.contrast > 0]
    if not contrasts:
        return None
    low = min(min(n.relative, n.interval[0] / n.contrast) for n in contrasts)
    high = max(max(n.relative, n.interval[1] / n.contrast) for n in contrasts)
    return round(low, 4), round(high, 4)
