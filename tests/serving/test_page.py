"""The page in a real browser, on an index of colours: what one does, sees and hears of it."""

# ruff: noqa: RUF001  # spans have en dashes, and queries commas of Chinese
import io
import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from PIL import Image

from reelseek.recommendation.completion.block_list import BlockList
from reelseek.recommendation.completion.building import BuildSettings, build_model
from reelseek.recommendation.completion.model_files import DEFAULT_FOLDER, save_model
from reelseek.recommendation.completion.search_history import read_history
from reelseek.recommendation.events.log import EventLog
from reelseek.recommendation.events.schema import Click, Impression, parse_events
from reelseek.serving.routes.page import page_files
from reelseek.text import QueryAnalyzer, Vocabulary
from tests.conftest import COLOURS
from tests.recommendation.completion.asked_events import ask, many
from tests.serving.page_server import make_index, serve, serve_locked

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), ""
)
playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs axe")
pytestmark = [
    pytest.mark.long,
    pytest.mark.skipif(not CHROMIUM, reason="needs Chromium, and none is installed"),
]

RULES = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
open_folders: dict[str, Path] = {}  # of the index that is served at an address
FILM_SECONDS = {"red": (0, 8), "green": (8, 16), "blue": (16, 24)}


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    folder = make_index(tmp_path_factory.mktemp("page"))
    with serve(folder) as address:
        open_folders[address] = folder
        yield address


@pytest.fixture(scope="module")
def browser() -> Iterator["playwright.Browser"]:
    options = ["--mute-audio", "--autoplay-policy=no-user-gesture-required"]
    if os.geteuid() == 0:
        options.append("--no-sandbox")  # which root cannot have
    with playwright.sync_playwright() as driver:
        yield driver.chromium.launch(executable_path=CHROMIUM, args=options)


@pytest.fixture
def open_page(browser, address) -> Iterator[Callable[..., "playwright.Page"]]:
    """Opens an address of the service in a context of its own. In the end nothing may have been
    complained of, or asked of another host."""
    contexts, complaints, requested, addresses = [], [], [], set()

    def open_page(
        path: str = "/", *, before: Callable = lambda page: None, at: str = address, **options
    ):
        context = browser.new_context(
            viewport={"width": 1200, "height": 800} | options.pop("viewport", {}), **options
        )
        context.set_default_timeout(30_000)  # of a machine that is busy with other tests
        contexts.append(context)
        page = context.new_page()
        page.on(
            "console", lambda one: one.type in ("error", "warning") and complaints.append(one.text)
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requested.append(request.url))
        before(page)
        addresses.add(at)
        page.goto(at + path)
        return page

    open_page.complaints = complaints
    open_page.requested = requested
    yield open_page
    for context in contexts:
        context.close()
    assert complaints == []
    assert all(url.startswith(tuple(addresses)) for url in requested), requested


def asked(page) -> dict[str, list[str]]:
    return parse_qs(urlsplit(page.url).query)


def titles(page) -> list[str]:
    page.locator(".card").first.wait_for()
    return [text.rpartition(" ")[0] for text in page.locator(".card h2").all_text_contents()]


def wait_for_first(page, title: str) -> None:
    page.locator(".card:first-child h2").get_by_text(title).wait_for()


def colour_shown(page) -> str:
    """The colour in the middle of the frame that the player shows, and waits until it shows one."""
    page.wait_for_function(
        "() => { const v = document.querySelector('#player video');"
        " return v.readyState >= 2 && !v.seeking }"
    )
    pixel = page.evaluate(
        """() => {
          const video = document.querySelector('#player video');
          const canvas = new OffscreenCanvas(video.videoWidth, video.videoHeight);
          const context = canvas.getContext('2d');
          context.drawImage(video, 0, 0);
          return [...context.getImageData(video.videoWidth / 2, video.videoHeight / 2, 1, 1).data];
        }"""
    )
    return list(COLOURS)[pixel.index(max(pixel[:3]))]


def pause(page) -> None:
    page.evaluate("document.querySelector('#player video').pause()")


def seconds(page) -> float:
    return page.evaluate("document.querySelector('#player video').currentTime")


# From typing to the moment


