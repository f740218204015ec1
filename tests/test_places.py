"""Stores behind URLs, on a local S3-compatible server and a local web server."""

from __future__ import annotations

import struct
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import boto3
import google_crc32c
import numpy as np
import pytest
import torch
from moto.server import ThreadedMotoServer
from torch import nn

import fusiform
from fusiform.engine.contrasts.language.criterion import Criterion
from fusiform.engine.contrasts.select import save_contrast
from fusiform.engine.contrasts.summary import summary
from fusiform.engine.errors import UserError
from fusiform.engine.preprocessing import Preprocessing
from fusiform.engine.querying.store import Store, open_store
from fusiform.engine.scanning.progress import Listener
from fusiform.engine.store.writing.creating import StoreBlueprint
from fusiform.engine.store.writing.publishing import drafting

from . import flat
from .made import LAYERS, contents, write


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """URL of a bucket on a local S3 server."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }.items():
            patch.setenv(name, value)
        boto3.client("s3").create_bucket(Bucket="bucket")
        yield "s3://bucket"
    server.stop()


class Ranges(SimpleHTTPRequestHandler):
    """Serves byte ranges of files."""

    def do_GET(self) -> None:
        path, asked = Path(self.translate_path(self.path)), self.headers.get("Range")
        if asked is None or not path.is_file():
            return super().do_GET()
        content = path.read_bytes()
        first, _, last = asked.removeprefix("bytes=").partition("-")
        start = int(first) if first else max(len(content) - int(last), 0)
        stop = min(int(last) + 1, len(content)) if first and last else len(content)
        self.send_response(206)
        self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(content)}")
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        self.wfile.write(content[start:stop])
        return None

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """URL of a folder on a local web server."""
    handler = partial(Ranges, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:  # else the thread would keep the program alive
            server.shutdown()
            thread.join()


@pytest.fixture
def web(made_path: Path) -> Iterator[str]:
    """URL of a store's folder on a local web server."""
    with served(made_path.parent) as url:
        yield url


def same(url: str, made_path: Path) -> None:
    one, other = open_store(url), open_store(made_path)
    assert one.layers == other.layers
    for layer in LAYERS:
        for variable in ("mean", "m2", "t", "q_each", "csi", "selective_fold"):
            np.testing.assert_array_equal(one.read(layer, variable), other.read(layer, variable))
    assert summary(one) == summary(other)
    table, expected = (s.query("faces: t > 1 and csi > 0.1").units() for s in (one, other))
    assert list(table.rows()) == list(expected.rows())
    assert one.tree()["head"]["t"].equals(other.tree()["head"]["t"].compute())


@pytest.mark.smoke
def test_a_store_in_a_bucket_is_written_and_read(bucket: str, made_path: Path) -> None:
    url = f"{bucket}/results/made.zarr"
    with pytest.raises(UserError, match=f"no store at {url}"):
        open_store(url)
    with drafting(url, overwrite=False, blueprint=StoreBlueprint(**contents())) as draft:
        write(draft)
        assert fusiform.check(url).problems == ("the scan that fills it has not finished",)
    same(url, made_path)
    assert fusiform.check(url).problems == ()
    save_contrast(open_store(url), "two", Criterion("rest"), "faces > bodies")
    assert open_store(url).query("t > 1", saved="two").counts()["matching"].sum() > 0
    with (
        pytest.raises(UserError, match="`overwrite=True`"),
        drafting(url, False, StoreBlueprint(**contents())),
    ):
        pass
    with drafting(url, overwrite=True, blueprint=StoreBlueprint(**contents())) as draft:
        write(draft)
    assert open_store(url).saved == {}


def test_a_failed_scan_leaves_nothing_in_a_bucket(bucket: str) -> None:
    url = f"{bucket}/failed.zarr"
    with (
        pytest.raises(ZeroDivisionError),
        drafting(url, overwrite=False, blueprint=StoreBlueprint(**contents())),
    ):
        _ = 1 / 0
    with pytest.raises(UserError, match="no store at"):
        open_store(url)
    assert "Contents" not in boto3.client("s3").list_objects(Bucket="bucket", Prefix="failed")


