"""How good a model is by its method's own measure, where there is no target.

A method that learns from noisy volumes alone guesses voxels that it does not see, so
that is what its model can be judged by: against voxels of the held-out block that were
hidden from it. They are noisy, so figures lie below those against a clean object
and serve to compare: with the input, and with the Gaussian filter that guesses best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.inference.memory import is_out_of_memory
from napari_geosr.models.card import FigureRow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor, nn

    from napari_geosr.core.steps import Step
    from napari_geosr.learning.method import Batch, Method
    from napari_geosr.learning.patches import Patches
    from napari_geosr.operations.train.figures.evaluator import Evaluator, Rows

#: Patches of the blocks kept apart that figures are computed from.
_PATCHES = 8
#: Beside the seed, so that no other numbers are drawn with the same.
_JUDGE = 5


def self_supervised_steps(
    evaluator: Evaluator, sigmas: Sequence[float]
) -> Generator[Step, None, Rows]:
    """PSNR on voxels that were hidden, of input, best Gaussian filter and model.

    None where the method has no such measure.

    Parameters
    ----------
    sigmas : sequence of float
        Widths of the filter that are tried, in voxels.
    """
    method = evaluator.trainer.method
    if not method.judged_on:
        return ()
    batches = _batches(method, evaluator.patches.held_out())
    seen = [b.get("target", b["source"]).numpy().ravel() for b in batches]
    span = float(np.ptp(np.percentile(np.concatenate(seen), (1, 99)))) or 1.0

    def psnr(network: Any, device: str = "cpu") -> float:
        error = _error(method, network, batches, device, evaluator.stop_if_asked)
        return float(10 * np.log10(span**2 / max(error, 1e-12)))

    n = method.config.ndim
    found = {s: psnr(smoothing(s, n)) for s in sigmas}
    best = max(found, key=lambda s: found[s])
    rows = {"input": psnr(smoothing(0, n)), f"Gaussian {best:g}": found[best]}
    try:
        rows["model"] = psnr(evaluator.trainer.average, evaluator.device)
    except (MemoryError, RuntimeError) as error:
        if evaluator.device == "cpu" or not is_out_of_memory(error):
            raise
    if "model" not in rows:  # outside the handler, which holds the failed tensors
        yield evaluator.to_processor()
        rows["model"] = psnr(evaluator.trainer.average)
    where = f"{method.judged_on} of the validation block"
    return tuple(
        FigureRow(test_set=where, method=name, psnr=round(value, 3))
        for name, value in rows.items()
    )


def smoothing(sigma: float, ndim: int) -> Callable[[Tensor], Tensor]:
    """A stand-in for a network: a Gaussian filter of the middle slice; 0 for none."""
    import torch
    from scipy.ndimage import gaussian_filter

    def smoothed(x: Tensor) -> Tensor:
        centre = x.shape[1] // 2
        middle = x[:, centre : centre + 1]
        widths = (0, 0) + (sigma,) * ndim
        return torch.from_numpy(gaussian_filter(middle.numpy(), widths))

    return smoothed


def _batches(method: Method, patches: Patches) -> list[Batch]:
    import torch

    found = []
    for i in range(_PATCHES):
        rng = np.random.default_rng([method.config.seed, i, _JUDGE])
        drawn = method.draw(patches, rng)
        found.append({k: torch.from_numpy(v[None]) for k, v in drawn.items()})
    return found


def _error(
    method: Method,
    network: nn.Module,
    batches: Sequence[Batch],
    device: str,
    stop_if_asked: Callable[[], None],
) -> float:
    """The mean of the method's own validation loss with `network` in its place."""
    import torch

    trained = method.modules
    method.modules = {**trained, method.result: network}
    values = []
    try:
        for batch in batches:
            stop_if_asked()
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.no_grad():
                values.append(next(iter(method.validate(moved).values())))
    finally:
        method.modules = trained
    return float(np.mean(values))