def wait_until_suggested(page, prefix: str, text: str) -> None:
    """A service that has just begun reads what it suggests, and answers with nothing meanwhile."""
    deadline = time.monotonic() + 30
    while True:
        found = page.evaluate(
            "prefix => fetch(`/api/suggest?prefix=${prefix}`).then((answer) => answer.json())",
            prefix,
        )
        if text in [each["text"] for each in found["suggestions"]]:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_suggestions_are_chosen_by_keys(open_page):
    page = open_page()
    wait_until_suggested(page, "a r", "A red door")
    box = page.get_by_role("combobox")
    box.press_sequentially("a r")
    page.get_by_role("option").first.wait_for()
    assert box.get_attribute("aria-expanded") == "true"
    box.press("ArrowDown")
    option = page.locator(f"#{box.get_attribute('aria-activedescendant')}")
    assert option.inner_text().strip().startswith("A red door")
    assert option.get_attribute("aria-selected") == "true"
    box.press("Enter")
    assert titles(page)[0] == "A red door"
    assert asked(page) == {"q": ["A red door"]}
    box.fill("a g")
    page.get_by_role("option").first.wait_for()
    box.press("Escape")
    assert box.get_attribute("aria-expanded") == "false"
    assert box.input_value() == "a g"


def test_past_searches_are_offered_and_cleared(open_page):
    page = open_page("/?q=red")
    titles(page)
    box = page.get_by_role("combobox")
    box.fill("")
    page.get_by_role("option", name="red").wait_for()
    page.get_by_role("button", name="Clear past searches").click()
    page.locator("#suggestions").wait_for(state="hidden")
    assert page.evaluate("localStorage.getItem('reelseek.searches')") is None


def test_chips_are_taken_off(open_page):
    page = open_page(
        "/?q=green without red under 20 seconds&where=duration < 100&min_confidence=0.05"
    )
    page.locator(".chip").first.wait_for()
    chips = page.locator(".chip")
    assert chips.all_inner_texts() == [
        *("shorter than 20 s", "not red", "where duration < 100", "at least 5 % probable"),
    ]
    page.locator(".chip.excluded").click()
    page.locator(".chip.excluded").wait_for(state="detached")
    assert page.get_by_role("combobox").input_value() == 'green "without red" under 20 seconds'
    assert asked(page)["q"] == ['green "without red" under 20 seconds']
    page.locator(".chip.where").click()
    page.locator(".chip.where").wait_for(state="detached")
    assert "where" not in asked(page)
    page.locator(".chip.filter").click()
    page.locator(".chip.filter").wait_for(state="detached")
    assert "Three colours" in titles(page)  # which lasts 24 seconds
    page.go_back()
    page.locator(".chip.filter").wait_for()
    assert page.get_by_role("combobox").input_value() == 'green "without red" under 20 seconds'


# The player


def open_film(page, text: str = "Three colours 0:08–0:16") -> None:
    page.get_by_role("link", name=text).click()
    page.get_by_role("dialog", name="Three colours").wait_for()


def test_player_opens_in_the_moment_and_goes_to_the_next(open_page):
    page = open_page("/?q=green&level=moment")
    open_film(page)
    assert colour_shown(page) == "green"
    low, high = FILM_SECONDS["green"]
    assert low <= seconds(page) < high
    page.keyboard.press("n")
    page.wait_for_url("**t=16**")
    page.wait_for_function("document.querySelector('#player video').currentTime >= 16")
    assert colour_shown(page) == "blue"
    for _ in range(2):
        page.keyboard.press("p")
    page.wait_for_url("**t=0**")
    assert colour_shown(page) == "red"
    page.keyboard.press(" ")
    page.wait_for_function("document.querySelector('#player video').paused")
    before = seconds(page)
    page.keyboard.press("ArrowRight")
    assert seconds(page) == pytest.approx(before + 5, abs=0.1)
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "v=" not in url)
    assert asked(page) == {"q": ["green"], "level": ["moment"]}


def test_after_the_last_moment_of_a_video_comes_the_next_hit(open_page):
    page = open_page("/?q=green&level=moment")
    first = titles(page)[0]
    page.locator(".card h2 a").first.click()
    page.locator("#player-title").get_by_text(first).wait_for()
    for _ in range(3 if first == "Three colours" else 1):
        page.keyboard.press("n")
    page.locator("#player-title").get_by_text(first).wait_for(state="detached")
    colour_shown(page)
    assert seconds(page) < 8


def test_moments_are_gone_through_to_either_end_and_back(open_page):
    page = open_page("/?q=green&level=moment")
    titles(page)
    page.locator(".card h2 a").first.click()
    colour_shown(page)

    def walk(key: str, end: str) -> list[tuple[str, float]]:
        places = [place()]
        page.keyboard.press(key)  # faster than any video loads
        while not page.get_by_text(end).is_visible():
            places.append(place())
            page.keyboard.press(key)
        return places

    def place() -> tuple[str, float]:
        return asked(page)["v"][0], float(asked(page)["t"][0])

    walk("p", "This is the first moment.")
    forward = walk("n", "This is the last moment.")
    assert walk("p", "This is the first moment.") == forward[::-1]
    assert len(forward) == page.locator(".card").count()
    videos = [video for video, _ in forward]
    assert len(set(videos)) == 5
    changes = sum(one != other for one, other in pairwise(videos))
    assert changes == 4  # all moments of a video follow each other
    assert all(one < other for one, other in pairwise(forward) if one[0] == other[0])


