"""The noise schedule: fractions of image and noise, and steps back to the image."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch

from napari_geosr.core.errors import ConfigError
from napari_geosr.learning.diffusion.schedule import Kind, Prediction, Schedule

KINDS: tuple[Kind, ...] = ("linear", "cosine")
PREDICTIONS: tuple[Prediction, ...] = ("noise", "velocity", "image")
#: Names in diffusers.
THEIR_KINDS = {"linear": "linear", "cosine": "squaredcos_cap_v2"}
THEIR_PREDICTIONS = {"noise": "epsilon", "velocity": "v_prediction", "image": "sample"}


@pytest.fixture
def image() -> torch.Tensor:
    torch.manual_seed(0)
    return torch.rand(1, 1, 9, 11, dtype=torch.float64) * 2 - 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("time", [0, 500, 999])
def test_variance_of_the_mixture(kind: Kind, time: int) -> None:
    """var x_t = signal · var x0 + 1 - signal, mean 0, for independent voxels."""
    torch.manual_seed(time)
    n, variance = 400_000, 0.25
    x0 = variance**0.5 * torch.randn(n, dtype=torch.float64)
    schedule = Schedule(kind)
    x = schedule.noised(x0, torch.randn(n, dtype=torch.float64), time)
    signal = float(schedule.signal[time])
    expected = signal * variance + 1 - signal
    assert float(x.var()) == pytest.approx(expected, rel=0.01)
    assert abs(float(x.mean())) < 5 * (expected / n) ** 0.5


def test_published_values() -> None:
    linear, cosine = Schedule("linear"), Schedule("cosine")
    assert float(linear.signal[-1]) == pytest.approx(4.04e-5, rel=2e-3)
    assert float(cosine.signal[500]) == pytest.approx(0.492, abs=1e-3)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("step", ["ddim", "ddpm", "solver"])
def test_a_perfect_network_leads_back_to_the_image(
    image: torch.Tensor, prediction: Prediction, step: str
) -> None:
    schedule = Schedule("linear", prediction)
    torch.manual_seed(1)
    times = schedule.evenly_spaced(10)
    x = schedule.noised(image, torch.randn_like(image), times[0])
    last = None
    for time, earlier in zip(times, [*times[1:], -1], strict=True):
        a, s = schedule.shares(time, x)
        output = schedule.target(image, (x - a * image) / s, time)
        x0, noise = schedule.parts(x, output, time)
        torch.testing.assert_close(a * x0 + s * noise, x)
        if step == "ddim":
            x = schedule.ddim_step(x, x0, time, earlier)
        elif step == "ddpm":
            x = schedule.ddpm_step(x, x0, time, earlier, torch.randn_like(x))
        else:
            x = schedule.solver_step(x, x0, time, earlier, last)
        last = (x0, time)
    assert float((x - image).abs().max()) < 1e-6


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_but_noise_at_the_last_time(kind: Kind, image: torch.Tensor) -> None:
    plain, zero = Schedule(kind), Schedule(kind, zero_terminal=True)
    assert float(zero.signal[-1]) == pytest.approx(0, abs=1e-15)
    assert float(zero.signal[0]) == pytest.approx(float(plain.signal[0]), rel=1e-12)
    noise = torch.ones_like(image)
    torch.testing.assert_close(zero.noised(image, noise, 999), noise)
    # the velocity still gives the image: -x0
    velocity = zero.target(image, noise, 999)
    torch.testing.assert_close(zero.parts(noise, velocity, 999)[0], image)
    for times in ([999, 500, -1], [999, 0, -1]):
        x, last = noise, None
        for time, earlier in itertools.pairwise(times):
            x = zero.solver_step(x, image, time, earlier, last)
            last = (image, time)
        torch.testing.assert_close(x, image)


def test_the_noise_of_pure_noise_says_nothing() -> None:
    with pytest.raises(ConfigError, match="velocity or image"):
        Schedule(prediction="noise", zero_terminal=True)


def test_weights_are_those_of_the_image_up_to_a_limit() -> None:
    """The weighted error of the output is min(ratio, 5) times that of the image.

    The error of the image is s/a times that of the noise, and s times that of the
    velocity.
    """
    times = torch.tensor([0, 300, 999])
    ratio = (Schedule().signal / (1 - Schedule().signal))[times]
    wanted = ratio.clamp(max=5)
    assert wanted[0] == 5 < ratio[0]
    for prediction, per_image in (
        ("image", torch.ones(3)),
        ("noise", 1 / ratio),
        ("velocity", 1 / (1 + ratio)),
    ):
        weight = Schedule(prediction=prediction).weight(times)
        torch.testing.assert_close(weight, wanted * per_image.double())


def test_times_are_spread_to_the_last() -> None:
    schedule = Schedule()
    assert schedule.evenly_spaced(4) == [999, 749, 499, 249]
    assert schedule.evenly_spaced(1000) == list(range(999, -1, -1))
    with pytest.raises(ConfigError, match="between 1 and 1000"):
        schedule.evenly_spaced(0)


def theirs(name: str, kind: Kind, prediction: Prediction, **more: Any) -> Any:
    """A scheduler of diffusers, with its float32 tables computed in float64."""
    schedulers = pytest.importorskip("diffusers")
    made = getattr(schedulers, f"{name}Scheduler")(
        beta_schedule=THEIR_KINDS[kind],
        prediction_type=THEIR_PREDICTIONS[prediction],
        **more,
    )
    tables = Schedule(kind).signal
    torch.testing.assert_close(made.alphas_cumprod.double(), tables, rtol=0, atol=1e-6)
    made.alphas_cumprod = tables
    made.one = made.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    return made


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("eta", [0.0, 1.0])
def test_ddim_equals_diffusers(
    image: torch.Tensor, kind: Kind, prediction: Prediction, eta: float
) -> None:
    other = theirs(
        "DDIM", kind, prediction, clip_sample=False, timestep_spacing="trailing"
    )
    other.set_timesteps(20)
    ours = Schedule(kind, prediction)
    times = ours.evenly_spaced(20)
    assert times == other.timesteps.tolist()
    x, noise = torch.randn_like(image), torch.randn_like(image)
    for time, earlier in zip(times, [*times[1:], -1], strict=True):
        output = 0.1 * torch.tanh(x)
        new = None if earlier < 0 else noise
        expected = other.step(
            output, time, x, eta=eta if new is not None else 0, variance_noise=new
        ).prev_sample
        x0, _ = ours.parts(x, output, time)
        x = ours.ddim_step(x, x0, time, earlier, new, eta)
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_ddpm_equals_diffusers(
    image: torch.Tensor,
    kind: Kind,
    prediction: Prediction,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    other = theirs(
        "DDPM", kind, prediction, clip_sample=False, timestep_spacing="trailing"
    )
    other.set_timesteps(25)
    module = __import__(type(other).__module__, fromlist=["randn_tensor"])
    noise = torch.randn_like(image)
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: noise)
    ours = Schedule(kind, prediction)
    times = ours.evenly_spaced(25)
    x = torch.randn_like(image)
    for time, earlier in zip(times, [*times[1:], -1], strict=True):
        output = 0.1 * torch.tanh(x)
        # at the last step, diffusers removes a whole interval but stops at time 0
        if earlier < 0:
            break
        expected = other.step(output, time, x).prev_sample
        x0, _ = ours.parts(x, output, time)
        x = ours.ddpm_step(x, x0, time, earlier, noise)
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


#: diffusers 0.42.1 converts tensors in a way that causes a warning of numpy 2.
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("steps", [8, 20])
def test_solver_equals_diffusers(
    image: torch.Tensor, kind: Kind, prediction: Prediction, steps: int
) -> None:
    other = theirs("DPMSolverMultistep", kind, prediction)
    other.set_timesteps(steps)
    ours = Schedule(kind, prediction)
    times = other.timesteps.tolist()
    signal = ours.signal[times]
    other.sigmas = torch.cat([((1 - signal) / signal).sqrt(), torch.zeros(1)]).double()
    x, last = torch.randn_like(image), None
    for time, earlier in zip(times, [*times[1:], -1], strict=True):
        output = 0.1 * torch.tanh(x)
        expected = other.step(output, time, x).prev_sample
        x0, _ = ours.parts(x, output, time)
        x = ours.solver_step(x, x0, time, earlier, last)
        last = (x0, time)
        torch.testing.assert_close(x, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_zero_terminal_equals_diffusers(kind: Kind) -> None:
    diffusers = pytest.importorskip("diffusers")
    made = diffusers.DDIMScheduler(
        beta_schedule=THEIR_KINDS[kind], rescale_betas_zero_snr=True
    )
    tables = Schedule(kind, zero_terminal=True).signal
    torch.testing.assert_close(made.alphas_cumprod.double(), tables, rtol=0, atol=1e-6)
