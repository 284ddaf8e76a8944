"""Networks given as a graph of ONNX operators, computed by torch.

The graph is data: names of supported operators, plain attributes and tensors. It is
computed operator by operator, on any device and in any precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from pydantic import Field
from torch import nn

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.types import AnyDict, AnyMapping
from napari_geosr.networks.foreign_formats import _layers  # noqa: F401  # registers
from napari_geosr.networks.foreign_formats._operators import OPERATORS, OperatorCall

if TYPE_CHECKING:
    from torch import Tensor

_DTYPES = {
    "int64": torch.int64,
    "int32": torch.int32,
    "uint8": torch.uint8,
    "int8": torch.int8,
    "bool": torch.bool,
}


class GraphConfig(Config):
    """A graph of operators."""

    input: str
    """Name of the input value."""
    output: str
    """Name of the output value."""
    opset: int = Field(ge=9)
    """Version of the ONNX operator set."""
    nodes: tuple[tuple[str, tuple[str, ...], tuple[str, ...], AnyDict], ...]
    """Nodes in order of computation: operator, names of inputs ("" for none), names of
    outputs, and attributes."""
    constants: dict[str, tuple[str, tuple[int, ...], tuple[int | bool, ...]]] = Field(
        default_factory=dict
    )
    """Integer constants by name: type, shape and values. Other tensors are weights."""


class GraphNetwork(nn.Module):
    """Computes the nodes one after another; the weights are its parameters."""

    def __init__(self, settings: GraphConfig, weights: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.settings = settings
        for name, tensor in weights.items():
            self.register_parameter(name, nn.Parameter(torch.empty_like(tensor)))
        self.constants = {
            name: torch.tensor(values, dtype=_DTYPES[kind], device="cpu").reshape(shape)
            for name, (kind, shape, values) in settings.constants.items()
        }
        self.last_use = _last_use(settings)
        #: Function called before each operator; see `inference.compute.interruptible`.
        self.between_strips: Callable[[], None] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Compute the graph for ``(N, channels, [Z,] Y, X)``."""
        s = self.settings
        known: AnyDict = {**self.constants, **dict(self.named_parameters())}
        known[s.input] = x
        for i, (op, takes, gives, attributes) in enumerate(s.nodes):
            if self.between_strips is not None:
                self.between_strips()
            call = OperatorCall(op, attributes, s.opset, len(gives), x.dtype)
            values = [known[name] if name else None for name in takes]
            found = OPERATORS[op](call, *values)
            del values
            outputs = found if isinstance(found, tuple) else (found,)
            known.update(zip(gives, outputs, strict=False))
            for name in self.last_use.get(i, ()):
                known.pop(name, None)
        result: Tensor = known[s.output]
        return result


def build(settings: AnyMapping, weights: Mapping[str, Tensor]) -> GraphNetwork:
    """Build the graph; the weights are loaded afterwards.

    Raises
    ------
    ConfigError
        If an operator is unknown or a value is used before it is computed.
    """
    graph = GraphConfig.from_mapping(settings)
    check(graph, list(weights))
    return GraphNetwork(graph, weights)


def unknown_operators(names: Sequence[str]) -> list[str]:
    """Return the operators among `names` that are not supported."""
    return sorted(set(names) - OPERATORS.keys())


def check(graph: GraphConfig, weights: Sequence[str]) -> None:
    """Raise `ConfigError` unless all values are computed before they are used."""
    unknown = unknown_operators([node[0] for node in graph.nodes])
    if unknown:
        raise ConfigError(f"unknown operators: {', '.join(unknown)}.")
    bad = [kind for kind, _, _ in graph.constants.values() if kind not in _DTYPES]
    bad += [name for name in weights if not name.isidentifier()]
    if bad:
        raise ConfigError(f"{bad[0]!r} is not a valid type or name of a graph value.")
    there = {"", graph.input, *graph.constants, *weights}
    for op, takes, gives, _ in graph.nodes:
        missing = set(takes) - there
        if missing:
            raise ConfigError(
                f"{op} takes {sorted(missing)[0]!r}, which no operator produces."
            )
        there.update(gives)
    if graph.output not in there - {""}:
        raise ConfigError(f"no operator produces the graph's output {graph.output!r}.")


def _last_use(settings: GraphConfig) -> dict[int, list[str]]:
    """Return, for each node index, the values that are not used after this node."""
    last: dict[str, int] = {}
    for i, (_, takes, gives, _) in enumerate(settings.nodes):
        last.update(dict.fromkeys((*takes, *gives), i))
    last.pop(settings.output, None)
    by_node: dict[int, list[str]] = {}
    for name, i in last.items():
        if name:
            by_node.setdefault(i, []).append(name)
    return by_node
