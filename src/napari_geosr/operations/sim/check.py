"""Check raw frames before a reconstruction: illumination, saturation, patterns."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from napari_geosr.core.documents import dump_yaml
from napari_geosr.core.errors import ConfigError, FileError, VolumeError
from napari_geosr.core.figure_png import as_png
from napari_geosr.core.sim_frames import SimFrames, guess_order
from napari_geosr.core.steps import (
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    heard_steps,
    never_stop,
    texts_of,
)
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.estimate import (
    MAX_DRIFT,
    PatternEstimate,
    drift,
    estimate_steps,
    search_steps,
)
from napari_geosr.operations.sim.frame_checks import saturated_fraction, usable_plane
from napari_geosr.operations.sim.inputs import axis_facts
from napari_geosr.operations.sim.known_patterns import patterns_document
from napari_geosr.operations.sim.pattern_search import slice_drift
from napari_geosr.operations.sim.plane_run import located
from napari_geosr.operations.sim.trust.causes import offset_warnings
from napari_geosr.operations.sim.trust.contrast import modulation_contrast
from napari_geosr.operations.sim.trust.support import draw_circles, highest_frequency

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FloatArray = npt.NDArray[np.float32]

#: Names of the files that `check_steps` writes.
FILES = {
    "patterns": "patterns.yaml",
    "json": "check.json",
    "picture": "check.png",
}
#: Maximum difference between the highest and the lowest mean intensity of the frames,
#: relative to the mean of all frames; above it, the illumination is called uneven.
UNEVEN = 0.1
#: Modulation contrast, relative to the noise, below which frames are too noisy.
LOW_CONTRAST = 3.0
#: If the misfit of the best order, relative to that of the order used, is below this
#: value, the best order clearly fits better, and a warning is issued.
_CLEAR_ORDER = 0.9


@dataclass(frozen=True, eq=False)
class SimCheck:
    """Properties of raw frames that affect a reconstruction.

    Attributes
    ----------
    estimate : PatternEstimate
    intensities : ndarray of shape (angles, phases)
        Light of each frame relative to the mean of all frames, see
        `PatternEstimate.intensities`.
    saturated : ndarray of shape (angles, phases)
        Fraction of the pixels of each frame that have the camera's maximum value.
    contrast : ndarray of shape (Y, X)
        Modulation relative to the noise, maximum over all angles; 1 for noise alone.
    order_misfit : dict of str to float
        Misfit of the frames for each possible order.
    warnings : tuple of str
        What is wrong with the frames or the patterns.
    said : tuple of WarningIssued
        Warnings and notes of the search for the patterns.
    frames : SimFrames
    time, channel, plane : int
        Position of the checked frames, from 0.
    others : tuple of SimCheck
        Checks of the other channels and of the last time point.
    unchecked : dict of (int, int) to str
        Reason why a channel could not be checked, by time point and channel.
    """

    estimate: PatternEstimate
    intensities: FloatArray
    saturated: FloatArray
    contrast: FloatArray
    order_misfit: dict[str, float]
    warnings: tuple[str, ...]
    frames: SimFrames
    time: int = 0
    channel: int = 0
    plane: int = 0
    others: tuple[SimCheck, ...] = ()
    said: tuple[WarningIssued, ...] = ()
    unchecked: dict[tuple[int, int], str] = field(default_factory=dict)

    @property
    def contrast_to_noise(self) -> float:
        """Modulation contrast relative to the noise: 90th percentile in the sample.

        The sample is the brightest quarter of the image, so that dark surroundings do
        not count.
        """
        mean = self.estimate.block.mean(axis=(0, 1))
        sample = self.contrast[mean >= np.percentile(mean, 75)]
        return float(np.percentile(sample, 90))

    def to_json_dict(self) -> AnyDict:
        """Return all values in JSON-serialisable form.

        ``checks`` holds the values of each channel and time point under its name, such
        as ``"channel 2"``. The values of a single one are at the top level as well.
        """
        checks = (self, *self.others)
        found = {(each.time, each.channel): each._plane_facts() for each in checks}
        for (time, channel), reason in self.unchecked.items():
            place = {"time_point": time + 1, "channel": channel + 1}
            found[time, channel] = place | {"warnings": [reason]}
        warnings = [
            *(text for each in checks for text in texts_of(each.said, notes=False)),
            *(
                located(self.frames, text, each.time, each.channel)
                for each in checks
                for text in each.warnings
            ),
            *self.unchecked.values(),
        ]
        notes = [text for each in checks for text in texts_of(each.said, notes=True)]
        facts: AnyDict = {
            "frames": dict(axis_facts(self.frames)),
            "order_misfit": self.order_misfit,
            "checks": {
                self.frames.where(time=t, channel=c).strip(" ()") or "channel 1": values
                for (t, c), values in sorted(found.items())
            },
            "warnings": warnings,
            "notes": notes,
        }
        return facts if len(found) > 1 else facts | self._plane_facts()

    def _plane_facts(self) -> AnyDict:
        """Return the values of one channel at one time point."""
        fits = self.estimate.fits
        found: AnyDict = {
            "time_point": self.time + 1,
            "channel": self.channel + 1,
            "slice": self.plane + 1,
            "harmonics": self.estimate.patterns.harmonics,
            "intensities": self.intensities.tolist(),
            "saturated": self.saturated.tolist(),
            "contrast_to_noise": self.contrast_to_noise,
            "snr": self.estimate.noise.snr,
            "noise_variance": self.estimate.noise.variance,
            "cut_off_cycles_per_pixel": self.estimate.otf.cut_off,
            "angles": [
                {
                    "found": not fit.problem,
                    "problem": fit.problem,
                    "confidence": fit.confidence
                    if np.isfinite(fit.confidence)
                    else None,
                    "modulation": list(fit.pattern.modulation),
                    "evenness": fit.evenness,
                }
                for fit in fits
            ],
            "warnings": [*texts_of(self.said, notes=False), *self.warnings],
            "notes": texts_of(self.said, notes=True),
        }
        if self.estimate.patterns.images is None:
            found["patterns"] = self.estimate.patterns.to_dict()
        return found


def check_steps(
    frames: SimFrames,
    config: FramesConfig,
    *,
    every_channel: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimCheck]:
    """Check the frames of the middle slice and find their patterns.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig
    every_channel : bool
        Whether to check all channels at the first and the last time point, instead of
        only the first channel at the first time point, and to compare the patterns of
        the first and the last slice with those of the middle slice.
    out : path, optional
        Folder for ``patterns.yaml``, ``check.json`` and ``check.png``.
    overwrite : bool

    Yields
    ------
    Step

    Returns
    -------
    SimCheck

    Raises
    ------
    GeoSRError
        If the frames cannot be used at all. A pattern that is not found is reported in
        the result.
    """
    files = (
        {} if out is None else folder_files(Path(out).expanduser(), FILES, overwrite)
    )
    check = yield from _plane_steps(frames, config, 0, 0, should_stop)
    if every_channel:
        check = yield from _slices_steps(check, config, should_stop)
        check = yield from _others_steps(check, config, should_stop)
    if out is not None:
        _write(check, files, overwrite)
    return check


def _plane_steps(
    frames: SimFrames,
    config: FramesConfig,
    time: int,
    channel: int,
    should_stop: ShouldStop,
    *,
    is_first: bool | None = None,
) -> Generator[Step, None, SimCheck]:
    """Check one channel at one time point."""
    plane = usable_plane(frames, time, channel)
    said: list[WarningIssued] = []
    search = estimate_steps(
        frames,
        config,
        time=time,
        channel=channel,
        plane=plane,
        is_first=is_first,
        should_stop=should_stop,
    )
    estimate = yield from heard_steps(search, said)
    yield StageStarted(message="Checking the frames")
    block = estimate.block
    check = SimCheck(
        estimate,
        estimate.intensities,
        saturated_fraction(block, frames, channel),
        modulation_contrast(block, estimate),
        guess_order(frames)[1],
        (),
        frames,
        time,
        channel,
        plane,
    )
    return replace(check, warnings=tuple(_warnings(check)), said=tuple(said))


def _others_steps(
    check: SimCheck, config: FramesConfig, should_stop: ShouldStop
) -> Generator[Step, None, SimCheck]:
    """Also check the other channels, and all channels at the last time point."""
    frames = check.frames
    found = {(0, 0): check}
    unchecked: dict[tuple[int, int], str] = {}
    times, channels = sorted({0, frames.n_times - 1}), range(frames.n_channels)
    for time, channel in product(times, channels):
        if (time, channel) in found:
            continue
        first = found.get((0, channel))
        try:
            other = yield from _plane_steps(
                frames, config, time, channel, should_stop, is_first=first is None
            )
        except (VolumeError, ConfigError) as error:
            # The other planes can be checked nevertheless.
            unchecked[time, channel] = str(error)
            continue
        if time and first and (message := _drift_warning(first, other)):
            other = replace(other, warnings=(*other.warnings, message))
        if not time:
            other = yield from _slices_steps(other, config, should_stop)
        found[time, channel] = other
    return replace(check, others=tuple(found.values())[1:], unchecked=unchecked)


def _slices_steps(
    check: SimCheck, config: FramesConfig, should_stop: ShouldStop
) -> Generator[Step, None, SimCheck]:
    """Compare the patterns of the first and last slice with those of the middle one."""
    frames, middle, found = check.frames, check.estimate, list(check.warnings)
    if middle.problems or not middle.fits:
        return check
    for plane in sorted({0, frames.n_planes - 1} - {check.plane}):
        try:
            other = yield from search_steps(
                frames,
                config,
                time=check.time,
                channel=check.channel,
                plane=plane,
                before=middle.patterns,
                is_first=False,
                should_stop=should_stop,
            )
        except VolumeError as error:
            found.append(str(error))
            continue
        if other.problems:
            found.append(
                f"Slice {plane + 1}: {' '.join(other.problems)} The patterns of slice "
                f"{check.plane + 1} are used there."
            )
        elif message := slice_drift(middle, check.plane, other, plane):
            found.append(
                f"{message} Do not use patterns.yaml for the whole stack; without "
                "--patterns, the patterns are found in every slice."
            )
    return replace(check, warnings=tuple(found))


def _drift_warning(first: SimCheck, last: SimCheck) -> str:
    """Return a warning if patterns change during a series; empty if they do not."""
    if first.estimate.problems or last.estimate.problems or not last.estimate.fits:
        return ""
    moved = drift(first.estimate.patterns, last.estimate.patterns)
    if moved <= MAX_DRIFT:
        return ""
    return (
        f"The patterns drift: one phase differs by {np.degrees(moved):.0f}° from that "
        "at the first time point. Do not use patterns.yaml for the whole series; "
        "without --patterns, the patterns are found at every time point."
    )


def _light_warning(check: SimCheck) -> str:
    """Return a warning if the light differs between frames; empty if it does not."""
    spread = float(check.intensities.max() - check.intensities.min())
    if spread <= UNEVEN:
        return ""
    flat = check.intensities.ravel()
    falling = np.corrcoef(np.arange(flat.size), flat)[0, 1] < -0.8
    cause = "the sample probably bleaches" if falling else "the light is uneven"
    if check.estimate.is_light_known:
        return (
            f"The intensity of the light varies by {100 * spread:.0f} % between the "
            f"frames: {cause}. The intensities are equalised, but the noise remains "
            "uneven."
        )
    if not falling:
        cause += ", or the stripes coincide with sparse or periodic structures"
    return f"The mean intensity of the frames varies by {100 * spread:.0f} %: {cause}."


def _warnings(check: SimCheck) -> list[str]:
    """Describe each problem of the frames in a sentence."""
    found = list(check.estimate.problems)
    if message := _light_warning(check):
        found.append(message)
    found += offset_warnings(check.estimate.block, check.estimate)
    top = float(check.saturated.max())
    if top > 0:
        found.append(
            f"Up to {100 * top:.2g} % of the pixels of a frame are saturated: bright "
            "structures are unreliable there."
        )
    if check.contrast_to_noise < LOW_CONTRAST:
        found.append(
            f"The modulation contrast is only {check.contrast_to_noise:.1f} times the "
            "noise (more than 3 is needed, 8 is good): expect artefacts."
        )
    order, misfit = check.frames.order, check.order_misfit
    best = min(misfit, key=lambda o: misfit[o])
    if misfit[best] < _CLEAR_ORDER * misfit.get(order, 0.0):
        found.append(
            f"The frames fit the order {best} better than {order}: check --order."
        )
    return found


def folder_files(
    folder: Path, names: Mapping[str, str], overwrite: bool
) -> dict[str, Path]:
    """Return the paths of the files of a report, and check that they may be written.

    Raises
    ------
    FileError
        If a file exists and `overwrite` is False, the folder is a file, or files cannot
        be written to it.
    """
    if folder.exists() and not folder.is_dir():
        raise FileError(f"{folder} is a file, not a folder. Choose another one.")
    files = {key: folder / name for key, name in names.items()}
    existing = [path.name for path in files.values() if path.exists()]
    if existing and not overwrite:
        raise FileError(
            f"{folder} already contains {', '.join(existing)}. Choose another folder, "
            "or allow overwriting (--overwrite)."
        )
    atomic.check_new_folder(folder)
    return files


def _write(check: SimCheck, files: dict[str, Path], overwrite: bool) -> None:
    import json

    first = [each for each in (check, *check.others) if each.time == 0]
    patterns = [each.estimate.patterns for each in first]
    with atomic.created_folder(files["json"].parent):
        text = json.dumps(check.to_json_dict(), indent=2, ensure_ascii=False) + "\n"
        atomic.write_text(files["json"], text, overwrite=overwrite)
        if patterns[0].images is None:
            document = dump_yaml(patterns_document(patterns))
            atomic.write_text(files["patterns"], document, overwrite=overwrite)
        atomic.write_bytes(files["picture"], check_picture(check), overwrite=overwrite)


def spectrum_picture(check: SimCheck) -> FloatArray:
    """Return the log spectrum of frame × mean frame; patterns appear as peaks.

    Returns
    -------
    ndarray of shape (Y, X), float32
        Zero frequency in the middle.
    """
    from scipy import fft

    block = check.estimate.block
    mean = block.mean(axis=(0, 1))
    window = np.outer(np.hanning(mean.shape[0]), np.hanning(mean.shape[1]))
    total = np.zeros(mean.shape, np.float32)
    for frames in block:
        for frame in frames - frames.mean(axis=0):
            product = frame * (mean - mean.mean()) * window
            total += np.abs(fft.fftshift(fft.fft2(product))).astype(np.float32)
    return np.asarray(np.log10(np.maximum(total, 1e-6 * total.max())), np.float32)


def check_picture(check: SimCheck) -> bytes:
    """Return a PNG with intensities, spectrum and modulation contrast.

    Each row shows one channel at one time point.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    checks = (check, *check.others)
    figure = Figure(figsize=(12, 4 * len(checks)), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    rows = figure.subplots(len(checks), 3, squeeze=False)
    for each, axes in zip(checks, rows, strict=True):
        _draw_row(each, *axes)
    return as_png(canvas)


def _draw_row(check: SimCheck, left: Axes, middle: Axes, right: Axes) -> None:
    left.plot(check.intensities.ravel(), "o-")
    where = check.frames.where(time=check.time, channel=check.channel)
    left.set_title(f"Mean intensity of each frame{where}")
    left.set_xlabel("frame (angle by angle)")
    left.set_ylim(0, 1.1 * float(check.intensities.max()))
    middle.imshow(spectrum_picture(check), cmap="magma", extent=(-0.5, 0.5, 0.5, -0.5))
    cut_off = check.estimate.otf.cut_off
    reach = cut_off + highest_frequency(check.estimate.patterns)
    draw_circles(middle, cut_off, reach)
    for i, fringe in enumerate(check.estimate.patterns.fringes):
        ky, kx = fringe.wave_vector
        colour = f"C{i}"
        middle.plot([kx, -kx], [ky, -ky], "o", mfc="none", color=colour, ms=10)
    middle.set_title(
        "Correlation spectrum\ncut-offs of widefield (dashed) and SIM (solid)",
        fontsize="medium",
    )
    shown = right.imshow(check.contrast, vmin=0, vmax=12, cmap="viridis")
    right.set_title("Modulation contrast / noise")
    right.set_axis_off()
    right.figure.colorbar(shown, ax=right)
