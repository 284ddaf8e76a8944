"""Convert an ONNX file to a graph of operators computed by torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.errors import ConfigError, ModelError
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.networks.foreign_formats import graph as format_

if TYPE_CHECKING:
    from torch import Tensor

_DOMAINS = ("", "ai.onnx")
_PLAIN = (int, float, str)
_DAMAGED = (
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class OnnxGraph:
    """A supported graph.

    Attributes
    ----------
    settings : GraphConfig
        Operators and integer tensors.
    weights : dict of str to Tensor
        Floating-point tensors, by their names in the settings.
    sizes : tuple of int or None
        Sizes of the input's axes; None if any size is possible.
    """

    settings: format_.GraphConfig
    weights: dict[str, Tensor]
    sizes: tuple[int | None, ...]


def read_graph(path: Path) -> OnnxGraph:
    """Read an ONNX file.

    Raises
    ------
    ModelError
        If the library onnx is missing, the file is damaged, or the graph has several
        inputs or outputs, or operators that cannot be computed.
    """
    try:
        import onnx
    except ImportError as error:
        raise ModelError(
            "ONNX files need the library onnx, which is not installed. Install it: "
            "pip install 'napari-geosr[zoo]'"
        ) from error
    try:
        model = onnx.load(str(path))
        if model.functions:
            from onnx import inliner

            model = inliner.inline_local_functions(model)
    except Exception as error:  # protobuf and onnx raise their own errors
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{path} is not a readable ONNX file ({reason}). Download or copy it again."
        ) from error
    reader = _OnnxReader(model, path)
    try:
        return reader.graph()
    except ModelError:
        raise
    except _DAMAGED as error:  # onnx and numpy raise these on invalid values
        reason = " ".join(str(error).split())[:120] or type(error).__name__
        raise reader.refused(f"it is damaged ({reason})") from error


class _OnnxReader:
    """Converts a graph: shortens all names, and separates weights from integers."""

    def __init__(self, model: Any, path: Path) -> None:
        self.model, self.path = model, path
        self.names: dict[str, str] = {"": ""}
        self.weights: dict[str, Tensor] = {}
        self.constants: dict[str, tuple[str, tuple[int, ...], tuple[Any, ...]]] = {}

    def graph(self) -> OnnxGraph:
        """Read the whole graph."""
        from onnx import numpy_helper

        graph = self.model.graph
        known = {tensor.name for tensor in graph.initializer}
        inputs = [value for value in graph.input if value.name not in known]
        if len(inputs) != 1 or len(graph.output) != 1 or graph.sparse_initializer:
            raise self.refused(
                f"it has {len(inputs)} inputs and {len(graph.output)} outputs"
            )
        for tensor in graph.initializer:
            self.tensor(tensor.name, numpy_helper.to_array(tensor))
        nodes = []
        for node in graph.node:
            if node.domain not in _DOMAINS:
                raise self.refused(
                    f"the operator {node.op_type} belongs to the domain {node.domain}"
                )
            attributes = self.attributes(node)
            if node.op_type == "Constant":
                self.constant(node.output[0], attributes)
                continue
            takes = tuple(self.name(name) for name in node.input)
            gives = tuple(self.name(name) for name in node.output)
            nodes.append((node.op_type, takes, gives, self.plain(node, attributes)))
        unknown = format_.unknown_operators([node[0] for node in nodes])
        if unknown:
            raise self.refused(f"it uses the operators {', '.join(unknown)}")
        opsets = [o.version for o in self.model.opset_import if o.domain in _DOMAINS]
        try:
            settings = format_.GraphConfig.create(
                input=self.name(inputs[0].name),
                output=self.name(graph.output[0].name),
                opset=max(opsets, default=0),
                nodes=nodes,
                constants=self.constants,
            )
            format_.check(settings, list(self.weights))
        except ConfigError as error:
            raise self.refused(str(error).rstrip(".")) from error
        shape = inputs[0].type.tensor_type.shape.dim
        sizes = tuple(d.dim_value if d.HasField("dim_value") else None for d in shape)
        return OnnxGraph(settings, self.weights, sizes)

    def refused(self, why: str) -> ModelError:
        """Return the error for an unsupported graph."""
        return ModelError(
            f"The ONNX graph {self.path.name} is not supported: {why}. Ask the "
            "model's authors for other weights."
        )

    def name(self, name: str) -> str:
        """Return the short name of a value."""
        return self.names.setdefault(name, f"v{len(self.names)}" if name else "")

    def tensor(self, name: str, array: AnyArray) -> None:
        """Store a tensor: floating-point values as a weight, integers as a constant."""
        import torch

        short = self.name(name)
        if array.dtype.kind == "f":
            self.weights[short] = torch.from_numpy(np.array(array, np.float32))
            return
        if array.dtype.name not in ("int64", "int32", "uint8", "int8", "bool"):
            raise self.refused(f"it has tensors of type {array.dtype.name}")
        values = tuple(array.reshape(-1).tolist())
        self.constants[short] = (array.dtype.name, tuple(array.shape), values)

    def attributes(self, node: Any) -> AnyDict:
        """Return the attributes of a node; nested graphs are rejected."""
        from onnx import AttributeProto, helper

        plain_attributes = {}
        for attribute in node.attribute:
            if attribute.type in (AttributeProto.GRAPH, AttributeProto.GRAPHS):
                raise self.refused(
                    f"the operator {node.op_type} controls the flow of the computation"
                )
            value = helper.get_attribute_value(attribute)
            if isinstance(value, bytes):
                value = value.decode("utf-8", "replace")
            plain_attributes[attribute.name] = value
        return plain_attributes

    def constant(self, name: str, attributes: AnyMapping) -> None:
        """Store the value of a node of type Constant."""
        from onnx import TensorProto, numpy_helper

        [value] = attributes.values()
        if isinstance(value, TensorProto):
            array = numpy_helper.to_array(value)
        else:
            first = value[0] if isinstance(value, list | tuple) and value else value
            whole = isinstance(first, int)
            array = np.array(value, np.int64 if whole else np.float32)
        self.tensor(name, array)

    def plain(self, node: Any, attributes: AnyMapping) -> AnyDict:
        """Return the attributes as numbers and strings."""
        from onnx import TensorProto, numpy_helper

        plain_values: AnyDict = {}
        for key, value in attributes.items():
            if isinstance(value, TensorProto):
                array = numpy_helper.to_array(value).reshape(-1)
                if len(array) != 1:
                    raise self.refused(
                        f"the operator {node.op_type} has a tensor as {key}"
                    )
                kind = "float" if array.dtype.kind == "f" else array.dtype.name
                plain_values[key] = [kind, array[0].item()]
            elif isinstance(value, _PLAIN):
                plain_values[key] = value
            else:
                try:
                    plain_values[key] = [
                        v if isinstance(v, float) else int(v) for v in value
                    ]
                except (TypeError, ValueError) as error:
                    raise self.refused(
                        f"the operator {node.op_type} has an invalid {key}"
                    ) from error
        return plain_values
