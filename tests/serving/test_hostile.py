"""Requests made to break out: paths in every parameter, and whatever OpenAPI allows."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from starlette.testclient import TestClient

from reelseek import Searcher
from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing import IndexReader, IndexSettings, update_index
from reelseek.indexing.sources.collection import read_source
from reelseek.recommendation.events.log import EventLog
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client
from reelseek.serving.services import Services
from reelseek.vision import FrameEncoder, FrameSettings, IntervalSampler
from tests.conftest import COLOURS, InProcessPool, make_colour_model, write_colours

TOKEN = "a-token-of-the-writer"
TRAVERSALS = [
    "../../../../etc/passwd",
    "..%2f..%2fetc%2fpasswd",
    "%252e%252e%252fetc%252fpasswd",
    "/etc/passwd",
    "//etc/passwd",
    "..\\..\\windows\\win.ini",
    "....//....//etc/passwd",
    "file:///etc/passwd",
    "%c0%ae%c0%ae/etc/passwd",
    "films/../../secret.txt",
    "secret.txt\0.mp4",
    "\ud7ff\uffff",
    "' OR 1=1; --",
    "${jndi:ldap://127.0.0.1/x}",
    "{{7*7}}",
    "a\r\nSet-Cookie: x=y",
    "-1",
    "1e999",
    "NaN",
    "9" * 400,
    "[" * 2000,
    "(" * 2000,
]
SECRET = "nobody outside reads this"
# What says that the service cannot answer now, and is no mistake of its own.
EXPECTED = {"not_ready", "overloaded", "deadline_exceeded", "unavailable", "uploads_busy", "busy"}


@pytest.fixture(scope="module")
def service(tmp_path_factory) -> Iterator[SimpleNamespace]:
    """A real searcher over two videos beside a file that is not in the index."""
    tmp_path = tmp_path_factory.mktemp("hostile")
    folder = tmp_path / "root-of-videos"
    colour_model = make_colour_model()
    colour_encoder = FrameEncoder(colour_model, device="cpu", precision="fp32")
    for name in ("red", "green"):
        write_colours(folder / "films" / f"{name}.mp4", [COLOURS[name]] * 10, fps=2)
    (folder / "secret.txt").write_text(SECRET)
    index_settings = IndexSettings(
        model={"name": "colours", "pretrained": None, "scripts": ["Latin"]},
        fingerprint=colour_model.fingerprint,
        embedding_dim=3,
        sampling={"kind": "interval", "every_seconds": 0.5},
        segments={"kind": "windows", "seconds": 4.0, "overlap_seconds": 2.0},
    )
    update_index(
        tmp_path / "index",
        [read_source(str(folder))],
        settings=index_settings,
        encoder=colour_encoder,
        pool=InProcessPool(FrameSettings(IntervalSampler(0.5), colour_encoder.preprocessing)),
        show_progress=False,
    )
    config = compose(ServeConfig, [f"index={tmp_path / 'index'}", f"write_token={TOKEN}"])
    services = Services(
        config=config,
        admission=Admission(num_running=1, max_waiting=8, max_wait_seconds=5),
        encoder=Client(tmp_path / "nobody-listens"),
        upload_folder=tmp_path,
        events=EventLog(tmp_path / "events"),
    )
    with Searcher(IndexReader(tmp_path / "index"), colour_model, device="cpu") as searcher:
        services.set_searcher(searcher)
        app = create_app(services)
        client = TestClient(app, base_url="http://localhost", raise_server_exceptions=False)
        with client:  # in one event loop, or each request would start a thread
            video_id = client.get("/api/search", params={"q": "red"}).json()["hits"][0]["id"]
            yield SimpleNamespace(app=app, client=client, folder=tmp_path, video_id=video_id)


def check(response: Any, folder: Path, asked: str) -> None:
    """An answer in the contract's form that gives nothing of the machine away."""
    text = response.text
    assert SECRET not in text and "root:x:0" not in text and "Traceback" not in text, asked
    assert str(folder) not in text and "root-of-videos" not in text, asked
    assert "set-cookie" not in response.headers, asked
    if response.status_code >= 400:
        error = json.loads(text)["error"]
        assert set(error) == {"code", "message"}, asked
        assert response.status_code != 500, f"{asked}: {error}"
        assert response.status_code < 500 or error["code"] in EXPECTED, f"{asked}: {error}"


