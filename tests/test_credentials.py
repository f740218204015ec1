"""Credentials and signatures in URLs are used, but neither displayed nor stored."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

import fusiform
from fusiform.cli import main
from fusiform.engine.errors import UserError
from fusiform.engine.store.location import location_of
from fusiform.engine.urls import Url, without_credentials

from .test_places import Ranges

SECRET = "S3cret"
BASIC = f"Basic {b64encode(f'me:{SECRET} word'.encode()).decode()}"

SHOWN = {
    f"http://me:{SECRET}@host:1/a@b": "http://host:1/a@b",
    f"https://{SECRET}@host/x": "https://host/x",
    f"https://host/x?X-Amz-Credential=me&X-Amz-Signature={SECRET}": "https://host/x",
    f"https://host/x?sig={SECRET}": "https://host/x",
    f"https://host/x#token={SECRET}": "https://host/x",
    f"s3://key:{SECRET}/{SECRET}@bucket/x": "s3://bucket/x",
    f"http://me:{SECRET}/p@ss?#@host/x": "http://host/x",
    f"HTTP://me:{SECRET}@HOST/x": "HTTP://HOST/x",
    f"tcp://me:{SECRET}@10.0.0.1:8786": "tcp://10.0.0.1:8786",
    f"http:/me:{SECRET}@host/x": "http:/host/x",  # as a path writes it
    f"/home/me/http:/me:{SECRET}@host/x": "/home/me/http:/host/x",
}
UNCHANGED = (
    *("/home/me:x@y/z", "a:b@c", "C:/me@home/x", "me@host:x", "file:///a@b?c/d", "data/a:b@c.png"),
    *("http://host:80/a@b", "http://host/a@b/c:d", "http://[::1]:80/a@b", "t > 5: a / b"),
)


@pytest.mark.parametrize("url", SHOWN)
def test_displayed_urls_have_no_credentials(url: str) -> None:
    assert without_credentials(url) == SHOWN[url]
    assert without_credentials(f"cannot reach {url} (as '{url}')").count(SHOWN[url]) == 2
    assert SECRET not in str(UserError(f"got {url}: no"))
    if "://" in url and not url.startswith("/"):
        place = location_of(url)
        assert place == location_of(place) == SHOWN[url]
        assert SECRET not in f"{place!r} {place}"


@pytest.mark.parametrize("text", UNCHANGED)
def test_texts_without_credentials_are_unchanged(text: str) -> None:
    assert without_credentials(f"got {text}") == f"got {text}"


def test_a_url_is_opened_with_its_hidden_credentials() -> None:
    url = Url(f"http://me:{SECRET}%20word@host/x/?sig={SECRET}#part")
    assert url == "http://host/x"
    for one in (url, pickle.loads(pickle.dumps(url))):
        assert one.opened() == (f"http://host/x?sig={SECRET}", {"authorization": BASIC})
    assert Url(f"s3://key:{SECRET}@bucket/x").opened() == ("s3://bucket/x", {})


class Guarded(Ranges):
    """Serve requests with the password or a signature."""

    def _may(self) -> bool:
        known = self.headers.get("Authorization") == BASIC or f"sig={SECRET}" in self.path
        if not known:
            self.send_error(403)
        return known

    def do_GET(self) -> None:  # noqa: N802
        if self._may():
            super().do_GET()

    def do_HEAD(self) -> None:  # noqa: N802
        if self._may():
            super().do_HEAD()


@pytest.fixture(scope="module")
def server(two_stores: Path) -> Iterator[str]:
    """URL of a server of two stores and a recording that requires credentials."""
    handler = partial(Guarded, directory=str(two_stores))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield f"127.0.0.1:{running.server_port}"
        running.shutdown()
        thread.join()


Run = Callable[..., int]


@pytest.fixture
def run(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[Run]:
    """Run a command in its own folder and check that its output and files hold no secret."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: Any) -> int:
        monkeypatch.setattr(sys, "argv", ["fusiform", *map(str, arguments)])
        with pytest.raises(SystemExit) as left:
            main()
        said = "".join(capfd.readouterr())
        assert SECRET not in said, said
        assert "Traceback" not in said
        return int(left.value.code or 0)

    yield run
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    kept = [path for path in files if SECRET.encode() in str(path).encode() + path.read_bytes()]
    assert kept == []


URLS = {"password": f"http://me:{SECRET}%20word@{{}}/", "signature": "http://{}/"}


