import shutil
import subprocess
import sys

import pytest

from reelseek.recommendation.events.opening import check_readable, open_log
from reelseek.recommendation.learning.redis_files import published_files
from reelseek.recommendation.redis_server import (
    RedisAddress,
    RedisServer,
    RedisUnavailable,
    is_redis,
    parse_address,
)
from tests.recommendation.events.event_writer import make_event
from tests.recommendation.redis_servers import (
    OPTIONS,
    Server,
    free_port,
    needs_redis,
    wait_until,
)


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("redis://a", RedisAddress((("a", 6379),))),
        ("redis://a:1/", RedisAddress((("a", 1),))),
        ("rediss://[::1]:1/3", RedisAddress((("::1", 1),), "", 3, True)),
        ("redis+sentinel://a,b:2/name", RedisAddress((("a", 26379), ("b", 2)), "name")),
        ("rediss+sentinel://a/name/4", RedisAddress((("a", 26379),), "name", 4, True)),
    ],
)
def test_an_address_is_read(url, address):
    assert is_redis(url)
    assert parse_address("events", url) == address
    assert parse_address("events", str(address).replace("::1", "[::1]")) == address


@pytest.mark.parametrize(
    "url",
    [
        "redis://",
        "redis://a,b",
        "redis://a/x",
        "redis://a/0/1",
        "redis://a?db=1",
        "redis://a:port",
        "redis+sentinel://a",
        "redis+sentinel://a/",
        "redis+sentinel://a/name/x",
        "redis://a?ssl_ca_certs=ca.pem",
        "rediss://a?",
        "rediss://a?ssl_cert_reqs=none",
        "rediss://a#ssl_ca_certs=ca.pem",
    ],
)
def test_another_address_is_refused(url):
    with pytest.raises(ValueError, match=r"^events=.*must be redis://HOST"):
        parse_address("events", url)


def test_an_address_names_the_files_of_tls(tmp_path):
    ca, key = tmp_path / "a ca.pem", tmp_path / "key.pem"
    ca.touch()
    url = f"rediss+sentinel://a/name?ssl_ca_certs={ca}&ssl_keyfile={key}"
    with pytest.raises(ValueError, match=r"^events=.*key.pem: no such file"):
        parse_address("events", url)
    key.touch()
    address = parse_address("events", url)
    assert dict(address.tls_files) == {"ssl_ca_certs": str(ca), "ssl_keyfile": str(key)}
    assert " " not in str(address)
    assert parse_address("events", str(address)) == address


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    """A folder with an authority of its own, and certificates of a server and of a client."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str, *options: str) -> None:
        subprocess.run(
            [
                *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
                *("-nodes", "-days", "2", "-subj", f"/CN={name}", "-out", f"{name}.pem"),
                *("-keyout", f"{name}.key", *options),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
        )

    make("ca")
    by_authority = ("-CA", "ca.pem", "-CAkey", "ca.key")
    make("server", "-addext", "subjectAltName=IP:127.0.0.1", *by_authority)
    make("client", *by_authority)
    return folder


@pytest.fixture
def encrypted(tmp_path, certificates):
    """The port at which a master, which has a replica, speaks TLS with clients that it knows."""
    port = free_port()
    files = (
        ("tls-cert-file", "server.pem"),
        ("tls-key-file", "server.key"),
        ("tls-ca-cert-file", "ca.pem"),
    )
    options = [text for name, file in files for text in (f"--{name}", str(certificates / file))]
    master = Server(tmp_path / "a", *OPTIONS, "--tls-port", str(port), *options)
    replica = Server(tmp_path / "b", *OPTIONS)
    try:
        master.start()
        replica.start("--replicaof", "127.0.0.1", str(master.port))
        wait_until(lambda: master.num_replicas() == 1)
        yield port
    finally:
        master.kill()
        replica.kill()


@needs_redis
def test_events_and_models_are_kept_over_tls(encrypted, certificates):
    bare = f"rediss://127.0.0.1:{encrypted}/0"
    trusting = f"{bare}?ssl_ca_certs={certificates / 'ca.pem'}"
    client = (
        f"&ssl_certfile={certificates / 'client.pem'}&ssl_keyfile={certificates / 'client.key'}"
    )
    for url, message in (
        (bare, "certificate verify failed"),
        (trusting.replace("127.0.0.1", "localhost") + client, "certificate verify failed"),
        (trusting, ""),  # the server asks for one, and closes; how that reads differs
        (f"redis://127.0.0.1:{encrypted}", ""),
    ):
        with pytest.raises(ValueError, match=rf"^events=rediss?://.*{message}"):
            check_readable(url)
    log = open_log(trusting + client)
    log.append([make_event("a")])
    assert [each.event.event_id for each in log.read()] == ["a"]
    assert log.delete_user("nobody") == 0
    log.close()
    files = published_files("publish", trusting + client)
    files.begin(1)
    files.write("snapshot", bytes(3 << 20), epoch=1)
    files.write_status(b"{}", epoch=1, kept_seconds=9)
    assert files.read("snapshot") == bytes(3 << 20)
    assert files.read_status()[0] == b"{}"
    files.close()


def test_a_password_is_neither_taken_from_an_address_nor_shown():
    with pytest.raises(ValueError, match="REDIS_PASSWORD") as raised:
        parse_address("events", "redis://user:s3cret@a")
    assert "s3cret" not in str(raised.value)


def test_paths_are_no_addresses():
    assert not any(map(is_redis, ("redis", "/redis://a", "redis:", "s3://a", "./redis:/a")))


def test_what_to_install_is_said(monkeypatch):
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(ImportError, match=r"pip install 'reelseek\[redis\]'") as raised:
        RedisServer(parse_address("events", "redis://a"))
    assert raised.value.name is None  # as `command_line.run` tells ours by


@needs_redis
@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--appendonly", "yes"), "appendfsync is 'everysec'; must be 'always'"),
        (("--appendfsync", "always"), "appendonly is 'no'; must be 'yes'"),
        ((*OPTIONS, "--maxmemory", "1gb", "--maxmemory-policy", "allkeys-lru"), "noeviction"),
    ],
)
def test_a_server_that_could_lose_events_is_refused(tmp_path, options, message):
    server = Server(tmp_path, *options).start()
    try:
        found = RedisServer(parse_address("events", f"redis://127.0.0.1:{server.port}"))
        with pytest.raises(ValueError, match=message):
            found.check("events")
    finally:
        server.kill()


@needs_redis
def test_a_password_comes_from_the_environment(tmp_path, monkeypatch):
    server = Server(tmp_path, *OPTIONS).start()
    server.call("CONFIG", "SET", "requirepass", "s3cret")
    try:
        address = parse_address("events", f"redis://127.0.0.1:{server.port}")
        with pytest.raises(ValueError, match="Authentication required"):
            RedisServer(address).check("events")
        monkeypatch.setenv("REDIS_PASSWORD", "s3cret")
        RedisServer(address).check("events")
    finally:
        server.kill()


@needs_redis
@pytest.mark.parametrize("url", ["redis://127.0.0.1:{}", "redis+sentinel://127.0.0.1:{}/name"])
def test_a_server_that_is_not_there(url):
    address = parse_address("events", url.format(free_port()))
    with pytest.raises(RedisUnavailable) as raised:
        RedisServer(address).call("PING")
    assert "\n" not in str(raised.value)
    with pytest.raises(ValueError, match=r"^events=redis"):
        RedisServer(address).check("events")
