"""Run a network with openvino on the CPU in single precision."""

from __future__ import annotations

import copy
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import numpy as np

from napari_geosr.inference.backends.agreement import (
    ConversionError,
    agree,
    differences,
)
from napari_geosr.inference.memory import network_spec, probe_window
from napari_geosr.networks.layers.mixed_scale import plain_layers

if TYPE_CHECKING:
    import torch
    from torch import nn

#: Approximate edge length, in voxels, of the window used to trace the network.
_TRACE_EDGE = {2: 48, 3: 16}
#: Number of strides by which trial windows exceed the traced window along each axis, to
#: reveal a trace with a hard-coded input size.
_TRIALS = ((1, 2, 3), (4, 1, 2))
#: Interval between checks for a request to stop, in milliseconds.
_POLL_MS = 50


class ConvertedNetwork:
    """A converted network; called like the original, but by only one thread at a time.

    Parameters
    ----------
    compiled : openvino.CompiledModel
    interrupt : callable
        Called many times a second while a window is computed; may raise to stop it.
    """

    def __init__(self, compiled: Any, interrupt: Callable[[], None]) -> None:
        self._compiled, self._interrupt = compiled, interrupt
        self._request: Any = None

    def release(self) -> None:
        """Release memory held for the next window."""
        self._request = None
        self._compiled.release_memory()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Return the network's output for a window."""
        import torch

        array = np.ascontiguousarray(x.numpy())  # openvino reads its memory
        if self._request is None:
            self._request = self._compiled.create_infer_request()
        request = self._request
        request.start_async([array], share_inputs=True)
        try:
            while not request.wait_for(_POLL_MS):
                self._interrupt()
        except BaseException:
            request.cancel()
            with suppress(RuntimeError):  # `wait` reports the cancellation
                request.wait()
            raise
        # Copy the output, because the next window is written into the same memory.
        return torch.from_numpy(request.get_output_tensor(0).data.copy())


def convert(
    network: nn.Module, threads: int, interrupt: Callable[[], None] = lambda: None
) -> ConvertedNetwork:
    """Convert a network in its current state, including the noise level set for it.

    The result accepts windows of any size. It has been compared with the network on
    small windows that differ in size from the traced one.

    Parameters
    ----------
    network : nn.Module
        Network on the CPU.
    threads : int
        Number of CPU threads.
    interrupt : callable
        Called many times a second while a window is computed; may raise to stop it.

    Raises
    ------
    ConversionError
        If openvino cannot compute it, or the results differ.
    """
    import torch

    spec = network_spec(network)
    base = probe_window(spec, _TRACE_EDGE[len(spec.axes)])
    try:
        with warnings.catch_warnings(), torch.no_grad():
            # Ignore tracer warnings: the trial windows check the tracer's assumptions.
            warnings.simplefilter("ignore")
            openvino = _import_openvino()
            # Another thread may be using the network, for a preview.
            copied = copy.deepcopy(network)
            with plain_layers(copied):
                example = _example(spec.adjacent_slices, base)
                trace: Any = torch.jit.trace
                traced = trace(copied, example, check_trace=False, strict=False)
            model = openvino.convert_model(traced, example_input=example)
        any_size = [1, spec.adjacent_slices, *[-1] * len(base)]
        model.reshape(openvino.PartialShape(any_size))
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # bfloat16 would change results by 6 %
            "INFERENCE_NUM_THREADS": threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # leave cores to other programs
        }
        compiled = openvino.Core().compile_model(model, "CPU", settings)
        converted = ConvertedNetwork(compiled, interrupt)
        for more in _TRIALS:
            size = tuple(
                n + k * s for n, k, s in zip(base, more, spec.stride, strict=False)
            )
            x = _example(spec.adjacent_slices, size)
            with torch.no_grad():
                torch_output = network(x).numpy()
            difference = differences(converted(x).numpy(), torch_output)
            if not agree(*difference):
                raise ConversionError(
                    "after conversion its output differs by up to "
                    f"{difference[0]:.2g} on a window of {size} voxels"
                )
    except (ConversionError, MemoryError):
        raise
    except Exception as error:  # torch's tracer and openvino may raise any error
        reason = " ".join(str(error).split())[:200]
        raise ConversionError(
            f"it cannot be converted ({type(error).__name__}: {reason})"
        ) from error
    return converted


def _example(channels: int, size: tuple[int, ...]) -> torch.Tensor:
    """Return a test image: structure and noise with grey values typical of inputs."""
    import torch

    waves = torch.ones(size)
    for axis, n in enumerate(size):
        wave = torch.sin(torch.linspace(0, 7, n))
        waves = waves * wave.reshape([-1 if i == axis else 1 for i in range(len(size))])
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn((1, channels, *size), generator=generator)
    return 1.5 * waves.expand(1, channels, *size) + 0.3 * noise


def _import_openvino() -> Any:
    with _no_telemetry():
        import openvino
    return openvino


@contextmanager
def _no_telemetry() -> Iterator[None]:
    """Import openvino as if its telemetry were not installed.

    Otherwise, the import and each conversion would be reported to Google Analytics.
    """
    name = "openvino_telemetry"
    hidden = name not in sys.modules
    if hidden:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if hidden:
            del sys.modules[name]