def test_full_screen_and_back(open_page):
    page = open_page("/?q=green&level=moment")
    open_film(page)
    shown = "document.fullscreenElement?.className"
    page.get_by_role("button", name="Full screen (f)").click()
    page.wait_for_function(f"{shown} === 'stage'")
    page.keyboard.press("f")
    page.wait_for_function("document.fullscreenElement === null")
    assert page.get_by_role("dialog").is_visible()


def test_a_link_is_copied_that_opens_the_moment(open_page):
    page = open_page("/?q=green&level=moment", permissions=["clipboard-read", "clipboard-write"])
    open_film(page)
    page.keyboard.press("n")
    page.wait_for_url("**t=16**")
    page.get_by_role("button", name="Copy link to this moment").click()
    page.get_by_text("The link is copied.").wait_for()
    link = page.evaluate("navigator.clipboard.readText()")
    page.evaluate("() => { navigator.clipboard.writeText = () => Promise.reject() }")
    page.get_by_role("button", name="Copy link to this moment").click()
    page.get_by_text("copy the address instead").wait_for()
    page.keyboard.press("Escape")
    page.wait_for_url(lambda url: "v=" not in url)  # going back would undo what follows
    page.goto(link)
    page.get_by_role("dialog", name="Three colours").wait_for()
    pause(page)
    assert colour_shown(page) == "blue"


def test_reload_and_back_show_the_same(open_page):
    page = open_page("/?q=blue&level=moment")
    before = titles(page)
    open_film(page, "Three colours 0:16–0:24")
    assert colour_shown(page) == "blue"
    page.reload()
    page.get_by_role("dialog", name="Three colours").wait_for()
    page.wait_for_function("document.querySelector('#player video').currentTime >= 16")
    pause(page)  # or a busy machine lets it play on into what comes next
    assert colour_shown(page) == "blue"
    assert FILM_SECONDS["blue"][0] <= seconds(page) < FILM_SECONDS["blue"][1]
    assert titles(page) == before
    page.go_back()
    page.get_by_role("dialog").wait_for(state="hidden")
    page.go_forward()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")


def test_what_no_browser_plays_is_shown_as_a_clip(open_page):
    page = open_page("/?q=blue&level=moment")
    page.get_by_role("link", name="An old tape 0:00–0:08").click()
    assert colour_shown(page) == "blue"
    assert "/clip?" in page.locator("#player video").get_attribute("src")
    page.keyboard.press("n")
    page.wait_for_url("**t=8**")
    assert colour_shown(page) == "red"
    assert page.locator(".position").inner_text().endswith("/ 0:16")
    download = page.get_by_role("link", name="Download this clip")
    assert re.search(r"/clip\?start=8\.00&end=16\.00$", download.get_attribute("href"))


def test_strip_opens_the_player_by_key_and_by_click(open_page):
    page = open_page("/?q=red&level=moment")
    strip = page.get_by_role("slider", name="Where Three colours").first
    strip.focus()
    page.keyboard.press("End")
    assert strip.get_attribute("aria-valuenow") == strip.get_attribute("aria-valuemax")
    page.keyboard.press("Home")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert asked(page)["t"] == ["0"] and colour_shown(page) == "red"
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    width = strip.bounding_box()["width"]
    strip.click(position={"x": width / 2, "y": 8})
    page.get_by_role("dialog").wait_for()
    assert float(asked(page)["t"][0]) == pytest.approx(12, abs=0.2)
    assert colour_shown(page) == "green"


def test_more_like_a_moment(open_page):
    page = open_page("/?q=green&level=moment")
    open_film(page, "Three colours 0:16–0:24")
    page.get_by_role("button", name="More like this moment", exact=True).click()
    page.locator(".chip.like").wait_for()
    (like,) = asked(page)["like"]
    assert re.fullmatch(r"\w+@16\.00-24\.00", like)
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.locator(".chip.like").inner_text() == "like Three colours 0:16–0:24"


@pytest.mark.parametrize("motion", ["no-preference", "reduce"])
def test_pointer_plays_the_moment_without_sound(open_page, motion):
    page = open_page("/?q=green&level=moment", reduced_motion=motion)
    page.locator(".card .cover").first.hover()
    preview = page.locator(".card video")
    if motion == "reduce":
        page.wait_for_timeout(600)
        assert preview.count() == 0
    else:
        page.locator(".cover.playing").wait_for()
        assert preview.evaluate("video => video.muted && !video.paused")
        page.mouse.move(0, 0)
        preview.wait_for(state="detached")


