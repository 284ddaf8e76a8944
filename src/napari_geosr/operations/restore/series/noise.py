"""Noise of the channels of a file, for commands that only show it."""

from __future__ import annotations

from collections.abc import Iterator

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.operations.inputs.scan import noise_steps
from napari_geosr.operations.restore.series.plan import Point, SeriesPlan, is_series


def noise_of_points(
    volume: Volume, *, second: Volume | None = None
) -> Iterator[tuple[Point | None, Noise | str]]:
    """Measure the noise of a volume, or of each channel of a series.

    Of a time series, the time point nearest to the middle that is not blank is
    measured.

    Parameters
    ----------
    volume : Volume
        Axes from (T, C, Z, Y, X).
    second : Volume, optional
        Another scan of the same object, with the same axes and shape.

    Yields
    ------
    point : Point or None
        The measured time point and channel; None for a single volume.
    noise : Noise or str
        The noise or, for a channel in which there is nothing to measure, the reason.

    Raises
    ------
    VolumeError
        If the second scan has another shape, or no channel can be measured.
    """
    if second is not None and (second.axes, second.shape) != (
        volume.axes,
        volume.shape,
    ):
        raise VolumeError(
            f"{second.title} has {_size(second)} and {volume.title} {_size(volume)}: a "
            "second scan must have the same axes and shape."
        )
    if not is_series(volume):
        yield None, run_to_end(noise_steps(volume, second=second))
        return
    plan = SeriesPlan(volume)
    failure = None
    n_measured = 0
    for channel in plan.channels:
        point = plan.typical(channel)
        other = None if second is None else SeriesPlan(second).at(point)
        try:
            noise = run_to_end(noise_steps(plan.at(point), second=other))
        except VolumeError as error:
            failure = error
            yield point, str(error)
            continue
        n_measured += 1
        yield point, noise
    if failure is not None and not n_measured:
        raise failure


def _size(volume: Volume) -> str:
    shape = " × ".join(map(str, volume.shape))
    return f"{shape} voxels ({', '.join(volume.axes)})"