def test_a_scan_into_a_bucket_resumes(bucket: str, tmp_path: Path, stimuli: Path) -> None:
    torch.manual_seed(0)
    network, url = nn.Sequential(nn.Conv2d(3, 2, 5), nn.ReLU()), f"{bucket}/scanned.zarr"
    options = {"layers": "0", "batch_size": 4, "preprocessing": Preprocessing(16, 16)}
    whole = flat.scan(network, stimuli, tmp_path / "whole.zarr", **options)
    for _ in range(2):
        shown = iter([None, 1])
        listener = Listener(progress=lambda _, shown=shown: 1 / 0 if next(shown, 0) else None)
        with pytest.raises(ZeroDivisionError) as caught:
            flat.scan(network, stimuli, url, commit_every=0, progress=listener, **options)
        assert "the same command resumes it" in caught.value.__notes__[0]
        with pytest.raises(UserError, match=r"has not finished: the same command resumes it"):
            summary(open_store(url))
    with pytest.raises(UserError, match=r"batch size: 4 and 5"):
        flat.scan(network, stimuli, url, **{**options, "batch_size": 5})
    store = flat.scan(network, stimuli, url, **options)
    assert fusiform.check(url).problems == ()
    for variable in ("mean", "m2", "t", "q_each", "selective_fold"):
        np.testing.assert_array_equal(
            store.read(store.layers[0], variable), whole.read(whole.layers[0], variable)
        )
    found = boto3.client("s3").list_objects(Bucket="bucket", Prefix="scanned.zarr/.commits")
    assert "Contents" not in found
    with pytest.raises(UserError, match="`overwrite=True`"):
        flat.scan(network, stimuli, url, **options)


def test_a_recording_into_a_bucket_resumes(bucket: str, tmp_path: Path, stimuli: Path) -> None:
    torch.manual_seed(0)
    network, url = nn.Sequential(nn.Conv2d(3, 2, 5), nn.ReLU()), f"{bucket}/recorded.zarr"
    options = {"layers": "0", "batch_size": 4, "preprocessing": Preprocessing(16, 16), "random": 9}
    whole = flat.record(network, stimuli, tmp_path / "whole.zarr", **options)
    shown = iter([None, 1])
    listener = Listener(progress=lambda _: 1 / 0 if next(shown, 0) else None)
    with pytest.raises(ZeroDivisionError):
        flat.record(network, stimuli, url, commit_every=0, progress=listener, **options)
    with pytest.raises(UserError, match="has not finished: the same command resumes it"):
        fusiform.open_recording(url)
    flat.record(network, stimuli, url, **options)
    found = fusiform.open_recording(url)
    np.testing.assert_array_equal(found.part("0"), whole.part("0"))
    np.testing.assert_array_equal(found.responses("0").compute(), whole.part("0"))
    assert fusiform.check(url).problems == ()


def test_damage_in_a_bucket_is_found(bucket: str) -> None:
    url, s3 = f"{bucket}/damaged.zarr", boto3.client("s3")
    with drafting(url, overwrite=False, blueprint=StoreBlueprint(**contents())) as draft:
        write(draft)
    s3.delete_object(Bucket="bucket", Key="damaged.zarr/head/t/c.0.0")
    s3.put_object(Bucket="bucket", Key="damaged.zarr/head/csi/c.0.0", Body=b"")
    assert fusiform.check(url).problems == tuple(
        f"head/{name}: file c.0.0 is missing or empty" for name in ("t", "csi")
    )
    for rule in ("t > 1", "csi > 0.1"):
        with pytest.raises(UserError, match="cannot read head/"):
            open_store(url).query(rule).counts()


