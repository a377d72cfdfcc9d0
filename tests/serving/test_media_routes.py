"""`/thumbnail`, `/media` and `/clip` over HTTP: ranges, conditions, errors, and no path of ours."""

import asyncio
import io
import os
import threading
from dataclasses import replace
from email.utils import formatdate
from types import SimpleNamespace

import av
import httpx
import pytest
from PIL import Image

from reelseek.configs.composition import compose
from reelseek.configs.schema import ServeConfig
from reelseek.indexing.store.videos import FileSignature, VideoRecord
from reelseek.serving.admission import Admission
from reelseek.serving.app import create_app
from reelseek.serving.channel import Client, Server
from reelseek.serving.media.cache import MediaCache
from reelseek.serving.media.cutter import MediaCutter
from reelseek.serving.media.file_answer import content_disposition
from reelseek.serving.media.pool import CutPool
from reelseek.serving.media.process import handlers
from reelseek.serving.services import Services
from reelseek.vision.decoding.file_content import read_content
from tests.serving.media_files import colour_at, mean_colour, write_media


def record_of(path, name, **changes):
    content = read_content(path)
    signature = FileSignature(content.size_bytes, content.modified_ns, content.sha256)
    record = VideoRecord(
        f"holiday/{path.name}", str(path), signature, "ok", duration_seconds=5.0, public_id=name
    )
    return replace(record, **changes)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """An application with the media process's handlers behind a real socket."""
    folder = tmp_path_factory.mktemp("media-routes")
    pool = CutPool()
    cutter = MediaCutter(MediaCache(folder / "cache", max_bytes=1 << 30), pool, pool)
    server = Server(folder / "socket", handlers(cutter))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = compose(ServeConfig, ["index=i", f"cache={folder / 'cache'}"])
    videos = folder / "secret root"
    videos.mkdir()
    played = write_media(videos / 'b"ä.mp4', sound="aac")
    foreign = write_media(videos / "f.avi", "mpeg4", sound="libmp3lame")
    noise = videos / "n.mp4"
    noise.write_bytes(b"<html>" * 50)
    records = {
        "played": record_of(played, "played"),
        "foreign": record_of(foreign, "foreign"),
        "noise": record_of(noise, "noise"),
    }
    services = Services(
        config=config,
        admission=Admission(num_running=1, max_waiting=0, max_wait_seconds=1),
        encoder=Client(folder / "none"),
        media=Client(folder / "socket"),
    )
    services.set_searcher(SimpleNamespace(reader=SimpleNamespace(record=records.get)))
    yield SimpleNamespace(
        app=create_app(services), services=services, records=records, played=played, folder=videos
    )
    pool.close()


def ask(service, target, *, method="GET", **headers):
    async def run():
        transport = httpx.ASGITransport(service.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            named = {name.replace("_", "-"): value for name, value in headers.items()}
            return await client.request(method, f"/api/videos/{target}", headers=named)

    return asyncio.run(run())


def assert_error(response, status, code):
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    assert set(response.json()) == {"error"}
    assert "secret" not in response.text and "Traceback" not in response.text


def test_thumbnail_is_kept_by_the_browser(service):
    response = ask(service, "played/thumbnail?at=1.5&width=32")
    assert (response.status_code, response.headers["content-type"]) == (200, "image/jpeg")
    assert response.headers["x-content-type-options"] == "nosniff"
    assert response.headers["cache-control"].startswith("private, max-age=")
    image = Image.open(io.BytesIO(response.content))
    assert image.size == (32, 24)
    assert mean_colour(image) == pytest.approx(colour_at(1.5), abs=25)
    etag = response.headers["etag"]
    again = ask(service, "played/thumbnail?at=1.5&width=32", if_none_match=f'"x", {etag}')
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", etag)
    other = ask(service, "played/thumbnail?at=2.5&width=32", if_none_match=etag)
    assert other.status_code == 200 and other.headers["etag"] != etag
    middle = Image.open(io.BytesIO(ask(service, "played/thumbnail").content))
    assert mean_colour(middle) == pytest.approx(colour_at(2.5), abs=25)


def test_kept_thumbnails_outlive_the_media_process(service):
    first = ask(service, "played/thumbnail?at=3.5&width=48")
    media, service.services.media = service.services.media, None
    try:
        fresh = SimpleNamespace(app=create_app(service.services))
        assert ask(fresh, "played/thumbnail?at=3.5&width=48").content == first.content
        assert_error(ask(fresh, "played/thumbnail?at=3.6&width=48"), 503, "media_unavailable")
    finally:
        service.services.media = media


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=5-9", 5, 10),
        ("bytes=100-", 100, None),
        ("bytes=-7", -7, None),
        ("Bytes = 3-99999999", 3, None),
        ("bytes=-99999999", 0, None),
    ],
)
def test_part_of_a_file(service, asked, start, end):
    content = service.played.read_bytes()
    response = ask(service, "played/media", range=asked)
    expected = content[start:end]
    assert (response.status_code, response.content) == (206, expected)
    first = start % len(content)
    assert response.headers["content-range"] == (
        f"bytes {first}-{first + len(expected) - 1}/{len(content)}"
    )
    assert response.headers["content-length"] == str(len(expected))


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "bytes=9-5", "bytes=-", "lines=1-2", "x"])
def test_range_that_is_none_gives_the_whole(service, asked):
    response = ask(service, "played/media", range=asked)
    assert (response.status_code, response.content) == (200, service.played.read_bytes())
    assert response.headers["accept-ranges"] == "bytes"
    assert response.headers["content-type"] == "video/mp4"


