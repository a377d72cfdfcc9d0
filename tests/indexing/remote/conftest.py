"""A bucket on loopback, spoken to in S3's protocol, and one behind a proxy that fails."""

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.faulty_proxy import FaultyProxy
from reelseek.indexing import IndexSummary
from reelseek.indexing.remote.fetching import RemoteOptions
from reelseek.indexing.remote.sources import read_remote_sources
from tests.conftest import COLOURS, write_colours
from tests.indexing.conftest import ColourIndex

QUICK = RemoteOptions(disk_bytes=64 << 20, parallel=4, attempts=8, timeout_seconds=1.0)


class Bucket:
    """A bucket of a server on this machine.

    Attributes:
        url: of the bucket.
        address: of the server.
    """

    def __init__(self, client: Any, name: str, address: tuple[str, int]) -> None:
        self.client, self.name, self.address = client, name, address
        self.url = f"s3://{name}"
        client.create_bucket(Bucket=name)

    def put(self, key: str, content: bytes | Path) -> None:
        data = content.read_bytes() if isinstance(content, Path) else content
        self.client.put_object(Bucket=self.name, Key=key, Body=data)

    def delete(self, key: str) -> None:
        self.client.delete_object(Bucket=self.name, Key=key)

    def all_keys(self) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket=self.name)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def read(self, key: str) -> bytes:
        return self.client.get_object(Bucket=self.name, Key=key)["Body"].read()


@pytest.fixture(scope="session")
def s3_server() -> Iterator[tuple[str, int]]:
    """Address of a server that speaks S3's protocol."""
    pytest.importorskip("s3fs", reason="s3fs is not installed (pip install 'reelseek[remote]')")
    server_module = pytest.importorskip("moto.server", reason="moto[server] is not installed")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = server_module.ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield server.get_host_and_port()
    server.stop()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    """Made-up credentials, and none of the user's."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "made-up-key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "made-up-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


@pytest.fixture
def bucket(
    s3_server: tuple[str, int],
    credentials: None,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> Bucket:
    """An empty bucket, at the address that the environment gives."""
    boto3 = pytest.importorskip("boto3")
    endpoint = "http://{}:{}".format(*s3_server)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    name = f"bucket-{abs(hash(request.node.nodeid))}"
    return Bucket(boto3.client("s3", endpoint_url=endpoint), name, s3_server)


@pytest.fixture
def proxied(
    bucket: Bucket, s3_server: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyProxy]:
    """A proxy before the bucket, which the environment names; without faults so far."""
    with FaultyProxy(s3_server) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        yield proxy


@pytest.fixture(scope="session")
def made_films(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("films")
    red, green, blue = COLOURS.values()
    pairs = [(a, b) for a in (red, green, blue) for b in (red, green, blue)]
    return [
        write_colours(folder / f"{i:02}.mp4", [pairs[i % 9][0]] * (3 + i) + [pairs[i % 9][1]] * 3)
        for i in range(12)
    ]


@pytest.fixture
def films(made_films: list[Path], tmp_path: Path) -> list[Path]:
    """Twelve different films of a few KB, this test's own."""
    return [Path(shutil.copy(film, tmp_path)) for film in made_films]


def index_urls(
    index: ColourIndex,
    *urls: str,
    options: RemoteOptions = QUICK,
    images: bool = False,
    **more: Any,
) -> IndexSummary:
    """Runs the indexer on URLs."""
    sources = read_remote_sources(urls, options, images=images)
    return index.update(remote_sources=sources, remote_options=options, **more)