def test_more_is_shown_to_the_end(open_page):
    def shorten(route) -> None:
        route.continue_(url=route.request.url.replace("k=24", "k=3"))

    page = open_page("/?q=green&level=moment")
    expected = page.locator(".card h2").all_text_contents() if titles(page) else []
    page.route("**/api/search?*", shorten)
    page.reload()
    titles(page)
    assert page.get_by_role("status").first.inner_text() == "First 3 moments"
    more = page.get_by_role("button", name="Show more")
    for num_shown in range(3, len(expected), 3):
        assert page.locator(".card").count() == num_shown
        more.click()
        page.locator(".card").nth(num_shown).wait_for()
        number = page.evaluate(
            "[...document.querySelectorAll('.card')]"
            ".indexOf(document.activeElement.closest('.card'))"
        )
        assert number == num_shown  # the keyboard goes on at the first new one
    if more.is_visible():  # a last page that is full may be followed by an empty one
        more.click()
        more.wait_for(state="hidden")
    assert page.locator(".card h2").all_text_contents() == expected
    assert page.get_by_role("status").first.inner_text() == f"{len(expected)} moments"


# Pictures


def make_transfer(page, colour: str) -> "playwright.JSHandle":
    """What holds a picture of one colour while it is dropped or pasted."""
    return page.evaluate_handle(
        """async (colour) => {
          const canvas = new OffscreenCanvas(64, 48);
          const context = canvas.getContext('2d');
          context.fillStyle = colour;
          context.fillRect(0, 0, 64, 48);
          const transfer = new DataTransfer();
          const content = [await canvas.convertToBlob()];
          transfer.items.add(new File(content, 'sky.png', { type: 'image/png' }));
          return transfer;
        }""",
        colour,
    )


def drop_picture(page, colour: str) -> None:
    transfer = make_transfer(page, colour)
    page.dispatch_event("body", "dragenter", {"dataTransfer": transfer})
    page.locator("#drop").wait_for()
    page.dispatch_event("body", "drop", {"dataTransfer": transfer})


def test_picture_dropped(open_page):
    page = open_page()
    drop_picture(page, "rgb(30, 30, 220)")
    assert titles(page)[0] == "A blue sky"
    assert asked(page) == {"pictures": ["1"]}
    assert "shared link lacks it" in page.get_by_role("alert").inner_text()
    assert page.locator("#drop").is_hidden()
    page.get_by_role("combobox").fill("green")
    page.get_by_role("combobox").press("Enter")
    page.wait_for_url("**q=green**")
    page.locator(".chip.like").wait_for()
    page.go_back()
    page.wait_for_url("**/?pictures=1")
    wait_for_first(page, "A blue sky")
    page.reload()
    page.get_by_text("cannot be shared").wait_for()
    assert page.locator(".card").count() == 0


def test_picture_pasted_beside_one_that_is_chosen(open_page):
    page = open_page()
    paste = "clipboardData => document.dispatchEvent(new ClipboardEvent('paste', {clipboardData}))"
    page.evaluate(paste, make_transfer(page, "rgb(30, 30, 220)"))
    wait_for_first(page, "A blue sky")
    picture = io.BytesIO()
    Image.new("RGB", (64, 48), COLOURS["red"]).save(picture, "PNG")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Search by a picture").click()
    file = {"name": "door.png", "mimeType": "image/png", "buffer": picture.getvalue()}
    chooser.value.set_files(file)
    page.wait_for_url("**/?pictures=2")
    page.get_by_role("button", name="Take off: the picture sky.png").click()
    page.wait_for_url("**/?pictures=1")
    wait_for_first(page, "A red door")
    assert page.locator(".chip").inner_text() == "like door.png"


# What is said


def test_empty_answer_says_why(open_page):
    page = open_page("/?q=green before 1990")
    page.get_by_text("No video before 1990 (from 'before 1990')").wait_for()
    assert page.get_by_role("status").first.inner_text() == "0 videos"


def test_error_is_said_and_the_search_can_be_mended(open_page):
    page = open_page("/?q=green&where=nothing = 1")
    page.get_by_role("alert").get_by_text("nothing").wait_for()
    page.locator(".chip.where").click()
    assert titles(page)
    assert page.locator("#notice").inner_text() == ""
    (complaint,) = open_page.complaints
    assert "400" in complaint  # which browsers log by themselves
    open_page.complaints.clear()