@pytest.mark.parametrize("asked", ["bytes=99999999-", "bytes=-0"])
def test_range_beyond_the_end(service, asked):
    response = ask(service, "played/media", range=asked)
    assert_error(response, 416, "range_not_satisfiable")
    assert response.headers["content-range"] == f"bytes */{service.played.stat().st_size}"


def test_conditions(service):
    whole = ask(service, "played/media")
    etag, modified = whole.headers["etag"], whole.headers["last-modified"]
    assert modified == formatdate(service.played.stat().st_mtime, usegmt=True)
    for state, status in (
        (etag, 206),
        (modified, 206),
        ('"another"', 200),
        (f"W/{etag}", 200),
        (formatdate(0, usegmt=True), 200),
    ):
        part = ask(service, "played/media", range="bytes=0-3", if_range=state)
        assert part.status_code == status, state
    assert ask(service, "played/media", if_none_match=etag).status_code == 304
    assert ask(service, "played/media", if_modified_since=modified).status_code == 304
    assert ask(service, "played/media", if_modified_since="no date").status_code == 200
    before = formatdate(1, usegmt=True)
    assert ask(service, "played/media", if_modified_since=before).status_code == 200


@pytest.mark.parametrize("target", ["played/media", "played/clip?start=0&end=1"])
def test_head_has_the_headers_alone(service, target):
    whole, head = ask(service, target), ask(service, target, method="HEAD")
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-length", "content-type", "etag", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]
    part = ask(service, target, method="HEAD", range="bytes=2-4")
    assert (part.status_code, part.headers["content-length"]) == (206, "3")


def test_name_and_type_cannot_be_run(service):
    headers = ask(service, "played/media").headers
    assert headers["content-disposition"] == (
        "inline; filename=\"b__.mp4\"; filename*=UTF-8''b%22%C3%A4.mp4"
    )
    headers = ask(service, "noise/media").headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["x-content-type-options"] == "nosniff"
    assert "\n" not in content_disposition("a\r\nSet-Cookie: b\udc80.mp4")


def test_clip_can_be_sought_in(service, tmp_path):
    target = "foreign/clip?start=1&end=3"
    whole = ask(service, target)
    assert (whole.status_code, whole.headers["content-type"]) == (200, "video/mp4")
    assert 'filename="f 1-3.mp4"' in whole.headers["content-disposition"]
    with av.open(io.BytesIO(whole.content)) as container:
        kinds = {stream.codec_context.codec.canonical_name for stream in container.streams}
        assert kinds == {"h264", "aac"}
    part = ask(service, target, range="bytes=10-19", if_range=whole.headers["etag"])
    assert (part.status_code, part.content) == (206, whole.content[10:20])
    assert ask(service, target, if_none_match=whole.headers["etag"]).status_code == 304


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("start=0&end=60.5", 422, "out_of_range"),
        ("start=2&end=2", 422, "out_of_range"),
        ("start=3&end=2", 422, "out_of_range"),
        ("start=5&end=6", 422, "out_of_range"),
        ("start=nan&end=6", 422, "invalid_request"),
        ("start=-1&end=6", 422, "invalid_request"),
        ("start=0&end=inf", 422, "invalid_request"),
        ("start=0", 422, "invalid_request"),
    ],
)
def test_times_of_a_clip_are_checked(service, query, status, code):
    assert_error(ask(service, f"played/clip?{query}"), status, code)


@pytest.mark.parametrize("query", ["at=nan", "at=-1", "at=1e99", "width=1", "width=99999", "at=x"])
def test_thumbnail_is_bounded(service, query):
    assert_error(ask(service, f"played/thumbnail?{query}"), 422, "invalid_request")


@pytest.mark.parametrize("name", ["absent", "..", "%2e%2e%2fetc%2fpasswd", "%00", "a" * 65])
def test_only_ids_of_the_index_lead_to_files(service, name):
    for what in ("media", "thumbnail", "clip?start=0&end=1"):
        response = ask(service, f"{name}/{what}")
        assert response.status_code in (404, 422) and set(response.json()) == {"error"}


def test_what_does_not_decode_says_so(service):
    assert_error(ask(service, "noise/thumbnail?at=1"), 422, "cannot_decode")
    assert_error(ask(service, "noise/clip?start=0&end=1"), 422, "cannot_decode")


def test_file_that_changed_or_went_is_not_served(service, tmp_path):
    path = service.folder / "moves.mp4"
    path.write_bytes(service.played.read_bytes())
    service.records["moves"] = record_of(path, "moves", signature=record_of(path, "").signature)
    content = service.records["moves"].signature
    service.records["moves"] = replace(
        service.records["moves"], signature=replace(content, content_sha256="another" * 8)
    )
    os.utime(path, (1, 1))
    for target in ("media", "thumbnail?at=1", "clip?start=0&end=1"):
        assert_error(ask(service, f"moves/{target}"), 410, "file_changed")
    path.unlink()
    for target in ("media", "thumbnail?at=1", "clip?start=0&end=1"):
        assert_error(ask(service, f"moves/{target}"), 404, "file_missing")
    os.mkfifo(path)  # opening one would wait for ever
    assert_error(ask(service, "moves/media"), 404, "file_missing")
    path.unlink()
    path.mkdir()
    assert_error(ask(service, "moves/media"), 404, "file_missing")


def test_large_file_comes_in_pieces(service):
    path = service.folder / "large.mp4"
    path.write_bytes(os.urandom(700_000))
    service.records["large"] = record_of(path, "large")
    assert ask(service, "large/media").content == path.read_bytes()
    part = ask(service, "large/media", range="bytes=300000-650000")
    assert part.content == path.read_bytes()[300_000:650_001]
