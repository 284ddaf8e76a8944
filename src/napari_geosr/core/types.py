"""Aliases for types that appear in many signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

#: An array of any shape and dtype.
AnyArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

#: Any NumPy dtype.
AnyDType: TypeAlias = "np.dtype[Any]"

#: Values of any type by name, as in JSON, YAML and keyword arguments.
AnyDict: TypeAlias = dict[str, Any]

#: Read-only values of any type by name.
AnyMapping: TypeAlias = Mapping[str, Any]

#: A zarr array or group: zarr's own types do not show which of the two a key returns.
ZarrNode: TypeAlias = Any
