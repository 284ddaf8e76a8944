"""Measures the noise of a scan in another volume, or in a part of the scan."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from napari_geosr import io
from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError, GeoSRError, VolumeError
from napari_geosr.core.noise import KNOWN_NOISE, KnownNoise, Noise
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
)
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.measure.noise import noise_steps
from napari_geosr.operations.inputs import InputConfig, open_companion, open_series

NoiseKind = Literal["second", "region", "blank"]
#: Options by kind of noise source.
OPTIONS: dict[str, str] = {
    "second": "--second",
    "region": "--noise-region",
    "blank": "--blank",
}


class NoiseSource(Config):
    """Files in which the noise of a scan is measured; at most one may be given."""

    second: Path | None = Field(
        None,
        title="Second scan",
        description="Second scan of the same object, on the same voxel grid and with "
        "independent noise. The noise is measured in the difference between the scans.",
    )
    noise_region: Path | None = Field(
        None,
        title="Region for the noise",
        description="Mask or labels of a region without structure, such as the air "
        "around the object. The noise is measured in this region.",
    )
    blank: Path | None = Field(
        None,
        title="Blank scan",
        description="Scan without an object that was recorded and processed in the "
        "same way; for images, blank frames of the camera. The noise is measured in "
        "this scan.",
    )

    def paths(self) -> dict[NoiseKind, Path]:
        """Return the given files by kind."""
        found: dict[NoiseKind, Path | None] = {
            "second": self.second,
            "region": self.noise_region,
            "blank": self.blank,
        }
        return {kind: path for kind, path in found.items() if path is not None}

    def open(self, volume: Volume, reading: InputConfig) -> NoiseReference | None:
        """Open the file lazily; None if none is given.

        Parameters
        ----------
        volume : Volume
            The scan.
        reading : InputConfig
            Settings with which the scan was opened.

        Raises
        ------
        ConfigError
            If more than one file is given, or the scan has several channels.
        FileError, VolumeError
            If the file cannot be opened.
        """
        paths = self.paths()
        if not paths:
            return None
        if len(paths) > 1:
            given = " and ".join(OPTIONS[kind] for kind in paths)
            raise ConfigError(
                f"The noise can be measured in only one place, but {given} are given: "
                "omit all but one."
            )
        if "C" in volume.axes and volume.length("C") > 1:
            raise ConfigError(
                f"{volume.title} has {volume.length('C')} channels, each with its own "
                f"noise, so {OPTIONS[next(iter(paths))]} requires one of them: choose "
                "it (--channel)."
            )
        ((kind, path),) = paths.items()
        notes: list[str] = []
        if kind == "second":
            found = open_series(path, reading)
        elif kind == "region":
            found, notes = open_companion(path, reading, volume)
        else:
            found = io.read(path)
            if "C" in found.axes:
                found = found.take(channel=reading.channel or 0)
        return NoiseReference(kind, found, tuple(notes))


@dataclass(frozen=True)
class NoiseReference:
    """The volume in which the noise of a scan is measured.

    Attributes
    ----------
    kind : {"second", "region", "blank"}
    volume : Volume
        A second scan with the axes and shape of the scan; a mask with its spatial
        axes; or a blank scan.
    notes : tuple of str
        Sentences about how the volume was opened.
    """

    kind: NoiseKind
    volume: Volume
    notes: tuple[str, ...] = ()


def with_noise_steps(
    volume: Volume,
    reference: NoiseReference | None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Volume]:
    """Measure the noise of a scan in its reference, and add it to the scan's metadata.

    All operations on the returned volume use this noise. In a time series, the noise is
    measured at the middle time point, and used for all time points.

    Parameters
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X), with at most one channel.
    reference : NoiseReference or None
        With None, the volume is returned unchanged.
    should_stop : callable

    Raises
    ------
    VolumeError
        If the reference does not match the scan, or contains no measurable noise.
    """
    if reference is None:
        return volume
    for note in reference.notes:
        yield WarningIssued(message=note)
    yield StageStarted(message="Measuring the noise")
    scan, other = volume, reference.volume
    if reference.kind == "second":
        if (other.axes, other.shape) != (volume.axes, volume.shape):
            raise VolumeError(
                f"{other.title} has {_size(other)} and {volume.title} {_size(volume)}: "
                "a second scan must have the same axes and shape."
            )
        other = _middle(other)
    scan = _middle(scan)
    noise = yield from noise_steps(
        scan,
        second=other if reference.kind == "second" else None,
        region=other if reference.kind == "region" else None,
        blank=other if reference.kind == "blank" else None,
        should_stop=should_stop,
    )
    for sentence in (*noise.doubts, *noise.notes):
        yield WarningIssued(message=sentence)
    return with_known_noise(volume, KnownNoise(noise, reference.kind, reference.volume))


def known_from_values(values: AnyMapping) -> KnownNoise:
    """Create known noise from `KnownNoise.to_values`.

    The volume in which the noise was measured is opened if it is a file. Otherwise, or
    if the file cannot be opened, the record of the run contains only its name.
    """
    noise = Noise.from_json_dict(values["noise"])
    kind, path = str(values.get("kind", "")), values.get("path")
    volume = None
    if path is not None:
        try:
            volume = io.read(path)
        except GeoSRError:
            volume = None
    return KnownNoise(noise, kind, volume, str(values.get("name", "")))


def with_known_noise(volume: Volume, known: KnownNoise) -> Volume:
    """Return the volume with its noise in the metadata."""
    return volume.replace(metadata={**volume.metadata, KNOWN_NOISE: known})


def _middle(volume: Volume) -> Volume:
    """Return the middle time point of a series."""
    return volume.take(
        time=volume.length("T") // 2 if "T" in volume.axes else None,
        channel=0 if "C" in volume.axes else None,
    )


def _size(volume: Volume) -> str:
    shape = " × ".join(map(str, volume.shape))
    return f"{shape} voxels ({', '.join(volume.axes)})"
