"""ONNX: one graph from grey values to grey values, for onnxruntime and others."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from napari_geosr.models.exports import _graph

if TYPE_CHECKING:
    from napari_geosr.models.bundle import Model
    from napari_geosr.models.card import ModelCard

TITLE = "ONNX"
SUFFIX = ".onnx"


def write(model: Model, path: Path) -> float:
    """Write the model; return the largest difference from the original.

    Raises
    ------
    ConfigError
        If a library is missing.
    ModelError
        If the model cannot be written, or its output differs from the original.
    """
    _graph.check_libraries("onnx", "onnxruntime")
    return max(trial.difference for trial in _graph.write_graph(model, path))


def remarks(card: ModelCard) -> list[str]:
    """Return remarks on how the scaling differs from that of ``restore``."""
    return _graph.remarks(card, inside=False)
