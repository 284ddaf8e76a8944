from __future__ import annotations

import hashlib
import pickle
import zipfile
from itertools import pairwise
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import save as to_bytes

from napari_geosr.core.documents import load_yaml
from napari_geosr.core.errors import FileError, ModelError
from napari_geosr.models import bundle, bundle_files, zoo
from napari_geosr.networks import build_network

from .conftest import KWARGS


def _edit_card(folder: Path, **changes: object) -> None:
    path = folder / bundle.CARD_FILE
    values = yaml.safe_load(path.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")


def _replace_weights(folder: Path, content: bytes) -> None:
    (folder / bundle.WEIGHTS_FILE).write_bytes(content)
    _edit_card(folder, weights_sha256=hashlib.sha256(content).hexdigest())


def _zip(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in folder.iterdir():
            archive.write(file, prefix + file.name)
    return path


def test_round_trip(tiny: Path) -> None:
    model = bundle.load(tiny)
    assert model.card.name == "tiny"
    network = model.network()
    assert network is model.network()
    assert not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert model.card.n_parameters == sum(p.numel() for p in network.parameters())
    torch.manual_seed(0)
    expected = build_network("msdnet", **KWARGS)
    torch.nn.init.normal_(expected.final_weight)
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(network(x), expected(x))
    assert bundle.verify(tiny).name == "tiny"


def test_the_same_weights_have_the_same_checksum(tiny: Path) -> None:
    model = bundle.load(tiny)
    network = model.network()
    again = {bundle.save(tiny, model.card, network).weights_sha256 for _ in range(8)}
    assert len(again) == 1


def test_half_precision_is_loaded_as_float32(tiny: Path, tmp_path: Path) -> None:
    model = bundle.load(tiny)
    bundle.save(tmp_path / "half", model.card, model.network(), half=True)
    loaded = bundle.load(tmp_path / "half").network()
    for a, b in zip(loaded.parameters(), model.network().parameters(), strict=True):
        assert a.dtype == torch.float32
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "tiny/"])
def test_zip_bundle(tiny: Path, tmp_path: Path, prefix: str) -> None:
    path = _zip(tiny, tmp_path / "tiny.zip", prefix)
    assert bundle.verify(path).name == "tiny"
    x = torch.randn(1, 3, 8, 8)
    with torch.no_grad():
        a = bundle.load(path).network()(x)
        assert torch.equal(a, bundle.load(tiny).network()(x))


def test_zip_members_elsewhere_are_never_read(tiny: Path, tmp_path: Path) -> None:
    for prefix in ("../", "a/b/", "..\\"):
        path = _zip(tiny, tmp_path / "evil.zip", prefix)
        with pytest.raises(ModelError, match=r"contains 0 files|outside the archive"):
            bundle.load(path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["evil.zip", "tiny"]


def test_zip_bomb_is_refused(tiny: Path, tmp_path: Path, monkeypatch) -> None:
    path = _zip(tiny, tmp_path / "tiny.zip")
    for module in (bundle, bundle_files):
        monkeypatch.setattr(module, "MAX_WEIGHTS_BYTES", 100)
    with pytest.raises(ModelError, match="the limit is 100 B"):
        bundle.load(path).network()
    with pytest.raises(ModelError, match="limit .*is 100 B"):
        bundle.load(tiny).network()


def test_nested_yaml_does_not_blow_up(tiny: Path) -> None:
    (tiny / bundle.CARD_FILE).write_text("[" * 5000)
    with pytest.raises(ModelError):
        bundle.load(tiny)


def test_aliases_in_a_card_are_refused(tiny: Path) -> None:
    """A few lines of nested aliases would become gigabytes when copied."""
    file = tiny / bundle.CARD_FILE
    lines = ["provenance:", "  a: &a [lol, lol, lol, lol]"]
    lines += [f"  {b}: &{b} [*{a}, *{a}, *{a}]" for a, b in pairwise("abcde")]
    text = file.read_text(encoding="utf-8")
    bomb = text.replace("provenance: {}", "\n".join(lines))
    assert bomb != text
    file.write_text(bomb, encoding="utf-8")
    with pytest.raises(ModelError, match=r"\*a is an alias of an earlier value"):
        bundle.load(tiny)


def test_cards_that_are_written_have_no_aliases(tiny: Path, tmp_path: Path) -> None:
    """Neither if an object occurs twice, nor for words with asterisks."""
    model = bundle.load(tiny)
    shared = {"seeds": [1, 2]}
    card = model.card.model_copy(
        update={"provenance": {"a": shared, "b": shared}, "remarks": ("*so* & so *x",)}
    )
    bundle.save(tmp_path / "twice", card, model.network())
    kept = bundle.load(tmp_path / "twice").card
    assert kept.provenance == {"a": shared, "b": shared}
    assert kept.remarks == card.remarks


def test_yaml_tags_are_not_executed(tiny: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    text = f"name: !!python/object/apply:pathlib.Path.touch [{marker}]\n"
    (tiny / bundle.CARD_FILE).write_text(text)
    with pytest.raises(ModelError, match="not readable YAML"):
        bundle.load(tiny)
    assert not marker.exists()


class _Bomb:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> object:
        return (Path.touch, (self.marker,))


def test_pickles_are_not_loaded(tiny: Path, tmp_path: Path) -> None:
    marker = tmp_path / "executed"
    _replace_weights(tiny, pickle.dumps(_Bomb(marker)))
    with pytest.raises(ModelError, match="not a safetensors file"):
        bundle.load(tiny).network()
    assert not marker.exists()


@pytest.mark.parametrize("missing", [bundle.CARD_FILE, bundle.WEIGHTS_FILE])
def test_missing_file(tiny: Path, missing: str) -> None:
    (tiny / missing).unlink()
    with pytest.raises(ModelError, match=missing):
        bundle.verify(tiny)


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model bundle"):
        bundle.load(tmp_path / "nothing")
    other = tmp_path / "notes.txt"
    other.write_text("hello")
    with pytest.raises(ModelError, match="not a readable zip"):
        bundle.load(other)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "mapping"),
        (b"- 1\n- 2\n", "mapping"),
        (b"name: [", "YAML"),
        (b"\xff\xfe\x00", "YAML"),
        (b"name: x\n", "required"),
        (b"schema_version: 99\nname: x\n", "schema version 99"),
        (b"schema_version: two\n", "schema version"),
    ],
)
def test_damaged_cards(tiny: Path, content: bytes, message: str) -> None:
    (tiny / bundle.CARD_FILE).write_bytes(content)
    with pytest.raises(ModelError, match=message) as caught:
        bundle.load(tiny)
    assert str(tiny) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "nonsense"}, "no network 'nonsense'"),
        ({"network_kwargs": {"depth": -1}}, "depth"),
        ({"network_kwargs": {"colour": 1}}, "colour"),
        ({"halo": 7}, "halo"),
        ({"adjacent_slices": 1}, "slices"),
        ({"n_parameters": 5}, "parameters"),
        ({"weights_sha256": "1" * 64}, "checksum"),
        ({"weights_sha256": "x"}, "not a model card"),
        ({"axes": "XYZ"}, "axes"),
        ({"extra": 1}, "extra"),
        ({"name": "../evil"}, "name"),
        ({"axes": "ZYX"}, "adjacent"),
    ],
)
def test_cards_that_do_not_fit(tiny: Path, changes: dict, message: str) -> None:
    _edit_card(tiny, **changes)
    with pytest.raises(ModelError, match=message):
        bundle.verify(tiny)


