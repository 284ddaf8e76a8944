"""Check whether a volume resembles a model's training data.

The check compares, in a sample of planes, the percentiles of the standardised grey
values and the radial power spectrum (which shows blur and noise), and tests whether any
structure exceeds the noise. Scale and offset of the grey values do not matter, because
the values are standardised first. For models that need the grey scale of the training
data, `check_grey_scale` compares mean and standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from napari_geosr.core.errors import ModelError, VolumeError
from napari_geosr.core.units import MILLIMETRES
from napari_geosr.core.volume import Volume
from napari_geosr.models.card import QUANTILE_LEVELS, ModelCard

FloatArray = npt.NDArray[np.float64]

#: Edge length of the sampled patches, in voxels, and their maximum number.
PATCH = 64
_MAX_PATCHES = 32
#: Edges of the rings of the power spectrum, in cycles per voxel.
RING_EDGES = (0.0, 0.03, 0.06, 0.1, 0.14, 0.18, 0.22, 0.27, 0.32, 0.37, 0.43, 0.5)
#: Distance above which the level is "caution", in units of the 99th percentile of the
#: distances between training volumes.
_CAUTION_DISTANCE = 1.3
#: Distance above which the level is "unlike", in the same unit.
_UNLIKE_DISTANCE = 2.6
#: Minimum edge length of a patch, in voxels; smaller patches have too few voxels for a
#: spectrum.
_MIN_EDGE = 12
#: Ratio of the power of structure to that of noise below which there is a warning.
_MIN_STRUCTURE = 1.2
#: Maximum ratio of the longest to the shortest voxel edge that a 3D model trained on
#: cubic voxels tolerates.
_MAX_ANISOTROPY = 1.5
#: Largest difference between the mean grey values of a scan and of the training data,
#: in standard deviations of the training data.
_MAX_SHIFT = 2.0
#: Largest ratio of the standard deviations of scan and training data.
_MAX_RATIO = 3.0
#: Ratio of the standard deviations below which there is a warning.
_SMALL_RATIO = 1 / 3
#: Ratio of the standard deviations that not even a region of a single material, which
#: shows only noise, has.
_MIN_RATIO = 1 / 20
#: Rings of the spectrum that represent structure.
_STRUCTURE_RINGS = slice(0, 3)
#: Rings of the spectrum that represent noise.
_NOISE_RINGS = slice(5, 9)


@dataclass(frozen=True)
class TrainingLikeness:
    """Judgement of whether a model is reliable for a volume.

    Attributes
    ----------
    level : str
        ``"ok"``; ``"caution"``: inspect the result closely; ``"unlike"``: the training
        data contain nothing similar.
    reasons : tuple of str
        Reasons as sentences for users; empty if the level is ``"ok"``.
    figures : mapping
        Numbers on which the judgement is based.
    """

    level: Literal["ok", "caution", "unlike"]
    reasons: tuple[str, ...] = ()
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Signature:
    """Features of a volume: grey-value percentiles and log10 power by frequency."""

    quantiles: FloatArray
    spectrum: FloatArray

    @property
    def structure(self) -> float:
        """Ratio of the power density at low frequencies to that of the noise."""
        low = float(self.spectrum[_STRUCTURE_RINGS].max())
        noise = float(np.median(self.spectrum[_NOISE_RINGS]))
        return float(10 ** (low - noise))


def draw_sample(volume: Volume) -> npt.NDArray[np.float32]:
    """Take up to 32 square patches from the whole of `volume`, reproducibly.

    Parameters
    ----------
    volume : Volume
        Volume with axes ZYX or YX; only the patches of a lazy volume are read.

    Returns
    -------
    ndarray of shape (n, edge, edge), float32
        Patches, with NaN and infinities replaced by the mean of the finite values.
    """
    if volume.axes not in ("ZYX", "YX"):
        raise VolumeError(
            f"{volume.name!r} has axes {volume.axes}; choose one time point and one "
            "channel first."
        )
    height, width = volume.shape[-2:]
    edge = min(PATCH, height, width)
    depth = volume.shape[0] if volume.axes == "ZYX" else 1
    n_planes = min(depth, 8)
    # Low-discrepancy positions are spread out, never aligned, and reproducible.
    golden = (0.7548776662466927, 0.5698402909980532)
    patches = []
    for i in range(_MAX_PATCHES):
        plane = round((i % n_planes + 0.5) / n_planes * (depth - 1)) if depth > 1 else 0
        y = int((i * golden[0] % 1) * (height - edge + 1))
        x = int((i * golden[1] % 1) * (width - edge + 1))
        key: tuple[int | slice, ...] = (slice(y, y + edge), slice(x, x + edge))
        key = (plane, *key) if volume.axes == "ZYX" else key
        patches.append(np.asarray(volume.data[key], dtype=np.float32))
        if depth <= n_planes and (height, width) == (edge, edge) and i + 1 == n_planes:
            break
    sample = np.stack(patches)
    finite = np.isfinite(sample)
    if not finite.all():
        fill = sample[finite].mean() if finite.any() else 0.0
        sample = np.where(finite, sample, np.float32(fill))
    return sample


def signature(sample: npt.NDArray[np.float32]) -> Signature | None:
    """Return the signature of patches ``(n, edge, edge)``; None if constant."""
    values = sample.astype(np.float64)
    std = values.std()
    if not std > 1e-12 * max(1.0, float(np.abs(values).max())):
        return None
    values = (values - values.mean()) / std
    return Signature(np.percentile(values, QUANTILE_LEVELS), _ring_power(values))


def _ring_power(patches: FloatArray) -> FloatArray:
    """Return the log10 mean power density of windowed patches in frequency rings."""
    height, width = patches.shape[1:]
    window = np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1])
    # Subtract the mean, which would leak into the first ring because of the window.
    weighted = (patches * window).sum((1, 2), keepdims=True) / window.sum()
    power = np.abs(np.fft.rfft2((patches - weighted) * window)) ** 2
    power = power.mean(axis=0) / (window**2).sum()
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :]
    f = np.sqrt(fy**2 + fx**2)
    ring = np.digitize(f, RING_EDGES) - 1
    centres = (np.array(RING_EDGES[1:]) + np.array(RING_EDGES[:-1])) / 2
    powers, known_centres = [], []
    for i in range(len(centres)):
        inside = ring == i
        if i == 0:
            inside[0, 0] = False
        if inside.any():
            powers.append(np.log10(power[inside].mean() + 1e-9))
            known_centres.append(centres[i])
    if not powers:
        return np.zeros(len(centres))
    # Small patches have empty rings: interpolate them from their neighbours.
    rings: FloatArray = np.interp(centres, known_centres, powers)
    return rings


def distance(values: FloatArray, examples: Sequence[Sequence[float]]) -> float:
    """Return the mean absolute difference from the nearest of the `examples`."""
    return float(np.abs(np.asarray(examples) - values).mean(axis=1).min())


def compare_with_training(
    card: ModelCard, sample: npt.NDArray[np.float32], volume: Volume
) -> TrainingLikeness:
    """Compare a sample of a volume with a model's training data.

    Parameters
    ----------
    card : ModelCard
        Card of the model.
    sample : ndarray of shape (n, edge, edge)
        Patches from `draw_sample`.
    volume : Volume
        Volume from which the sample was drawn; its name and voxel size are used.
    """
    features = signature(sample)
    if features is None:
        reason = (
            f"All voxels of {volume.name!r} have the same value, so there is nothing "
            "to restore."
        )
        return TrainingLikeness("unlike", (reason,))
    anisotropy = _anisotropy_reasons(card, volume)
    if min(sample.shape[1:]) < _MIN_EDGE:
        reason = f"{volume.name!r} is too small to check whether {card.name} suits it."
        return TrainingLikeness(
            "caution", (reason, *anisotropy, "Compare the result with the original.")
        )
    figures = {"structure": features.structure} | _distances(card, features)
    reasons = [*anisotropy]
    worst = _CAUTION_DISTANCE if anisotropy else 0.0
    if figures.get("intensity_distance", 0.0) > _CAUTION_DISTANCE:
        worst = max(worst, figures["intensity_distance"])
        reasons.append(_intensity_reason(features, card))
    if figures.get("spectrum_distance", 0.0) > _CAUTION_DISTANCE:
        worst = max(worst, figures["spectrum_distance"])
        reasons.append(_spectrum_reason(features, card))
    if features.structure < _MIN_STRUCTURE:
        worst = max(worst, _CAUTION_DISTANCE)
        reasons.append(
            "No structure exceeds the noise in the sampled planes, so structures in a "
            "restoration cannot be trusted."
        )
    ratio = _voxel_size_ratio(card, volume)
    if ratio is not None:
        figures["voxel_size_ratio"] = ratio
        if not 0.8 <= ratio <= 1.25:
            worst = max(worst, _CAUTION_DISTANCE)
            reasons.append(
                f"The voxels are {ratio:.2g} times as wide as those on which the "
                "model was trained."
            )
    if not card.has_weights:
        # A filter has no training data from which a volume could differ.
        return TrainingLikeness("caution" if reasons else "ok", tuple(reasons), figures)
    if not card.training.is_known:
        lead = f"It is not known whether {card.name} was trained on anything like"
        reasons.insert(0, f"{lead} {volume.name!r}: its training data are unknown.")
        return TrainingLikeness(
            "caution", (*reasons, "Compare the result with the original."), figures
        )
    if not reasons:
        return TrainingLikeness("ok", (), figures)
    level: Literal["caution", "unlike"] = (
        "unlike" if worst > _UNLIKE_DISTANCE else "caution"
    )
    lead = {
        "caution": f"{volume.name!r} differs from the training data of {card.name}.",
        "unlike": f"{volume.name!r} is unlike any training data of {card.name}.",
    }[level]
    return TrainingLikeness(
        level, (lead, *reasons, "Compare the result with the original."), figures
    )


def check_grey_scale(card: ModelCard, title: str, mean: float, std: float) -> list[str]:
    """Refuse a scan with a grey scale other than that of the training data.

    A smaller standard deviation may mean that the scan shows a single material. It is
    only doubtful, unless it is smaller by a factor of more than 20.

    Parameters
    ----------
    card : ModelCard
        Card of the model; without a stored grey scale, nothing is checked.
    title : str
        Name of the scan.
    mean, std : float
        Mean and standard deviation of the scan's grey values.

    Returns
    -------
    list of str
        A warning as a sentence; empty if there is no doubt.

    Raises
    ------
    ModelError
        If the grey scales differ; the message states both.
    """
    trained = card.normalisation
    if trained.mean is None or trained.std is None:
        return []
    values = (
        f"(mean {mean:.4g}, standard deviation {std:.4g}) from the training data of "
        f"{card.name} ({trained.mean:.4g} and {trained.std:.4g})"
    )
    advice = (
        "Rescale the scan so that every material has the grey values of the training "
        "data, or train a model on scans like it."
    )
    ratio = std / trained.std
    if (
        abs(mean - trained.mean) > _MAX_SHIFT * trained.std
        or not _MIN_RATIO <= ratio <= _MAX_RATIO
    ):
        raise ModelError(f"{title} has a different grey scale {values}. {advice}")
    if ratio < _SMALL_RATIO:
        return [
            f"{title} differs {values}. If it shows more than one material, its grey "
            f"scale is different. {advice}"
        ]
    return []


def _distances(card: ModelCard, features: Signature) -> dict[str, float]:
    """Return distances relative to those between training volumes; empty if unknown."""
    training = card.training
    if training.intensity_distance is None or training.spectrum_distance is None:
        return {}
    greys = distance(features.quantiles, training.examples)
    spectrum = distance(features.spectrum, training.spectrum_examples)
    return {
        "intensity_distance": greys / training.intensity_distance[1],
        "spectrum_distance": spectrum / training.spectrum_distance[1],
    }


def _signed(value: float) -> str:
    return f"{value:+.1f}".replace("-", "−")


def _ordinal(level: float) -> str:
    """Return a percentile as an ordinal: ``1st``, ``5th``, ``25th`` …."""
    suffix = "st" if level % 10 == 1 else "th"
    return f"{level:g}{'th' if 10 < level < 20 else suffix}"


def _intensity_reason(features: Signature, card: ModelCard) -> str:
    """Describe how the grey values differ from those of the training data."""
    examples = np.asarray(card.training.examples)
    low, high = examples.min(axis=0), examples.max(axis=0)
    outside = [
        f"the {_ordinal(level)} percentile lies {_signed(value)} standard deviations "
        f"from the mean (training: {_signed(a)} to {_signed(b)})"
        for level, value, a, b in zip(
            QUANTILE_LEVELS, features.quantiles, low, high, strict=True
        )
        if not a <= value <= b
    ]
    detail = f": {outside[0]}" if outside else ""
    return f"Its grey-value histogram differs from that of the training data{detail}."


def _spectrum_reason(features: Signature, card: ModelCard) -> str:
    """State how the spectrum of the volume differs from that of the training data."""
    examples = np.asarray(card.training.spectrum_examples)
    nearest = examples[np.abs(examples - features.spectrum).mean(axis=1).argmin()]
    fine = float((features.spectrum - nearest)[-5:].mean())
    if fine < 0:
        return (
            "It has less fine detail and noise than the training data: it may be "
            "blurred, smoothed or enlarged beyond its resolution."
        )
    return "Its noise/sharpness spectrum differs from that of the training data."


def _anisotropy_reasons(card: ModelCard, volume: Volume) -> tuple[str, ...]:
    """Warn if the voxels are less cubic than those on which a 3D model was trained."""
    if card.axes != "ZYX" or not card.has_weights or not volume.has_physical_size:
        return ()
    # A range of voxel edge lengths in the training data may stem from non-cubic voxels.
    low, high = card.training.voxel_size or (1.0, 1.0)
    anisotropy = max(volume.voxel_size) / min(volume.voxel_size)
    if anisotropy <= _MAX_ANISOTROPY * high / low:
        return ()
    edges = " × ".join(f"{edge:.3g}" for edge in volume.voxel_size)
    learned = (
        f"according to its card, {card.name} was trained on more nearly cubic voxels"
        if card.training.is_known
        else f"it is not known whether {card.name} was trained on such voxels"
    )
    return (
        f"Voxels are {edges} {volume.unit}: {learned}, so the result may be distorted. "
        "Resample the volume to cubic voxels, or use a model that works slice by "
        "slice.",
    )


def _voxel_size_ratio(card: ModelCard, volume: Volume) -> float | None:
    """Return the voxel size relative to the nearest one in training, or None."""
    trained = card.training.voxel_size
    if trained is None or card.training.unit is None or not volume.has_physical_size:
        return None

    size = max(volume.voxel_size) * MILLIMETRES[volume.unit]
    low, high = (v * MILLIMETRES[card.training.unit] for v in trained)
    return size / min(max(size, low), high)
