"""Which requests are refused before the application sees them."""

import asyncio
import json
import time
from dataclasses import replace
from types import SimpleNamespace

import httpx
import pytest
from fastapi import Depends, FastAPI
from fastapi.responses import JSONResponse
from starlette.requests import ClientDisconnect

import reelseek.serving.__main__
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.serving.errors import ApiError
from reelseek.serving.hosts import is_loopback
from reelseek.serving.limits import BodyLimits
from reelseek.serving.rates import TokenBuckets, client_key
from reelseek.serving.security import (
    Security,
    SecuritySettings,
    check_settings,
    require_write_token,
)
from reelseek.serving.tokens import Access
from tests.command_lines import assert_user_error, run_in_this_process

TOKEN = "a-token-of-the-reader"
WRITE_TOKEN = "a-token-of-the-writer"
LOCAL = SecuritySettings()
PUBLIC = SecuritySettings(host="0.0.0.0", token=TOKEN, write_token=WRITE_TOKEN)
BODIES = BodyLimits(
    max_bytes=1000,
    multipart_bytes_by_path={"/api/search": 5000},
    patience_seconds=0.2,
    min_bytes_per_second=10_000,
)


async def echo(scope, receive, send):
    """Answers with the access that was granted and the length of the body."""
    length = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        length += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    body = json.dumps({"access": scope["state"]["access"], "length": length}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


def app_of(settings: SecuritySettings = LOCAL, app=echo) -> Security:
    return Security(app, settings=settings)


def ask(
    app: Security,
    method: str = "GET",
    path: str = "/api/status",
    *,
    client: str = "203.0.113.7",
    url: str = "http://localhost:8000",
    **options,
) -> httpx.Response:
    async def scenario() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(client, 1234))
        async with httpx.AsyncClient(transport=transport, base_url=url) as http:
            return await http.request(method, path, **options)

    return asyncio.run(asyncio.wait_for(scenario(), 20))


def code_of(response: httpx.Response) -> str:
    error = response.json()["error"]
    assert set(error) == {"code", "message"} and "\n" not in error["message"]
    return error["code"]


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST:80", "localhost.", "127.0.0.1:8000", "127.9.9.9", "[::1]", "[::1]:1"],
)
def test_names_of_loopback_are_served(host):
    assert ask(app_of(), headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "attacker.example",
        "localhost.attacker.example",
        "127.0.0.1.nip.io",
        "10.0.0.1:8000",
        "[::2]",
        "notlocalhost",
        "0.0.0.0",
    ],
)
def test_other_names_are_refused_on_loopback(host):
    response = ask(app_of(), headers={"Host": host})
    assert (response.status_code, code_of(response)) == (421, "unknown_host")


@pytest.mark.parametrize("host", ["", "a b", "localhost:x", "local/host", "[::1", "h" * 400, "é"])
def test_malformed_hosts_are_refused(host):
    response = ask(app_of(), headers=[(b"Host", host.encode("latin-1"))])
    assert (response.status_code, code_of(response)) == (400, "invalid_host")


def test_two_hosts_are_refused():
    response = ask(app_of(), headers=[("Host", "localhost"), ("Host", "localhost")])
    assert response.status_code == 400


def test_health_needs_no_host_and_no_token():
    for path in ("/healthz", "/readyz"):
        assert ask(app_of(PUBLIC), path=path, headers={"Host": "lb.internal"}).status_code == 200


@pytest.mark.parametrize(
    ("allowed", "host", "status"),
    [
        ((), "192.0.2.7:8000", 200),
        ((), "[2001:db8::1]", 200),
        ((), "attacker.example", 421),
        (("video.example.org",), "video.example.org", 200),
        (("video.example.org",), "Video.Example.ORG:443", 200),
        (("video.example.org",), "a.video.example.org", 421),
        (("video.example.org",), "192.0.2.7", 421),
        ((".example.org",), "a.b.example.org", 200),
        ((".example.org",), "badexample.org", 421),
        (("*",), "anything.example", 200),
        (("video.example.org",), "localhost", 200),
    ],
)
def test_allowed_hosts_beyond_loopback(allowed, host, status):
    app = app_of(replace(PUBLIC, allowed_hosts=allowed))
    response = ask(app, headers={"Host": host, **bearer(TOKEN)})
    assert response.status_code == status


