"""Stores measurements made on a scan before its restoration, for resumed runs."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast, get_args, get_type_hints

import numpy as np
from pydantic import TypeAdapter, ValidationError

from napari_geosr.core.documents import load_json, read_document
from napari_geosr.core.errors import ConfigError, FileError, GeoSRError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.io.unfinished_files import atomic

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model

#: Name of the file that stores the measurements in the folder of a job.
FILE = "measurements.json"
#: Fields that are not stored because they contain models or voxels, and placeholders
#: for their types.
_LEFT_OUT = ("model", "removed")
_THEIR_TYPES = {"Model": object, "Volume": object}

T = TypeVar("T")


class MeasurementStore:
    """Measurements of a scan in a JSON file: statistics, noise, predictions.

    The file is replaced atomically whenever a measurement is added.

    Parameters
    ----------
    path : Path, optional
        Path of the file; by default, nothing is kept.
    depends_on : mapping
        Everything that the measurements depend on, such as the state of the scan's file
        and the settings. A file with other values is ignored, and replaced when
        something is measured.
    """

    def __init__(
        self, path: Path | None = None, depends_on: AnyMapping | None = None
    ) -> None:
        self.path = path
        self._depends_on = _as_values(depends_on or {})
        self._entries: AnyDict = {} if path is None else self._load(path)
        self._prefix = ""

    def within(self, name: str) -> MeasurementStore:
        """Return a store in the same file for a part of the scan, e.g. a channel."""
        part = copy.copy(self)
        part._prefix = f"{self._prefix}{name}/"
        return part

    def read(self, name: str, kind: type[T], **depends_on: object) -> T | None:
        """Return a measurement of an earlier run; None if there is none.

        Parameters
        ----------
        name : str
        kind : type
            Dataclass of the measurement.
        **depends_on
            Further values on which this measurement depends, as passed to `keep`.
        """
        entry = self._entries.get(f"{self._prefix}{name}")
        if not isinstance(entry, dict) or entry.get("of") != _as_values(depends_on):
            return None
        try:
            return _build(kind, entry.get("value"))
        except (ValidationError, GeoSRError, TypeError, KeyError):
            return None

    def keep(self, name: str, value: object, **depends_on: object) -> None:
        """Add a measurement.

        A failed write is ignored, because the run does not need the file: a later run
        repeats the measurement. Values that JSON cannot represent exactly are not
        stored either.
        """
        if self.path is None:
            return
        key = f"{self._prefix}{name}"
        self._entries[key] = {"of": _as_values(depends_on), "value": _as_values(value)}
        if self.read(name, type(value), **depends_on) != value:
            del self._entries[key]
            return
        content = {"depends_on": self._depends_on, "measurements": self._entries}
        with suppress(FileError):
            atomic.write_text(self.path, json.dumps(content, indent=1), overwrite=True)

    def _load(self, path: Path) -> AnyDict:
        try:
            content = load_json(read_document(path))
        except (OSError, ValueError, ConfigError):  # the file is absent or damaged
            return {}
        if not isinstance(content, dict):
            return {}
        entries = content.get("measurements")
        is_same = content.get("depends_on") == self._depends_on
        return entries if is_same and isinstance(entries, dict) else {}


def weights_of(models: Sequence[Model]) -> AnyDict:
    """Return values that identify models, for measurements that depend on them."""
    return {"models": [(each.card.name, each.card.weights_sha256) for each in models]}


def _as_values(value: object) -> object:
    """Convert dataclasses, and the containers in them, to values for JSON."""
    if is_dataclass(value):
        names = (field.name for field in fields(value))
        return {
            name: _as_values(getattr(value, name))
            for name in names
            if name not in _LEFT_OUT
        }
    if isinstance(value, Mapping):
        return {str(key): _as_values(each) for key, each in value.items()}
    if isinstance(value, tuple | list):
        return [_as_values(each) for each in value]
    return value.item() if isinstance(value, np.generic) else value


def _build(kind: type[T], value: object) -> T:
    """Convert values from JSON to a dataclass, or to another annotated type."""
    if is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind, localns=_THEIR_TYPES)
        built = {name: _build(hints[name], each) for name, each in value.items()}
        return cast("T", kind(**built))
    if get_args(kind)[1:] == (Ellipsis,) and isinstance(value, list):
        return cast("T", tuple(_build(get_args(kind)[0], each) for each in value))
    return TypeAdapter(kind).validate_python(value)
