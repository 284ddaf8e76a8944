"""Parse losses written as ``l1,gradient,cldice:0.3``: names and weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator

from napari_geosr.core.errors import ConfigError
from napari_geosr.core.text.name_choices import NameChoices
from napari_geosr.learning.losses.terms import TERMS, describe

#: Loss that is added to losses of kind ``"edges"`` if no grey-value loss is given.
GREY_VALUES = "l1"


def parse_losses(text: str) -> dict[str, float]:
    """Return the weights of the losses in ``NAME[:WEIGHT],…``, in the given order.

    Raises
    ------
    ConfigError
        If a name is unknown or occurs twice, only geometric losses are given, or a
        weight is not a positive number.
    """
    weights: dict[str, float] = {}
    kinds: dict[str, str] = {}
    for part in (part.strip() for part in text.split(",")):
        name, colon, weight = (word.strip() for word in part.partition(":"))
        if name not in TERMS.modules():
            raise ConfigError(
                f"Unknown loss function {name!r}. Known: {', '.join(describe())}; "
                "separate several with commas."
            )
        if name in weights:
            raise ConfigError(f"The loss {name!r} is given twice. Remove one.")
        module = TERMS.load(name)
        _check_installed(name, module)
        kinds[name] = module.KIND
        weights[name] = _weight(name, weight) if colon else float(module.WEIGHT)
    if "voxels" not in kinds.values():
        if "edges" not in kinds.values():
            usable = [n for n in describe() if TERMS.load(n).KIND == "voxels"]
            raise ConfigError(
                f"{text!r} does not constrain the grey values, so they would drift: "
                f"add one of {', '.join(usable)}, as in '{GREY_VALUES},{text}'."
            )
        weights = {GREY_VALUES: float(TERMS.load(GREY_VALUES).WEIGHT)} | weights
    return weights


def _check_installed(name: str, module: object) -> None:
    """Reject a loss if its library is not installed."""
    needed, extra = getattr(module, "REQUIRES", (None, None))
    if needed is not None and find_spec(needed) is None:
        raise ConfigError(
            f"The loss {name!r} needs {needed}, which is not installed: run pip "
            f'install "napari-geosr[{extra}]", or remove this loss.'
        )


def is_geometry(name: str) -> bool:
    """Whether a loss compares phases instead of grey values."""
    return bool(TERMS.load(name).KIND == "geometry")


def names_in(text: str) -> list[str]:
    """Return the names of the losses in ``NAME[:WEIGHT],…``."""
    return [part.partition(":")[0].strip() for part in text.split(",")]


def _weight(name: str, text: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise ConfigError(
            f"The weight of the loss {name!r} must be a number above 0, not {text!r}: "
            f"remove ':{text}' to use the default {TERMS.load(name).WEIGHT:g}, or "
            "remove the loss."
        )
    return weight


def _to_text(given: object) -> Any:
    """Convert a list or a mapping of names to weights (from YAML) to one string."""
    if isinstance(given, Mapping):
        return ",".join(f"{name}:{weight}" for name, weight in given.items())
    if isinstance(given, Sequence) and not isinstance(given, str):
        return ",".join(str(_to_text(part)) for part in given)
    return given


def _validate(text: str) -> str:
    text = "".join(text.split()).lower()
    try:
        parse_losses(text)
    except ConfigError as error:
        raise ValueError(str(error)) from error
    return text


#: Type of the settings field for losses.
LossNames = Annotated[
    str, BeforeValidator(_to_text), AfterValidator(_validate), NameChoices(describe)
]
