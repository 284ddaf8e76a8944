"""Checks whether two volumes, or the voxels of one, have independent noise.

Fourier correlation treats everything that two volumes have in common as signal,
including anything that a network, a filter or an interpolation adds to both.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.volume import Volume

#: Noise correlation of neighbouring voxels above which checkerboard halves of a volume
#: are not independent.
_CORRELATED = 0.1
#: Operations, as named in records, that run networks or filters, or resample a volume.
_RESTORED = ("restore", "ganrec", "train", "adapt")
_RESAMPLED = {
    "pairs": "resampled when it was aligned",
    "degrade": "simulated from another scan",
}


def refuse_outputs(*volumes: Volume) -> None:
    """Raise `VolumeError` for volumes for which Fourier correlation is not valid.

    Parameters
    ----------
    *volumes : Volume
        The volumes to correlate: two halves, or one scan.
    """
    restored = [v for v in volumes if _made_by(v, _RESTORED)]
    if len(restored) > 1:
        raise VolumeError(
            f"{restored[0].title} and {restored[1].title} are outputs of a network or "
            "filter. Such outputs agree with each other even where both are "
            "wrong. Correlate the two scans, or halves of one, instead."
        )
    if restored:
        raise VolumeError(
            f"{restored[0].title} is the output of a network or filter: what it added "
            "would count as signal, so Fourier correlation would not measure its "
            "resolution. Correlate two scans, or halves of one, instead."
        )
    for volume in volumes:
        for entry in volume.provenance:
            if (how := _RESAMPLED.get(str(entry.get("operation")))) is not None:
                raise VolumeError(
                    f"{volume.title} was {how}: the noise of neighbouring voxels is "
                    "correlated and would be mistaken for signal. Use the volume as it "
                    "was reconstructed."
                )


def refuse_same_source(one: Volume, other: Volume) -> None:
    """Raise `VolumeError` if two halves come from the same projections."""
    shared = {key for key, _ in _inputs(one)} & {key for key, _ in _inputs(other)}
    halves = {half for _, half in (*_inputs(one), *_inputs(other))}
    if shared and halves != {"odd", "even"}:
        raise VolumeError(
            f"{one.title} and {other.title} were made from the same input, so both "
            "contain its noise. Reconstruct the odd and the even projections "
            "(napari-geosr reconstruct --half odd, --half even) and correlate the "
            "results."
        )


def refuse_correlated(volume: Volume, noise: Noise | None) -> None:
    """Raise `VolumeError` if the noise of neighbouring voxels is or may be correlated.

    The two checkerboard halves of such a volume share noise.
    """
    instead = "Use two scans, or halves of one (--fsc halves), to find the resolution."
    if noise is None or not noise.level > 0:
        raise VolumeError(
            f"The noise of {volume.title} is too weak to measure, so it is unknown "
            "whether it is independent from voxel to voxel. " + instead
        )
    worst = max(noise.correlation.values(), key=abs, default=0.0)
    if abs(worst) > _CORRELATED:
        raise VolumeError(
            f"The noise of neighbouring voxels of {volume.title} is correlated "
            f"({worst:.2f}), as after reconstruction, interpolation or smoothing: it "
            "would be mistaken for signal when subsampled copies of one image are "
            "correlated with each other. " + instead
        )


def is_output(volume: Volume) -> bool:
    """Return whether a network or filter made a volume, according to its records."""
    return _made_by(volume, _RESTORED)


def _made_by(volume: Volume, operations: tuple[str, ...]) -> bool:
    return any(entry.get("operation") in operations for entry in volume.provenance)


def _inputs(volume: Volume) -> Iterator[tuple[str, Any]]:
    """Yield the checksum of each input of a volume, and which half of it was used."""
    for entry in volume.provenance:
        inputs = entry.get("inputs")
        settings = entry.get("settings")
        half = settings.get("half") if isinstance(settings, Mapping) else None
        for given in inputs.values() if isinstance(inputs, Mapping) else ():
            if isinstance(given, Mapping) and given.get("checksum"):
                yield str(given["checksum"]), half
