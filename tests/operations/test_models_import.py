"""Third-party models are imported: measured, compared, stored and restored with."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from napari_geosr import restore
from napari_geosr.core.errors import Cancelled, ConfigError, ModelError
from napari_geosr.core.steps import WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.models import bundle, zoo
from napari_geosr.networks.foreign import ForeignNetwork, NetworkConfig
from napari_geosr.networks.foreign_formats import careamics as unet
from napari_geosr.operations.models import catalogue, importing
from napari_geosr.operations.models.importing import (
    ImportResult,
    import_steps,
    measure_receptive_field,
)
from napari_geosr.operations.train.fine_tune import fine_tune_settings

BUNDLED = zoo.bundled_folder() / "gaussian"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "own"
    monkeypatch.setattr(zoo, "user_folder", lambda: folder)
    return folder


def take(source: Path | str, **options: Any) -> tuple[ImportResult, list[str]]:
    notes: list[str] = []

    def note(step: Any) -> None:
        if isinstance(step, WarningIssued):
            notes.append(step.message)

    found: ImportResult = run_to_end(import_steps(source, **options), note)
    return found, notes


def checkpoint(path: Path, seed: int = 0, **shape: Any) -> unet.CareamicsUNet:
    """A checkpoint as saved by CAREamics, and its network."""
    torch.manual_seed(seed)
    settings = unet.UNetSettings.create(num_channels_init=4, depth=1, **shape)
    network = unet.CareamicsUNet(settings)
    content = {
        "state_dict": {f"model.{k}": t for k, t in network.state_dict().items()},
        "hyper_parameters": {
            "algorithm_config": {
                "algorithm": "care",
                "model": {"architecture": "UNet", **settings.model_dump()},
            }
        },
        "datamodule_hyper_parameters": {
            "data_config": {
                "image_means": [100.0],
                "image_stds": [20.0],
                "target_means": [50.0],
                "target_stds": [4.0],
            }
        },
    }
    torch.save(content, path)
    return network.eval()


def scan(rng: np.random.Generator, shape: tuple[int, ...]) -> Volume:
    data = rng.normal(110, 15, shape).astype(np.float32)
    return Volume(data, "ZYX"[-len(shape) :], (2.0,) * len(shape), "µm", name="scan")


def test_a_checkpoint_restores_as_its_network_does(
    own: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    network = checkpoint(tmp_path / "Best Model.ckpt")
    found, notes = take(tmp_path / "Best Model.ckpt")
    (tmp_path / "Best Model.ckpt").unlink()  # it is no longer needed
    assert found.path == own / "best-model"
    assert not notes
    card = catalogue.verify(found.path)
    assert (card.network, card.method, card.task) == ("foreign", "careamics", "denoise")
    assert card.local
    assert card.halo > 4
    volume = scan(rng, (3, 41, 38))
    result = restore(volume, found.name, threads=1, memory="400MB")
    plane = torch.from_numpy(np.asarray(volume.data[1])[None, None])
    plane = nn.functional.pad(plane, (0, 0, 0, 1), "reflect")
    with torch.no_grad():
        expected = network((plane - 100) / 20)[0, 0, :41] * 4 + 50
    np.testing.assert_allclose(result.data[1], expected, atol=2e-4)
    assert result.voxel_size == volume.voxel_size
    with pytest.raises(ConfigError, match="cannot be trained"):
        fine_tune_settings(found.name)


def test_nobody_can_tell_what_it_was_trained_on(
    own: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    checkpoint(tmp_path / "a.ckpt")
    found, _ = take(tmp_path / "a.ckpt")
    from napari_geosr.operations.restore import RestoreConfig, prepare_steps

    volume = scan(rng, (40, 40))
    prepared = run_to_end(prepare_steps(volume, RestoreConfig(model=found.name)))
    assert prepared.likeness.level == "caution"
    assert "training data are unknown" in " ".join(prepared.likeness.reasons)


def test_names(own: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    checkpoint(path)
    assert take(path)[0].name == "a"
    assert take(path)[0].name == "a"  # the same name again
    checkpoint(path, seed=1)
    assert take(path)[0].name == "a-2"
    assert take(path, name="mine")[0].name == "mine"
    with pytest.raises(ModelError, match="model 'mine' already exists"):
        take(path, name="mine")
    with pytest.raises(ModelError, match="'foam-denoise' already"):
        take(path, name="foam-denoise")
    with pytest.raises(ModelError, match="Invalid model name 'My Model'"):
        take(path, name="My Model")
    assert sorted(p.name for p in own.iterdir()) == ["a", "a-2", "mine"]


def test_a_bundle_of_ours_is_copied_from_folder_or_zip(
    own: Path, tmp_path: Path
) -> None:
    checkpoint(tmp_path / "a.ckpt")
    first, _ = take(tmp_path / "a.ckpt")
    packed = shutil.make_archive(str(tmp_path / "packed"), "zip", first.path)
    shutil.move(first.path, tmp_path / "folder")
    found, _ = take(packed)
    assert found.path == own / "a"
    assert catalogue.verify(found.path).weights_sha256 == first.card.weights_sha256
    again, _ = take(tmp_path / "folder", name="other")
    assert again.card.name == "other"
    (tmp_path / "folder" / bundle.WEIGHTS_FILE).write_bytes(b"torn")
    with pytest.raises(ModelError, match="damaged"):
        take(tmp_path / "folder", name="third")
    assert not (own / "third").exists()


def test_a_bundle_of_ours_is_taken_from_an_address(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = Path(shutil.make_archive(str(tmp_path / "p"), "zip", BUNDLED))
    asked = []

    def serve(address: str, path: Path, *_how: Any, **_more: Any) -> None:
        asked.append(address)
        shutil.copy(packed, path)

    monkeypatch.setattr(importing, "download", serve)
    found, _ = take("https://example.org/gaussian.zip?download=1", name="mine")
    assert found.path == own / "mine"
    assert asked == ["https://example.org/gaussian.zip?download=1"]
    packed.write_bytes(b"torn")
    address = "https://example.org/other.zip"
    with pytest.raises(ModelError) as said:
        take(address)
    assert address in str(said.value)
    assert str(tmp_path) not in str(said.value)
    assert "/tmp" not in str(said.value)


def test_what_does_not_fit_is_not_kept(own: Path, tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.ckpt")
    content = torch.load(tmp_path / "a.ckpt", weights_only=True)
    del content["state_dict"]["model.final_conv.bias"]
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(ModelError, match=r"do not fit.*final_conv"):
        take(tmp_path / "a.ckpt")
    assert not own.exists()


def test_a_stop_is_heard_and_nothing_is_kept(own: Path, tmp_path: Path) -> None:
    checkpoint(tmp_path / "a.ckpt")
    asked: list[None] = []

    def stop() -> bool:
        asked.append(None)
        return len(asked) > 30  # during the measurement

    with pytest.raises(Cancelled, match="nothing was kept"):
        take(tmp_path / "a.ckpt", should_stop=stop)
    assert len(asked) == 31
    assert not own.exists()


# Measurements


def network(inner: nn.Module, **settings: Any) -> ForeignNetwork:
    config = NetworkConfig.create(format="graph", **settings)
    return ForeignNetwork(config, inner).eval().requires_grad_(False)


def test_reach_and_stride_are_found() -> None:
    torch.manual_seed(0)
    inner = nn.Sequential(
        nn.Conv2d(1, 3, 3, padding=2, dilation=2),
        nn.Conv2d(3, 2, 2, stride=2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(2, 1, 1),
    )
    config, remarks = measure_receptive_field(network(inner, multiple_of=(2, 2)))
    assert not remarks
    assert config.local
    assert config.stride == (2, 2)
    assert config.halo == (3, 3)


class Strides(nn.Module):
    """Every third voxel replaces the two after it: an undeclared stride."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        n = x.shape[2:]
        y = x[:, :, ::3, ::3].repeat_interleave(3, 2).repeat_interleave(3, 3)
        return y[:, :, : n[0], : n[1]]


