"""Super-resolution networks are recognised by their files; all methods use them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
import torch
from pydantic import Field

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.learning import architecture
from napari_geosr.learning.architecture import (
    merged_for_export,
    network_kwargs,
    networks_supporting,
    training_remark,
    upscale_factors,
)
from napari_geosr.learning.methods import METHODS, config_class
from napari_geosr.networks import NETWORKS, build_network

PAIR: dict[str, Any] = {"source": ["a.tif"], "target": ["b.tif"]}
FINER = networks_supporting(lambda name: 8 in upscale_factors(name))


def check(method: str, **settings: Any) -> None:
    kind = METHODS.load(method).Method
    given = {role: PAIR[role] for role in kind.roles if role in PAIR}
    kind.check(config_class(method).create(**given, **settings))


def test_there_are_several_and_all_offer_the_same() -> None:
    assert {
        "light_sr",
        "bottleneck_sr",
        "fsrcnn",
        "rcan",
        "rep_sr",
        "msdnet_sr",
        "resnet",
        "unet",
    } <= set(FINER)
    assert {"msdnet", "tomogan"}.isdisjoint(FINER)
    assert upscale_factors("light_sr") == (2, 4, 8)
    assert upscale_factors("unet") == (1, 2, 4, 8)
    assert upscale_factors("msdnet") == (1,)


def test_hyphens_are_taken_everywhere() -> None:
    config = config_class("supervised").create(**PAIR, network="light-sr")
    assert config.network == "light_sr"
    assert config_class("cyclegan").create(network="rep-sr").network == "rep_sr"
    assert type(build_network("msdnet-sr", ndim=2)).__name__ == "MSDNetSR"
    with pytest.raises(ConfigError, match="no network 'heavy-sr'"):
        check("supervised", network="heavy-sr")


@pytest.mark.parametrize("method", ["supervised", "pix2pix", "cyclegan"])
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"network": "msdnet", "upscale_factor": 8},
            r"msdnet does not change the voxel size: "
            r".*--network (bottleneck_sr|resnet) \(or ",
        ),
        (
            {"network": "light_sr", "upscale_factor": 1},
            "factors of 2, 4 or 8, not 1: set --upscale-factor",
        ),
        (
            {
                "network": "light_sr",
                "upscale_factor": 2,
                "network_options": {"upscale_factor": 4},
            },
            "given twice: 2, and 4",
        ),
        (
            {"network": "light_sr", "network_options": {"upscale_factor": 3}},
            "upscale factors of 2, 4 or 8, not 3",
        ),
    ],
)
def test_what_does_not_fit_is_said(
    method: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        check(method, **settings)


@pytest.mark.parametrize("method", ["noise2void", "tomogan", "noise2noise"])
def test_methods_that_keep_the_voxels_take_no_network_that_does_not(
    method: str,
) -> None:
    for settings in (
        {"network": "light_sr"},
        {"network": "unet", "network_options": {"upscale_factor": 2}},
    ):
        with pytest.raises(
            ConfigError, match="this method keeps the voxel size.* such as"
        ):
            check(method, **settings)
    check(method, network="unet", network_options={"upscale_factor": 1})


@pytest.fixture
def own_network(monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Register a network of another package with these settings."""

    def put(**fields: Any) -> str:
        body = {"__annotations__": {k: t for k, (t, _) in fields.items()}}
        body |= {k: default for k, (_, default) in fields.items()}
        module = SimpleNamespace(NetworkConfig=type("NetworkConfig", (Config,), body))
        kind = type(NETWORKS)
        load, names = kind.load, kind.names

        def loaded(self: Any, name: str) -> Any:
            return module if (self, name) == (NETWORKS, "mine") else load(self, name)

        def named(self: Any) -> list[str]:
            return names(self) + ["mine"] * (self == NETWORKS)

        monkeypatch.setattr(kind, "load", loaded)
        monkeypatch.setattr(kind, "names", named)
        return "mine"

    return put


def test_a_new_network_declares_what_it_can(own_network: Any) -> None:
    """No other file contains its name, and it is suggested where it is suitable."""
    name = own_network(
        ndim=(Literal[2, 3], 2),
        upscale_factor=(Literal[4, 16], 4),
        out_channels=(int, 1),
    )
    check("supervised", network=name, dimensions="2D")
    check("supervised", network=name, dimensions="3D", upscale_factor=4)
    with pytest.raises(ConfigError, match="mine does not use adjacent slices"):
        check("supervised", network=name, upscale_factor=4)
    with pytest.raises(ConfigError, match="mine supports upscale factors of 4 or 16"):
        check("supervised", network=name, dimensions="2D", upscale_factor=2)
    with pytest.raises(ConfigError, match=r"set --network .*mine"):
        check("supervised", network="msdnet", upscale_factor=4)
    with pytest.raises(ConfigError, match="Dilations are a setting of msdnet"):
        check("supervised", network=name, dimensions="2D", dilations=3)