@pytest.mark.parametrize("kind", URLS)
def test_no_command_prints_or_stores_credentials(
    run: Run, server: str, two_stores: Path, kind: str
) -> None:
    def at(name: str) -> str:
        return URLS[kind].format(server) + name + (f"?sig={SECRET}" if kind == "signature" else "")

    a, b, stimuli = at("a.zarr"), at("b.zarr"), two_stores / "stimuli"
    draws = ("--resamples", "5")
    commands: list[tuple[Any, ...]] = [
        ("info", a), ("info", a, "--json"), ("check", a), ("summary", a, b),
        ("summary", a, "--format", "json"), ("summary", a, "-o", "s.csv"),
        ("query", a, b, "t > 2", "--format", "csv", "-o", "q.csv"), ("query", a, b, "t > 2"),
        ("query", a, b, "t > 2", "--format", "json"),
        ("select", a, "--contrast", "blobs", "--format", "json"),
        ("compare", a, b, *draws), ("compare", a, b, *draws, "-o", "c.csv"),
        ("analyse", a, "shares", *draws, "-o", "a.csv"), ("responses", at("r.zarr"), "units"),
        ("merge", a, b, "-o", "m.zarr"), ("report", a, "-o", "x.html", "-q", *draws),
        ("record", "resnet18", stimuli, "--from", a, "--random", "3", "-o", "r.zarr"),
    ]  # fmt: skip
    codes = {command[0]: run(*command) for command in commands}
    assert codes.pop("merge") == 2  # of different networks
    assert set(codes.values()) == {0}
    recording = fusiform.open_recording("r.zarr")
    assert recording.provenance["source"]["store"] == f"http://{server}/a.zarr"


def test_no_error_message_shows_credentials(run: Run, server: str, two_stores: Path) -> None:
    stimuli = two_stores / "stimuli"
    wrong = f"http://me:{SECRET}-other@{server}/a.zarr"
    none = f"http://me:{SECRET}%20word@{server}/none.zarr?token={SECRET}"
    gone = f"http://me:{SECRET}@127.0.0.1:9/a.zarr"
    for url in (none, wrong, f"ftp://me:{SECRET}@{server}/x", f"http://me:{SECRET}@h:99999/x"):
        for command in ("info", "summary", "check"):
            assert run(command, url) in (1, 2)
    for arguments in (
        ("info", gone), ("query", gone, none, "t > 1"),
        ("scan", "resnet18", none, "-o", "s.zarr"), ("stimuli", "check", none),
        ("scan", "resnet18", stimuli, "-o", none, "--weights", "none"),
        ("scan", "resnet18", stimuli, "-o", "s.zarr", "--weights", none),
        ("scan", none, stimuli, "-o", "s.zarr"), ("layers", none),
        ("record", "resnet18", stimuli, "--from", none, "-o", "r.zarr"),
        ("stimuli", "make", none, "--size", "0"), ("report", none, "-o", none),
        ("merge", none, "-o", none),
        ("compare", none, "--roi", none), ("select", none, "--contrast", "blobs", "--save", "mine"),
        ("stimuli", "pack", none, "-o", none), ("stimuli", "scramble", none, "-o", none),
        ("plan", "resnet18", none), ("query", none, "t > 1", "--format", "csv", "-o", none),
    ):  # fmt: skip
        assert run(*arguments) in (1, 2), arguments


@pytest.mark.parametrize("arguments", ["info {0} {0}", "{0}", "info --{0}"])
def test_no_usage_error_shows_credentials(arguments: str) -> None:
    command = arguments.format(f"http://me:{SECRET}@host/x?sig={SECRET}").split()
    done = subprocess.run(
        [sys.executable, "-m", "fusiform", *command], text=True, capture_output=True, check=False
    )
    assert done.returncode == 2
    assert "http://host/x" in done.stderr
    assert SECRET not in done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["tcp://", "tls://", ""])
def test_the_address_of_a_scheduler_is_shown_without_credentials(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    from fusiform.engine.distributing import cluster

    monkeypatch.setattr(cluster, "_PATIENCE", 1)
    address = f"{scheme}me:{SECRET}@127.0.0.1:9"
    threads = threading.active_count()
    with pytest.raises(UserError, match="does not") as caught, cluster._client_of(address):
        pass
    assert SECRET not in str(caught.value)
    # A client left half open hangs a later one, when it is collected while that one starts.
    assert threading.active_count() == threads
