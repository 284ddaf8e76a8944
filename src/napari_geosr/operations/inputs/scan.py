"""Information about a scan: its noise, and open questions about its file."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from napari_geosr.core.errors import VolumeError
from napari_geosr.core.file_warnings import (
    SIZE_CONFIRMED,
    SIZE_GIVEN,
    assumed_distances,
    file_warnings,
    notes_of,
)
from napari_geosr.core.noise import FLOOR, Noise
from napari_geosr.core.questions import (
    TimeSeriesQuestion,
    VoxelSizeQuestion,
    doubts_of_given_size,
    voxel_size_question,
)
from napari_geosr.core.steps import ShouldStop, StageStarted, Step, never_stop
from napari_geosr.core.types import AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.measure import noise as engine
from napari_geosr.measure.noise.remarks import limit_text
from napari_geosr.measure.noise.topics import is_about
from napari_geosr.measure.number_text import number_text, rough_percent
from napari_geosr.measure.time_series import time_series_question

if TYPE_CHECKING:
    from napari_geosr.models.card import ModelCard

_CORRECTION = "If that is wrong, give the voxel size (--voxel-size and --unit)."


def input_warnings(volume: Volume, cards: Iterable[ModelCard] = ()) -> list[str]:
    """List all warnings and open questions about a volume and its files.

    Combines `reader_warnings`, `open_questions` and, unless the user is asked whether
    the slices are frames, `unnamed_slices`. The parameters and errors are those of
    `open_questions`.
    """
    cards = list(cards)
    frames = _frames_of(volume, cards)
    return [
        *reader_warnings(volume),
        *_doubts(volume, frames),
        *(unnamed_slices(volume, cards) if frames is None else ()),
    ]


def unnamed_slices(volume: Volume, cards: Iterable[ModelCard]) -> list[str]:
    """Warn about models that insert slices along an axis that the file does not name.

    Examples
    --------
    >>> import numpy as np
    >>> unnamed_slices(Volume(np.zeros((4, 8, 8)), "ZYX"), [])
    []
    """
    assumed = [n for n in notes_of(volume.metadata) if n.corrected_by == "axes"]
    if not assumed or "Z" not in volume.axes:
        return []
    return [
        f"{volume.title}: {assumed[0]} The model {card.name!r} adds slices between "
        "them. If they are slices, give --axes ZYX; if they are frames, give --axes "
        "TYX."
        for card in cards
        if card.axes == "ZYX" and card.upscale_factor > 1
    ]


def reader_warnings(volume: Volume) -> list[str]:
    """List the reader's warnings: missing chunks, an assumed slice spacing, etc."""
    warned = [
        f"{volume.title}: {warning}" for warning in file_warnings(volume.metadata)
    ]
    given = [f"{volume.title}: {text}" for text in given_size_warnings(volume)]
    return [*warned, *given, *_assumptions(volume), *_inherited_warnings(volume)]


def given_size_warnings(volume: Volume) -> list[str]:
    """Warn if a voxel size given or confirmed by the user is probably a mistake.

    The list is empty if the size comes from the file or is plausible. A size that
    equals the doubtful one of the file counts as confirmed: the user is not asked
    again, but a report states it, since all of its lengths depend on it.

    Examples
    --------
    >>> import numpy as np
    >>> scan = Volume(np.zeros((4, 8, 8)), "ZYX")
    >>> given_size_warnings(scan.with_geometry((5, 5, 5), "µm"))
    []
    """
    given = volume.metadata.get(SIZE_GIVEN)
    if given is not True and given != SIZE_CONFIRMED:
        return []
    reasons = doubts_of_given_size(volume.voxel_size, volume.unit)
    if not reasons:
        return []
    size = " × ".join(f"{edge:.4g}" for edge in volume.voxel_size)
    doubt = f"{size} {volume.unit} is implausible ({'; '.join(reasons)})."
    if given == SIZE_CONFIRMED:
        return [
            f"the confirmed voxel size of {doubt} All lengths, volumes and numbers per "
            "volume depend on it."
        ]
    return [
        f"the given voxel size of {doubt} Check the voxel size (--voxel-size and "
        "--unit)."
    ]


