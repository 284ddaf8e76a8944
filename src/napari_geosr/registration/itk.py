"""Refinement by mutual information, with SimpleITK (an optional dependency).

This is the only module that imports SimpleITK. ITK orders axes from X to Z and has its
own transforms; both are converted within this module.

References
----------
.. [1] Mattes et al. PET-CT image registration in the chest using free-form
   deformations. IEEE Trans. Med. Imaging 22, 120-128 (2003).
   doi:10.1109/TMI.2003.809072
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, Literal

import numpy as np

from napari_geosr.core.errors import Cancelled, ConfigError, EngineError, VolumeError
from napari_geosr.core.steps import BlockDone, ShouldStop, Step, never_stop
from napari_geosr.core.types import AnyArray
from napari_geosr.registration.sampled import SampledVolume
from napari_geosr.registration.transform import Transform

TransformKind = Literal["translation", "rigid", "similarity"]

_BINS = 32
#: Maximum number of voxels of the small volume that are compared in each iteration.
_SAMPLES = 200_000
_ITERATIONS = 200
#: Shrink factor and blur (in voxels) of each level, coarsest first. Without the blur of
#: the last level, interpolation would smooth the noise more at some positions than at
#: others, and the metric would favour these positions.
_LEVELS = ((2, 1.0), (1, 0.5))
#: Minimum number of voxels along each axis of the small volume after shrinking; smaller
#: volumes are not shrunk.
_MIN_EDGE = 16
#: Length of the first optimisation step, in (shrunk) voxels of the large volume.
_FIRST_MOVE = 1.0
#: Length of the last optimisation step, in voxels of the large volume.
_LAST_MOVE = 1e-3


@dataclass(frozen=True, eq=False)
class Refinement:
    """Result of the optimisation.

    Attributes
    ----------
    transform : Transform
        Maps the small volume to the large one.
    metric : float
        Mutual information as estimated by ITK, in nats; higher is better.
    """

    transform: Transform
    metric: float


def is_installed() -> bool:
    """Whether SimpleITK is installed; does not import it."""
    return find_spec("SimpleITK") is not None


def require() -> None:
    """Raise `ConfigError` with the install command if SimpleITK is missing."""
    if not is_installed():
        raise ConfigError(
            "Aligning two scans needs SimpleITK, which is not installed. Install it "
            "with: pip install 'napari-geosr[registration]'."
        )


def refine_steps(
    low: SampledVolume,
    high: SampledVolume,
    start: Transform,
    kind: TransformKind = "rigid",
    *,
    quick: bool = False,
    should_stop: ShouldStop = never_stop,
) -> Generator[Step, None, Refinement]:
    """Maximise the mutual information of the small and the large volume [1]_.

    Parameters
    ----------
    low, high : SampledVolume
        The large and the small volume, with about the same voxel size. Parts of the
        small volume outside the large one are ignored.
    start : Transform
        Initial transform, accurate to within a few voxels.
    kind : str
        ``"translation"``, ``"rigid"`` or ``"similarity"`` (rigid plus scale).
    quick : bool
        Whether to use only the coarsest level.

    Yields
    ------
    Step
        `BlockDone`, counted in levels.

    Returns
    -------
    Refinement

    Raises
    ------
    ConfigError
        If SimpleITK is not installed.
    VolumeError
        If the two volumes do not overlap.
    Cancelled
        If `should_stop` returns True.
    """
    require()
    # Scale lengths to about one, because some of ITK's tolerances are absolute.
    length = float(np.prod(low.grid.voxel_size) ** (1 / low.data.ndim))
    fixed, moving = _image(high, length), _image(low, length)
    large_enough = min(high.data.shape) >= 2 * _MIN_EDGE
    levels = [level for level in _LEVELS if level[0] == 1 or large_enough]
    if quick:
        levels = levels[:1]
    found = Refinement(start, -math.inf)
    for done, (shrink, blur) in enumerate(levels, 1):
        centre = high.grid.centre / length
        way = _itk_transform(kind, found.transform, centre, length)
        method = _method(high, shrink, blur)
        method.SetInitialTransform(way, True)
        metric = _run(method, fixed, moving, should_stop)
        found = Refinement(_from_itk(way, centre, length), -metric)
        yield BlockDone(done, len(levels))
    return found


def _method(high: SampledVolume, shrink: int, blur: float) -> Any:
    import SimpleITK

    method = SimpleITK.ImageRegistrationMethod()
    method.SetMetricAsMattesMutualInformation(_BINS)
    share = _SAMPLES / (high.data.size / shrink**high.data.ndim)
    if share < 1:
        method.SetMetricSamplingStrategy(method.REGULAR)
        method.SetMetricSamplingPercentage(share, 1)
    method.SetInterpolator(
        SimpleITK.sitkLinear if shrink > 1 else SimpleITK.sitkBSpline
    )
    method.SetOptimizerAsRegularStepGradientDescent(
        _FIRST_MOVE * shrink, _LAST_MOVE, _ITERATIONS, 0.5, 1e-6
    )
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([shrink])
    method.SetSmoothingSigmasPerLevel([blur])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    return method


def _run(method: Any, fixed: Any, moving: Any, should_stop: ShouldStop) -> float:
    """Optimise; return the metric (lower is better)."""
    import SimpleITK

    stopped = False

    def ask() -> None:
        """Check whether to stop; called at each iteration."""
        nonlocal stopped
        if should_stop() and not stopped:
            stopped = True
            method.StopRegistration()

    method.AddCommand(SimpleITK.sitkIterationEvent, ask)
    try:
        method.Execute(fixed, moving)
    except RuntimeError as error:
        if stopped:
            raise Cancelled("Stopped while aligning.") from error
        if "overlap" in str(error) or "outside" in str(error):
            raise VolumeError(
                "The two scans do not overlap at the initial position. Check voxel "
                "sizes and units, search the whole scan (--start search), or give "
                "the position of the high-resolution scan (--offset)."
            ) from error
        line = str(error).strip().splitlines()[-1]
        raise EngineError(f"SimpleITK could not align the scans ({line}).") from error
    if stopped:
        raise Cancelled("Stopped while aligning.")
    return float(method.GetMetricValue())


def _image(sampled: SampledVolume, length: float) -> Any:
    import SimpleITK

    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(sampled.data))
    image.SetSpacing((sampled.grid.voxel_size / length)[::-1].tolist())
    image.SetOrigin((sampled.grid.origin / length)[::-1].tolist())
    return image


def _itk_transform(
    kind: TransformKind, way: Transform, centre: Any, length: float
) -> Any:
    """Create an ITK transform around `centre`, in ITK's axes and units of `length`.

    Kinds with fewer parameters drop the components of `way` that they cannot represent.
    """
    import SimpleITK

    n = len(centre)
    made: Callable[[], Any] = {
        "translation": lambda: SimpleITK.TranslationTransform(n),
        "rigid": SimpleITK.Euler3DTransform if n == 3 else SimpleITK.Euler2DTransform,
        "similarity": SimpleITK.Similarity3DTransform
        if n == 3
        else SimpleITK.Similarity2DTransform,
    }[kind]
    found = made()
    goes_to = way.apply(centre * length) / length
    moved = (goes_to - centre)[::-1].tolist()
    if kind == "translation":
        found.SetOffset(moved)
        return found
    matrix = way.matrix if kind == "similarity" else way.matrix / way.scale
    found.SetCenter(centre[::-1].tolist())
    found.SetMatrix(_orthogonal(matrix)[::-1, ::-1].ravel().tolist())
    found.SetTranslation(moved)
    return found


def _orthogonal(matrix: AnyArray) -> Any:
    """Return the nearest scaled rotation: ITK rejects matrices with rounding errors."""
    left, sizes, right = np.linalg.svd(matrix)
    return left @ right * sizes.mean()


def _from_itk(found: Any, centre: Any, length: float) -> Transform:
    n = len(centre)
    if hasattr(found, "GetMatrix"):
        matrix = np.array(found.GetMatrix()).reshape(n, n)[::-1, ::-1]
        moved = np.array(found.GetTranslation())[::-1]
    else:
        matrix, moved = np.eye(n), np.array(found.GetOffset())[::-1]
    return Transform.around(matrix, centre * length, (centre + moved) * length)
