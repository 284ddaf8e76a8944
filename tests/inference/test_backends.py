"""Another backend yields torch's values, or is not used, and this is reported."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from napari_geosr.core.errors import Cancelled, ConfigError, EngineError
from napari_geosr.core.steps import TileDone, WarningIssued, run_to_end
from napari_geosr.inference import backends
from napari_geosr.inference.backends import Choice
from napari_geosr.inference.runner import restore_tiles
from napari_geosr.inference.tiles.tiling import lay_out

needs_openvino = pytest.mark.skipif(
    not backends.installed(), reason="openvino is not installed (extra openvino)"
)


@pytest.fixture(autouse=True)
def any_run_is_worth_it(monkeypatch):
    monkeypatch.setattr(backends, "MIN_REMAINING_SECONDS", 0.0)
    monkeypatch.setattr(backends, "MIN_SPEED_UP", 0.0)


def restored(network, source, statistics, choice, **settings):
    """The result, and the messages of the run."""
    target = np.zeros(lay_out(source.shape, network.spec).output_shape, "float32")
    deviation = np.zeros_like(target) if network.spec.n_outputs > 1 else None
    said: list[str] = []

    def listen(step):
        if isinstance(step, WarningIssued):
            said.append(step.message)

    steps = restore_tiles(
        network,
        source,
        target,
        statistics=statistics,
        budget=2 * 10**9,
        threads=1,
        deviation=deviation,
        backend=choice,
        **settings,
    )
    run_to_end(steps, listen)
    both = target if deviation is None else np.stack([target, deviation])
    return both, said


@pytest.fixture
def parts(make_network, statistics_of, rng):
    source = rng.normal(100, 20, (5, 44, 51)).astype("float32")
    return make_network("strided", slices=3), source, statistics_of(source)


def two_answers(make_network):
    from napari_geosr.inference.members._networks import EnsembleNetwork

    ours, other = make_network("conv"), make_network("dilated")
    spec = replace(ours.spec, halo=other.spec.halo, n_outputs=2)
    return EnsembleNetwork([ours, other], spec, ["a", "b"])


@needs_openvino
@pytest.mark.parametrize(
    ("kind", "ndim", "slices"),
    [
        ("strided", 2, 3),
        ("reflecting", 2, 1),
        ("dilated", 3, 1),
        ("shuffle", 2, 1),
        ("shuffle", 3, 1),
        ("members", 2, 1),
    ],
)
def test_openvino_gives_the_numbers_of_torch_in_any_tile(
    make_network, statistics_of, rng, kind, ndim, slices
):
    if kind == "members":
        network = two_answers(make_network)
    else:
        network = make_network(kind, ndim=ndim, slices=slices)
    source = rng.normal(100, 20, (14, 44, 51)).astype("float32")
    statistics = statistics_of(source)
    ours, _ = restored(network, source, statistics, Choice("torch"))
    for tile in ((14, 44, 52), (4, 20, 28)):
        choice = Choice("openvino", threads=1)
        theirs, said = restored(network, source, statistics, choice, tile=tile)
        assert np.abs(theirs - ours).max() <= 1e-5 * source.std()
        [sentence] = said
        assert sentence.startswith("Computed with openvino")
        facts = choice.facts()
        assert facts["name"] == "openvino"
        assert facts["largest_difference"] <= 1e-5
        assert facts["version"] in sentence


@needs_openvino
@pytest.mark.parametrize("name", ["porous-denoise", "ct-denoise"])
def test_bundled_models_are_converted_with_the_noise_that_they_were_told(
    statistics_of, rng, name
):
    from napari_geosr.core.noise import Noise
    from napari_geosr.models import zoo
    from napari_geosr.networks import set_network_noise

    network = zoo.find(name).restorer()
    source = rng.normal(size=(3, 100, 90)).astype("float32")
    source[:, 20:60, 30:70] += 3
    statistics = statistics_of(source)
    results = []
    for level in (0.1, 0.4):
        set_network_noise(network, Noise(level, 1.0, (-1.0, 1.0), (level, level / 2)))
        ours, _ = restored(network, source, statistics, Choice("torch"))
        theirs, _ = restored(
            network, source, statistics, Choice("openvino", 1), tile=(2, 48, 48)
        )
        assert np.abs(theirs - ours).max() <= 2e-5 * source.std()
        results.append(theirs)
    assert np.abs(results[0] - results[1]).max() > 0.1


@needs_openvino
def test_auto_takes_the_faster_one(parts, monkeypatch):
    choice = Choice("auto")
    restored(*parts, choice)
    assert choice.name == "openvino"
    monkeypatch.setattr(backends, "MIN_SPEED_UP", 1e9)
    choice = Choice("auto")
    _, said = restored(*parts, choice)
    assert choice.name == "torch"
    assert "not faster" in choice.facts()["reason"]
    [sentence] = said
    assert "Computed with torch instead of openvino" in sentence


@needs_openvino
def test_a_short_run_is_not_converted(parts, monkeypatch):
    monkeypatch.setattr(backends, "MIN_REMAINING_SECONDS", 60.0)
    choice = Choice("auto")
    _, said = restored(*parts, choice)
    assert not said
    assert choice.facts()["name"] == "torch"
    assert "too short" in choice.facts()["reason"]


def test_auto_without_openvino_takes_torch_and_says_nothing(parts, monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda name: None)
    choice = Choice("auto")
    ours, said = restored(*parts, choice)
    assert not said
    assert choice.facts() == {"name": "torch"}
    np.testing.assert_array_equal(ours, restored(*parts, Choice("torch"))[0])
    with pytest.raises(ConfigError, match=r"pip install \"napari-geosr\[openvino\]\""):
        restored(*parts, Choice("openvino"))


def test_openvino_computes_on_the_cpu_alone():
    with pytest.raises(
        ConfigError, match=r"on the CPU only, not on cuda.*--device cpu"
    ):
        backends.check_available("openvino", "cuda:1")
    backends.check_available("auto", "cuda:1")


@pytest.fixture
def a_backend_that_is(monkeypatch):
    """Replace openvino: ``a_backend_that_is(lambda y: y)``."""

    def make(change):
        class Other:
            def __init__(self, network):
                self.network, self.released = network, 0

            def __call__(self, x):
                return change(self.network(x))

            def release(self):
                self.released += 1

        monkeypatch.setattr(backends, "installed", lambda: True)
        monkeypatch.setattr(backends, "_converted", lambda network, _: Other(network))

    return make


@pytest.mark.parametrize(
    "change",
    [
        lambda y: y + 0.06 * y.std(),
        lambda y: y * float("nan"),
        lambda y: y[..., 1:],
        lambda y: y.bfloat16().float(),
    ],
)
def test_a_backend_that_differs_is_never_used(parts, a_backend_that_is, change):
    a_backend_that_is(change)
    ours, _ = restored(*parts, Choice("torch"))
    choice = Choice("auto")
    got, said = restored(*parts, choice, tile=(2, 20, 20))
    assert np.abs(got - ours).max() <= 1e-4
    assert choice.facts()["name"] == "torch"
    [sentence] = said
    assert choice.facts()["reason"] in sentence
    with pytest.raises((EngineError, ConfigError), match="Choose --backend torch"):
        restored(*parts, Choice("openvino"))


def test_what_was_settled_holds_for_the_next_run(parts, a_backend_that_is):
    a_backend_that_is(lambda y: y)
    choice = Choice("auto")
    assert len(restored(*parts, choice)[1]) == 1
    converted = choice.forward
    assert converted.released == 1
    assert not restored(*parts, choice)[1]
    assert choice.forward is converted
    assert converted.released == 2


@needs_openvino
def test_what_cannot_be_converted_is_said(make_network, parts):
    _, source, statistics = parts
    for network, why in (
        (make_network("conv", double=True), "double precision"),
        (without_weights(make_network("conv").spec), "without weights"),
    ):
        with pytest.raises(ConfigError, match=f"{why}.*--backend torch"):
            restored(network, source, statistics, Choice("openvino"))
    choice = Choice("auto")
    _, said = restored(without_weights(network.spec), source, statistics, choice)
    assert not said
    assert choice.facts()["name"] == "torch"


def without_weights(spec):
    import torch

    network = torch.nn.Identity().eval()
    network.spec = spec
    return network


@needs_openvino
def test_a_network_whose_trace_holds_on_to_a_size_is_found(make_network, parts):
    import torch

    class Sized(torch.nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.spec = inner, inner.spec

        def forward(self, x):
            return self.inner(x) / float(x.shape[-1])

    _, source, statistics = parts
    choice = Choice("auto")
    network = Sized(make_network("conv")).eval()
    _, [sentence] = restored(network, source, statistics, choice)
    assert choice.name == "torch"
    assert "after conversion its output differs" in sentence


@needs_openvino
def test_a_window_is_left_at_a_wish_to_stop(make_network):
    import torch

    from napari_geosr.inference.backends import openvino

    class Stop(Exception):  # noqa: N818
        pass

    def stop():
        raise Stop

    network = make_network("dilated")
    network = openvino.convert(network, 1)
    x = torch.randn(1, 1, 2500, 2500)
    whole = network(x)
    network._interrupt = stop
    with pytest.raises(Stop):
        network(x)
    network._interrupt = lambda: None
    assert torch.equal(network(x), whole)
    network.release()
    assert torch.equal(network(x), whole)


@needs_openvino
def test_cancel_keeps_the_finished_part(parts):
    network, source, statistics = parts
    whole, _ = restored(network, source, statistics, Choice("torch"))
    target, done = np.zeros_like(whole), []
    steps = restore_tiles(
        network,
        source,
        target,
        statistics=statistics,
        budget=10**9,
        tile=(1, 44, 52),
        should_stop=lambda: len(done) >= 2,
        backend=Choice("openvino", 1),
    )
    with pytest.raises(Cancelled) as caught:
        run_to_end(steps, lambda s: done.append(s) if isinstance(s, TileDone) else None)
    n = caught.value.summary.n_tiles
    assert 2 <= n < 5
    assert np.abs(target[:n] - whole[:n]).max() <= 1e-3
    assert not target[n:].any()


@needs_openvino
def test_openvino_is_imported_late_and_reports_nothing(tmp_path):
    code = (
        "import sys, torch, napari_geosr.operations.restore\n"
        "from napari_geosr.inference.backends import openvino\n"
        "assert 'openvino' not in sys.modules\n"
        "openvino._imported()\n"
        "assert 'openvino' in sys.modules\n"
        "assert 'openvino_telemetry' not in sys.modules\n"
    )
    home = {"HOME": str(tmp_path), "PATH": "", "PYTHONPATH": ":".join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=home)
    assert not (tmp_path / "intel").exists()