def _assumptions(volume: Volume) -> list[str]:
    """List slice spacings that are missing from the file of a volume or of its inputs.

    The list is empty if the user gave the voxel size, or if the voxel size is unknown.
    """
    if "Z" not in volume.axes or not volume.has_physical_size:
        return []
    own = assumed_distances(volume.metadata)
    made_from = {
        str(note): f"{volume.title} was made from {facts.get('name')}: {note}"
        for facts in _inputs(volume)
        for note in _texts(facts.get("assumptions"))
        if note not in own and SIZE_GIVEN not in volume.metadata
    }
    described = [*(f"{volume.title}: {note}" for note in own), *made_from.values()]
    return [f"{each} {_CORRECTION}" for each in described]


def _inputs(volume: Volume) -> Iterator[AnyMapping]:
    """Yield the record of each input file from the provenance of `volume`."""
    for entry in volume.provenance:
        inputs = entry.get("inputs")
        for facts in inputs.values() if isinstance(inputs, Mapping) else ():
            if isinstance(facts, Mapping):
                yield facts


def _texts(value: object) -> list[str]:
    """Return the strings in a list from a file; the list may contain any values."""
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _inherited_warnings(volume: Volume) -> list[str]:
    """Return the reader warnings for the files that a result was made from."""
    warnings = [
        f"{volume.title} was made in a run in which {change}"
        for entry in volume.provenance
        if (change := entry.get("source_change"))
    ]
    warnings += [
        f"{volume.title} was made from {facts.get('name')}: {warning}"
        for facts in _inputs(volume)
        for warning in file_warnings(facts)
    ]
    return list(dict.fromkeys(warnings))


def open_questions(
    volume: Volume, cards: Iterable[ModelCard] = (), *, mixing: bool = False
) -> list[str]:
    """List open questions, each with what was found, why it matters and what to do.

    Parameters
    ----------
    volume : Volume
        A few planes are read if the file of the volume does not name the Z axis.
    cards : iterable of ModelCard
        Cards of the models that are to restore the volume.
    mixing : bool
        Whether to ask, even without cards, the questions that a model that uses
        neighbouring slices would raise.

    Raises
    ------
    VolumeError
        If the slices look like frames of a time series and a model uses neighbouring
        slices, which would mix time points.
    """
    return _doubts(volume, _frames_of(volume, cards, mixing=mixing))


def _frames_of(
    volume: Volume, cards: Iterable[ModelCard], *, mixing: bool = False
) -> TimeSeriesQuestion | None:
    """Return the question of whether slices are time points, for these models.

    Raises
    ------
    VolumeError
        If the slices are certainly time points and a model would mix them.
    """
    models = _mixing(cards)
    frames = frames_question(volume, mixing=mixing or bool(models))
    if frames is not None and frames.certain and models:
        raise _mixing_error(volume, frames, models[0])
    return frames


def _doubts(volume: Volume, frames: TimeSeriesQuestion | None) -> list[str]:
    return [f"{volume.title}: {question}" for question in _questions(volume, frames)]


def question_texts(volume: Volume) -> list[str]:
    """Return the open questions as texts, without the volume's title."""
    return [str(question) for question in _questions(volume, frames_question(volume))]


def _questions(
    volume: Volume, frames: TimeSeriesQuestion | None
) -> list[VoxelSizeQuestion | TimeSeriesQuestion]:
    questions = (voxel_size_question(volume.metadata), frames)
    return [question for question in questions if question is not None]


def frames_question(
    volume: Volume, *, mixing: bool = False
) -> TimeSeriesQuestion | None:
    """Return the question of whether slices are time points, if they may be.

    With `mixing`, i.e. for models that would mix time points, the question is also
    returned in doubtful cases.
    """
    return time_series_question(volume, mixing=mixing)


def check_no_mixing(volume: Volume, cards: Iterable[ModelCard]) -> None:
    """Refuse to restore slices that may be frames if a model uses neighbouring slices.

    Raises
    ------
    VolumeError
        If the model would mix time points, or might do so.
    """
    mixing = _mixing(cards)
    if mixing and (frames := frames_question(volume, mixing=True)) is not None:
        raise _mixing_error(volume, frames, mixing[0])


def _mixing(cards: Iterable[ModelCard]) -> list[str]:
    """Return the names of the models that use neighbouring slices."""
    return [c.name for c in cards if c.axes == "ZYX" or c.adjacent_slices > 1]


def _mixing_error(
    volume: Volume, frames: TimeSeriesQuestion, model: str
) -> VolumeError:
    return VolumeError(
        f"{volume.title}: {frames} The model {model!r} uses neighbouring slices and "
        f"would mix time points{'' if frames.certain else ' if they are frames'}."
    )


