"""Models of methods without a target are evaluated by hidden voxels."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from napari_geosr.core.errors import Cancelled
from napari_geosr.core.steps import Step, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.learning.sampling.patches import Patches
from napari_geosr.operations.train import figures as judging
from napari_geosr.operations.train.figures import evaluator
from napari_geosr.operations.train.figures.self_supervised import smoothing

DIMENSIONS = ["2D", "2.5D", "3D"]


def trained(name: str, dimensions: str, network: Any) -> tuple[Any, Patches]:
    """Training of `network` on a smooth object with noise."""
    rng = np.random.default_rng(0)
    clean = gaussian_filter(rng.normal(size=(24, 48, 64)), 3)
    data = clean / clean.std() + rng.normal(0, 0.7, clean.shape)
    volumes = [Volume(data.astype(np.float32), "ZYX", name="scan")]
    config = config_class(name).create(
        source=["a"], dimensions=dimensions, patch=16, sampling="uniform"
    )
    method = METHODS.load(name).Method(config)
    method.modules = {"network": torch.nn.Identity()}
    patches = Patches({"source": volumes}, config)
    accelerator = SimpleNamespace(device="cpu")
    trainer = SimpleNamespace(method=method, average=network, accelerator=accelerator)
    return trainer, patches


def own_figures(trainer: Any, patches: Patches) -> Any:
    return run_to_end(judging.evaluate_model_steps(trainer, patches))


@pytest.mark.parametrize("name", ["noise2void", "neighbor2neighbor"])
@pytest.mark.parametrize("dimensions", DIMENSIONS)
def test_input_filter_and_model_are_compared(name: str, dimensions: str) -> None:
    ndim = 3 if dimensions == "3D" else 2
    trainer, patches = trained(name, dimensions, smoothing(1.0, ndim))
    before = trainer.method.modules
    rows = own_figures(trainer, patches)
    assert trainer.method.modules is before
    assert rows == own_figures(trainer, patches)
    found = {row.method: row.psnr for row in rows}
    (best,) = found.keys() - {"input", "model"}
    assert list(found) == ["input", best, "model"]
    assert all("of the validation block" in row.test_set for row in rows)
    assert found["input"] + 1 < found["model"] <= found[best]
    exact, _ = trained(name, dimensions, smoothing(float(best.split()[1]), ndim))
    assert own_figures(exact, patches)[2].psnr == found[best]


class TooLarge(torch.nn.Module):
    """Fits into memory only on the processor."""

    def __init__(self) -> None:
        super().__init__()
        self.moved: list[Any] = []

    def to(self, *args: Any, **_: Any) -> Any:
        self.moved.append(args[0])
        return self

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.moved:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return smoothing(1.0, 2)(x)


def test_without_memory_on_the_device_the_processor_judges(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = TooLarge()
    trainer, patches = trained("noise2void", "2D", network)
    expected = own_figures(trained("noise2void", "2D", smoothing(1.0, 2))[0], patches)
    # Like an existing device; data moved to it stay on the processor.
    trainer.accelerator.device = "cuda"
    to = torch.Tensor.to
    monkeypatch.setattr(
        torch.Tensor, "to", lambda x, *a: x if a[0] == "cuda" else to(x, *a)
    )
    monkeypatch.setattr(evaluator, "release_memory", print)
    steps: list[Step] = []
    found = run_to_end(judging.evaluate_model_steps(trainer, patches), steps.append)
    (warning,) = [step.message for step in steps if isinstance(step, WarningIssued)]
    assert "cuda ran out of memory" in warning
    assert network.moved == ["cpu"]
    assert found == expected


def test_it_can_be_stopped() -> None:
    trainer, patches = trained("noise2void", "2D", smoothing(1.0, 2))
    asked = iter([False] * 20)
    steps = judging.evaluate_model_steps(
        trainer, patches, should_stop=lambda: next(asked, True)
    )
    before = trainer.method.modules
    with pytest.raises(Cancelled):
        run_to_end(steps)
    assert trainer.method.modules is before
