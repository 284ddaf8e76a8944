"""The list of public functions is complete and documented, with the config settings."""

from __future__ import annotations

import collections.abc
import doctest
import inspect
import re
import sys
import types
import typing
from typing import Any, Literal

import numpy as np
import pytest

import napari_geosr as geosr
from napari_geosr.core.config import Config
from napari_geosr.core.errors import GeoSRWarning
from napari_geosr.core.steps import WarningIssued
from napari_geosr.learning.config import TrainingConfig
from napari_geosr.operations.compare import CompareConfig
from napari_geosr.operations.explain import ExplainConfig
from napari_geosr.operations.measure import MeasureConfig
from napari_geosr.operations.measure.planning import PlanConfig
from napari_geosr.operations.models.catalogue import ModelFilter
from napari_geosr.operations.pairs import PairsConfig
from napari_geosr.operations.reconstruct import ReconstructConfig
from napari_geosr.operations.restore import RestoreConfig
from napari_geosr.operations.sim import SimConfig
from napari_geosr.operations.simulate import SimulateConfig

PUBLIC = [name for name in geosr.__all__ if name != "__version__"]
FUNCTIONS = [name for name in PUBLIC if inspect.isfunction(getattr(geosr, name))]
#: Config of every verb with settings, and settings that the verb defines differently.
SETTINGS: dict[str, tuple[type[Config], set[str]]] = {
    "build_pairs": (PairsConfig, set()),
    "compare": (
        CompareConfig,
        set(),
    ),
    "explain": (ExplainConfig, set()),
    "measure_porosity": (MeasureConfig, set()),
    "plan_scan": (PlanConfig, set()),
    "reconstruct": (ReconstructConfig, set()),
    "reconstruct_sim": (SimConfig, set()),
    "restore": (RestoreConfig, set()),
    "restore_blocks": (
        RestoreConfig,
        {
            *("uncertainty", "uncertainty_members", "ensemble_with"),
            *("sampling_steps", "upscale_factor", "seed"),
        },
    ),
    "restore_with_uncertainty": (RestoreConfig, {"uncertainty"}),
    "simulate": (SimulateConfig, set()),
    "train": (TrainingConfig, {"source", "target"}),
}


def test_the_list_is_what_is_promised():
    promised = """read write Volume restore restore_blocks restore_with_uncertainty
        measure_porosity plan_scan ScanPlan reconstruct reconstruct_sim compare explain
        simulate build_pairs train list_models load_model Projections PorosityReport
        QualityReport check_consistency __version__"""
    assert sorted(geosr.__all__) == sorted(promised.split())
    assert sorted(dir(geosr)) == sorted(geosr.__all__)
    with pytest.raises(AttributeError, match="napari_geosr"):
        geosr.absent  # noqa: B018


@pytest.mark.parametrize("name", PUBLIC)
def test_everything_public_has_an_example(name):
    found = doctest.DocTestFinder().find(getattr(geosr, name), name)
    assert any(test.examples for test in found)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_arguments_described_together_have_the_same_default(name):
    """The reference on the website shows one default for all of them."""
    function = getattr(geosr, name)
    arguments = inspect.signature(function).parameters
    together = re.findall(r"(?m)^    (\w+(?:, \w+)+)(?: :.*)?$", function.__doc__ or "")
    for names in together:
        known = [arguments[n].default for n in names.split(", ") if n in arguments]
        assert all(default == known[0] for default in known), names


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_argument_is_documented(name):
    function = getattr(geosr, name)
    arguments = {
        f"{'**' if p.kind is p.VAR_KEYWORD else ''}{p.name}"
        for p in inspect.signature(function).parameters.values()
    }
    text = inspect.getdoc(function) or ""
    assert "Returns\n-------" in text
    parts = re.split(r"\n\n([A-Z][a-z]+)\n-+\n", text)
    sections = dict(zip(parts[1::2], parts[2::2], strict=True))
    if len(arguments) < 3 and "Parameters" not in sections:
        return
    heads = re.findall(r"^(\S.*)$", sections["Parameters"], re.MULTILINE)
    documented = {n for head in heads for n in head.split(" : ")[0].split(", ")}
    assert documented == arguments


