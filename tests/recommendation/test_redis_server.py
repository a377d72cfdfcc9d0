import sys

import pytest

from reelseek.recommendation.redis_server import (
    RedisAddress,
    RedisServer,
    RedisUnavailable,
    is_redis,
    parse_address,
)
from tests.recommendation.redis_servers import OPTIONS, Server, free_port, needs_redis


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
    ],
)
def test_another_address_is_refused(url):
    with pytest.raises(ValueError, match=r"^events=.*must be redis://HOST"):
        parse_address("events", url)


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
