"""Networks with many branches become models of plain convolutions, as recorded."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch

from napari_geosr.core.errors import ModelError
from napari_geosr.core.steps import Step, WarningIssued, run_to_end
from napari_geosr.models import bundle
from napari_geosr.networks.rep_sr import BranchedLayer
from napari_geosr.operations.train import TrainJob, config_class, train_steps
from napari_geosr.operations.train import export as train_export
from napari_geosr.operations.train.fine_tune import fine_tune_settings

SMALL: dict[str, Any] = {
    "steps": 3,
    "batch_size": 2,
    "patch": 16,
    "dimensions": "2.5D",
    "adjacent_slices": 3,
    "learning_rate": 1e-2,
    "averaging": 0.0,
    "device": "cpu",
    "threads": 1,
    "checkpoint_seconds": 60.0,
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("pair")
    fine = np.random.default_rng(0).random((4, 64, 64), np.float32)
    coarse = fine.reshape(4, 32, 2, 32, 2).mean((2, 4))
    for name, data in (("fine", fine), ("coarse", coarse)):
        tifffile.imwrite(
            folder / f"{name}.tif", data, imagej=True, metadata={"axes": "ZYX"}
        )
    return {"source": [folder / "coarse.tif"], "target": [folder / "fine.tif"]}


def trained(folder: Path, **settings: Any) -> tuple[Path, list[str]]:
    """Train, and return the model's folder and the messages."""
    job = TrainJob(
        method="supervised", training=config_class("supervised").create(**settings)
    )
    steps: list[Step] = []
    path = run_to_end(train_steps(job, folder), steps.append)
    assert path is not None
    return path, [s.message for s in steps if isinstance(s, WarningIssued)]


def test_a_model_is_merged_and_trained_further_without_branches(
    files: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.nn.Module] = []
    merge = train_export.merged_for_export

    def noted(network: torch.nn.Module, kwargs: Any) -> Any:
        seen.append(copy.deepcopy(network))
        return merge(network, kwargs)

    monkeypatch.setattr(train_export, "merged_for_export", noted)
    settings = {**SMALL, **files}
    path, said = trained(
        tmp_path / "a",
        network="rep-sr",
        layers=2,
        width=3,
        upscale_factor=2,
        **settings,
    )
    assert not [s for s in said if "merged" in s]
    model = bundle.load(path)
    assert model.card.network == "rep_sr"
    assert model.card.network_kwargs["merged"] is True
    assert model.card.adjacent_slices == 3
    assert "2 times smaller along Y and X; the slice spacing" in model.card.description
    network = model.network()
    assert not [m for m in network.modules() if isinstance(m, BranchedLayer)]
    assert any(isinstance(m, BranchedLayer) for m in seen[0].modules())
    assert any(m.edges.any() for m in seen[0].modules() if isinstance(m, BranchedLayer))
    x = torch.randn(2, 3, 9, 11)
    with torch.no_grad():
        expected = seen[0](x)
        error = (network(x) - expected).abs().max()
    assert error <= 1e-5 * expected.abs().max()
    assert model.card.n_parameters == sum(p.numel() for p in network.parameters())

    tuned = fine_tune_settings(path, "supervised")
    assert tuned["network_options"]["merged"] is True
    again, said = trained(tmp_path / "b", **(settings | tuned))
    assert [s for s in said if "merged into plain convolutions" in s]
    assert bundle.load(again).card.network_kwargs == model.card.network_kwargs

    options = tuned["network_options"] | {"merged": False}
    with pytest.raises(
        ModelError, match=r"a different network: merged True \(here False\)"
    ):
        trained(tmp_path / "c", **(settings | tuned | {"network_options": options}))