@pytest.mark.parametrize("name", SETTINGS)
def test_settings_in_the_signature_are_those_of_the_config(name):
    config, otherwise = SETTINGS[name]
    function = getattr(geosr, name)
    module = sys.modules[function.__module__]
    parameters = inspect.signature(function).parameters
    for field, info in config.model_fields.items():
        if field in otherwise:
            continue
        parameter = parameters[field]
        annotation = eval(parameter.annotation, vars(module))
        assert choices(info.annotation) <= choices(annotation), field
        default = info.get_default(call_default_factory=True)
        if name == "train" or default == {}:  # the default of the method; not mutable
            default = None
        assert parameter.default == default, field
    assert otherwise <= config.model_fields.keys()


def test_settings_of_the_list_of_models_are_those_of_its_filter():
    parameters = inspect.signature(geosr.list_models).parameters
    fields = inspect.signature(ModelFilter).parameters
    assert {p.name: p.default for p in parameters.values()} == {
        p.name: p.default for p in fields.values()
    }


def choices(annotation: Any) -> set[Any]:
    """The types and values that an annotation allows."""
    origin = typing.get_origin(annotation)
    if origin in (typing.Union, types.UnionType):
        return set().union(*map(choices, typing.get_args(annotation)))
    if origin is Literal:
        return set(typing.get_args(annotation))
    if origin is tuple:  # of any length
        return {(tuple, each) for each in choices(typing.get_args(annotation)[0])}
    if origin is collections.abc.Mapping:
        return {dict[typing.get_args(annotation)]}
    return {annotation}


class Told(Exception):  # noqa: N818
    """Raised to end a verb as soon as its settings are known."""


#: The data that each verb needs, and a distinct value for every setting.
DATA: dict[str, tuple[Any, ...]] = {
    "build_pairs": ([[0, 1]], [[0, 1]], "out"),
    "compare": ([[0, 1]], [[0, 1]]),
    "explain": ([[0, 1]],),
    "measure_porosity": ([[0, 1]],),
    "plan_scan": ([[0, 1]],),
    "reconstruct": ("scan.h5",),
    "reconstruct_sim": ("raw.tif",),
    "restore": ([[0, 1]],),
    "restore_blocks": ([[0, 1]],),
    "restore_with_uncertainty": ([[0, 1]],),
    "simulate": ("foam", "out"),
    "train": ("noise2void", "job"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_reaches_the_config(name, monkeypatch):
    config, otherwise = SETTINGS[name]
    told: dict[str, Any] = {}

    def create(*_: Any, in_memory: Any = None, **values: Any) -> None:
        told.update(values)
        raise Told

    function = getattr(geosr, name)
    if name == "train":
        monkeypatch.setattr(sys.modules[function.__module__], "training_steps", create)
    else:
        monkeypatch.setattr(config, "create", create)
    given = {field: {field: 1} for field in config.model_fields.keys() - otherwise}
    # Data in memory are not settings, but paths are.
    given |= {field: f"{field}.tif" for field in ("psf", "patterns") if field in given}
    with pytest.raises(Told):
        function(*DATA[name], **given)
    assert {field: told[field] for field in given} == given


#: The step generator that each verb runs.
STEPS = {
    "build_pairs": "pairs_steps",
    "check_consistency": "consistency_steps",
    "compare": "compare_steps",
    "explain": "explain_steps",
    "measure_porosity": "measure_steps",
    "plan_scan": "plan_steps",
    "reconstruct": "reconstruct_steps",
    "reconstruct_sim": "sim_steps",
    "restore": "restore_steps",
    "restore_blocks": "restore_blocks_steps",
    "restore_with_uncertainty": "restore_steps",
    "simulate": "simulate_steps",
    "train": "training_steps",
}


@pytest.mark.parametrize("name", STEPS)
def test_what_a_verb_warns_of_reaches_its_caller(name, monkeypatch):
    def steps(*_: Any, **__: Any) -> Any:
        yield WarningIssued(message="Something is odd.")
        return types.SimpleNamespace(volume="volume", deviation="deviation")

    function = getattr(geosr, name)
    monkeypatch.setattr(sys.modules[function.__module__], STEPS[name], steps)
    data = DATA.get(name, ([[0, 1]], [[0, 1]]))
    if name == "restore":  # a list would mean several scans
        data = (np.zeros((2, 2)),)
    with pytest.warns(GeoSRWarning, match=r"Something is odd\.") as caught:
        function(*data)
    assert [each.filename for each in caught] == [__file__]


def test_every_verb_is_among_them():
    assert set(STEPS) == {*SETTINGS, "check_consistency"}
