"""Check raw frames before a reconstruction: illumination, saturation, patterns."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from napari_geosr.core.documents import dump_yaml
from napari_geosr.core.errors import FileError
from napari_geosr.core.figure_png import as_png
from napari_geosr.core.sim_frames import SimFrames, guess_order
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyDict
from napari_geosr.io.unfinished_files import atomic
from napari_geosr.operations.sim.config import FramesConfig
from napari_geosr.operations.sim.estimate import PatternEstimate, estimate_steps
from napari_geosr.operations.sim.inputs import axis_facts, saturated_fraction
from napari_geosr.operations.sim.support import draw_circles, highest_frequency

FloatArray = npt.NDArray[np.float32]

#: Names of the files that `check_steps` writes.
FILES = {
    "patterns": "patterns.yaml",
    "json": "check.json",
    "picture": "check.png",
}
#: Difference between the highest and the lowest mean intensity of the frames, relative
#: to the mean of all frames, above which the illumination is called uneven.
UNEVEN = 0.1
#: Modulation contrast, relative to the noise, below which frames are too noisy.
LOW_CONTRAST = 3.0
#: Misfit of the best order, relative to that of the order used, below which the best
#: order clearly fits better and a warning is issued.
_CLEAR_ORDER = 0.9


@dataclass(frozen=True, eq=False)
class SimCheck:
    """Properties of raw frames that affect a reconstruction.

    Attributes
    ----------
    estimate : PatternEstimate
    intensities : ndarray of shape (angles, phases)
        Mean of each frame relative to the mean of all frames.
    saturated : ndarray of shape (angles, phases)
        Fraction of the pixels of each frame that have the camera's maximum value.
    contrast : ndarray of shape (Y, X)
        Modulation relative to the noise, maximum over all angles; 1 for noise alone.
    order_misfit : dict of str to float
        Misfit of the frames for each possible order.
    warnings : tuple of str
    """

    estimate: PatternEstimate
    intensities: FloatArray
    saturated: FloatArray
    contrast: FloatArray
    order_misfit: dict[str, float]
    warnings: tuple[str, ...]
    frames: SimFrames

    @property
    def contrast_to_noise(self) -> float:
        """Modulation contrast relative to the noise, 90th percentile over the image."""
        return float(np.percentile(self.contrast, 90))

    def to_json_dict(self) -> AnyDict:
        """Return all values in JSON-serialisable form."""
        fits = self.estimate.fits
        found: AnyDict = {
            "frames": dict(axis_facts(self.frames)),
            "intensities": self.intensities.tolist(),
            "saturated": self.saturated.tolist(),
            "contrast_to_noise": self.contrast_to_noise,
            "snr": self.estimate.noise.snr,
            "noise_variance": self.estimate.noise.variance,
            "cut_off_cycles_per_pixel": self.estimate.otf.cut_off,
            "order_misfit": self.order_misfit,
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
            "warnings": list(self.warnings),
        }
        if self.estimate.patterns.images is None:
            found["patterns"] = self.estimate.patterns.to_dict()
        return found


def check_steps(
    frames: SimFrames,
    config: FramesConfig,
    *,
    out: str | Path | None = None,
    overwrite: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SimCheck]:
    """Check the frames of the middle slice and find their patterns.

    Parameters
    ----------
    frames : SimFrames
    config : FramesConfig
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
    estimate = yield from estimate_steps(frames, config, should_stop=should_stop)
    yield StageStarted(message="Checking the frames")
    block = estimate.block
    means = block.mean(axis=(2, 3))
    check = SimCheck(
        estimate,
        (means / means.mean()).astype(np.float32),
        saturated_fraction(block, frames),
        modulation_contrast(block, estimate),
        guess_order(frames)[1],
        (),
        frames,
    )
    check = SimCheck(**{**vars(check), "warnings": tuple(_warnings(check))})
    if out is not None:
        _write(check, files, overwrite)
    return check


def modulation_contrast(block: FloatArray, estimate: PatternEstimate) -> FloatArray:
    """Return the local modulation of the frames relative to the noise.

    For each pixel, this is the smoothed amplitude of the first harmonic over the phases
    (maximum over all angles), divided by the value for noise alone.

    Returns
    -------
    ndarray of shape (Y, X), float32
    """
    from scipy import ndimage

    n = block.shape[1]
    turn = np.exp(2j * np.pi * np.arange(n) / n).astype(np.complex64)
    width = 0.5 / estimate.otf.cut_off
    largest = np.zeros(block.shape[-2:], np.float32)
    for frames in block:
        level = np.abs(np.tensordot(turn, frames, axes=1)) ** 2
        smooth = ndimage.gaussian_filter(level, width, mode="nearest")
        largest = np.maximum(largest, smooth)
    noise = n * np.maximum(estimate.noise.variance, 1e-20)
    return np.asarray(np.sqrt(largest / noise), np.float32)


def _warnings(check: SimCheck) -> list[str]:
    """Describe the problems of the frames, one sentence each."""
    found = list(check.estimate.problems)
    spread = float(check.intensities.max() - check.intensities.min())
    if spread > UNEVEN:
        flat = check.intensities.ravel()
        falling = np.corrcoef(np.arange(flat.size), flat)[0, 1] < -0.8
        cause = "the sample probably bleaches" if falling else "the light is uneven"
        found.append(
            f"The mean intensity of the frames varies by {100 * spread:.0f} %: "
            f"{cause}. The intensities are equalised, but the noise remains uneven."
        )
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
    if misfit[best] < _CLEAR_ORDER * misfit[order]:
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
        If a file exists and `overwrite` is False, or the folder is a file.
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
    return files


def _write(check: SimCheck, files: dict[str, Path], overwrite: bool) -> None:
    import json

    patterns = check.estimate.patterns
    with atomic.created_folder(files["json"].parent):
        text = json.dumps(check.to_json_dict(), indent=2, ensure_ascii=False) + "\n"
        atomic.write_text(files["json"], text, overwrite=overwrite)
        if patterns.images is None:
            atomic.write_text(
                files["patterns"], dump_yaml(patterns.to_dict()), overwrite=overwrite
            )
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
    """Return a PNG with intensities, spectrum and modulation contrast."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    left, middle, right = figure.subplots(1, 3)
    left.plot(check.intensities.ravel(), "o-")
    left.set_title("Mean intensity of each frame")
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
        "Correlation spectrum\ncut-off of widefield (dashed), of SIM (solid)",
        fontsize="medium",
    )
    shown = right.imshow(check.contrast, vmin=0, vmax=12, cmap="viridis")
    right.set_title("Modulation contrast / noise")
    right.set_axis_off()
    figure.colorbar(shown, ax=right)
    return as_png(canvas)