@pytest.mark.parametrize(
    ("method", "path", "headers", "status"),
    [
        ("POST", "/api/events", {}, 200),  # no browser
        ("POST", "/api/events", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("POST", "/api/events", {"Sec-Fetch-Site": "none"}, 200),
        ("POST", "/api/events", {"Sec-Fetch-Site": "same-site"}, 403),
        ("POST", "/api/events", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("POST", "/api/events", {"Sec-Fetch-Site": "nonsense"}, 403),
        ("POST", "/api/events", {"Origin": "http://localhost:8000"}, 200),
        ("POST", "/api/events", {"Origin": "https://localhost:8000"}, 200),  # TLS ends before us
        ("POST", "/api/events", {"Origin": "http://localhost:9000"}, 403),
        ("POST", "/api/events", {"Origin": "http://attacker.example"}, 403),
        ("POST", "/api/events", {"Origin": "null"}, 403),
        ("DELETE", "/api/videos/x", {"Origin": "http://attacker.example"}, 403),
        ("PATCH", "/api/videos/x", {"Origin": "http://attacker.example"}, 403),
        ("OPTIONS", "/api/videos/x", {"Origin": "http://attacker.example"}, 403),
        ("GET", "/api/search?q=x", {"Origin": "http://attacker.example"}, 403),
        ("GET", "/api/search?q=x", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("GET", "/api/search?q=x", {"Sec-Fetch-Site": "same-origin"}, 200),
        ("GET", "/", {"Sec-Fetch-Site": "cross-site"}, 200),  # a link to the page
    ],
)
def test_pages_of_other_sites_are_refused(method, path, headers, status):
    response = ask(app_of(), method, path, headers=headers)
    assert response.status_code == status
    if status == 403:
        assert code_of(response) == "cross_site"
    assert not [name for name in response.headers if name.startswith("access-control")]


def test_headers_are_on_answers_and_on_refusals():
    for response in (ask(app_of()), ask(app_of(), headers={"Host": "attacker.example"})):
        policy = response.headers["content-security-policy"]
        assert "default-src 'self'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        assert response.headers["cross-origin-resource-policy"] == "same-origin"
        assert response.headers["cross-origin-opener-policy"] == "same-origin"
        assert "camera=()" in response.headers["permissions-policy"]


def test_without_a_token_loopback_reads_and_does_not_write():
    assert ask(app_of()).json()["access"] == Access.read


@pytest.mark.parametrize(
    ("settings", "token", "access"),
    [
        (PUBLIC, TOKEN, Access.read),
        (PUBLIC, WRITE_TOKEN, Access.write),
        (replace(PUBLIC, write_token=None), TOKEN, Access.write),
        (replace(LOCAL, write_token=WRITE_TOKEN), WRITE_TOKEN, Access.write),
    ],
)
def test_tokens_say_what_is_allowed(settings, token, access):
    assert ask(app_of(settings), headers=bearer(token)).json()["access"] == access


@pytest.mark.parametrize("token", ["", "x", TOKEN[:-1], f"{TOKEN}x", TOKEN.upper(), "é"])
@pytest.mark.parametrize("settings", [PUBLIC, replace(LOCAL, write_token=WRITE_TOKEN)])
def test_wrong_tokens_are_refused(token, settings):
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    response = ask(app_of(settings), headers=headers)
    assert (response.status_code, code_of(response)) == (401, "wrong_token")


def test_no_token_is_refused_and_says_how():
    response = ask(app_of(PUBLIC))
    assert (response.status_code, code_of(response)) == (401, "token_needed")
    assert response.headers["www-authenticate"] == "Bearer"


def test_many_wrong_tokens_stop_the_right_one_too():
    app = app_of(PUBLIC)
    statuses = [ask(app, headers=bearer(f"guess {n}")).status_code for n in range(12)]
    assert statuses == [401] * 10 + [429] * 2
    late = ask(app, headers=bearer(TOKEN))
    assert (late.status_code, code_of(late)) == (429, "too_many_wrong_tokens")
    assert 1 <= int(late.headers["retry-after"]) <= 11
    assert ask(app, headers=bearer(TOKEN), client="203.0.113.8").status_code == 200


@pytest.mark.parametrize(
    ("changes", "names"),
    [
        ({"host": "0.0.0.0"}, "host=0.0.0.0"),
        ({"host": "::"}, "REELSEEK_TOKEN"),
        ({"host": "192.0.2.1", "write_token": WRITE_TOKEN}, "token"),
        ({"trusted_proxies": ("127.0.0.1",)}, "trusted_proxies"),
        ({"host": "0.0.0.0", "token": "short"}, "at least 16"),
        ({"host": "0.0.0.0", "token": TOKEN, "write_token": "short"}, "write_token"),
        ({"token": "line\nbreak"}, "printable"),
        ({"token": TOKEN, "trusted_proxies": ("proxy",)}, "trusted_proxies=proxy"),
    ],
)
def test_settings_that_let_strangers_in_are_refused(changes, names):
    with pytest.raises(ValueError, match=names) as caught:
        check_settings(replace(LOCAL, **changes))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1", "127.3.2.1"])
def test_loopback_needs_no_token(host):
    assert is_loopback(host)
    check_settings(SecuritySettings(host=host))


def test_long_addresses_are_refused():
    assert ask(app_of(), path="/api/search?q=" + "x" * 8000).status_code == 200
    response = ask(app_of(), path="/api/search?q=" + "x" * 8200)
    assert (response.status_code, code_of(response)) == (414, "address_too_long")


async def parts(*sizes: int, pause_seconds: float = 0.0):
    for size in sizes:
        await asyncio.sleep(pause_seconds)
        yield b"x" * size


@pytest.mark.parametrize(
    ("path", "content_type", "size", "status"),
    [
        ("/api/events", "application/json", 1000, 200),
        ("/api/events", "application/json", 1001, 413),
        ("/api/search", "application/json", 1001, 413),
        ("/api/search", "multipart/form-data; boundary=x", 5000, 200),
        ("/api/search", "multipart/form-data; boundary=x", 5001, 413),
        ("/api/events", "multipart/form-data; boundary=x", 1001, 413),
    ],
)
def test_bodies_are_limited_by_route(path, content_type, size, status):
    app = app_of(replace(LOCAL, bodies=BODIES))
    headers = {"Content-Type": content_type}
    whole = ask(app, "POST", path, content=b"x" * size, headers=headers)
    in_parts = ask(app, "POST", path, content=parts(size - 7, 7), headers=headers)
    for response in (whole, in_parts):
        assert response.status_code == status
        if status == 200:
            assert response.json()["length"] == size
        else:
            assert code_of(response) == "too_large"
            assert response.headers["connection"] == "close"


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 400, "+5", ""])
def test_senseless_lengths_are_refused(length):
    headers = {"Content-Length": length}
    assert ask(app_of(), "POST", "/api/events", headers=headers).status_code == 413


def test_slow_bodies_are_cut():
    app = app_of(replace(LOCAL, bodies=BODIES))
    started = time.monotonic()
    response = ask(app, "POST", "/api/events", content=parts(*[1] * 100, pause_seconds=0.05))
    assert (response.status_code, code_of(response)) == (408, "request_too_slow")
    assert time.monotonic() - started < 3
    # What comes fast enough in all is not cut.
    steady = ask(app, "POST", "/api/events", content=parts(*[90] * 5, pause_seconds=0.03))
    assert steady.json()["length"] == 450


def test_an_answer_that_hides_the_cut_is_replaced():
    async def forgiving(scope, receive, send):
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            pass
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b"bad form"})

    app = app_of(replace(LOCAL, bodies=BODIES), forgiving)
    response = ask(app, "POST", "/api/events", content=parts(900, 900, 900))
    assert (response.status_code, code_of(response)) == (413, "too_large")