def test_a_network_that_cannot_be_trained_is_not_suggested(own_network: Any) -> None:
    name = own_network(
        ndim=(Literal[2, 3], 2),
        upscale_factor=(Literal[2, 8], 2),
        format=(str, Field()),
    )
    assert name not in networks_supporting(lambda found: 8 in upscale_factors(found))
    assert upscale_factors(name) == (2, 8)


def test_text_of_the_command_line_is_a_number() -> None:
    """Flags, and options of the network, are given as text."""
    for values in (
        {"upscale_factor": "8"},
        {"network_options": {"upscale_factor": "8"}},
        {"upscale_factor": "8", "network_options": {"upscale_factor": "8"}},
    ):
        config = config_class("supervised").create(**PAIR, network="rep-sr", **values)
        METHODS.load("supervised").Method.check(config)
        assert network_kwargs(config)["upscale_factor"] == 8


def test_a_factor_of_one_is_the_networks_too(own_network: Any) -> None:
    """If a network makes voxels finer by default, a factor of 1 keeps them."""
    name = own_network(ndim=(Literal[2, 3], 2), upscale_factor=(Literal[1, 2], 2))
    for chosen, expected in ((1, 1), (2, 2), (None, 2)):
        config = config_class("pix2pix").create(
            **PAIR, network=name, dimensions="2D", upscale_factor=chosen
        )
        METHODS.load("pix2pix").Method.check(config)
        assert network_kwargs(config)["upscale_factor"] == expected


CASES: list[tuple[str, str, str, int, dict[str, Any]]] = [
    *(
        ("supervised", name, "2.5D", 8, {})
        for name in FINER
        if "adjacent_slices" in architecture.network_fields(name)
    ),
    ("supervised", "light_sr", "3D", 8, {"patch": 8}),
    ("pix2pix", "light_sr", "2D", 8, {}),
    ("pix2pix", "msdnet_sr", "2.5D", 4, {}),
    ("pix2pix", "rep_sr", "3D", 4, {"patch": 8}),
    ("cyclegan", "rep_sr", "2D", 8, {}),
    ("cyclegan", "light_sr", "2.5D", 4, {}),
    ("cyclegan", "unet", "3D", 4, {"patch": 8}),
]


@pytest.mark.parametrize(("method", "network", "dimensions", "factor", "more"), CASES)
def test_a_step_of_every_method_moves_the_network(
    build_trainer: Any,
    run_steps: Any,
    fine_foam: Callable[[int, int], Path],
    method: str,
    network: str,
    dimensions: str,
    factor: int,
    more: dict[str, Any],
) -> None:
    ndim = 3 if dimensions == "3D" else 2
    if method != "supervised":
        more = {**more, "critic_width": 2}
    trainer = build_trainer(
        method,
        network=network.replace("_", "-"),
        target=[fine_foam(factor, ndim)],
        dimensions=dimensions,
        upscale_factor=factor,
        layers=1,
        width=2,
        learning_rate=1e-2,
        **more,
    )
    made = trainer.method.modules["network"]
    assert made.spec.upscale_factor == (factor,) * ndim
    x = torch.randn(1, made.spec.adjacent_slices, *(8,) * ndim)
    with torch.no_grad():
        before = made(x)
    (losses,) = run_steps(trainer)
    assert all(torch.isfinite(torch.tensor(v)) for v in losses.values())
    with torch.no_grad():
        after = made(x)
    assert after.shape == (1, 1, *(8 * factor,) * ndim)
    assert not torch.equal(before, after)


def test_bundles_get_what_is_merged() -> None:
    network = build_network("rep_sr", ndim=2, features=2, blocks=1)
    plain, kwargs = merged_for_export(network, {"merged": False})
    assert kwargs == {**network.config.model_dump(mode="json"), "merged": True}
    assert type(plain.tail) is torch.nn.Conv2d
    assert training_remark(plain)
    other = build_network("light_sr", ndim=2, features=2)
    assert merged_for_export(other, {"ndim": 2}) == (other, {"ndim": 2})
    assert training_remark(other) == ""


def test_a_broken_network_of_others_is_not_suggested(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = architecture.network_fields

    def broken(name: str) -> Any:
        if name == "rep_sr":
            raise ConfigError("The network 'rep_sr' cannot be used.")
        return fields(name)

    monkeypatch.setattr(architecture, "network_fields", broken)
    assert "rep_sr" not in networks_supporting(lambda name: 2 in upscale_factors(name))
