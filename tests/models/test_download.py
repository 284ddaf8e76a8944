"""Downloads use public https addresses, with limits of size and time."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from napari_geosr.core.errors import Cancelled, ModelError
from napari_geosr.core.steps import never_stop
from napari_geosr.models.foreign import download

httpx = pytest.importorskip("httpx", reason="httpx is not installed (extra zoo)")
Answer = Callable[[Any], Any]
PUBLIC, INSIDE = "93.184.215.14", "192.168.0.7"
#: Addresses that names resolve to.
NAMES = {"example.org": PUBLIC, "cdn.example.org": PUBLIC, "inside.example.org": INSIDE}


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], list[str]]]:
    """Let a function respond for all servers; returns the requested addresses."""
    clients = []

    def start(answer: Answer) -> list[str]:
        asked: list[str] = []

        def noted(request: Any) -> Any:
            asked.append(str(request.url))
            return answer(request)

        client = httpx.Client(transport=httpx.MockTransport(noted))
        clients.append(client)
        monkeypatch.setattr(httpx, "stream", client.stream)
        monkeypatch.setattr(download.socket, "getaddrinfo", _resolve)
        monkeypatch.setattr(download, "getproxies", dict)
        return asked

    yield start
    for client in clients:
        client.close()


def _resolve(host: str, port: int, **_how: Any) -> list[Any]:
    return [(2, 1, 6, "", (NAMES[host], port))]


def fetch(address: str, folder: Path, **how: Any) -> bytes:
    path = folder / "file"
    download.download(address, path, how.pop("should_stop", never_stop), **how)
    return path.read_bytes()


def test_a_file_comes_as_it_is_also_from_another_place(
    serve: Any, tmp_path: Path
) -> None:
    def answer(request: Any) -> Any:
        if request.url.host == "example.org":
            return httpx.Response(
                302, headers={"location": "https://cdn.example.org/b"}
            )
        return httpx.Response(200, content=b"weights")

    asked = serve(answer)
    assert fetch("https://example.org/a", tmp_path) == b"weights"
    assert asked == ["https://example.org/a", "https://cdn.example.org/b"]


@pytest.mark.parametrize(
    "place",
    [
        "http://example.org/b",
        "https://127.0.0.1/b",
        "https://[::1]/b",
        "https://[::ffff:10.0.0.1]/b",
        "https://[64:ff9b::a00:1]/b",
        "https://169.254.169.254/latest/meta-data",
        "https://inside.example.org/b",
        "ftp://example.org/b",
        "file:///etc/passwd",
    ],
)
@pytest.mark.parametrize("led", [False, True], ids=["given", "led there"])
def test_private_and_unguarded_addresses_are_not_asked(
    serve: Any, tmp_path: Path, place: str, led: bool
) -> None:
    def answer(_request: Any) -> Any:
        return httpx.Response(302, headers={"location": place})

    asked = serve(answer)
    address = "https://example.org/a" if led else place
    with pytest.raises(ModelError, match=r"private network|not an https URL"):
        fetch(address, tmp_path)
    assert asked == (["https://example.org/a"] if led else [])


def test_a_name_that_changes_its_meaning_is_noticed() -> None:
    class Stream:
        def get_extra_info(self, _what: str) -> tuple[str, int]:
            return INSIDE, 443

    class Response:
        extensions = {"network_stream": Stream()}  # noqa: RUF012
        url = httpx.URL("https://example.org/a")

    with pytest.raises(ModelError, match="private network"):
        download._check_peer(Response(), "https://example.org/a")


def test_addresses_that_lead_in_a_circle_are_given_up(
    serve: Any, tmp_path: Path
) -> None:
    asked = serve(lambda _: httpx.Response(302, headers={"location": "/a"}))
    with pytest.raises(ModelError, match="more than 5 times"):
        fetch("https://example.org/a", tmp_path)
    assert len(asked) == 6


def test_a_file_that_says_to_be_too_large_is_not_read(
    serve: Any, tmp_path: Path
) -> None:
    read = []

    def body() -> Iterator[bytes]:
        read.append(1)
        yield b"x"

    serve(
        lambda _: httpx.Response(
            200, headers={"content-length": str(10**12)}, content=body()
        )
    )
    with pytest.raises(ModelError, match=r"larger than 2 GB"):
        fetch("https://example.org/a", tmp_path)
    assert not read


@pytest.mark.parametrize("limit", [5, None])
def test_a_file_that_does_not_say_so_is_cut_off(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: int | None
) -> None:
    monkeypatch.setattr(download, "MAX_WEIGHTS_BYTES", 10)
    sent = []

    def body() -> Iterator[bytes]:
        for _ in range(1000):
            sent.append(1)
            yield b"xxxx"

    serve(lambda _: httpx.Response(200, content=body()))
    with pytest.raises(ModelError, match=f"larger than {limit or 10} B"):
        fetch("https://example.org/a", tmp_path, limit=limit)
    assert len(sent) < 10


def test_a_packed_answer_is_refused(serve: Any, tmp_path: Path) -> None:
    headers = {"content-encoding": "gzip"}
    serve(lambda _: httpx.Response(200, headers=headers, stream=httpx.ByteStream(b"x")))
    with pytest.raises(ModelError, match="sent compressed"):
        fetch("https://example.org/a", tmp_path)


def test_a_server_that_never_ends_is_given_up(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def body() -> Iterator[bytes]:
        while True:
            now[0] += 100.0
            yield b"x"

    serve(lambda _: httpx.Response(200, content=body()))
    with pytest.raises(ModelError, match="longer than 30 minutes"):
        fetch("https://example.org/a", tmp_path)


def test_a_stop_is_heard_at_each_piece(serve: Any, tmp_path: Path) -> None:
    serve(lambda _: httpx.Response(200, content=b"x"))
    with pytest.raises(Cancelled):
        fetch("https://example.org/a", tmp_path, should_stop=lambda: True)


def test_behind_a_proxy_names_need_not_be_known_here(
    serve: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve(lambda _: httpx.Response(200, content=b"x"))

    def unknown(*_given: Any, **_how: Any) -> Any:
        raise download.socket.gaierror("no such name")

    monkeypatch.setattr(download.socket, "getaddrinfo", unknown)
    with pytest.raises(ModelError, match="cannot be downloaded"):
        fetch("https://example.org/a", tmp_path)
    monkeypatch.setattr(download, "getproxies", lambda: {"https": "http://10.0.0.1"})
    monkeypatch.setattr(download, "proxy_bypass", lambda _host: False)
    assert fetch("https://example.org/a", tmp_path) == b"x"
