"""Occlusion that preserves grey level and noise: which parts of the scan matter.

Grey boxes, the usual method [1]_, are unlike anything that the network has seen. Here,
a cube of the scan is replaced by one with the same mean grey value and with new noise
of the scan's own level and correlation, so that only its structure is removed. The
effect of the cube is the change of the result beyond the change caused by new noise
alone.

References
----------
.. [1] Zeiler, Fergus. Visualizing and understanding convolutional networks. ECCV
   (2014). arXiv:1311.2901
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator

import numpy as np

from napari_geosr.attribution import Attribution, AttributionRequest, AttributionResult
from napari_geosr.attribution._patches import NoiseGenerator
from napari_geosr.core.steps import BlockDone, StageStarted, Step
from napari_geosr.core.types import AnyArray

TITLE = "Occlusion"
HELP = "Change of the result when cubes of the scan lose their structure."

#: Maximum number of cubes tried: those nearest to the explained voxels.
_MAX_CUBES = 216


def explain(question: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Replace one cube at a time, and compare the mean grey value of the region."""
    yield StageStarted(message="Occluding cubes of the scan")
    window = question.window
    fresh = NoiseGenerator(question)
    cubes = _cubes(question)
    left_out = max(0, len(cubes) - _MAX_CUBES)
    cubes = cubes[:_MAX_CUBES]
    before = float((window.values() * question.weights).sum())
    effect = np.zeros(window.network_input.shape)
    draws = max(1, question.draws // 4)
    for i, cube in enumerate(cubes):
        changes = []
        for _ in range(draws):
            changed = window.network_input.copy()
            level = np.full_like(changed[cube], changed[cube].mean(), np.float64)
            noise = fresh.draw(_everywhere(window.network_input, float(level.flat[0])))
            changed[cube] = level + noise[cube]
            changes.append(
                float((window.values(changed) * question.weights).sum()) - before
            )
        effect[cube] = np.mean(changes)
        yield BlockDone(i + 1, len(cubes))
    effect *= question.scene.statistics.output_std
    best = max(cubes, key=lambda cube: float(np.abs(effect[cube]).max()))
    strongest = tuple((part.start + part.stop - 1) // 2 for part in best)
    place = [i + p.start for i, p in zip(strongest, window.place, strict=True)]
    at = tuple(place[3 - question.scene.layout.ndim :])
    figures = {
        "patch": question.patch,
        "cubes": len(cubes),
        "cubes_left_out": left_out,
        "strongest": float(effect[strongest]),
        "strongest_at": list(at),
        "distance": float(question.distances()[strongest]),
        "unit": question.unit,
    }
    sentence = (
        f"Without the structure {figures['distance']:.3g} {question.unit} away, at "
        f"voxel {at} of the scan, the result would change by "
        f"{figures['strongest']:+.4g}, more than without any other cube of "
        f"{question.patch} voxels."
    )
    notes = []
    if left_out:
        notes.append(
            f"Only the {_MAX_CUBES} nearest cubes were tried, {left_out} others were "
            "not. Larger cubes (--patch) reach further."
        )
    if not fresh.is_measured:
        notes.append(
            "The noise of the scan could not be measured; its upper limit was used."
        )
    overlay = Attribution(
        window.place, effect.astype(np.float32), "change of the result without it"
    )
    return AttributionResult(figures, sentence, overlay, tuple(notes))


def _everywhere(network_input: AnyArray, value: float) -> AnyArray:
    return np.full(network_input.shape, value)


def _cubes(question: AttributionRequest) -> list[tuple[slice, ...]]:
    """Cubes that cover the window, nearest to the explained voxels first."""
    window = question.window
    distances = question.distances()
    cubes = list(_grid(question, window.network_input.shape))
    return sorted(cubes, key=lambda cube: float(distances[cube].min()))


def _grid(
    question: AttributionRequest, shape: tuple[int, ...]
) -> Iterator[tuple[slice, ...]]:
    """Yield a grid of cubes, one of which is centred on the explained region."""
    window = question.window
    edges = []
    for n, part, region, s in zip(
        shape, window.place, question.region, window.scale, strict=True
    ):
        middle = (region.start + region.stop) // 2 // s - part.start
        first = (middle - question.patch // 2) % question.patch
        starts = [*([0] if first else []), *range(first, n, question.patch)]
        stops = [*starts[1:], n]
        edges.append([slice(a, b) for a, b in zip(starts, stops, strict=True)])
    yield from itertools.product(*edges)
