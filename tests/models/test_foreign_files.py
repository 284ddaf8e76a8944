"""Third-party files are read as data: anything else is rejected and never run."""

from __future__ import annotations

import pickle
import sys
import zipfile
from importlib.metadata import EntryPoint
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn

from napari_geosr.core import registry
from napari_geosr.core.errors import ModelError
from napari_geosr.models import foreign
from napari_geosr.models.foreign import careamics, tensors
from napari_geosr.networks.foreign_formats import careamics as unet


class Program:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.write_text, (self.marker, "ran")


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt"])
@pytest.mark.parametrize("old", [False, True])
def test_a_pickle_with_code_is_refused_and_not_run(
    tmp_path: Path, suffix: str, old: bool
) -> None:
    marker, path = tmp_path / "marker", tmp_path / f"model{suffix}"
    content = {"weight": torch.zeros(2), "extra": Program(marker)}
    torch.save(content, path, _use_new_zipfile_serialization=not old)
    with pytest.raises(ModelError, match="contains more than weights") as caught:
        foreign.read(str(path))
    assert str(path) in str(caught.value)
    assert not marker.exists()
    pickle.loads(pickle.dumps(Program(marker)))  # it would have run
    assert marker.exists()


def test_a_bare_pickle_is_refused_as_well(tmp_path: Path) -> None:
    marker, path = tmp_path / "marker", tmp_path / "bare.pth"
    path.write_bytes(pickle.dumps(Program(marker)))
    with pytest.raises(ModelError, match=r"more than weights|damaged"):
        foreign.read(str(path))
    assert not marker.exists()


def test_torchscript_is_a_program(tmp_path: Path) -> None:
    path = tmp_path / "script.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("data.pkl", "constants.pkl", "code/__torch__.py"):
            archive.writestr(f"script/{name}", b"")
    with pytest.raises(ModelError, match="TorchScript program"):
        foreign.read(str(path))


@pytest.mark.parametrize(
    "content", [b"", b"words", b"PK\x03\x04torn", b"\x80\x02}q\x00"]
)
def test_damaged_files_are_said_to_be(tmp_path: Path, content: bytes) -> None:
    for suffix in (".pth", ".safetensors"):
        path = tmp_path / f"torn{suffix}"
        path.write_bytes(content)
        with pytest.raises(ModelError, match=f"torn{suffix}"):
            foreign.read(str(path))


@pytest.mark.parametrize("suffix", [".pth", ".ckpt"])
def test_a_small_file_of_large_tensors_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    stored, packed = tmp_path / f"stored{suffix}", tmp_path / f"packed{suffix}"
    torch.save({"weight": torch.zeros(10**6)}, stored)
    with (
        zipfile.ZipFile(stored) as source,
        zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert packed.stat().st_size < 20_000
    read = []
    monkeypatch.setattr(torch, "load", lambda *given, **_how: read.append(given))
    monkeypatch.setattr(tensors, "MAX_WEIGHTS_BYTES", 10**6)
    with pytest.raises(ModelError, match=r"is 4 MB unpacked; .*limit .* is 1 MB"):
        foreign.read(str(packed))
    assert not read


def test_one_number_that_stands_for_many_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "views.pth"
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, path)
    assert path.stat().st_size < 5000
    with pytest.raises(ModelError, match=r"tensors \(a\) take .* limit"):
        foreign.read(str(path))


def test_another_package_brings_a_format_in_one_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    toy = ModuleType("toy_format")
    given: list[Any] = []

    def read(source: foreign.ModelSource, channel: int | None) -> str:
        given.append((source.path, channel))
        return "a draft"

    def recognises(source: foreign.ModelSource) -> bool:
        known = source.suffix == ".pth" and "toy" in source.tensors
        return known or source.suffix == ".toy"

    vars(toy).update(
        ABOUT="toys (.toy)", SUFFIXES=(".toy",), recognises=recognises, read=read
    )
    monkeypatch.setitem(sys.modules, "toy_format", toy)

    def entry_points(group: str) -> list[EntryPoint]:
        brought = {"toy": "toy_format", "broken": "module_of_nobody"}
        ours = brought.items() if group == "napari_geosr.foreign_models" else ()
        return [EntryPoint(name, module, group) for name, module in ours]

    monkeypatch.setattr(registry, "entry_points", entry_points)
    (tmp_path / "a.toy").touch()
    assert foreign.read(str(tmp_path / "a.toy"), channel=2) == "a draft"
    # A question is asked before these weights are treated as a spandrel model.
    torch.save({"toy": torch.ones(2)}, tmp_path / "b.pth")
    assert foreign.read(str(tmp_path / "b.pth")) == "a draft"
    assert given == [(tmp_path / "a.toy", 2), (tmp_path / "b.pth", None)]
    assert ".toy" in foreign.suffixes()
    (tmp_path / "picture.png").touch()
    with pytest.raises(ModelError, match=r"toys \(\.toy\) and weights of 2D networks"):
        foreign.read(str(tmp_path / "picture.png"))


@pytest.mark.parametrize("name", foreign.FORMATS.names())
def test_formats_say_what_they_are(name: str) -> None:
    module = foreign.FORMATS.load(name)
    assert module.ABOUT in foreign.about()
    assert all(end.startswith(".") and end.islower() for end in module.SUFFIXES)
    assert not module.recognises(foreign.ModelSource("./picture.png"))


