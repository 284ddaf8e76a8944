"""Evaluates a model by its method's own loss if there is no target.

If a method learns from noisy volumes alone, its networks predict voxels hidden from
them. The model can therefore be evaluated on hidden voxels of the held-out block.
Because the hidden voxels are noisy, the PSNR is lower than that relative to a
noise-free object. This PSNR should only be compared with the values of the input and of
the Gaussian filter that predicts best.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.core.machine.memory import is_out_of_memory
from napari_geosr.models.card import FigureRow

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from torch import Tensor, nn

    from napari_geosr.core.steps import Step
    from napari_geosr.learning.method import Batch, Method
    from napari_geosr.learning.sampling.patches import Patches
    from napari_geosr.operations.train.figures.evaluator import Evaluator, Rows

#: Number of held-out patches used.
_PATCHES = 8
#: Last entry of the random seed, which differs from that of the training steps.
_SEED_KEY = 5


def self_supervised_steps(
    evaluator: Evaluator, sigmas: Sequence[float]
) -> Generator[Step, None, Rows]:
    """Compute the PSNR of input, best Gaussian filter and model on hidden voxels.

    The result has no rows if the method does not predict hidden voxels.

    Parameters
    ----------
    sigmas : sequence of float
        Filter widths to try, in voxels.
    """
    method = evaluator.trainer.method
    if not method.validation_measure:
        return ()
    batches = _batches(method, evaluator.patches.held_out())
    values = [b.get("target", b["source"]).numpy().ravel() for b in batches]
    span = float(np.ptp(np.percentile(np.concatenate(values), (1, 99)))) or 1.0

    def psnr(network: Any, device: str = "cpu") -> float:
        error = _error(method, network, batches, device, evaluator.raise_if_stopped)
        return float(10 * np.log10(span**2 / max(error, 1e-12)))

    n = method.config.ndim
    by_sigma = {s: psnr(smoothing(s, n)) for s in sigmas}
    best = max(by_sigma, key=lambda s: by_sigma[s])
    rows = {"input": psnr(smoothing(0, n)), f"Gaussian {best:g}": by_sigma[best]}
    try:
        rows["model"] = psnr(evaluator.trainer.average, evaluator.device)
    except (MemoryError, RuntimeError) as error:
        if evaluator.device == "cpu" or not is_out_of_memory(error):
            raise
    if "model" not in rows:  # here, the error no longer keeps tensors
        yield evaluator.move_to_cpu()
        rows["model"] = psnr(evaluator.trainer.average)
    where = f"{method.validation_measure} of the validation block"
    return tuple(
        FigureRow(test_set=where, method=name, psnr=round(value, 3))
        for name, value in rows.items()
    )


def smoothing(sigma: float, ndim: int) -> Callable[[Tensor], Tensor]:
    """Return a function that filters the middle slice, to be called like a network."""
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

    batches = []
    for i in range(_PATCHES):
        rng = np.random.default_rng([method.config.seed, i, _SEED_KEY])
        drawn = method.draw(patches, rng)
        batches.append({k: torch.from_numpy(v[None]) for k, v in drawn.items()})
    return batches


def _error(
    method: Method,
    network: nn.Module,
    batches: Sequence[Batch],
    device: str,
    raise_if_stopped: Callable[[], None],
) -> float:
    """Return the mean validation loss of the method for `network`."""
    import torch

    trained = method.modules
    method.modules = {**trained, method.result: network}
    values = []
    try:
        for batch in batches:
            raise_if_stopped()
            moved = {name: tensor.to(device) for name, tensor in batch.items()}
            with torch.no_grad():
                values.append(next(iter(method.validate(moved).values())))
    finally:
        method.modules = trained
    return float(np.mean(values))