def test_no_parameter_leads_out_of_the_index(service):
    """Each parameter in turn gets each string; the others are as they should be."""
    num_asked = 0
    for path, method, names, in_path in _operations(service.app):
        for name in (*names, *in_path):
            for text in TRAVERSALS:
                place = {each: service.video_id for each in in_path}
                query = {"q": "red"} if "q" in names else {}
                if name in in_path:
                    place[name] = text
                else:
                    query[name] = text
                url = path.format(**{key: quote(value, safe="%") for key, value in place.items()})
                response = _ask(service.client, method, url, params=query)
                check(response, service.folder, f"{method} {path} {name}={text[:40]!r}")
                num_asked += 1
    assert num_asked >= 10 * len(TRAVERSALS)


def test_no_path_leads_out_of_the_page(service):
    for text in TRAVERSALS:
        for prefix in ("/", "/static/", "/api/", "/api/videos/"):
            response = _ask(service.client, "GET", prefix + quote(text, safe="%/."))
            check(response, service.folder, prefix + text)


def test_no_body_leads_out_of_the_index(service):
    """Strings in the place of every value of a JSON body, and bodies that are none."""
    bodies = [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000]
    for text in TRAVERSALS:
        parts = [{"text": text}, {"like": text}, {"text": "red", "weight": text}]
        bodies += [json.dumps({"parts": [part]}).encode() for part in parts]
        fields = {"k": text, "level": text, "where": text, "sources": text, "cursor": text}
        bodies += [
            json.dumps({"parts": [{"text": "red"}], name: value}).encode()
            for name, value in fields.items()
        ]
        bodies += [
            json.dumps({"videos": [text], "events": [text], "metadata": {text: text}}).encode()
        ]
    for path, method, _, in_path in _operations(service.app):
        if method in ("GET", "HEAD"):
            continue
        url = path.format(**{each: service.video_id for each in in_path})
        for body in bodies:
            headers = {"Content-Type": "application/json"}
            response = _ask(service.client, method, url, content=body, headers=headers)
            check(response, service.folder, f"{method} {path} {body[:80]!r}")


def test_what_openapi_allows_is_never_a_server_error(service):
    schema = schemathesis.openapi.from_dict(service.app.openapi())
    num_asked = 0

    for result in schema.get_all_operations():
        operation = result.ok()

        @settings(
            max_examples=12,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(case=operation.as_strategy())
        def ask(case: Any) -> None:
            nonlocal num_asked
            request = case.as_transport_kwargs(base_url="http://localhost")
            kept = {"method", "url", "params", "json", "data", "headers"}
            given_only = {key: value for key, value in request.items() if key in kept}
            method, url = given_only.pop("method"), given_only.pop("url")
            if isinstance(given_only.get("data"), bytes):
                given_only["content"] = given_only.pop("data")
            response = _ask(service.client, method, url, **given_only)
            check(response, service.folder, f"{method} {url} {given_only}"[:300])
            num_asked += 1

        ask()
    assert num_asked > 20


def _ask(client: TestClient, method: str, url: str, **options: Any) -> Any:
    headers = {**dict(options.pop("headers", None) or {}), "Authorization": f"Bearer {TOKEN}"}
    return client.request(method, url, headers=headers, **options)


def _operations(app: Any) -> Iterator[tuple[str, str, list[str], list[str]]]:
    """Yields each route's path, method, parameters of the query, and those of the path."""
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            parameters = operation.get("parameters", [])
            names = [each["name"] for each in parameters if each["in"] == "query"]
            in_path = [each["name"] for each in parameters if each["in"] == "path"]
            yield path, method.upper(), names, in_path
