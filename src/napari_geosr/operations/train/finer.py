"""What to set so that targets with finer voxels than their sources can be learned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.networks import NETWORKS

if TYPE_CHECKING:
    from napari_geosr.core.volume import Volume
    from napari_geosr.learning.config import TrainingConfig

#: Settings that belong to one network and fit no other, where they are not given.
_OF_ONE_NETWORK: dict[str, Any] = {
    "layers": None,
    "width": None,
    "dilations": None,
    "network_options": {},
}


def finer_targets(
    method: str, training: TrainingConfig, source: Volume, target: Volume
) -> str:
    """Say what learns a target whose shape is a multiple of its source's.

    Every setting named was tried: the method accepts it, and makes voxels that fine.

    Returns
    -------
    str
        A sentence or two; empty where the target is not so many times finer.
    """
    found = _times_finer(source, target)
    if found is None:
        return ""
    factor, dimensions, axes = found
    begin = f"The voxels of {target.title} are {factor} times finer along {axes}"
    own = _flags(method, training, factor, dimensions)
    if own is not None:
        return f"{begin}: to learn that set {own}."
    others = [
        f"{other} ({flags})"
        for other in METHODS.names()
        if other != method
        and _learns_pairs(other)
        and (flags := _flags(other, None, factor, dimensions)) is not None
    ]
    if not others:
        return f"{begin}, and no method learns that: resample it."
    return f"{begin}. {method} does not learn that; {' and '.join(others)} would."


def _times_finer(
    source: Volume, target: Volume
) -> tuple[int, tuple[str, ...], str] | None:
    """How many times, by which kinds of networks (the best first), along which axes."""
    if source.axes != target.axes or source.axes not in ("YX", "ZYX"):
        return None
    times = [
        t // s if s and t % s == 0 else 0
        for s, t in zip(source.shape, target.shape, strict=True)
    ]
    factor = times[-1]
    if factor < 2:
        return None
    if times == [factor] * 3:
        return factor, ("3D",), "Z, Y and X"
    if times == [1, factor, factor]:
        return factor, ("2.5D", "2D"), "Y and X"
    return (factor, ("2D",), "Y and X") if times == [factor] * 2 else None


def _learns_pairs(method: str) -> bool:
    kind = METHODS.load(method).Method
    return bool(kind.paired and {"source", "target"} <= set(kind.roles))


def _flags(
    method: str,
    training: TrainingConfig | None,
    factor: int,
    dimensions: Sequence[str],
) -> str | None:
    """Flags of the first settings that work; None where there are none.

    Parameters
    ----------
    training : TrainingConfig, optional
        Settings of the method as they are; by default its own.
    """
    kind = config_class(method)
    if "upscale_factor" not in kind.model_fields:
        return None
    now: Any = training or kind()
    for changes in _candidates(now, kind().network, factor, dimensions):
        values = now.model_dump() | {"source": ["a"], "target": ["b"]} | changes
        try:
            config = kind.create(**values)
            METHODS.load(method).Method.check(config)
            makes = METHODS.load(method).Method(config).upscale_factor
        except ConfigError:
            continue
        if makes == factor:
            return _in_words({k: v for k, v in changes.items() if getattr(now, k) != v})
    return None


def _in_words(changes: Mapping[str, Any]) -> str:
    """Settings as flags, and those that are not to be given any more."""
    flags = {name: f"--{name.replace('_', '-')}" for name in changes}
    given = [f"{flags[k]} {v}" for k, v in changes.items() if k not in _OF_ONE_NETWORK]
    left_out = [flags[name] for name in changes if name in _OF_ONE_NETWORK]
    without = f" without {' and '.join(left_out)}" if left_out else ""
    return " ".join(given) + without


def _candidates(
    now: TrainingConfig, default: str, factor: int, dimensions: Sequence[str]
) -> Iterator[dict[str, Any]]:
    """Settings to try, those nearest to what there is first."""
    for network in dict.fromkeys((now.network, default, *NETWORKS.names())):
        fields = type(now).model_fields if network != now.network else {}
        cleared = {k: v for k, v in _OF_ONE_NETWORK.items() if k in fields}
        kept = [d for d in dimensions if d == now.dimensions]
        for chosen in dict.fromkeys((*kept, *dimensions)):
            yield {
                "network": network,
                "upscale_factor": factor,
                "dimensions": chosen,
                **cleared,
            }
