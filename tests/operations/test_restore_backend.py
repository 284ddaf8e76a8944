"""The backend of a restoration is recorded, kept when resuming, and reproduced."""

from __future__ import annotations

import numpy as np
import pytest

from napari_geosr import io
from napari_geosr.core.errors import ConfigError
from napari_geosr.core.steps import StepIterator, TileDone, WarningIssued, run_to_end
from napari_geosr.core.volume import Volume
from napari_geosr.inference import backends
from napari_geosr.operations.restore import (
    RestoreConfig,
    restore_average_steps,
    restore_steps,
)
from napari_geosr.operations.restore.reproduce import as_command, with_backend_of_run


@pytest.fixture(autouse=True)
def a_backend(monkeypatch):
    """A replacement for openvino that differs by rounding."""

    class Other:
        def __init__(self, network):
            self.network = network

        def __call__(self, x):
            return self.network(x) + 1e-6

        def release(self):
            pass

    monkeypatch.setattr(backends, "installed", lambda: True)
    monkeypatch.setattr(backends, "openvino_version", lambda: "2031.1")
    monkeypatch.setattr(backends, "_converted", lambda network, _: Other(network))
    monkeypatch.setattr(backends, "MIN_REMAINING_SECONDS", 0.0)
    monkeypatch.setattr(backends, "MIN_SPEED_UP", 0.0)


@pytest.fixture
def volume(rng: np.random.Generator) -> Volume:
    data = np.full((40, 48, 50), 0.8, np.float32)
    data[4:10, 10:20, 12:25] = 0.2
    data += rng.normal(0, 0.1, data.shape).astype(np.float32)
    return Volume(data, "ZYX", (2.0,) * 3, "µm", name="block")


def config(**settings) -> RestoreConfig:
    return RestoreConfig.create(memory="500MB", threads=1, **settings)


def run(volume, settings, stop_after=None, **more):
    """The result, and the messages about a backend."""
    n_tiles, said = 0, []
    steps = restore_steps(
        volume,
        settings,
        should_stop=lambda: stop_after is not None and n_tiles >= stop_after,
        **more,
    )
    iterator = StepIterator(steps)
    for step in iterator:
        n_tiles += isinstance(step, TileDone)
        if isinstance(step, WarningIssued) and "openvino" in step.message:
            said.append(step.message)
    return iterator.result, said


def on_record(volume: Volume):
    return volume.provenance[-1]["backend"]


def test_the_setting_is_a_setting_like_others(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(config(backend="openvino").to_yaml(), encoding="utf-8")
    assert RestoreConfig.from_yaml(path).backend == "openvino"
    assert RestoreConfig().backend == "auto"
    with pytest.raises(ConfigError, match="'auto', 'torch', 'openvino'"):
        RestoreConfig.create(backend="onnx")


def test_a_file_says_what_computed_it(volume, tmp_path):
    _, [said] = run(volume, config(), out=tmp_path / "a.tif")
    assert "openvino 2031.1" in said
    facts = on_record(io.read(tmp_path / "a.tif"))
    assert facts["name"] == "openvino"
    assert facts["version"] == "2031.1"
    assert facts["largest_difference"] == pytest.approx(1e-6, rel=0.5)
    result, said = run(volume, config(backend="torch"))
    assert not said
    assert on_record(result.volume) == {"name": "torch"}


def test_a_run_goes_on_with_its_backend(volume, tmp_path, monkeypatch):
    for began, other in (("openvino", "torch"), ("torch", "openvino")):
        settings = config(backend=began, model="porous-denoise")
        out = tmp_path / f"{began}.tif"
        part, _ = run(volume, settings, stop_after=1, out=out)
        assert not part.complete
        assert on_record(part.volume)["name"] == began
        unfinished = io.read(part.path)
        with pytest.raises(ConfigError, match=rf"a different backend \({began}\)"):
            run(
                volume,
                settings.model_copy(update={"backend": other}),
                unfinished=unfinished,
            )
        auto = settings.model_copy(update={"backend": "auto"})
        if began == "openvino":
            with monkeypatch.context() as gone:
                gone.setattr(backends, "installed", lambda: False)
                with pytest.raises(ConfigError, match="openvino is not installed"):
                    run(volume, auto, unfinished=unfinished, out=tmp_path / "b.tif")
        whole, _ = run(volume, auto, unfinished=unfinished, out=out)
        assert whole.complete
        assert on_record(whole.volume)["name"] == began


def test_a_series_has_one_backend_and_one_sentence(rng, tmp_path):
    data = rng.normal(100, 10, (2, 2, 40, 44)).astype(np.float32)
    data[..., 10:20, 10:20] += 60
    volume = Volume(data, "TCYX")
    result, said = run(volume, config(model="fluo-denoise"))
    assert on_record(result.volume)["name"] == "openvino"
    assert len(said) in (1, 2)  # one for each channel; equal messages once
    torch, said = run(volume, config(model="fluo-denoise", backend="torch"))
    assert not said
    got, expected = np.asarray(result.volume.data), np.asarray(torch.volume.data)
    assert 0 < np.abs(got - expected).max() < 1e-3


def test_a_mean_over_scans_has_one_backend(volume):
    steps = restore_average_steps([volume, volume], config(model="porous-denoise"))
    result = run_to_end(steps)
    assert on_record(result.volume)["name"] == "openvino"


def test_a_replay_names_what_ran(volume):
    settings = config()
    result, _ = run(volume, settings)
    replay = with_backend_of_run(settings, result.volume.provenance)
    assert "--backend openvino" in as_command(volume, replay)
    other = settings.model_copy(update={"strength": 0.5})
    assert with_backend_of_run(other, result.volume.provenance) == other
    assert with_backend_of_run(settings, ()) == settings
    torch, _ = run(volume, config(backend="torch"))
    assert with_backend_of_run(settings, torch.volume.provenance) == settings


def test_what_cannot_be_is_refused_before_the_volume_is_read(volume, monkeypatch):
    monkeypatch.setattr(backends, "installed", lambda: False)
    with pytest.raises(ConfigError, match=r"Install it.*or choose --backend torch"):
        run(volume, config(backend="openvino"))
    result, said = run(volume, config())
    assert not said
    assert on_record(result.volume) == {"name": "torch"}
