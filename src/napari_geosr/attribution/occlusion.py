"""Find out which regions of the scan matter, by replacing them with noise.

Usually, regions are covered with grey boxes [1]_, which do not resemble the training
data. Here, a cube of the scan is replaced with its mean grey value plus new noise. The
noise has the level and correlation of the scan's own noise and a mean of zero over the
cube, so only the structure is removed.

New noise alone also changes the result. If the cube has no structure, the scan is just
another draw of this noise, so the original result is compared with the spread of the
results over the draws: the standard error of the change covers both the finite number
of draws and the noise of the scan. A cube counts only if its change exceeds a limit. In
19 of 20 scans without structure, noise alone does not exceed this limit in any tested
cube (Student's t, Bonferroni's correction).

For most cubes, two draws of noise suffice to show that they do not matter; these cubes
are not tested further. Dropping cubes can only lower the probability of a false
positive, and loses less than 0.2 % of the cubes that would count after all draws.

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
from napari_geosr.core.types import AnyArray, AnyDict

TITLE = "Occlusion"
HELP = "Change of the result when the structure in cubes of the scan is removed."

#: Maximum number of cubes; the cubes nearest to the explained voxels are tried.
_MAX_CUBES = 216
#: Probability that the change of at least one cube is called significant although all
#: changes are due to noise.
_FALSE_ALARMS = 0.05
#: Minimum number of noise draws from which a standard error is calculated.
_MIN_DRAWS = 4
#: Numbers of draws after which cubes are dropped, and the fractions of the final limit
#: that the change of a cube must exceed for the cube to be tested further.
_STAGES = ((2, 1 / 3), (4, 1 / 2))
#: Approximate number of progress reports.
_MAX_STEPS = 200
#: Smallest change that is distinguished from rounding, in standard deviations of the
#: scan.
_ROUNDING = 1e-5


def explain(request: AttributionRequest) -> Generator[Step, None, AttributionResult]:
    """Replace one cube at a time, and measure how the mean of the region changes."""
    yield StageStarted(message="Occluding cubes of the scan")
    window = request.window
    fresh = NoiseGenerator(request)
    cubes = _cubes(request)
    left_out = max(0, len(cubes) - _MAX_CUBES)
    cubes = cubes[:_MAX_CUBES]
    draws = max(_MIN_DRAWS, request.draws)
    changes = yield from _changes(request, cubes, draws, fresh)
    mean, errors = _mean_and_error(changes)
    is_tested = np.isfinite(changes).all(axis=1)
    limits = np.maximum(_limit(len(cubes), draws) * errors, _ROUNDING)
    counted = is_tested & (np.abs(mean) > limits)
    std = request.scene.statistics.output_std
    effect = np.zeros(window.network_input.shape)
    for cube, change in zip(cubes, np.where(counted, mean * std, 0.0), strict=True):
        effect[cube] = change
    figures: AnyDict = {
        "patch": request.patch,
        "cubes": len(cubes),
        "cubes_left_out": left_out,
        "cubes_beyond_noise": int(counted.sum()),
        "draws": draws,
        "restorations": 1 + int(np.isfinite(changes).sum()),
        "unit": request.unit,
        **_strongest(request, cubes, mean * std, errors * std, counted),
    }
    overlay = Attribution(
        window.place,
        effect.astype(np.float32),
        "change of the result when the cube is replaced; 0 where noise explains the "
        "change",
    )
    notes = _notes(left_out, is_measured=fresh.is_measured)
    return AttributionResult(figures, _sentence(figures), overlay, notes)


def _changes(
    request: AttributionRequest,
    cubes: list[tuple[slice, ...]],
    draws: int,
    fresh: NoiseGenerator,
) -> Generator[Step, None, AnyArray]:
    """Return the changes in the standardised mean; NaN after a cube was dropped.

    Returns
    -------
    ndarray of shape (cubes, draws)
    """
    window = request.window
    before = window.values()
    changes = np.full((len(cubes), draws), np.nan)
    active = list(range(len(cubes)))
    stages = {stage: share for stage, share in _STAGES if stage < draws}
    limit = _limit(len(cubes), draws)
    done = 0
    for j in range(draws):
        # All cubes can use the same noise, because their changes are not compared with
        # each other.
        unit = fresh.draw_unit()
        total = done + len(active) * (draws - j)
        for i in active:
            occluded = _occluded(window.network_input, cubes[i], unit, fresh)
            after = window.values_after(occluded, cubes[i], before)
            changes[i, j] = float(((after - before) * request.weights).sum())
            done += 1
            if done % max(1, total // _MAX_STEPS) == 0:
                yield BlockDone(done, total)
        if share := stages.get(j + 1):
            mean, errors = _mean_and_error(changes[active, : j + 1])
            limits = np.maximum(share * limit * errors, _ROUNDING)
            kept = np.flatnonzero(np.abs(mean) > limits)
            active = [active[k] for k in kept]
    yield BlockDone(done, done)
    return changes


def _mean_and_error(changes: AnyArray) -> tuple[AnyArray, AnyArray]:
    """Return each cube's mean change and standard error, including the scan's noise."""
    n = np.isfinite(changes).sum(axis=1)
    error: AnyArray = np.nanstd(changes, axis=1, ddof=1) * np.sqrt(1 + 1 / n)
    return np.nanmean(changes, axis=1), error


def _occluded(
    network_input: AnyArray,
    cube: tuple[slice, ...],
    unit: AnyArray,
    fresh: NoiseGenerator,
) -> AnyArray:
    """Replace a cube of the window with its mean plus new noise."""
    level = float(network_input[cube].mean(dtype=np.float64))
    noise = unit[cube] * fresh.level(level)
    occluded = network_input.copy()
    occluded[cube] = level + noise - noise.mean()
    return occluded


def _limit(n_cubes: int, draws: int) -> float:
    """Return the limit, in standard errors, above which a change is significant."""
    from scipy import stats

    return float(stats.t.isf(_FALSE_ALARMS / (2 * n_cubes), draws - 1))


def _strongest(
    request: AttributionRequest,
    cubes: list[tuple[slice, ...]],
    mean: AnyArray,
    errors: AnyArray,
    counted: AnyArray,
) -> AnyDict:
    """Return figures on the largest significant change; all None if there is none."""
    if not counted.any():
        names = ("strongest", "strongest_error", "strongest_at", "distance")
        return dict.fromkeys(names)
    best = int(np.argmax(np.where(counted, np.abs(mean), -1.0)))
    middle = tuple((part.start + part.stop - 1) // 2 for part in cubes[best])
    place = [i + p.start for i, p in zip(middle, request.window.place, strict=True)]
    return {
        "strongest": float(mean[best]),
        "strongest_error": float(errors[best]),
        "strongest_at": place[3 - request.scene.layout.ndim :],
        "distance": float(request.distances()[middle]),
    }


def _sentence(figures: AnyDict) -> str:
    cubes = f"{figures['cubes']} cubes of {figures['patch']} voxels"
    if figures["strongest"] is None:
        return (
            f"None of the {cubes} has a significant effect: removing any one of them "
            "changes the result by no more than a new realisation of the noise does."
        )
    return (
        f"Removing the structure {figures['distance']:.3g} {figures['unit']} away "
        f"(voxel {tuple(figures['strongest_at'])} of the scan) has the largest effect: "
        f"{figures['strongest']:+.4g} ± {figures['strongest_error']:.2g} (standard "
        f"error). Of the {cubes}, {figures['cubes_beyond_noise']} "
        f"{'changes' if figures['cubes_beyond_noise'] == 1 else 'change'} the result "
        "by more than a new realisation of the noise does."
    )


def _notes(left_out: int, *, is_measured: bool) -> tuple[str, ...]:
    notes = []
    if left_out:
        notes.append(
            f"Only the {_MAX_CUBES} nearest cubes were tested; {left_out} others were "
            "left out. Use larger cubes (--patch) to cover a larger region."
        )
    if not is_measured:
        notes.append(
            "The noise of the scan could not be measured; the upper limit of the noise "
            "was used."
        )
    return tuple(notes)


def _cubes(request: AttributionRequest) -> list[tuple[slice, ...]]:
    """Return the cubes that cover the window, nearest to the explained voxels first."""
    window = request.window
    distances = request.distances()
    cubes = list(_grid(request, window.network_input.shape))
    return sorted(cubes, key=lambda cube: float(distances[cube].min()))


def _grid(
    request: AttributionRequest, shape: tuple[int, ...]
) -> Iterator[tuple[slice, ...]]:
    """Yield a grid of cubes, one of which is centred on the explained region."""
    window = request.window
    edges = []
    for n, part, region, s in zip(
        shape, window.place, request.region, window.scale, strict=True
    ):
        middle = (region.start + region.stop) // 2 // s - part.start
        first = (middle - request.patch // 2) % request.patch
        starts = [*([0] if first else []), *range(first, n, request.patch)]
        stops = [*starts[1:], n]
        edges.append([slice(a, b) for a, b in zip(starts, stops, strict=True)])
    yield from itertools.product(*edges)
