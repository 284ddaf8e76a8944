"""Record the doubts about a layer and the user's answers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from napari_geosr.core.file_warnings import (
    NOTES,
    Note,
    assumed_distances,
    file_warnings,
    notes_of,
    with_file_warnings,
    with_size_given,
)
from napari_geosr.core.layer_data import METADATA
from napari_geosr.core.questions import (
    AXES_GIVEN,
    UNNAMED_AXIS,
    VOXEL_SIZE_QUESTION,
    UnnamedAxis,
    voxel_size_question,
)
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.core.units import PIXEL
from napari_geosr.gui.layers.geometry import LayerGeometry, geometry_of_layer

if TYPE_CHECKING:
    from napari.layers import Layer
    from napari.utils.events import Event

#: Metadata key of the user's answer about the meaning of the layer's first axis.
_AXES_KEY = "geosr_axes"
#: Metadata key of the reason why a layer must not be measured.
_MISFIT_KEY = "geosr_misfit"
#: Prefix of the name of a layer that must not be measured.
_MISFIT_PREFIX = "⚠ "
#: Metadata key set when the user entered or confirmed the layer's voxel size.
_DISTANCE_KEY = "geosr_distance"


def open_questions(
    layer: Layer, place: LayerGeometry, record: AnyMapping | None
) -> AnyDict:
    """Return the warnings, open questions and answers for a volume's metadata.

    Parameters
    ----------
    layer : Layer
    place : LayerGeometry
        Geometry of the layer.
    record : mapping or None
        The plugin's record in the layer's metadata; None for a layer that this plugin
        did not open or create.
    """
    info = {} if record is None else record.get("info", {})
    questions = with_file_warnings({}, *file_warnings(info), misfit_of(layer))
    if _DISTANCE_KEY in layer.metadata:
        questions = with_size_given(questions)
    elif assumed := assumed_distances(info):
        questions[NOTES] = assumed
    question = voxel_size_question(info)
    if question is not None and place.unit == PIXEL:
        questions[VOXEL_SIZE_QUESTION] = question
    unnamed = info.get(UNNAMED_AXIS)
    if record is None and not _names_axes(layer, place):
        unnamed = UnnamedAxis(place.axes)
    if unnamed is None:
        return questions
    if is_answered(layer) and record is not None:
        given = unnamed.stored.replace("Z", "T") if "T" in place.axes else None
        questions[AXES_GIVEN] = given or unnamed.stored
    elif not is_answered(layer) and "T" not in place.axes:
        questions[UNNAMED_AXIS] = unnamed
    return questions


def _names_axes(layer: Layer, place: LayerGeometry) -> bool:
    labels = "".join(str(label).upper()[:1] for label in layer.axis_labels)
    return labels == place.axes


def is_answered(layer: Layer) -> bool:
    """Whether the user has specified the meaning of a layer's planes."""
    return _AXES_KEY in layer.metadata


def open_notes(layer: Layer) -> list[Note]:
    """Return the unanswered notes of the layer's file.

    One of the notes may state that the voxel size is implausible and is not used.

    Raises
    ------
    VolumeError
        If the layer's axes cannot be interpreted.
    """
    record = layer.metadata.get(METADATA, {})
    place = geometry_of_layer(layer)
    info = record.get("info", {})
    settled = set()
    if place.unit != PIXEL:
        settled.add("unit")
    if is_answered(layer) or "Z" not in place.axes:
        settled.add("axes")
    is_known = place.unit != PIXEL and "Z" in place.axes
    if _DISTANCE_KEY in layer.metadata or not is_known:
        settled.add("slice distance")
    notes = [*notes_of(info)]
    if (question := voxel_size_question(info)) is not None:
        text = (
            f"The voxel size in the file, {question.size_text}, is implausible and was "
            "not used."
        )
        notes.append(Note(text, "unit"))
    return [note for note in notes if note.corrected_by not in settled]


def settle_distance(layer: Layer) -> None:
    """Record that the user entered or confirmed the layer's voxel size."""
    layer.metadata = {**layer.metadata, _DISTANCE_KEY: True}


def misfit_of(layer: Layer) -> str:
    """Return why a layer must not be measured; empty if it may be measured."""
    return str(layer.metadata.get(_MISFIT_KEY, ""))


def mark_misfit(layer: Layer, misfit: str, *, in_name: bool = True) -> None:
    """Mark a layer as unsuitable for measurement; ``""`` removes the mark.

    The mark disappears when the layer's voxels are replaced.

    Parameters
    ----------
    layer : Layer
    misfit : str
        Why it must not be measured, in a sentence.
    in_name : bool
        Whether to mark the layer's name as well, for a finding rather than a
        prediction.
    """
    others = {key: value for key, value in layer.metadata.items() if key != _MISFIT_KEY}
    layer.metadata = others | ({_MISFIT_KEY: misfit} if misfit else {})
    prefix = _MISFIT_PREFIX if misfit and in_name else ""
    layer.name = prefix + layer.name.removeprefix(_MISFIT_PREFIX)
    if misfit:
        layer.events.data.connect(_unmark)


def _unmark(event: Event) -> None:
    mark_misfit(event.source, "")


def record_slices(layer: Layer) -> None:
    """Record that the user identified the planes of a layer as slices."""
    # Assign a new dict instead of changing it in place: other docks listen for the
    # event.
    layer.metadata = {**layer.metadata, _AXES_KEY: "Z"}


def convert_to_frames(layer: Layer) -> None:
    """Turn the first axis of a Z, Y, X layer into time, following the user's answer.

    A time step has no length, so the axis gets scale 1 and no unit.
    """
    layer.metadata = {**layer.metadata, _AXES_KEY: "T"}
    scale, translate = list(layer.scale), list(layer.translate)
    scale[0], translate[0] = 1.0, 0.0
    units = [str(unit) for unit in layer.units]
    layer.scale, layer.translate = scale, translate
    layer.units = (PIXEL, *units[1:])
    layer.axis_labels = ("t", "y", "x")