#: Correlation between neighbouring voxels at and above which noise counts as
#: correlated.
_MIN_CORRELATION = 0.1
#: Noise levels up to this fraction of the highest level are described as 0.
_NO_LEVEL = 1e-4
#: Maximum number of grey values for which the noise level is reported.
_SHOWN_GREYS = 4
_SOURCES = {
    "scan": "",
    "repeat": ", measured from the difference between the two scans",
    "uniform": ", measured where there is no structure",
    "given": ", as given",
}


def noise_steps(
    volume: Volume,
    *,
    second: Volume | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Noise]:
    """Measure the noise of a scan.

    Parameters
    ----------
    volume : Volume
        Axes ZYX or YX; only part of it is read.
    second : Volume, optional
        Another scan of the same object on the same grid.

    Raises
    ------
    VolumeError
        If the volume has other axes, the second scan has a different shape, or there is
        nothing to measure.
    """
    yield StageStarted(message="Measuring the noise")
    steps = engine.noise_steps(volume, second=second, should_stop=should_stop)
    return (yield from steps)


def describe_noise(noise: Noise) -> str:
    """Describe noise in a short paragraph of plain English."""
    first = describe_level(noise)
    if noise.level > 0 and noise.contrast > 0:
        first += (
            f": a standard deviation of {number_text(noise.level)} grey values"
            f"{_SOURCES.get(noise.source, '')}"
        )
    sentences = [f"{first}."]
    if noise.level > 0:
        sentences += _grey_dependence_sentence(noise) + _correlation_sentence(noise)
    doubts = [sentence for sentence in noise.doubts if sentence not in noise.notes]
    return " ".join([*sentences, *doubts, *noise.notes])


def describe_level(noise: Noise) -> str:
    """Describe only the noise level and its interval, without a full stop.

    Examples
    --------
    >>> describe_level(Noise(level=5.0, contrast=100.0, interval=(4.8, 5.3)))
    'Noise of 5 % of the contrast (likely between 4.8 % and 5.3 %)'
    >>> describe_level(Noise(level=0.0, contrast=100.0, interval=(0.0, 33.1)))
    'The noise could not be measured'
    """
    if not noise.contrast > 0 and not noise.is_measured:
        return (
            "Nearly all voxels have the same grey value, so the noise of the others "
            "could not be measured"
        )
    if not noise.contrast > 0:
        return "The scan has no contrast"
    if noise.level == 0:
        limit = limit_text(noise)
        if not limit:
            return "The noise could not be measured"
        is_weak = noise.interval[1] / noise.contrast < FLOOR and noise.is_measured
        # Clipped voxels may hide noise, so that the scan only seems to be clean.
        is_weak = is_weak and not any(is_about(n, "clipping") for n in noise.notes)
        effect = ", so there is hardly anything to remove" if is_weak else ""
        return f"Noise {limit}{effect}"
    low, high = (end / noise.contrast for end in noise.interval)
    return (
        f"Noise of {rough_percent(noise.relative)} of the contrast (likely between "
        f"{rough_percent(low)} and {rough_percent(high)})"
    )


def _grey_dependence_sentence(noise: Noise) -> list[str]:
    """Describe the noise at a few grey values, from the darkest to the brightest."""
    curve = list(zip(noise.greys, noise.levels, strict=True))
    if len(curve) < 2:
        return []
    last = len(curve) - 1
    shown = sorted({round(i * last / (_SHOWN_GREYS - 1)) for i in range(_SHOWN_GREYS)})
    least = _NO_LEVEL * max(noise.levels)  # smaller levels result from rounding
    texts = (
        f"{number_text(level if level > least else 0.0)} at {number_text(grey)}"
        for grey, level in (curve[i] for i in shown)
    )
    return [f"It depends on the grey value: {', '.join(texts)}."]


def _correlation_sentence(noise: Noise) -> list[str]:
    figures = noise.correlation
    if not figures:
        return []
    shown = ", ".join(f"{axis.upper()} {value:.2f}" for axis, value in figures.items())
    if max(abs(value) for value in figures.values()) < _MIN_CORRELATION:
        return ["It is independent between voxels."]
    sentences = [
        "Part of it is correlated between neighbouring voxels (correlation along "
        f"{shown})."
    ]
    if noise.cutoff is not None:
        sentences.append(
            "Within slices, its spectrum is that of noise in a reconstruction."
        )
    return sentences