def test_clients_are_limited_alone_and_loopback_is_not():
    app = app_of(replace(LOCAL, requests_per_second=1.0, burst=3.0))
    assert [ask(app).status_code for _ in range(5)] == [200] * 3 + [429] * 2
    response = ask(app)
    assert code_of(response) == "too_many_requests" and response.headers["retry-after"] == "1"
    assert ask(app, client="203.0.113.8").status_code == 200
    assert {ask(app, client="127.0.0.1").status_code for _ in range(9)} == {200}


def test_forwarded_addresses_are_believed_from_trusted_proxies_only():
    settings = replace(PUBLIC, trusted_proxies=("10.0.0.0/8",), requests_per_second=1.0, burst=1.0)
    for peer, counts_alone in (("10.1.2.3", True), ("192.0.2.9", False)):
        app = app_of(settings)
        statuses = [
            ask(app, client=peer, headers={**bearer(TOKEN), "X-Forwarded-For": f"9.9.9.{n}"})
            for n in range(3)
        ]
        assert [r.status_code for r in statuses] == ([200] * 3 if counts_alone else [200, 429, 429])
    # A client cannot choose its address by sending the header itself: the proxy's part is last.
    app = app_of(settings)
    forged = [
        ask(
            app,
            client="10.1.2.3",
            headers={**bearer(TOKEN), "X-Forwarded-For": f"{n}.1.1.1, 8.8.8.8"},
        )
        for n in range(1, 4)
    ]
    assert [r.status_code for r in forged] == [200, 429, 429]


