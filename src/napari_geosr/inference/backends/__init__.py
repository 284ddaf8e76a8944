"""Backends that replace torch, checked against the network itself.

A run that may use another backend computes its first tile with torch. If conversion is
requested or may save time, the network is converted, the same tile is computed again
and the two results are compared. The decision applies to the whole run and is recorded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from napari_geosr.core.errors import Cancelled, ConfigError, EngineError, GeoSRError
from napari_geosr.core.types import AnyArray, AnyDict
from napari_geosr.inference import compute
from napari_geosr.inference.backends.agreement import (
    ConversionError,
    agree,
    differences,
)
from napari_geosr.inference.memory import network_spec

if TYPE_CHECKING:
    import torch
    from torch import nn

    from napari_geosr.inference.backends.openvino import ConvertedNetwork

    Forward = Callable[[torch.Tensor], torch.Tensor]

Array = AnyArray
Setting = Literal["auto", "torch", "openvino"]
AUTO: Setting = "auto"
TORCH: Setting = "torch"
OPENVINO: Setting = "openvino"

#: Memory in bytes that openvino needs regardless of the window size: importing it, the
#: graph and the kernels took 20 to 56 MB. Its memory per window was below the
#: prediction of the memory model for torch.
FIXED_BYTES = 64 * 10**6
#: Shortest remaining time of a run, in seconds, for which `auto` tries openvino:
#: converting and checking the network takes a few seconds.
MIN_REMAINING_SECONDS = 60.0
#: Smallest speed-up for which `auto` uses openvino; larger than the scatter of short
#: timings.
MIN_SPEED_UP = 1.05


def installed() -> bool:
    """Whether openvino can be imported (checked without importing it)."""
    try:
        return find_spec("openvino") is not None
    except ValueError:  # partly imported, or replaced in `sys.modules`
        return False


def check_available(setting: Setting, device: str) -> None:
    """Raise `ConfigError` if the chosen backend cannot run at all."""
    if setting != OPENVINO:
        return
    if device != "cpu":
        raise ConfigError(
            f"The backend openvino runs on the CPU only, not on {device}: set the "
            "device to cpu (--device cpu), or choose --backend torch."
        )
    if not installed():
        raise ConfigError(
            "The backend openvino is not installed. Install it (pip install "
            '"napari-geosr[openvino]"), or choose --backend torch.'
        )


class TimedForward:
    """A forward pass that records how long its calls take.

    Attributes
    ----------
    restore_core : callable or None
        Like `forward`, but computes only the required part of the output; None for
        networks that cannot do this.
    """

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        core = getattr(forward, "restore_core", None)
        self.restore_core = None if core is None else partial(self._timed, core)
        self.n_calls, self.total, self.best = 0, 0.0, math.inf

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Call the forward pass and record how long it takes."""
        return self._timed(self._forward, x)

    def _timed(
        self, forward: Callable[..., torch.Tensor], *given: object
    ) -> torch.Tensor:
        start = time.perf_counter()
        y = forward(*given)
        elapsed = time.perf_counter() - start
        self.n_calls += 1
        self.total += elapsed
        self.best = min(self.best, elapsed)
        return y


@dataclass(frozen=True)
class FirstTile:
    """The first tile of a run, computed by torch, and the remaining work.

    Attributes
    ----------
    ours : ndarray
        The tile's values, still standardised.
    torch : TimedForward
        The forward pass that computed it.
    again : callable
        Computes the same tile with another forward pass.
    n_remaining : int
        Number of remaining tiles of about this size.
    free_bytes : float
        Unused part of the memory budget, in bytes.
    """

    ours: Array
    torch: TimedForward
    again: Callable[[Forward], Array]
    n_remaining: int
    free_bytes: float


