"""Uploads become frames for the model, or an error that its sender understands."""

import asyncio
import io
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest
import torch
from PIL import Image
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from reelseek.serving.errors import ApiError
from reelseek.serving.upload_files import UploadLimits, kind_of, upload_form
from reelseek.serving.uploads import UploadDecoder, UploadsBusyError
from reelseek.vision import FrameSettings, Preprocessing, UniformSampler, iter_frames
from tests.serving.hostile import RED, SIZE, hostile_files, image, video
from tests.vision.faulty import all_faulty

LIMITS = UploadLimits(max_wait_seconds=0.2)
SETTINGS = FrameSettings(
    UniformSampler(4), Preprocessing(size=(16, 16), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
)
HOSTILE = list(hostile_files())
ENDLESS = {"jpeg-scans"}  # minutes to decode
# Decoders read these as what they seem.
DECODED = {
    *("png-many-chunks", "apng-endless", "webp-endless", "gif-endless", "gif-endless-video"),
    *("jpeg-zip", "png-php", "mp4-zip", "tiff-loop", "mp4-2^31-duration"),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("uploads")


@pytest.fixture(scope="module")
def decoder(folder) -> Iterator[UploadDecoder]:
    decoder = UploadDecoder(SETTINGS, limits=LIMITS, folder=folder)
    decoder.warm_up()
    yield decoder
    decoder.close()


@pytest.fixture(scope="module")
def hasty(folder) -> Iterator[UploadDecoder]:
    """Gives a file little time; too little to start a worker, on a busy machine."""
    decoder = UploadDecoder(SETTINGS, limits=replace(LIMITS, timeout_seconds=2.0), folder=folder)
    yield decoder
    decoder.close()


def test_enough_files_are_hostile():
    assert len({name for name, _, _ in HOSTILE}) == len(HOSTILE) >= 60


@pytest.mark.parametrize(("name", "content", "kind"), HOSTILE, ids=[case[0] for case in HOSTILE])
def test_hostile_files_do_no_harm(decoder, hasty, folder, name, content, kind):
    if name in ENDLESS:
        with pytest.raises(ValueError, match="within 2 seconds"):
            hasty.decode(content, kind)
        assert list(folder.iterdir()) == []
        return
    started = time.monotonic()
    try:
        frames = decoder.decode(content, kind)
    except ValueError as error:
        message = str(error)
        assert message and "\n" not in message and len(message) <= 300
        assert str(folder) not in message and "/" not in message and "0x" not in message
        assert name not in DECODED
    else:
        assert frames.dtype == np.uint8 and frames.shape[1:] == (3, 16, 16)
        assert 1 <= len(frames) <= 4
    assert time.monotonic() - started < LIMITS.timeout_seconds + 10
    assert list(folder.iterdir()) == []


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp", "tiff", "bmp", "avif", "gif"])
def test_images_become_what_the_index_would_make_of_them(decoder, tmp_path, kind):
    content = image(kind, (300, 200))
    frames = decoder.decode(content, "image")
    path = tmp_path / f"image.{kind}"
    path.write_bytes(content)
    indexed = torch.cat([chunk.pixels for chunk in iter_frames(path, SETTINGS)]).numpy()
    # Of AVIF, which the index reads as a video, the rounding of colours may differ.
    assert np.abs(frames.astype(int) - indexed.astype(int)).max() <= (8 if kind == "avif" else 0)


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi", ".ts", ".mov"])
def test_videos_become_frames(decoder, suffix):
    frames = decoder.decode(video(suffix), "video")
    assert frames.shape == (4, 3, 16, 16)
    assert np.abs(frames.mean(axis=(0, 2, 3)) - np.array(RED)).max() < 12


def test_images_are_turned_upright(decoder):
    picture = Image.new("RGB", (64, 64), (0, 0, 0))
    picture.paste((255, 255, 255), (0, 0, 64, 32))  # white above
    exif = Image.Exif()
    exif[0x0112] = 3  # to be shown upside down
    file = io.BytesIO()
    picture.save(file, "JPEG", exif=exif)
    frame = decoder.decode(file.getvalue(), "image")[0]
    assert frame[:, 0].mean() < 20 and frame[:, -1].mean() > 235


def test_a_file_is_removed_whatever_comes_of_it(decoder, tmp_path):
    for content in (image(), b"no image", image()[:100]):
        path = tmp_path / "upload"
        path.write_bytes(content)
        try:
            decoder.decode(path)
        except ValueError:
            assert content != image()
        assert not path.exists()


@pytest.mark.parametrize(
    ("limits", "content", "reason"),
    [
        ({"max_image_bytes": 100}, image(), "an image may have at most"),
        ({"max_video_bytes": 100}, video(), "a video may have at most"),
        ({"max_pixels": SIZE[0] * SIZE[1] - 1}, image(), "64 x 48 pixels"),
        ({"max_pixels": SIZE[0] * SIZE[1] - 1}, video(), "64 x 48 pixels"),
    ],
)
def test_files_beyond_the_limits_are_refused(folder, limits, content, reason):
    decoder = UploadDecoder(SETTINGS, limits=replace(LIMITS, **limits), folder=folder)
    with pytest.raises(ValueError, match=reason):
        decoder.decode(content)
    decoder.close()


@pytest.mark.parametrize(
    ("fault", "reason"),
    [("sleep", "within 2 seconds"), ("segfault", "crashed"), ("burst", "memory")],
)
def test_a_decoder_that_fails_is_killed_and_replaced(tmp_path, fault, reason):
    limits = replace(LIMITS, timeout_seconds=2.0)
    decoder = UploadDecoder(SETTINGS, limits=limits, folder=tmp_path, openers=all_faulty)
    before = set(psutil.Process().children(recursive=True))
    path = tmp_path / f"{fault}.mp4"
    path.write_bytes(video())
    with pytest.raises(ValueError, match=reason):
        decoder.decode(path)
    path = tmp_path / "good.mp4"
    path.write_bytes(video())
    assert len(decoder.decode(path)) == 4
    decoder.close()
    left = set(psutil.Process().children(recursive=True)) - before
    psutil.wait_procs(left, timeout=5)
    assert not [process for process in left if process.is_running()]


def test_one_too_many_is_told_to_come_back(decoder):
    pool = decoder._pools.get()
    try:
        with pytest.raises(UploadsBusyError):
            decoder.decode(image())
    finally:
        decoder._pools.put(pool)


def test_kinds_are_judged_by_content():
    assert kind_of(b"RIFF\0\0\0\0WAVE") is None
    assert kind_of(b"\0\0\0\x1cftypavif") == "image"
    assert kind_of(b"\0\0\0\x1cftypisom") == "video"
    assert kind_of(video(".ts")) == "video"


class FormApp:
    """Reads a form as the search does, and notes which files were there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.modes: list[int] = []
        self.contents: list[bytes] = []

    async def endpoint(self, request: Request) -> JSONResponse:
        limits = UploadLimits(max_image_bytes=5000, max_video_bytes=9000)
        try:
            async with upload_form(request, limits=limits, folder=self.folder) as form:
                for path, _ in form.files:
                    assert path.parent == self.folder
                    self.modes.append(os.stat(path).st_mode & 0o777)
                    self.contents.append(path.read_bytes())
                files = [kind for _, kind in form.files]
                return JSONResponse({"fields": form.fields, "files": files})
        except ApiError as error:
            return JSONResponse({"code": error.code}, error.status)

    def post(self, **options) -> httpx.Response:
        app = Starlette(routes=[Route("/", self.endpoint, methods=["POST"])])

        async def scenario() -> httpx.Response:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as http:
                return await http.post("/", **options)

        response = asyncio.run(scenario())
        assert list(self.folder.iterdir()) == []
        return response


@pytest.fixture
def form_app(tmp_path) -> FormApp:
    return FormApp(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../../etc/passwd",
        "/etc/passwd",
        "..\\..\\windows\\win.ini",
        "con",
        "a\0b.png",
        "x" * 900,
        ".",
        "",
        "%2e%2e%2fetc%2fpasswd",
        "$(id).png",
        "é\u202egnp.exe",
    ],
)
def test_names_of_uploads_name_nothing_here(form_app, name):
    response = form_app.post(files={"image": (name, b"content", "image/png")}, data={"k": "5"})
    if not name:  # a field without a file name is text
        assert response.json() == {"fields": {"image": "content", "k": "5"}, "files": []}
        return
    assert response.json() == {"fields": {"k": "5"}, "files": ["image"]}
    assert form_app.contents == [b"content"]
    assert form_app.modes == [0o600]


@pytest.mark.parametrize(
    ("files", "status", "code"),
    [
        ([("image", b"x" * 5001)], 413, "too_large"),
        ([("video", b"x" * 9001)], 413, "too_large"),
        ([("video", b"x" * 5001)], 200, None),
        ([("attachment", b"x")], 400, "invalid_request"),
        ([("image", b"x")] * 4, 200, None),
        ([("image", b"x")] * 5, 400, None),
    ],
)
def test_forms_are_bounded(form_app, files, status, code):
    response = form_app.post(files=[(name, ("f", content)) for name, content in files])
    assert response.status_code == status
    if code:
        assert response.json() == {"code": code}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--x",
        b"--x\r\n\r\n",
        b"--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--",
        b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\ncut',
        b"--x\r\n" + b"A: b\r\n" * 1000,
        b'--x\r\nContent-Disposition: form-data; name="' + b"n" * 100_000,
    ],
)
def test_broken_forms_are_refused(form_app, body):
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    response = form_app.post(content=body, headers=headers)
    assert response.status_code in (200, 400) and form_app.contents == []
