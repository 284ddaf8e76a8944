"""Measures the noise of training scans, and warns if it is correlated.

Blind-spot methods predict a voxel from its neighbours. Therefore, they also predict
noise that is correlated with the noise of the neighbours. Filtered back-projections,
interpolated images and images from cameras with pixel binning have correlated noise.
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
    from napari_geosr.learning.sampling.patches import Patches


#: Minimum correlation between the noise of neighbouring voxels at which blind-spot
#: training visibly preserves noise.
MIN_CORRELATION = 0.1


def correlated_noise_warning(volume: Volume, method: str, along: str = "xyz") -> str:
    """Warn if the noise of a scan is correlated between neighbouring voxels.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX.
    method : str
        Name of the method for the message.
    along : str
        Axes along which the method assumes independent noise.

    Returns
    -------
    str
        A warning with the correlation along these axes; empty if the correlation or the
        noise is negligible.
    """
    noise = estimate_noise(volume)
    figures = {a: r for a, r in noise.correlation.items() if a in along}
    correlated = max(map(abs, figures.values()), default=0.0) >= MIN_CORRELATION
    if noise.level == 0 or not correlated:
        return ""
    shown = ", ".join(f"{axis.upper()} {figures[axis]:.2f}" for axis in sorted(figures))
    return (
        f"The noise of {volume.title} is correlated between neighbouring voxels "
        f"({shown}; 0: independent): {method} mistakes such noise for structure and "
        "preserves it. Training on two scans (noise2noise) or on parts of the "
        "projections (noise2inverse) is not affected."
    )


def noise_warnings(
    method: str, training: TrainingConfig, volumes: Sequence[Volume]
) -> list[str]:
    """Warn about training scans whose noise the method would preserve.

    Parameters
    ----------
    method : str
        Name of the method.
    training : TrainingConfig
        Settings of the method.
    volumes : sequence of Volume
        The sources, with axes ZYX or YX.

    Returns
    -------
    list of str
        A sentence for each such volume; see `correlated_noise_warning`.
    """
    along = METHODS.load(method).Method(training).independent_noise_along()
    if not along:
        return []
    warnings = (correlated_noise_warning(volume, method, along) for volume in volumes)
    return [warning for warning in warnings if warning]


Noises = dict[str, list["Noise"]]


def measure_noise_steps(
    method: Method, volumes: Mapping[str, Sequence[Volume]], patches: Patches
) -> Generator[Step, None, Noises]:
    """Measure the noise of all volumes that the network restores.

    Parameters
    ----------
    method : Method
    volumes : mapping of str to sequence of Volume
        Volumes by role.
    patches : Patches

    Returns
    -------
    dict of list of Noise
        Noise by role, in grey values.

    Raises
    ------
    ConfigError
        If sources and targets have different grey scales; the noise bound would prevent
        the conversion of one scale to the other.
    """
    if patches.grey["source"] != patches.grey[method.output_role]:
        raise ConfigError(
            "Sources and targets have different grey scales, and the noise-bounded "
            f"network {method.config.network} cannot convert one scale to the other. "
            "Choose another network, or rescale one of the two."
        )
    yield StageStarted(message="Measuring the noise")
    by_role: Noises = {}
    for role in method.denoises:
        by_role[role] = [estimate_noise(volume) for volume in volumes.get(role, ())]
    if all(noise.is_negligible for noises in by_role.values() for noise in noises):
        yield WarningIssued(
            message="The noise is below 1 % of the contrast. A network with a noise "
            f"bound ({method.config.network}) hardly changes such scans, so there is "
            "little to learn."
        )
    return by_role


def noise_range(patches: Patches) -> tuple[float, float] | None:
    """Return the lowest and highest noise level of the sources; None if unknown.

    The levels are relative to the contrast. The lowest is the smallest lower limit of
    all intervals, and the highest is the largest upper limit.
    """
    known = [s.noises["source"] for s in patches.scenes if "source" in s.noises]
    contrasts = [noise for noise in known if noise.contrast > 0]
    if not contrasts:
        return None
    low = min(min(n.relative, n.interval[0] / n.contrast) for n in contrasts)
    high = max(max(n.relative, n.interval[1] / n.contrast) for n in contrasts)
    return round(low, 4), round(high, 4)
