"""What a person set for each method while the Train dock is open. No Qt here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from napari_geosr.core.config import Config
from napari_geosr.core.errors import ConfigError
from napari_geosr.operations.train.fine_tune import OF_THE_NETWORK

#: They say what is trained, not how.
_OWN = frozenset({"name", "from_model", "labels"})


class MethodMemory:
    """Keeps the values of every method, and carries over what was set by hand.

    A value set by hand is taken to the next method if that one has such a field, was
    not given another value by hand, and accepts it; settings of the network only if
    its network is the same.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, Any]] = {}
        self._by_hand: dict[str, set[str]] = {}
        self._shown, self._start = "", dict[str, Any]()
        self._carried: dict[str, Any] = {}
        self._network: Any = None

    def enter(
        self, key: str, kind: type[Config], start: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return the values to show for a method.

        Parameters
        ----------
        key : str
            The method, and what it is used for.
        kind : type of Config
            What validates them.
        start : mapping
            Values where it was not looked at yet.
        """
        values = dict(self._values.get(key, start))
        own = self._by_hand.get(key, set()) | _OWN
        if values.get("network") != self._network:
            own |= OF_THE_NETWORK
        for name, value in self._carried.items():
            if (
                name in values
                and name not in own
                and _is_valid(kind, values, name, value)
            ):
                values[name] = value
        self._shown, self._start = key, dict(values)
        return values

    def begin(self, values: Mapping[str, Any]) -> None:
        """Say what is shown now without having been set by hand."""
        self._start = self._start | dict(values)

    def leave(self, values: Mapping[str, Any]) -> None:
        """Note what is shown of the method entered last, as the person left it."""
        if not self._shown:
            return
        changed = {k for k, v in values.items() if v != self._start.get(k)}
        self._values[self._shown] = dict(values)
        self._by_hand.setdefault(self._shown, set()).update(changed)
        self._carried |= {name: values[name] for name in changed}
        if changed & OF_THE_NETWORK:
            self._network = values.get("network")


def _is_valid(
    kind: type[Config], values: Mapping[str, Any], name: str, value: Any
) -> bool:
    try:
        kind.create(**{**values, name: value})
    except ConfigError:
        return False
    return True