def test_scans_are_written_and_merged_in_a_bucket(
    bucket: str, stimuli: Path, tmp_path: Path
) -> None:
    from .test_lesion import Net

    options: dict[str, Any] = {
        "layers": "head", "decode_workers": 1,
        "preprocessing": fusiform.Preprocessing(resize=32, crop=32),
    }  # fmt: skip
    here = flat.scan(Net(), stimuli, tmp_path / "here.zarr", **options)
    there = flat.scan(Net(), stimuli, f"{bucket}/there.zarr", **options)
    assert there.path == f"{bucket}/there.zarr"
    layer = here.layer("head")
    np.testing.assert_array_equal(here.read(layer, "m2"), there.read(layer, "m2"))
    conv = flat.scan(Net(), stimuli, tmp_path / "conv.zarr", **{**options, "layers": "conv"})
    merged = fusiform.merge([there.path, conv.path], f"{bucket}/merged.zarr")
    assert [layer.name for layer in merged.layers] == ["head", "conv"]
    with pytest.raises(UserError, match="is also merged: choose another output"):
        fusiform.merge([there.path, conv.path], there.path, overwrite=True)
    np.testing.assert_array_equal(merged.read(layer, "t"), here.read(layer, "t"))


def test_a_store_on_a_web_server_is_read(web: str, made_path: Path) -> None:
    same(f"{web}/made.zarr", made_path)
    with pytest.raises(UserError, match="no store at"):
        open_store(f"{web}/none.zarr")
    with (
        pytest.raises(UserError, match="web servers are read-only"),
        drafting(f"{web}/new.zarr", False, StoreBlueprint(**contents())),
    ):
        pass
    with pytest.raises(UserError, match="cannot be written to"):
        save_contrast(open_store(f"{web}/made.zarr"), "two", Criterion("rest"), "faces")


def test_invalid_urls_raise(monkeypatch: pytest.MonkeyPatch, made_path: Path) -> None:
    with pytest.raises(UserError, match="a store's URL is one of s3://"):
        open_store("ftp://somewhere/r50.zarr")
    assert open_store(f"file://{made_path}").path == made_path
    monkeypatch.setitem(sys.modules, "obstore", None)
    monkeypatch.setattr("fusiform.engine.store.location.find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'fusiform\[cloud\]'"):
        open_store("s3://bucket/r50.zarr")


@pytest.mark.smoke
def test_a_hostile_store_behind_a_url_is_refused(own_store: Store) -> None:
    folder = own_store.path
    assert isinstance(folder, Path)
    bomb = folder / "head" / "mean" / "c.0.0.0"
    content = bytearray(bomb.read_bytes())
    start, length = struct.unpack("<QQ", content[-20:-4])
    content[start + 4 : start + 8] = struct.pack("<I", 2**31 - 1)  # declared decoded bytes
    checksum = google_crc32c.value(bytes(content[start : start + length - 4]))
    content[start + length - 4 : start + length] = struct.pack("<I", checksum)
    bomb.write_bytes(content)
    texts = folder / "stimulus_path" / "c.0"
    content = bytearray(texts.read_bytes()[:-4])
    content[:4] = struct.pack("<I", 2**32 - 1)
    texts.write_bytes(content + struct.pack("<I", google_crc32c.value(bytes(content))))
    (folder / "head" / "t" / "c.0.0").write_bytes(b"short")
    with served(folder.parent) as url:
        store = open_store(f"{url}/{folder.name}")
        assert fusiform.info(store.path).files is None
        with pytest.raises(UserError, match="cannot read head/mean"):
            summary(store, Criterion("rest", "t > 1"))
        with pytest.raises(UserError, match="says it holds 4,294,967,295 texts"):
            store.stimulus_column("stimulus_path")
        with pytest.raises(UserError, match="is cut short"):
            store.query("t > 1").counts()
        assert {problem.partition(":")[0] for problem in fusiform.check(store.path).problems} == {
            "head/mean", "head/t", "stimulus_path",
        }  # fmt: skip
        (folder / "zarr.json").write_text("[" * 100_000)
        with pytest.raises(UserError, match="nested too deep"):
            open_store(f"{url}/{folder.name}")
