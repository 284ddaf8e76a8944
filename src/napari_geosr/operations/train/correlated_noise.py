"""Warn of noise that neighbouring voxels share, where a method takes it as independent.

Blind-spot methods guess a voxel from its neighbours: noise that they share is guessed
as well. Reconstructions by filtered back-projection, interpolated images and cameras
that bin their pixels have such noise.
"""

from __future__ import annotations

from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import estimate_noise

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
        f"({shown}; 0 is independent): {method} takes such noise for structure and "
        "keeps it. Training on two scans (noise2noise) or on parts of the projections "
        "(noise2inverse) is not affected."
    )