def test_a_busy_server_is_asked_once_more(open_page):
    answers = iter([503])

    def refuse_once(route) -> None:
        status = next(answers, None)
        if status is None:
            route.continue_()
        else:
            route.fulfill(
                status=status,
                headers={"Retry-After": "1"},
                json={"error": {"code": "busy", "message": "busy"}},
            )

    page = open_page("/?q=green", before=lambda page: page.route("**/api/search?*", refuse_once))
    page.locator("#busy").wait_for()
    assert titles(page)
    assert page.locator("#busy").is_hidden()
    open_page.complaints.clear()  # of the 503


@pytest.mark.parametrize("path", ["/", "/?q=green"], ids=["start", "search"])
def test_page_waits_until_the_service_is_ready(open_page, path):
    is_ready = False

    def not_ready(route) -> None:
        if is_ready:
            route.continue_()
            return
        error = {"code": "not_ready", "message": "nothing can be searched yet"}
        route.fulfill(status=503, headers={"Retry-After": "0.1"}, json={"error": error})

    page = open_page(path, before=lambda page: page.route(re.compile("/api/s"), not_ready))
    page.get_by_text("Getting ready").wait_for()
    is_ready = True
    page.get_by_text("5 videos to search").or_(page.locator(".card")).first.wait_for()
    page.get_by_text("Getting ready").wait_for(state="hidden")
    open_page.complaints.clear()  # of the 503


def test_data_is_text(open_page):
    page = open_page("/?q=a green wall")
    page.get_by_text("A green wall <img src=x onerror=alert(1)>").first.wait_for()
    assert page.locator(".reasons mark").all_inner_texts()[:2] == ["green", "wall"]
    assert page.locator("img[src='x']").count() == 0


# What users do


def keep_events(sent: list[dict], *, keeps: bool = True) -> Callable:
    """Serves the page as of a service that keeps events, and collects what it sends."""

    def turn_on(route) -> None:
        content = page_files(keeps_events=keeps)["index.html"].content
        route.fulfill(body=content, content_type="text/html")

    def keep(route) -> None:
        body = route.request.post_data_buffer
        parse_events(body, now_seconds=time.time())
        sent.extend(json.loads(body)["events"])
        route.fulfill(json={"accepted": 1, "duplicates": 0})

    def before(page) -> None:
        page.route(re.compile(r"/\?q="), turn_on)
        page.route("**/api/events", keep)

    return before


def send_events(page) -> None:
    """Has the page send what it has gathered, as when it is left."""
    page.evaluate("dispatchEvent(new Event('pagehide'))")
    page.wait_for_timeout(100)


def test_events_are_sent_only_where_they_are_kept(open_page):
    def run(keeps: bool) -> list[dict]:
        sent: list[dict] = []
        page = open_page("/?q=green&level=moment", before=keep_events(sent, keeps=keeps))
        page.locator(".card").first.wait_for()
        page.wait_for_timeout(1200 if keeps else 0)
        open_film(page)
        seconds_shown = 8.7 if keeps else 8
        page.wait_for_function(
            f"document.querySelector('#player video').currentTime > {seconds_shown}"
        )
        if not keeps:
            assert page.get_by_role("button", name="Like", exact=True).count() == 0
            page.keyboard.press("l")
            page.keyboard.press("n")
        send_events(page)
        return sent

    assert run(keeps=False) == []
    sent = run(keeps=True)
    kinds = [event["kind"] for event in sent]
    assert {"search", "impression", "click", "play"} == set(kinds)
    assert len({event["event_id"] for event in sent}) == len(sent)
    assert len({event["session"] for event in sent}) == 1
    assert all(event["request_id"] for event in sent)
    (search,) = [event for event in sent if event["kind"] == "search"]
    assert search["query"] == "green"
    impressions = [event for event in sent if event["kind"] == "impression"]
    for surface in {event["surface"] for event in impressions}:  # hits, and what is related to one
        seen = [event["position"] for event in impressions if event["surface"] == surface]
        assert sorted(seen) == list(range(1, len(seen) + 1))
    assert "search" in {event["surface"] for event in impressions}
    (play,) = [event for event in sent if event["kind"] == "play"]
    assert play["watched_seconds"] > 0.5


def test_likes_are_sent_and_shown_wherever_the_video_is(open_page):
    sent: list[dict] = []
    page = open_page("/?q=green&level=moment", before=keep_events(sent))
    titles(page)
    films = page.locator(".card").filter(has_text="Three colours")
    hearts = films.get_by_role("button", name="Like Three colours", exact=True)
    assert hearts.count() >= 2  # one for each moment that was found
    films.first.get_by_role("link", name="Three colours").focus()
    page.keyboard.press("l")
    assert {heart.get_attribute("aria-pressed") for heart in hearts.all()} == {"true"}
    open_film(page)
    heart = page.get_by_role("dialog").get_by_role("button", name="Like", exact=True)
    heart.wait_for()
    assert heart.get_attribute("aria-pressed") == "true"
    page.keyboard.press("l")
    page.get_by_text("No longer liked.").wait_for()
    assert heart.get_attribute("aria-pressed") == "false"
    heart.click()
    page.keyboard.press("Escape")
    assert {heart.get_attribute("aria-pressed") for heart in hearts.all()} == {"true"}
    send_events(page)
    liked = [event for event in sent if event["kind"] == "like"]
    assert [event["liked"] for event in liked] == [True, False, True]
    assert len({event["video"] for event in liked}) == 1
    assert (liked[1]["start_seconds"], liked[1]["end_seconds"]) == FILM_SECONDS["green"]
    page.reload()
    titles(page)
    assert {heart.get_attribute("aria-pressed") for heart in hearts.all()} == {"true"}


