"""Measures the excess sharpness of a result, and whether the scan supports it.

Super-resolution models are trained on blurred scans of sharp objects, so their results
are sharper than the scan. If a scan is similar to the training scans, the result,
blurred by one point-spread function and averaged, equals the scan up to noise. In this
case, the sharpening is correct and is kept. Otherwise, the model invents edges, and the
result is blurred until it is as sharp as the scan.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt

from napari_geosr import networks
from napari_geosr.core.errors import Cancelled
from napari_geosr.core.noise import Noise
from napari_geosr.core.steps import (
    BlockDone,
    ShouldStop,
    StageStarted,
    Step,
    WarningIssued,
    never_stop,
    run_to_end,
)
from napari_geosr.core.text.vocabulary import SharpnessChoice
from napari_geosr.core.types import AnyArray, AnyDict, AnyMapping
from napari_geosr.core.volume import Volume
from napari_geosr.inference.risk.evaluation import BUDGET
from napari_geosr.inference.runner import restore_region
from napari_geosr.measure.resolution.edge_sharpness import edge_sharpness
from napari_geosr.measure.resolution.redegrade import blur_reach, blurred_means
from napari_geosr.operations.restore.measurements import MeasurementStore
from napari_geosr.operations.restore.upscaling.sample_boxes import structured_boxes

if TYPE_CHECKING:
    from torch import nn

    from napari_geosr.inference.windows import Standardisation
    from napari_geosr.networks.spec import NetworkSpec

FloatArray = npt.NDArray[np.float32]
#: Maximum misfit at which the sharpening is kept: the difference between the scan and a
#: scan simulated from the result, as a fraction of the scan's standard deviation, both
#: without noise.
EXPLAINED = 0.1
#: Candidate widths of the blur, in voxels of the scan.
_BLURS = tuple(0.05 * i for i in range(19))
#: Number of boxes of the scan for the trial.
_N_BOXES = 3
#: Number of boxes from which the sharpness of the scan itself is measured.
_N_EDGE_BOXES = 12
#: Warning if a sharper result is requested from a model that does not sharpen.
_NO_SHARPENING = (
    "The setting for the sharpness of the result has no effect: this model does not "
    "sharpen, so its results are as sharp as the scan."
)
#: Edge length of a box in voxels, by number of axes.
_BOX_EDGE = {2: 96, 3: 24}


@dataclass(frozen=True)
class SharpnessFit:
    """Result of comparing a network's results, after a blur, with the scan.

    Attributes
    ----------
    excess : float
        Standard deviation, in voxels of the scan, of the blur for which results agree
        best with the scan.
    misfit : float
        Remaining difference as a fraction of the scan's standard deviation, both
        without noise.
    """

    excess: float
    misfit: float

    @property
    def is_explained(self) -> bool:
        """Whether the scan is a blurred version of the results, up to noise."""
        return self.misfit < EXPLAINED


def sharpness_steps(
    network: nn.Module,
    volume: Volume,
    statistics: Standardisation,
    noise: Noise,
    choice: SharpnessChoice = "auto",
    *,
    device: str = "cpu",
    budget: int = BUDGET,
    threads: int | None = None,
    kept: MeasurementStore | None = None,
    of: AnyMapping | None = None,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, tuple[networks.Sharpness, ...]]:
    """Measure the sharpness of results for all data-consistency layers in a network.

    Parameters
    ----------
    network : nn.Module
        Contains `napari_geosr.networks.wrappers.consistent.ConsistentUpscaling`
        layers; their noise is set.
    volume : Volume
        The scan, with spatial axes only.
    statistics : Standardisation
        Scale of the whole scan.
    noise : Noise
        Noise of the scan, in its grey values.
    choice : {"auto", "scan", "object"}
        Whether results are as sharp as the scan, or as sharp as the model predicts the
        object to be; by default, the latter if this is consistent with the scan, and
        otherwise the former.
    kept : MeasurementStore, optional
        Receives the measurements, and provides those of an earlier run.
    of : mapping, optional
        Identity of the model, for `kept`.

    Returns
    -------
    tuple of Sharpness
        One for each such layer, and for each network that agrees with the scan by
        construction.

    Raises
    ------
    Cancelled
        If `should_stop` returns True.
    """
    layers = [m for m in network.modules() if _agrees(m)]
    found: list[networks.Sharpness] = []
    kept, of = kept or MeasurementStore(), of or {}
    for i, layer in enumerate(layers):
        if not isinstance(layer, networks.ConsistentUpscaling):
            set_edge_sharpness(layer, volume, noise)
            if choice == "object":
                yield WarningIssued(message=_NO_SHARPENING)
            found.append(networks.Sharpness())
            continue
        known = kept.read(f"sharpness {i}", networks.Sharpness, **of)
        if known is not None:
            layer.set_sharpness(known)
            found.append(known)
            continue
        if not found:
            yield StageStarted(
                message="Comparing the sharpness of the result and the scan"
            )
        n = len(layer.spec.axes)
        edges = [1] * (len(volume.axes) - n) + [_BOX_EDGE[n]] * n
        pairs = []
        places = list(structured_boxes(volume, edges, _N_BOXES))
        total = len(places) + len(_BLURS)
        for place in places:
            if should_stop():
                raise Cancelled("Stopped while comparing with the scan.")
            result = restore_region(
                layer.network,
                volume.data,
                place,
                statistics=statistics,
                budget=budget,
                threads=threads,
                device=device,
                should_stop=should_stop,
            )
            pairs.append((np.asarray(volume.data[place], dtype=np.float32), result))
            yield BlockDone(done=len(pairs), total=total)
        factors = (1,) * (len(volume.axes) - n) + layer.spec.upscale_factor
        fit = yield from _fit_steps(pairs, factors, noise, should_stop)
        keep = choice == "object" or (choice == "auto" and fit.is_explained)
        layer.set_sharpness(networks.Sharpness(fit.excess, keep))
        found.append(layer.sharpness)
        kept.keep(f"sharpness {i}", layer.sharpness, **of)
    return tuple(found)


def set_edge_sharpness(network: nn.Module, volume: Volume, noise: Noise) -> None:
    """Measure the sharpness of a scan, and pass it to a network that uses it.

    Parameters
    ----------
    volume : Volume
        The scan, with spatial axes only.
    noise : Noise
        Noise of the scan, in its grey values.
    """
    ndim = len(cast("NetworkSpec", network.spec).axes)
    edges = [1] * (len(volume.axes) - ndim) + [_BOX_EDGE[ndim]] * ndim
    boxes = structured_boxes(volume, edges, _N_EDGE_BOXES)
    values = (np.asarray(volume.data[box], np.float32) for box in boxes)
    networks.set_scan_sharpness(network, edge_sharpness(values, noise))


def agreement_records(network: nn.Module) -> list[AnyDict]:
    """Describe how results were made consistent with the scan; may be empty."""
    return [
        _agreement_record(module) for module in network.modules() if _agrees(module)
    ]


def _agrees(module: nn.Module) -> bool:
    """Return whether results of this module agree with the scan."""
    is_layer = isinstance(module, networks.ConsistentUpscaling)
    return is_layer or getattr(module, "is_as_sharp_as_scan", False)


def _agreement_record(module: Any) -> AnyDict:
    layered = isinstance(module, networks.ConsistentUpscaling)
    sharpness = module.sharpness if layered else networks.Sharpness()
    return {
        "bound": module.bound if layered else module.config.bound,
        "excess_sharpness": sharpness.excess,
        "as_sharp_as": "object" if sharpness.keep else "scan",
    }


def fit_sharpness(
    pairs: Iterable[tuple[FloatArray, AnyArray]],
    factors: tuple[int, ...],
    noise: Noise,
) -> SharpnessFit:
    """Find the blur for which results agree best with the scan.

    Parameters
    ----------
    pairs : iterable of (ndarray, ndarray)
        Parts of the scan, and the network's results for them, in grey values.
    factors : tuple of int
        Voxels of the result per voxel of the scan along each axis.

    Returns
    -------
    SharpnessFit
        Both values are 0 if there are no pairs, or the pairs contain only noise.
    """
    return run_to_end(_fit_steps(pairs, factors, noise))


def _fit_steps(
    pairs: Iterable[tuple[FloatArray, AnyArray]],
    factors: tuple[int, ...],
    noise: Noise,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, SharpnessFit]:
    """Find the blur as `fit_sharpness` does; yield a step for each candidate."""
    flat = [(_as_3d(scan), _as_3d(result)) for scan, result in pairs]
    if not flat:
        return SharpnessFit(0.0, 0.0)
    total_steps = len(flat) + len(_BLURS)
    full = (1,) * (3 - len(factors)) + factors
    # Axes that are not upscaled have no blur to determine.
    axes = [float(f > 1) for f in full]
    reach = blur_reach([_BLURS[-1] * a for a in axes])
    power = []
    for blur in _BLURS:
        total, n = 0.0, 0
        for scan, result in flat:
            seen = blurred_means(
                result.astype(np.float32), full, [blur * a for a in axes]
            )
            inner = tuple(
                slice(r, size - r) if size > 3 * r else slice(None)
                for r, size in zip(reach, scan.shape, strict=True)
            )
            difference = (scan - seen)[inner]
            total += float(np.square(difference, dtype=np.float64).sum())
            n += difference.size
        power.append(total / n)
        if should_stop():
            raise Cancelled("Stopped while comparing with the scan.")
        yield BlockDone(done=len(flat) + len(power), total=total_steps)
    best = int(np.argmin(power))
    values = np.concatenate([scan.ravel() for scan, _ in flat])
    level = float(np.mean(noise.at(values) ** 2))
    # Differences caused by noise prove nothing, so subtract the lower limit of the
    # noise.
    sure = noise.interval[0] / noise.level if noise.level and noise.interval[1] else 1.0
    varied = float(np.mean([scan.var(dtype=np.float64) for scan, _ in flat])) - level
    if varied <= 0:  # the parts contain only noise, so no edge can be too sharp
        return SharpnessFit(0.0, 0.0)
    unexplained = max(0.0, float(power[best]) - sure**2 * level)
    return SharpnessFit(_BLURS[best], float(np.sqrt(unexplained / varied)))


def _as_3d(values: AnyArray) -> AnyArray:
    return values.reshape((1,) * (3 - values.ndim) + values.shape)