def test_damaged_weights(tiny: Path) -> None:
    path = tiny / bundle.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match="damaged"):
        bundle.load(tiny).network()
    _replace_weights(tiny, path.read_bytes())
    with pytest.raises(ModelError, match="safetensors"):
        bundle.load(tiny).network()


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_weights_of_another_network(tiny: Path, fault: str) -> None:
    state = {k: t.clone() for k, t in bundle.load(tiny).network().state_dict().items()}
    if fault == "missing":
        del state["final_bias"]
    elif fault == "extra":
        state["more"] = torch.zeros(2)
    else:
        state["final_bias"] = torch.zeros(5)
    _replace_weights(tiny, to_bytes(state))
    with pytest.raises(ModelError, match=r"does not match.*(final_bias|more)"):
        bundle.load(tiny).network()


def test_a_card_cannot_ask_for_all_memory(tiny: Path) -> None:
    # 27 · 64² · 400² / 2 weights would take some 35 GB.
    kwargs = {"ndim": 3, "depth": 400, "width": 64}
    _edit_card(tiny, network_kwargs=kwargs, axes="ZYX", adjacent_slices=1)
    with pytest.raises(ModelError, match="does not match"):
        bundle.load(tiny).network()


@pytest.mark.parametrize("kwargs", [{"name": "x"}, {"cls": 1}])
def test_settings_named_like_arguments(tiny: Path, kwargs: dict) -> None:
    _edit_card(tiny, network_kwargs=kwargs)
    with pytest.raises(ModelError, match="cannot be used"):
        bundle.load(tiny).network()


def test_faults_of_a_third_party_network(tiny: Path, monkeypatch) -> None:
    def build(config: object) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr("napari_geosr.networks.msdnet.build", build)
    with pytest.raises(ModelError, match=r"RuntimeError: no such kernel"):
        bundle.load(tiny).network()


def test_a_network_that_needs_values_to_be_built(tiny: Path, monkeypatch) -> None:
    """Without a formula for its size, it is first created without values."""
    from napari_geosr.networks import msdnet

    n_built = 0

    def build(config: msdnet.NetworkConfig) -> torch.nn.Module:
        nonlocal n_built
        n_built += 1
        assert torch.linspace(0, 1, config.depth).sum().item() > 0
        return msdnet.MSDNet(config)

    monkeypatch.setattr(msdnet, "build", build)
    assert bundle.verify(tiny).name == "tiny"
    assert n_built == 1
    monkeypatch.delattr(msdnet, "parameter_count")
    assert bundle.verify(tiny).name == "tiny"
    assert n_built == 3


def test_a_failed_save_leaves_the_old_bundle(tiny: Path, monkeypatch) -> None:
    model = bundle.load(tiny)
    network = model.network()
    torch.nn.init.ones_(network.final_bias)

    def fail(self: object) -> str:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(type(model.card), "to_yaml", fail)
    with pytest.raises(FileError, match="full"):
        bundle.save(tiny, model.card, network)
    assert bundle.verify(tiny) == model.card
    assert len(list(tiny.iterdir())) == 2


def test_a_network_without_a_spec(tiny: Path, monkeypatch) -> None:
    monkeypatch.setattr(
        "napari_geosr.networks.msdnet.build", lambda config: torch.nn.Identity()
    )
    with pytest.raises(ModelError, match="does not declare a NetworkSpec"):
        bundle.load(tiny).network()


def test_a_card_is_parsed_again_only_when_it_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (zoo.bundled_folder() / "gaussian" / "card.yaml").read_text("utf-8")
    monkeypatch.setattr(
        bundle, "load_yaml", lambda *a, **k: parsed.append(1) or load_yaml(*a, **k)
    )
    parsed: list[int] = []
    for title in ("One", "One", "Two"):
        card = text.replace(yaml.safe_load(text)["title"], title)
        (tmp_path / "card.yaml").write_text(card, "utf-8")
        assert bundle.read_card(tmp_path).title == title
    assert len(parsed) == 2