def test_buckets_fill_again_and_are_bounded():
    now = 0.0
    buckets = TokenBuckets(2.0, 4.0, max_clients=3, clock=lambda: now)
    assert [buckets.take("a") for _ in range(5)] == [0, 0, 0, 0, 0.5]
    now = 1.0
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 0.5]
    for n in range(100):
        buckets.take(str(n))
    assert len(buckets) == 3


def test_an_ipv6_network_is_one_client():
    assert client_key("2001:db8:1:2::1") == client_key("2001:db8:1:2:ffff::9")
    assert client_key("2001:db8:1:2::1") != client_key("2001:db8:1:3::1")
    assert client_key("::1") == client_key("127.0.0.1") == ""


def test_websockets_are_refused():
    async def scenario():
        sent = []
        await app_of()({"type": "websocket", "path": "/"}, None, lambda m: _append(sent, m))
        return sent

    assert asyncio.run(scenario()) == [{"type": "websocket.close", "code": 1008}]


async def _append(target, message):
    target.append(message)


@pytest.mark.parametrize(
    ("arguments", "names"),
    [(["host=0.0.0.0"], "REELSEEK_TOKEN"), (["host=0.0.0.0", "token=short"], "at least 16")],
)
def test_serving_strangers_without_a_token_does_not_start(tmp_path, monkeypatch, arguments, names):
    monkeypatch.delenv("REELSEEK_TOKEN", raising=False)
    done = run_in_this_process(
        reelseek.serving.__main__, "serve", f"index={tmp_path}", "port=0", *arguments
    )
    assert_user_error(done, names)


def test_tokens_come_from_the_environment(monkeypatch):
    monkeypatch.setenv("REELSEEK_TOKEN", TOKEN)
    monkeypatch.setenv("REELSEEK_WRITE_TOKEN", WRITE_TOKEN)
    settings = SecuritySettings.from_config(compose(ServeConfig, ["index=i", "host=0.0.0.0"]))
    check_settings(settings)
    assert (settings.token, settings.write_token) == (TOKEN, WRITE_TOKEN)


@pytest.mark.parametrize(
    ("tokens", "given", "status", "code"),
    [
        ([], None, 403, "read_only"),
        ([f"write_token={WRITE_TOKEN}"], None, 403, "write_token_needed"),
        ([f"write_token={WRITE_TOKEN}"], WRITE_TOKEN, 200, None),
        ([f"token={TOKEN}", f"write_token={WRITE_TOKEN}"], TOKEN, 403, "write_token_needed"),
        ([f"token={TOKEN}"], TOKEN, 200, None),
    ],
)
def test_routes_that_write_need_the_token(tokens, given, status, code):
    config = compose(ServeConfig, ["index=i", *tokens])
    app = FastAPI(dependencies=[Depends(require_write_token(SimpleNamespace(config=config)))])

    @app.exception_handler(ApiError)
    async def refused(_, error):
        return JSONResponse(json.loads(error.body), error.status)

    @app.delete("/api/videos/{key}")
    async def delete(key: str) -> dict[str, str]:
        return {"deleted": key}

    guarded = app_of(SecuritySettings.from_config(config), app)
    headers = bearer(given) if given else {}
    response = ask(guarded, "DELETE", "/api/videos/x", headers=headers)
    assert response.status_code == status
    if code:
        assert code_of(response) == code
    # Nobody writes where the checks are not in place.
    assert ask(app, "DELETE", "/api/videos/x", headers=bearer(WRITE_TOKEN)).status_code == 403