def test_what_is_left_soon_is_skipped(open_page):
    def set_clock(milliseconds: int) -> None:
        page.evaluate(f"performance.now = () => {milliseconds}")

    sent: list[dict] = []
    page = open_page("/?q=green&level=moment", before=keep_events(sent))
    titles(page)
    set_clock(0)
    open_film(page)
    colour_shown(page)
    set_clock(2900)
    page.keyboard.press("n")  # leaves green for blue, too soon
    page.wait_for_url("**t=16**")
    set_clock(6000)
    page.keyboard.press("p")  # blue was shown for long enough
    page.wait_for_url("**t=8**")
    page.get_by_role("slider", name="Position").press("End")
    page.keyboard.press("n")  # green again, whose end was seen
    page.wait_for_url("**t=16**")
    page.keyboard.press("l")
    page.keyboard.press("Escape")  # blue again, which was liked
    page.get_by_role("dialog").wait_for(state="hidden")
    send_events(page)
    (skip,) = [event for event in sent if event["kind"] == "skip"]
    assert (skip["start_seconds"], skip["end_seconds"]) == FILM_SECONDS["green"]
    assert skip["position"] >= 1 and skip["surface"] == "search" and skip["request_id"]


# What is recommended


@pytest.fixture
def kept(address, tmp_path) -> Iterator[tuple[str, EventLog]]:
    """The address of a service that keeps events, and its log."""
    index = tmp_path / "index"
    shutil.copytree(open_folders[address], index)
    with serve(index, events=tmp_path / "events") as kept_address:
        log = EventLog(tmp_path / "events")
        yield kept_address, log
        log.close()


def events_of(log: EventLog, kind: type, *, least: int = 1) -> list:
    """Waits until there are so many events of a kind."""
    deadline = time.monotonic() + 20
    while True:
        found = [each.event for each in log.read() if isinstance(each.event, kind)]
        if len(found) >= least:
            return found
        assert time.monotonic() < deadline, [each.event for each in log.read()]
        time.sleep(0.1)


def test_start_page_shows_a_feed_without_what_was_seen(kept, open_page):
    address, log = kept
    page = open_page(at=address, viewport={"width": 1200, "height": 2000})
    page.get_by_role("heading", name="For you").wait_for()
    cards = page.locator("#for-you .card")
    first = cards.first.locator("h2 a").inner_text().split("\n")[0]
    before = cards.count()
    assert before >= 3
    shown = events_of(log, Impression, least=before)
    assert {each.surface for each in shown} == {"for_you"}
    assert sorted(each.position for each in shown) == list(range(1, before + 1))
    assert all(0 < each.propensity <= 1 and each.request_id for each in shown)
    cards.first.locator("h2 a").click()
    page.get_by_role("dialog").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    cards.nth(before - 1).wait_for(state="detached")
    assert page.locator("#for-you").get_by_text(first, exact=True).count() == 0
    (click,) = events_of(log, Click)
    assert (click.surface, click.position) == ("for_you", 1)
    assert click.request_id == shown[0].request_id
    page.get_by_role("combobox").fill("green")
    page.keyboard.press("Enter")
    titles(page)
    assert page.locator("#for-you .card").count() == 0
    page.go_back()
    page.get_by_role("heading", name="For you").wait_for()


def test_related_stand_beside_the_player_with_their_reasons(kept, open_page):
    address, log = kept
    page = open_page("/?q=green&level=moment", at=address)
    open_film(page)
    page.get_by_role("heading", name="Related").wait_for()
    items = page.locator(".related li")
    assert items.count() >= 2
    reason = items.first.locator(".reason").inner_text()
    assert reason in ("looks alike", "same tags", "similar words", "watched by the same people")
    name = items.first.locator("span").first.inner_text()
    pause(page)
    items.first.locator("a").click()
    page.locator("#player-title").get_by_text(name).wait_for()
    clicks = events_of(log, Click, least=2)
    assert (clicks[-1].surface, clicks[-1].position) == ("related", 1)
    assert clicks[-1].request_id != clicks[0].request_id