def test_what_is_no_model_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="cannot be read"):
        foreign.read(str(tmp_path / "absent.pth"))
    with pytest.raises(ModelError, match="no file or folder"):
        foreign.read(str(tmp_path / "absent.zip"))
    (tmp_path / "graph.onnx").touch()
    with pytest.raises(ModelError, match=r"BioImage\.IO package"):
        foreign.read(str(tmp_path / "graph.onnx"))
    (tmp_path / "picture.png").touch()
    with pytest.raises(ModelError, match="not a model that can be imported"):
        foreign.read(str(tmp_path / "picture.png"))
    torch.save([1, 2], tmp_path / "list.pth")
    with pytest.raises(ModelError, match="contains a list"):
        foreign.read(str(tmp_path / "list.pth"))


@pytest.mark.parametrize(
    ("content", "holder"),
    [
        ({"a": 1, "b": 2}, ""),
        ({"module.a": 1, "module.b": 2}, ""),
        ({"params": {"a": 3, "b": 4}, "params_ema": {"a": 1, "b": 2}}, "params_ema"),
        ({"state_dict": {"a": 1, "b": 2}, "epoch": None}, "state_dict"),
        ({"odd": {"a": 1, "b": 2}}, "odd"),
    ],
)
def test_tensors_are_found_where_programs_put_them(
    content: dict[str, Any], holder: str
) -> None:
    def as_tensors(values: Any) -> Any:
        if isinstance(values, dict):
            return {key: as_tensors(value) for key, value in values.items()}
        return values if values is None else torch.tensor(float(values))

    state, found = tensors.find_state(as_tensors(content))
    assert {name: t.item() for name, t in state.items()} == {"a": 1, "b": 2}
    assert found == holder


SCALE = {"name": "mean_std", "input_means": [100.0], "input_stds": [20.0]}


def checkpoint(
    data: dict[str, Any] | None = None, algorithm: str = "n2v", **shape: Any
) -> dict[str, Any]:
    """A checkpoint like those of CAREamics, with a small network."""
    torch.manual_seed(0)
    settings = unet.UNetSettings.create(num_channels_init=2, depth=2, **shape)
    network = unet.CareamicsUNet(settings)
    for parameter in network.parameters():
        nn.init.normal_(parameter, 0, 0.3)
    model = {"architecture": "UNet", "dropout": 0.0, **settings.model_dump()}
    return {
        "epoch": 3,
        "state_dict": {f"model.{k}": t for k, t in network.state_dict().items()},
        "hyper_parameters": {
            "algorithm_config": {"algorithm": algorithm, "model": model}
        },
        "datamodule_hyper_parameters": {
            "data_config": {"normalization": SCALE} if data is None else data
        },
        "careamics_info": {"version": "0.3.5", "experiment_name": "My Foam"},
    }


def test_a_checkpoint_of_careamics(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    torch.save(checkpoint(), path)
    draft = foreign.read(str(path))
    assert (draft.name, draft.task, draft.origin) == ("my-foam", "denoise", "careamics")
    assert draft.config.multiple_of == (4, 4)
    scale = draft.normalisation
    assert (scale.kind, scale.mean, scale.output_mean) == ("stored", 100.0, 100.0)
    assert scale.std == scale.output_std == pytest.approx(20.0, abs=1e-5)
    assert not draft.remarks


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"image_means": [5.0], "image_stds": [2.0]}, (5, 2, 5, 2)),
        (
            {"image_means": [5.0], "image_stds": [2.0], "target_means": [7.0],
             "target_stds": [3.0]},
            (5, 2, 7, 3),
        ),
        (
            {"normalization": {"name": "min_max", "input_mins": [10.0],
                               "input_maxes": [30.0]}},
            (10, 20, 10, 20),
        ),
        ({"normalization": {**SCALE, "skip_target": True}}, (100, 20, 0, 1)),
        ({"normalization": {"name": "none"}}, (0, 1, 0, 1)),
    ],
)  # fmt: skip
def test_scales_of_careamics(data: dict[str, Any], expected: tuple[float, ...]) -> None:
    scale = careamics.draft(Path("a.ckpt"), checkpoint(data)).normalisation
    found = (scale.mean, scale.std, scale.output_mean, scale.output_std)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_scale_that_is_not_known_is_said_to_be() -> None:
    draft = careamics.draft(Path("a.ckpt"), checkpoint({}))
    assert draft.normalisation.kind == "standardise"
    assert "does not record" in draft.remarks[0]


def test_other_networks_of_careamics_are_refused() -> None:
    with pytest.raises(ModelError, match="CAREamics checkpoint for hdn"):
        careamics.draft(Path("a.ckpt"), checkpoint(algorithm="hdn"))
    with pytest.raises(ModelError, match="2 input and 2 output channels"):
        careamics.draft(Path("a.ckpt"), checkpoint(in_channels=2, num_classes=2))
    odd = checkpoint()
    odd["hyper_parameters"]["algorithm_config"]["model"]["depth"] = 99
    with pytest.raises(ModelError, match=r"settings of its U-Net.*depth"):
        careamics.draft(Path("a.ckpt"), odd)
