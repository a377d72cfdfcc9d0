"""Videos on web servers, with and without ranges, lengths and ETags; and of other file systems."""

import dataclasses
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from reelseek.indexing.remote.objects import RemoteObject
from reelseek.indexing.remote.opening import open_published
from reelseek.indexing.remote.publisher import publish_index
from reelseek.indexing.remote.retrying import Retry
from reelseek.indexing.remote.stores import open_store
from tests.indexing.remote.conftest import QUICK, index_urls
from tests.indexing.remote.test_indexing import records

pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install 'reelseek[remote]')")


class WebServer:
    """Serves `files` by path; each test switches on what its server knows."""

    def __init__(self):
        self.files = {}
        self.has_ranges = self.has_etag = self.has_length = self.has_head = True
        self.cuts = 0  # answers to cut in the middle, from the next one on
        self.requests = []
        web = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self):
                web.requests.append(("HEAD", self.path))
                if web.has_head:
                    self._answer(with_body=False)
                else:
                    self.send_error(403)  # as for a URL that is signed for GET alone

            def do_GET(self):
                web.requests.append(("GET", self.path))
                self._answer(with_body=True)

            def _answer(self, *, with_body):
                content = web.files.get(self.path.partition("?")[0])
                if content is None:
                    return self.send_error(404)
                start, range_given = 0, self.headers.get("Range")
                if web.has_ranges and range_given:
                    start = int(range_given.removeprefix("bytes=").rstrip("-"))
                self.send_response(206 if start else 200)
                if web.has_etag:
                    self.send_header("ETag", f'"{hashlib.md5(content).hexdigest()}"')
                if web.has_length:
                    self.send_header("Content-Length", str(len(content) - start))
                self.end_headers()
                rest = content[start:]
                if with_body and web.cuts:
                    web.cuts -= 1
                    rest = rest[: len(rest) // 2]
                if with_body:
                    self.wfile.write(rest)

            def log_message(self, *arguments):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()


@pytest.fixture
def web(credentials):
    server = WebServer()
    yield server
    server.server.shutdown()
    server.server.server_close()


@pytest.mark.parametrize("lacks", ["", "ranges", "etag", "head", "length"])
def test_a_file_is_indexed_once_and_again_when_it_changes(lacks, web, films, colour_index):
    if lacks:
        setattr(web, f"has_{lacks}", False)
    web.files["/films/a.mp4"] = films[0].read_bytes()
    if lacks != "length":  # where the length is not told, a cut cannot be seen
        web.cuts = 2
    url = f"{web.url}/films/a.mp4"
    assert index_urls(colour_index, url).indexed == 1
    assert index_urls(colour_index, url).unchanged == 1
    (record,) = records(colour_index).values()
    assert (record.path, record.key) == (url, "a.mp4")
    assert record.signature.content_sha256 == hashlib.sha256(films[0].read_bytes()).hexdigest()
    web.files["/films/a.mp4"] = films[1].read_bytes()
    assert index_urls(colour_index, url).indexed == 1
    assert records(colour_index)[url].public_id == record.public_id


def test_cut_stream_goes_on_where_it_ended(web, films, colour_index):
    content = films[0].read_bytes() + bytes(1 << 20)
    web.files["/a.mp4"], web.cuts = content, 1
    store = open_store(web.url, timeout_seconds=2.0)
    item, received, sizes = store.look(RemoteObject(f"{web.url}/a.mp4")), bytearray(), []

    def request():
        sizes.append(len(received))
        store.read(item, len(received), received.extend)
        assert len(received) == len(content)

    Retry(4, sleep=lambda seconds: None).call(request)
    assert received == content
    assert len(sizes) == 2
    assert sizes[1] > len(content) // 4


def test_list_of_urls_and_relative_names(web, films, colour_index):
    web.files["/films/a.mp4"] = films[0].read_bytes()
    web.files["/lists/b.mp4"] = films[1].read_bytes()
    web.files["/lists/all.txt"] = b"# films\n/films/a.mp4\nb.mp4\ngone.mp4\n"
    summary = index_urls(colour_index, f"{web.url}/lists/all.txt")
    assert (summary.indexed, summary.missing) == (2, 1)
    assert set(records(colour_index)) == {f"{web.url}/films/a.mp4", f"{web.url}/lists/b.mp4"}


def test_nothing_in_a_remote_list_is_expanded(web, colour_index):
    web.files["/all.txt"] = b"$AWS_SECRET_ACCESS_KEY.mp4\n~/x.mp4\n"
    assert index_urls(colour_index, f"{web.url}/all.txt").missing == 2
    asked = " ".join(path for _, path in web.requests)
    assert "made-up-secret" not in asked
    assert "AWS_SECRET_ACCESS_KEY.mp4" in asked


def test_query_is_used_and_never_stored(web, films, colour_index):
    web.files["/a.mp4"] = films[0].read_bytes()
    secret = "X-Amz-Signature=0123456789abcdef"
    assert index_urls(colour_index, f"{web.url}/a.mp4?{secret}").indexed == 1
    assert all(secret in path for _, path in web.requests)
    assert records(colour_index).keys() == {f"{web.url}/a.mp4"}
    for path in colour_index.folder.rglob("*"):
        if path.is_file():
            assert b"0123456789abcdef" not in path.read_bytes(), path
    # Another signature, as after an hour: still the same video.
    assert index_urls(colour_index, f"{web.url}/a.mp4?X-Amz-Signature=ff").unchanged == 1


def test_object_of_unknown_size_may_not_exceed_the_budget(web, films, colour_index):
    web.has_length = False
    web.files["/a.mp4"] = films[0].read_bytes()
    web.files["/b.mp4"] = bytes(1 << 16)
    options = dataclasses.replace(QUICK, disk_bytes=(1 << 16) - 1)
    urls = [f"{web.url}/a.mp4", f"{web.url}/b.mp4"]
    summary = index_urls(colour_index, *urls, options=options)
    assert (summary.indexed, summary.failed) == (1, 1)
    assert "remote.disk_gb" in colour_index.report()["b.mp4"]["reason"]


def test_index_is_published_to_any_file_system_and_opened_over_the_web(
    web, films, colour_index, tmp_path
):
    memory = pytest.importorskip("fsspec").filesystem("memory")
    colour_index.update(films[0].parent)
    for _ in range(2):
        summary = publish_index(colour_index.folder, "memory://published/a", show_progress=False)
    assert (summary.sent, summary.unchanged) == (0, True)
    films[0].unlink()
    colour_index.update(films[1].parent)
    summary = publish_index(
        colour_index.folder, "memory://published/a", prune=True, show_progress=False
    )
    assert summary.sent > 0 < summary.pruned
    found = memory.find("/published/a")
    web.files = {path.removeprefix("/published"): memory.cat_file(path) for path in found}
    web.cuts = 2
    opened = open_published(f"{web.url}/a", tmp_path / "cache")
    other = dataclasses.replace(colour_index, folder=opened.folder)
    assert other.keys() == colour_index.keys()
    assert len(other.keys()) == 11
    opened.close()


def test_any_file_system_of_fsspec_is_listed_in_the_order_of_its_keys():
    fsspec = pytest.importorskip("fsspec")
    memory = fsspec.filesystem("memory")
    names = ["b/c.mp4", "b.mp4", "a/z/y.mp4", "a/b.mp4", "b-1/x.mp4", "b0.mp4"]
    for name in names:
        memory.pipe_file(f"/listing/{name}", name.encode())
    store = open_store("memory://listing")
    pages = store.pages("memory://listing", Retry(1))
    listed = [item for page in pages for item in page]
    found = [item.url.removeprefix("memory://listing/") for item in listed]
    assert found == sorted(names)
    received = bytearray()
    store.read(listed[0], 2, received.extend)
    assert bytes(received) == found[0].encode()[2:]
