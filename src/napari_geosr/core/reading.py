"""How a volume was read: which part of its file, and with which arguments."""

from __future__ import annotations

from napari_geosr.core.file_warnings import for_part
from napari_geosr.core.questions import AXES_GIVEN
from napari_geosr.core.types import AnyDict, AnyMapping

#: Key in the metadata of a volume; its value contains arguments of
#: `napari_geosr.read`. Results computed from the volume do not have it.
READING = "reading"
#: Metadata key of the dataset, set by readers of formats with several datasets.
_DATASET = "dataset"
#: Names of the arguments, in the order in which they are written.
READING_NAMES = (
    "voxel_size",
    "unit",
    "time",
    "channel",
    "axes",
    "dataset",
    "shape",
    "dtype",
    "offset",
)
_WORDS = {"T": "time", "C": "channel"}


def with_reading(metadata: AnyMapping, **values: object) -> AnyDict:
    """Return a copy of `metadata` with further arguments, except those that are None.

    Examples
    --------
    >>> with_reading({}, axes="TYX", dtype=None)
    {'reading': {'axes': 'TYX'}}
    """
    given = {name: value for name, value in values.items() if value is not None}
    if not given:
        return dict(metadata)
    return {**metadata, READING: {**metadata.get(READING, {}), **given}}


def reading_of(metadata: AnyMapping) -> AnyDict:
    """Return the arguments of `napari_geosr.read`, except voxel size and unit.

    Examples
    --------
    >>> reading_of({"dataset": "scan/data", "reading": {"channel": 1}})
    {'channel': 1, 'dataset': 'scan/data'}
    """
    known = {_DATASET: metadata.get(_DATASET), "axes": metadata.get(AXES_GIVEN)}
    known = {name: str(value) for name, value in known.items() if value is not None}
    known |= metadata.get(READING, {})
    return {name: known[name] for name in READING_NAMES if name in known}


def part_metadata(metadata: AnyMapping, axis: str, index: int, length: int) -> AnyDict:
    """Return the metadata of a volume at one index of an axis.

    Parameters
    ----------
    metadata : mapping
        Metadata of the volume with this axis.
    axis : str
        ``"T"`` or ``"C"``.
    index : int
    length : int
        Length of the axis; the index along an axis of length one is not recorded.
    """
    choice = {_WORDS[axis]: index} if length > 1 else {}
    return with_reading(for_part(metadata, axis, index), **choice)
