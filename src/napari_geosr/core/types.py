"""Names for types that stand in many signatures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import numpy as np

#: An array of any shape and dtype.
AnyArray: TypeAlias = "np.ndarray[Any, np.dtype[Any]]"

#: Any dtype of numpy.
AnyDType: TypeAlias = "np.dtype[Any]"

#: Any values by name, as JSON, YAML and keyword arguments have them.
AnyDict: TypeAlias = dict[str, Any]

#: The same where nothing is changed.
AnyMapping: TypeAlias = Mapping[str, Any]
