"""Find out whether the training data contain structures like those at a position.

A patch around the position is described by the means of the network's last feature
maps, and compared with the patches of the training volumes in the index of the model.
The distances between training patches show which distances are usual.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from napari_geosr.attribution import AttributionRequest, AttributionResult
from napari_geosr.attribution._trunk import patch_features
from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import StageStarted, Step
from napari_geosr.models.similarity import SimilarityIndex, SimilarPatch

TITLE = "Seen before?"
HELP = "The most similar patches of the training data, with their positions."

_ONE_VOLUME = (
    "The index covers a single training volume, so this verdict applies only to that "
    "volume: patches of another scan of the same material may be further away. "
    "To assess other scans, train on several volumes."
)
#: Number of training patches that are listed.
NEAREST = 5


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Find the training patches most similar to the patch around a position."""
    yield StageStarted(message="Comparing with the training patches")
    assert request.training is not None
    index, scene = request.training.index, request.training.scene
    shape = scene.layout.shape
    if any(n < e for n, e in zip(shape, index.edge, strict=True)):
        raise ModelError(
            f"The scan has {' × '.join(map(str, shape))} voxels, fewer than a patch "
            f"of the model's index ({' × '.join(map(str, index.edge))}): omit the "
            "method 'similar'."
        )
    z, y, x = (
        # Centre the patch, which has an even size, on the voxel, but keep it in the
        # scan.
        min(max((part.start + part.stop - 1) // 2 // s - e // 2, 0), n - e)
        for part, s, e, n in zip(
            request.region, scene.layout.scale, index.edge, shape, strict=True
        )
    )
    corner = (z, y, x)
    a, b, c = (slice(i, i + e) for i, e in zip(corner, index.edge, strict=True))
    maps = patch_features(scene, (a, b, c), [corner], index.edge)
    patches = index.nearest(maps[0], NEAREST)
    verdict = index.verdict(patches[0].distance)
    _, high, highest = (float(d / index.distances[0]) for d in index.distances)
    figures = {
        "verdict": verdict,
        "distance": patches[0].distance,
        "percentile_95": high,
        "percentile_99": highest,
        "across_volumes": index.is_across_volumes,
        "patches": [_described(patch) for patch in patches],
    }
    flat = scene.layout.ndim == 2
    notes = () if index.is_across_volumes else (_ONE_VOLUME,)
    return AttributionResult(figures, _sentence(index, patches, flat=flat), notes=notes)


def _described(patch: SimilarPatch) -> dict[str, object]:
    return {
        "source": patch.source,
        "first_voxel": list(patch.corner),
        "position": list(patch.position),
        "unit": patch.unit,
        "distance": patch.distance,
    }


def _sentence(
    index: SimilarityIndex, patches: Sequence[SimilarPatch], *, flat: bool
) -> str:
    first = patches[0]
    _, high, highest = index.distances / index.distances[0]
    place = ", ".join(f"{p:.4g}" for p in first.position[1 if flat else 0 :])
    where = "in another volume " if index.is_across_volumes else ""
    end = {
        "similar": "which is usual: the training data contain similar structures",
        "unusual": "which is unusual: 95 % of the training patches have a neighbour "
        f"{where}within {high:.2g} × this median",
        "unlike": "so the training data contain nothing similar: 99 % of the training "
        f"patches have a neighbour {where}within {highest:.2g} × this median",
    }[index.verdict(first.distance)]
    within = "" if index.is_across_volumes else " in the only training volume"
    return (
        f"Closest training patch: {first.source!r} at "
        f"{'Y, X' if flat else 'Z, Y, X'} = {place} {first.unit}; its distance is "
        f"{first.distance:.2g} × the median distance of a training patch from its "
        f"nearest neighbour{within}, {end}."
    )