@pytest.fixture
def asked_before(kept, tmp_path) -> Iterator[str]:
    """The address of a service that knows what six people searched, one after the other."""
    address, log = kept
    ask(log, [*many("green wall", 6), *many("green wall at night", 6), *many("my own green", 1)])
    settings = BuildSettings(min_users=5, block_list=BlockList([]), trees=False)
    built, _ = build_model(read_history(log, max_queries_per_user=100), settings)
    save_model(tmp_path / "events" / DEFAULT_FOLDER, built)
    yield address


def test_what_others_search_completes_and_follows(asked_before, open_page):
    page = open_page(at=asked_before)
    wait_until_suggested(page, "green w", "green wall at night")
    box = page.get_by_role("combobox")
    box.press_sequentially("green w")
    options = page.get_by_role("option")
    options.filter(has_text="green wall at night").wait_for()
    assert options.filter(has_text="own").count() == 0  # one person asked that
    options.filter(has_text="green wall").first.click()
    next_asked = page.get_by_role("navigation", name="What people also search")
    next_asked.get_by_role("link", name="green wall at night").click()
    page.wait_for_url("**?q=green+wall+at+night*")
    titles(page)
    next_asked.wait_for(state="hidden")  # nobody searched anything after it


def test_a_service_without_events_shows_some_videos(open_page):
    page = open_page()
    page.get_by_role("heading", name="Have a look").wait_for()
    assert page.locator("#for-you .card").count() >= 3


# For everybody


VIEWS = {
    "start": "/",
    "results": "/?q=green without people&level=moment&where=duration < 100",
    "empty": "/?q=green before 1990",
    "status": "/status",
}


def settle(page) -> None:
    page.locator(".card, .empty, .list li, #library:not(:empty)").first.wait_for()


def assert_accessible(page) -> None:
    """axe finds nothing, in light and in dark colours."""
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        level = sum(map(int, re.findall(r"\d+", background)[:3])) / 3
        assert level > 200 if scheme == "light" else level < 60
        found = axe.Axe().run(page, options=RULES)
        assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("view", VIEWS)
def test_axe_finds_nothing(open_page, view):
    page = open_page(VIEWS[view])
    settle(page)
    assert_accessible(page)


def test_axe_finds_nothing_in_suggestions_filters_and_player(open_page):
    page = open_page("/?q=a red door")
    titles(page)
    page.get_by_role("button", name="Filters").click()
    page.get_by_role("combobox").fill("a")
    page.get_by_role("option").first.wait_for()
    page.keyboard.press("ArrowDown")
    assert_accessible(page)
    page.keyboard.press("Escape")
    page.locator(".card h2 a").first.click()
    page.get_by_text("Related").wait_for()
    pause(page)
    assert_accessible(page)


@pytest.mark.parametrize("view", [*VIEWS, "player"])
def test_phone(open_page, view):
    path = "/?q=green&level=moment" if view == "player" else VIEWS[view]
    page = open_page(path, viewport={"width": 390, "height": 844})
    settle(page)
    if view == "player":
        open_film(page)
        page.get_by_text("Related").wait_for()
    widths = page.evaluate(
        """() => [document.documentElement, document.querySelector('#player .sheet')]
             .filter(Boolean).map((one) => [one.scrollWidth, one.clientWidth])"""
    )
    assert all(scrolled <= width for scrolled, width in widths)


def test_keyboard_alone(open_page):
    page = open_page()
    page.keyboard.press("/")
    page.keyboard.type("blue")
    page.keyboard.press("Enter")
    titles(page)
    assert page.get_by_role("status").first.inner_text().endswith("videos")
    for _ in range(12):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.closest('h2') !== null"):
            break
    page.keyboard.press("Enter")
    page.get_by_role("dialog").wait_for()
    assert page.evaluate("document.activeElement.closest('dialog') !== null")
    page.keyboard.press("Escape")
    page.get_by_role("dialog").wait_for(state="hidden")
    assert page.evaluate("document.activeElement.closest('.card') !== null")


def test_status(open_page):
    page = open_page("/status")
    page.get_by_text("2 of 5 videos · 1 failed · 3 minutes left").wait_for()
    assert page.get_by_role("progressbar").evaluate("bar => bar.value / bar.max") == 0.4
    for text in ("broken.mp4", "Watching Videos"):
        assert page.get_by_text(text).is_visible()
    assert page.locator("#failures li span").inner_text()  # the reason
    assert page.locator("#missing").is_hidden()
    count = len(open_page.requested)
    page.wait_for_timeout(2300)
    assert len(open_page.requested) == count + 1