def test_an_undeclared_stride_is_found_and_all_its_phases_count() -> None:
    config, _ = measure_receptive_field(network(Strides()))
    assert config.stride == (3, 3)
    assert config.halo == (2, 2)


@pytest.mark.parametrize("ndim", [2, 3])
def test_norms_of_the_whole_image_mean_windows(ndim: int) -> None:
    norm = nn.InstanceNorm2d if ndim == 2 else nn.InstanceNorm3d
    config, [remark] = measure_receptive_field(network(norm(1), ndim=ndim))
    assert not config.local
    assert config.window == ((512,) * 2 if ndim == 2 else (96,) * 3)
    assert "Tiling is not exact" in remark
    assert f"overlap by {config.overlap} voxels" in remark


class Single(nn.Module):
    """Fails in double precision, which the measurement requires."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float64:
            raise RuntimeError("expected Float but found Double")
        return x


def test_what_cannot_be_measured_is_not_believed() -> None:
    config, [remark] = measure_receptive_field(network(Single()))
    assert not config.local
    assert "cannot be measured" in remark


# Grey scales


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (np.array([[3, 200]], np.uint8), (0, 255)),
        (np.array([[0.2, 0.9]], np.float32), (0, 1)),
        (np.array([[0.2, 1.1]], np.float32), (0.2, 1.1)),
        (np.array([[3, 200]], np.uint16), (3, 200)),
        (np.array([[-5, 5]], np.int16), (-5, 5)),
    ],
)
def test_the_scale_of_pictures(data: np.ndarray, expected: tuple[float, ...]) -> None:
    from napari_geosr.inference.intensity import scan_steps
    from napari_geosr.operations.restore.scale import unit_range

    statistics = run_to_end(scan_steps(data))
    assert unit_range(data.dtype, statistics) == pytest.approx(expected)


def test_outliers_that_take_the_scale_are_pointed_out() -> None:
    from napari_geosr.models.card import ModelCard, Normalisation
    from napari_geosr.operations.restore.scale import check_same_scale, scale_doubts

    card = bundle.read_card(zoo.bundled_folder() / "foam-denoise")
    card = card.model_copy(update={"noise_bound": None})
    pictures: ModelCard = card.model_copy(
        update={"normalisation": Normalisation(kind="unit")}
    )
    data = np.linspace(0, 100, 10_000, dtype=np.float32).reshape(100, 100)
    volume = Volume(data, "YX", (1.0, 1.0), "µm", name="scan")
    assert not list(scale_doubts(pictures, volume))
    data[0, 0] = 60_000
    [doubt] = scale_doubts(pictures, volume)
    assert "Clip the outliers" in doubt
    assert not list(scale_doubts(card, volume))
    with pytest.raises(ConfigError, match="ensemble"):
        check_same_scale((card, pictures))


def test_percentiles() -> None:
    from napari_geosr.operations.restore.scale import percentiles

    data = np.arange(101.0).reshape(1, 101)
    assert percentiles(data, (5, 95)) == (5, 95)
    data[0, 50] = np.nan
    assert percentiles(data, (0, 100)) == (0, 100)
    large = np.broadcast_to(np.arange(3000.0), (3000, 3000))
    low, high = percentiles(large, (10, 90))
    assert (low, high) == (pytest.approx(300, abs=5), pytest.approx(2700, abs=5))


# spandrel


def small_sr(path: Path, channels: int = 3, maps: int = 8) -> None:
    """Weights of a small network (SRVGGNetCompact) with an upscale factor of 2."""
    torch.manual_seed(0)
    ends = [(channels, maps), (maps, maps), (maps, 4 * channels)]
    layers: list[nn.Module] = []
    for a, b in ends:
        layers += [nn.Conv2d(a, b, 3, padding=1), nn.PReLU(maps)]
    made = nn.Sequential(*layers[:-1])
    state = {f"body.{name}": tensor for name, tensor in made.state_dict().items()}
    torch.save({"params_ema": state}, path)


def theirs(path: Path, plane: np.ndarray) -> np.ndarray:
    """Result of the library itself for values from 0 to 1."""
    from napari_geosr.networks.foreign_formats.spandrel import library

    state = torch.load(path, weights_only=True, map_location="cpu")
    descriptor = library().ModelLoader().load_from_state_dict(state)
    x = torch.from_numpy(plane.astype(np.float32))[None, None]
    y = descriptor(x.repeat(1, descriptor.input_channels, 1, 1))
    result: np.ndarray = y.mean(1)[0].numpy()
    return result


needs_spandrel = pytest.mark.skipif(
    find_spec("spandrel") is None, reason="spandrel is not installed (extra zoo)"
)


@needs_spandrel
def test_colour_weights_of_spandrel_restore_grey(
    own: Path, tmp_path: Path, rng: np.random.Generator
) -> None:
    path = tmp_path / "Tiny-x2.pth"
    small_sr(path)
    found, _ = take(path)
    card = found.card
    assert (card.task, card.upscale_factor, card.local) == ("super-resolution", 2, True)
    assert any("three outputs are averaged" in remark for remark in card.remarks)
    assert any("'params_ema'" in remark for remark in card.remarks)
    catalogue.verify(found.path)
    data = rng.integers(0, 255, (2, 37, 51)).astype(np.uint8)
    volume = Volume(data, "ZYX", (1.0, 2.0, 2.0), "µm", name="scan")
    result = restore(volume, found.name, threads=1)
    for z in range(2):
        expected = 255 * theirs(path, data[z] / 255)
        np.testing.assert_allclose(result.data[z], expected, atol=0.05)
    assert result.voxel_size == (1.0, 1.0, 1.0)


def test_a_library_that_is_missing_is_named(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "spandrel", None)
    torch.save({"conv.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(ModelError, match=r"pip install 'napari-geosr\[zoo\]'"):
        take(tmp_path / "a.pth")
    monkeypatch.setitem(sys.modules, "bioimageio.spec", None)
    (tmp_path / "rdf.yaml").touch()
    with pytest.raises(ModelError, match=r"pip install 'napari-geosr\[zoo\]'"):
        take(tmp_path)


@needs_spandrel
def test_tensors_that_nobody_knows(own: Path, tmp_path: Path) -> None:
    torch.save({"mystery.weight": torch.zeros(1, 1, 3, 3)}, tmp_path / "a.pth")
    with pytest.raises(
        ModelError, match=r"does not recognise a network.*mystery\.weight"
    ):
        take(tmp_path / "a.pth")
    near = {f"body.{i}.weight": torch.zeros(2, 2) for i in range(2)}
    torch.save(near, tmp_path / "b.pth")
    with pytest.raises(ModelError, match=r"b\.pth"):
        take(tmp_path / "b.pth")