class Choice:
    """The backend of a run, chosen after the first tile has been computed.

    Parameters
    ----------
    setting : {"auto", "torch", "openvino"}
    threads : int, optional
        As in `napari_geosr.inference.runner.restore_tiles`.
    n_runs : int
        Number of runs that share this network and choice, such as the time points of a
        series.

    Attributes
    ----------
    name : str
        Name of the backend; ``""`` until it is chosen.
    forward : callable or None
        Called instead of the network; None if the network itself is used.
    """

    def __init__(
        self, setting: Setting = TORCH, threads: int | None = None, n_runs: int = 1
    ) -> None:
        self.setting, self.threads, self.n_runs = setting, threads, n_runs
        self.name: str = ""
        self.forward: Forward | None = None
        self._converted: ConvertedNetwork | None = None
        self._facts: AnyDict = {}
        if setting == TORCH:
            self._use_torch()

    @property
    def fixed_bytes(self) -> int:
        """Memory to reserve for the backend, in bytes."""
        return FIXED_BYTES if OPENVINO in (self.setting, self.name) else 0

    def facts(self) -> AnyDict:
        """Return the entries for the record of a run."""
        undecided = OPENVINO if self.setting == OPENVINO else TORCH
        return {"name": self.name or undecided, **self._facts}

    def release(self) -> None:
        """Release the memory for windows between runs that share this backend."""
        if self._converted is not None:
            self._converted.release()

    def choose(
        self, network: nn.Module, device: str, tile: FirstTile
    ) -> tuple[Array, str]:
        """Choose a backend; return the tile's values and a message, which may be empty.

        Raises
        ------
        ConfigError, EngineError
            If openvino was requested explicitly but cannot compute the network, or its
            result differs.
        """
        check_available(self.setting, device)
        if self.setting == AUTO:
            # There is no message, because openvino was neither requested nor tried.
            reason = self._reason_against(network, device, tile)
            if reason is not None:
                self._use_torch(reason)
                return tile.ours, ""
        try:
            return self._try_openvino(network, tile)
        except ConversionError as error:
            if self.setting == OPENVINO:
                raise ConfigError(
                    f"The backend openvino cannot run the network "
                    f"{type(network).__name__}: {error}. Choose --backend torch."
                ) from error
            reason = str(error)
        self._use_torch(reason)
        return tile.ours, f"Computed with torch instead of openvino: {reason}."

    def _reason_against(
        self, network: nn.Module, device: str, tile: FirstTile
    ) -> str | None:
        """Return why `auto` rejects openvino; None if it is to be tried.

        The reason is empty if openvino is not installed; the user is then not told.
        """
        if not installed():
            return ""
        if device != "cpu":
            return f"openvino does not run on {device}"
        if next(network.parameters(), None) is None:
            return "the network is a filter without weights"
        if tile.torch.total * tile.n_remaining * self.n_runs < MIN_REMAINING_SECONDS:
            return "the run is too short for a conversion"
        return None

    def _try_openvino(self, network: nn.Module, tile: FirstTile) -> tuple[Array, str]:
        if self.setting == AUTO and tile.free_bytes < FIXED_BYTES:
            raise ConversionError("the memory budget is too small for it")
        converted = _converted(network, self.threads)
        forward = TimedForward(converted)
        try:
            openvino_values = tile.again(forward)
            if forward.n_calls == 1:  # the first call for a new shape compiles kernels
                openvino_values = tile.again(forward)
        except Cancelled:
            raise
        except GeoSRError as error:
            raise ConversionError(str(error).rstrip(".")) from error
        largest, rms = differences(openvino_values, tile.ours)
        facts = {
            "largest_difference": largest,
            "rms_difference": rms,
            "speed": tile.torch.best / forward.best,
        }
        if not agree(largest, rms):
            disagreement = (
                f"it differs from torch by up to {largest:.2g} standard deviations "
                f"(rms {rms:.2g}) on the first tile"
            )
            if self.setting == OPENVINO:
                raise EngineError(
                    f"The backend openvino cannot be used for "
                    f"{type(network).__name__}: {disagreement}. Choose --backend torch."
                )
            raise ConversionError(disagreement)
        gain = facts["speed"]
        if self.setting == AUTO and gain < MIN_SPEED_UP:
            raise ConversionError(f"it is not faster here ({gain:.2g} × as fast)")
        self.name, self.forward, self._converted = OPENVINO, converted, converted
        self._facts = {"version": openvino_version(), **facts}
        return openvino_values, (
            f"Computed with openvino {openvino_version()}, {gain:.2g} × as fast as "
            f"torch on the first tile; results differ by at most {largest:.1g} "
            "standard deviations."
        )

    def _use_torch(self, reason: str = "") -> None:
        self.name, self.forward = TORCH, None
        self._facts = {"reason": reason} if reason else {}


def openvino_version() -> str:
    """Return the installed version of openvino, for the record of a run."""
    try:
        return version("openvino")
    except PackageNotFoundError:
        return "unknown"


def _converted(network: nn.Module, threads: int | None) -> ConvertedNetwork:
    """Convert the network for openvino.

    Raises
    ------
    ConversionError
        If the network cannot be converted; the message states the reason.
    """
    from napari_geosr.inference.backends.openvino import convert

    spec = network_spec(network)
    if next(network.parameters(), None) is None:
        raise ConversionError("it is a filter without weights")
    if compute.network_dtype(network) != "float32":
        raise ConversionError("it computes in double precision")
    if spec.at_once is not None:
        raise ConversionError("it splits its input into windows itself")
    return convert(network, compute.threads_used(threads), compute.interrupt)
