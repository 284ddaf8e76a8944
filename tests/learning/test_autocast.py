"""Every method updates all of its weights in mixed precision as well."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from napari_geosr.learning.methods import METHODS

Batch = dict[str, torch.Tensor]
MORE: dict[str, dict[str, Any]] = {
    "cyclegan": {"critic_width": 2},
    "pix2pix": {"critic_width": 2, "distance": "wasserstein"},
    "tomogan": {
        "network": "resnet",
        "critic_width": 2,
        "features": "gradient",
        "pixel_steps": 0,
    },
    "supervised": {"loss": "ssim"},
}


class Loop:
    """A training loop that inspects gradients instead of updating weights."""

    #: In the middle, so that everything that starts later has started.
    step, steps = 2, 4

    def __init__(self, method: Any) -> None:
        self.method = method
        self.seen: set[str] = set()

    def update(
        self,
        group: str,
        batches: Sequence[Batch],
        loss: Callable[[Batch], tuple[torch.Tensor, Any]],
    ) -> dict[str, float]:
        names = self.method.groups()[group]
        modules = [self.method.modules[name] for name in names]
        for module in modules:
            module.zero_grad(set_to_none=True)
        for batch in batches:
            with torch.autocast("cpu", torch.bfloat16):
                value, named = loss(batch)
            value.backward()
        for name, module in zip(names, modules, strict=True):
            found = {key: p.grad for key, p in module.named_parameters()}
            assert [k for k, g in found.items() if g is None] == [], name
            assert all(torch.isfinite(g).all() for g in found.values()), name
            assert sum(float(g.abs().sum()) for g in found.values()) > 0, name
        self.seen |= set(names)
        return {key: float(part.detach()) for key, part in named.items()}


#: It requires a model to start from, and its network is that of the model.
STARTED = {"adapt"}


@pytest.mark.parametrize("name", sorted(set(METHODS.names()) - STARTED))
def test_every_weight_has_a_gradient(
    build_trainer: Any, noisy_pair: Any, name: str
) -> None:
    values: dict[str, Any] = {"dimensions": "2D", "layers": 2, "width": 2}
    values |= MORE.get(name, {})
    if "target" not in METHODS.load(name).Method.roles:
        values["target"] = []
    if name in ("ddpm", "ptdr", "srdiff"):  # norms require groups of maps
        values["width"] = 8
    if name == "ptdr":
        values["target"] = [noisy_pair.painted]
    if name == "noise2inverse":
        values["source"] = [noisy_pair.first, noisy_pair.second]
    trainer = build_trainer(name, **values)
    with trainer.batches:
        samples = trainer.batches.take(0)
        batches = trainer.batches.in_parts(samples, 1)
    loop = Loop(trainer.method)
    trainer.method.train_step(loop, batches)
    assert loop.seen == set(trainer.method.modules)