def test_the_token_is_asked_for_in_the_style_of_the_page(open_page, tmp_path):
    with serve_locked(tmp_path, "a token of the test") as locked:
        page = open_page("/page/icon.svg", at=locked, viewport={"width": 390, "height": 844})
        assert urlsplit(page.url).path == "/login"
        widths = page.evaluate("[document.body.scrollWidth, document.body.clientWidth]")
        assert widths[0] <= widths[1]
        page.keyboard.type("wrong")  # the field has the focus
        page.keyboard.press("Enter")
        page.get_by_role("alert").get_by_text("the token is wrong").wait_for()
        assert_accessible(page)  # in colours that only the style knows
        page.keyboard.type("a token of the test")
        page.keyboard.press("Enter")
        page.wait_for_url("**/page/icon.svg")
        files = [f"/page/{name}" for name in page_files(keeps_events=False)]
        paths = [*files, "/", "/status", "/api/status", "/metrics", "/openapi.json"]
        public = {path for path in paths if httpx.get(locked + path).is_success}
        assert public == {"/page/style.css", "/page/login.css"}
    page.context.close()
    assert not [one for one in open_page.complaints if "Policy" in one]
    open_page.complaints.clear()  # of the 401, which browsers log by themselves


# Taking back what words were taken to mean


QUERIES = [
    "cats under 30 seconds from last week -people",
    "beach without people or cars",
    "beach without any of the people",
    'a dog -"fire truck"',
    'dog tag:"my dog" #cat',
    "a girafe under 30 seconds",
    "from 2019 to 2021 a dog",
    "a man opens a door, then a dog runs",
    "after a cat jumps, a dog runs",
    "人のいないビーチ",
    "海滩上没有人的猫",
    "先开门，然后狗跑",
    "３０秒以内の猫",
    "bãi biển không có người",
    "해변 사람 없는",
]


def test_every_meaning_can_be_taken_back(open_page):
    analyzer = QueryAnalyzer(vocabulary=Vocabulary.of(["a dog on a beach"]), entities=False)

    def meanings(text: str) -> list[dict]:
        found = analyzer.analyze(text)
        return [
            *({"kind": "filter", "phrase": each.source} for each in found.constraints),
            *(
                {
                    "kind": "excluded",
                    "phrase": each,
                    "others": [one for one in found.excluded if one != each],
                }
                for each in found.excluded
            ),
            *({"kind": "correction", "phrase": each.original} for each in found.corrections),
            *([{"kind": "steps", "phrases": list(found.steps)}] if found.steps else []),
        ]

    asked = [(text, meaning) for text in QUERIES for meaning in meanings(text)]
    assert {meaning["kind"] for _, meaning in asked} >= {"filter", "excluded", "steps"}
    page = open_page()
    rewritten = page.evaluate(
        "async (asked) => { const { rewritings } = await import('/page/rewriting.js');"
        " return asked.map(([text, meaning]) => [...rewritings(text, meaning)].slice(0, 6)) }",
        asked,
    )
    for (text, meaning), candidates in zip(asked, rewritten, strict=True):
        others = [one for one in meanings(text) if one["kind"] != meaning["kind"]]
        good = [
            one
            for one in candidates
            if not any(_is_same(other, meaning) for other in meanings(one))
        ]
        assert good, (text, meaning, candidates)
        kinds = {one["kind"] for one in meanings(good[0])}
        assert {one["kind"] for one in others} <= kinds, (text, meaning, good[0])


def _is_same(one: dict, other: dict) -> bool:
    if one["kind"] != other["kind"] or one["kind"] == "steps":
        return one["kind"] == other["kind"]
    if one["kind"] == "excluded":
        return other["phrase"] in one["phrase"]
    return one["phrase"] == other["phrase"]


# How it is served


def test_files_are_kept_by_the_browser_and_asked_for_again(address):
    first = httpx.get(f"{address}/page/main.js")
    assert first.headers["content-type"].startswith("text/javascript")
    assert first.headers["cache-control"] == "no-cache"
    again = httpx.get(f"{address}/page/main.js", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = httpx.get(f"{address}/page/main.js", headers={"If-None-Match": '"other"'})
    assert other.status_code == 200
    for name in ("../app.py", "..%2fapp.py", "__init__.py", "none.js"):
        assert httpx.get(f"{address}/page/{name}").status_code == 404


def test_page_needs_no_inline_code_and_no_other_host():
    for name, file in page_files(keeps_events=False).items():
        text = file.content.decode()
        if name.endswith(".html"):
            assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", text), name
        found = set(re.findall(r"https?://[^\s\"')]+", text))
        assert found <= {"http://www.w3.org/2000/svg"}, name
        assert "innerHTML" not in text and "insertAdjacentHTML" not in text
