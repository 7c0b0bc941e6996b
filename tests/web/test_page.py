"""Tests of the page: its HTML by itself, and the whole of it in headless Chromium, which reaches nothing but it."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("gradio")

from clsr.audio.waveform import SAMPLE_RATE
from clsr.search.hit import Hit
from clsr.vocabulary import Word
from clsr.web.config import ServeConfig
from clsr.web.jobs import FileProgress, Job
from clsr.web.player import BARS, bar_scores, hits_html, jobs_html, recordings_html, transcript_html
from clsr.web.service import Found, FoundHit, Recording, SearchService

CHROMIUM = "/usr/bin/chromium"
FLAGS = """--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking
 --disable-component-update --disable-sync --use-fake-device-for-media-stream"""
EVIL = '<img src=x onerror="window.hit=1">&"\'`${window.hit=1}{{constructor}}</li><script>window.hit=1</script>'
Speak = Callable[[Path, str], Path]


class Tags(HTMLParser):
    """The tags and the text of a piece of HTML."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attrs), attrs
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def evil_hit() -> FoundHit:
    text = f"the {EVIL} cat"
    hit = Hit(1, f"/x/{EVIL}.wav", 1.0, 2.0, 0.0, 4.0, 0.5, text, f"before {text} after", (Word("cat", 1.5, 1.9),))
    return FoundHit(hit, Recording("0" * 16, f"talks/{EVIL}.wav", Path("/x/evil.wav"), 8.0, 2), [(0.0, 4.0, 0.5)])


def test_what_others_wrote_is_text_and_nothing_more(service: SearchService) -> None:
    file = FileProgress(Path(f"/x/{EVIL.replace('/', '')}.wav"), "failed", 1.0, 1.0, EVIL)
    for html in (
        hits_html(Found(EVIL, [evil_hit()], 0.01)),
        recordings_html([evil_hit().recording], service),
        recordings_html([evil_hit().recording._replace(path=service.folders.uploads / "evil.wav")], service),
        jobs_html([Job(1, [file], "failed", EVIL)], service),
    ):
        found = Tags(html)
        assert not {"img", "script"} & set(found.tags)
        assert "<img src=x" in found.text and not re.search(r"[`{}$]", html)
        assert found.tags.count("li") == 1


def test_weak_hits_are_folded_away() -> None:
    strong = evil_hit()
    weak = strong._replace(hit=replace(strong.hit, rank=2, weak=True))
    both = hits_html(Found("cat", [strong, weak], 0.01))
    shown, folded = both.split("<details")
    assert "1 moment for “cat”" in Tags(shown).text and Tags(shown).tags.count("audio") == 1
    assert "1 moment with a low score" in Tags(folded).text
    assert Tags(folded).tags.count("audio") == 1
    none = hits_html(Found("cat", [weak], 0.01))
    assert (
        "Nothing matches “cat” well" in none.split("<details")[0]
        and "audio" not in Tags(none.split("<details")[0]).tags
    )


@pytest.mark.parametrize(
    ("text", "words", "marked"),
    [
        ("the cat and the cats", [("cat", 1), ("the", 2)], ["cat@1.000", "the@2.000"]),
        ("cat dog cat", [("cat", 0), ("cat", 2)], ["cat@0.000", "cat@2.000"]),
        ("我喜欢茶", [("茶", 3)], ["茶@3.000"]),
        ("cat", [("dog", 0)], []),
        ("", [], []),
    ],
)
def test_matching_words_are_marked_where_they_stand(text: str, words: list, marked: list[str]) -> None:
    hit = Hit(1, "a", 0, 4, 0, 4, 1.0, text, text, tuple(Word(word, at, at + 1) for word, at in words))
    html = transcript_html(hit)
    found = re.findall(r'<mark><button type="button" data-at="([\d.]+)"[^>]*>([^<]*)</button></mark>', html)
    assert [f"{word}@{at}" for at, word in found] == marked
    assert Tags(html).text == text


def test_bars_take_the_best_window_and_leave_gaps() -> None:
    bars = bar_scores([(0.0, 60.0, 0.2), (30.0, 90.0, 0.5)], 120.0)
    assert bars == [0.2] * 30 + [0.5] * 60 + [None] * (BARS - 90)


# --- In a browser ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api")
    if not shutil.which(CHROMIUM):
        pytest.skip(f"no browser at {CHROMIUM}: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS.split())
        yield browser
        browser.close()


OF_REFUSED_REQUESTS = ("Response", "Unexpected error Connection errored out.")  # what Gradio throws and prints


def is_fault(message: Any) -> bool:
    """Whether what the console says is a fault of the page, and no recording that is missing or login on purpose."""
    return message.type == "error" and not (
        "/api/audio/" in message.location.get("url", "") or "401 (Unauthorized)" in message.text
    )


@pytest.fixture
def visit(browser: Any, serve: Callable[..., str]) -> Iterator[Callable[..., Any]]:
    """Open the page of a service; it may reach nothing but its own server, and no script may fail.

    What Gradio's scripts say of requests that the server refused (``refused``) is not counted.
    """
    faults: list[str] = []
    contexts = []

    def open_page(
        service: SearchService,
        config: ServeConfig | None = None,
        path: str = "/",
        refused: bool = False,
        **options: Any,
    ) -> Any:
        url = serve(service, config)

        def count(text: str) -> None:
            if not (refused and text.strip() in OF_REFUSED_REQUESTS):
                faults.append(text)

        context = browser.new_context(viewport={"width": 1280, "height": 900}, **options)
        contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(60_000)

        def route(one: Any) -> None:
            if one.request.url.startswith(url):
                one.continue_()
            else:
                faults.append(one.request.url)
                one.abort()

        page.route(re.compile("^https?:"), route)
        page.on("console", lambda message: count(message.text) if is_fault(message) else None)
        page.on("pageerror", lambda error: count(str(error)))
        page.goto(url + path)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert not faults


def ask(page: Any, question: str) -> None:
    page.fill("#question textarea", question)
    page.press("#question textarea", "Enter")
    page.wait_for_selector(".hit")


def state(page: Any, number: int = 1) -> dict[str, Any]:
    """Of the player of a hit: its second, whether it plays, and its slider's second."""
    script = """(hit) => { const a = hit.querySelector('audio'); return {time: a.currentTime, plays: !a.paused,
        slider: Number(hit.querySelector('.strip').getAttribute('aria-valuenow'))}; }"""
    return page.eval_on_selector(f".hit:nth-child({number})", script)


def wait_until(page: Any, condition: str, number: int = 1) -> None:
    """Wait until a condition on the audio element ``a`` of a hit holds."""
    page.wait_for_function(
        f"(() => {{ const a = document.querySelector('.hit:nth-child({number}) audio'); return {condition}; }})()"
    )


def test_upload_ask_and_play(visit: Callable, empty_service: SearchService, speak: Speak, tmp_path: Path) -> None:
    """Upload a recording, see it indexed, search, and play the moment that answers."""
    page = visit(empty_service)
    page.wait_for_selector("text=Nothing is indexed yet")
    page.get_by_role("tab", name="Recordings").click()
    speech = speak(tmp_path / "talk <b>1.wav", "cat the dog the - - - - tea sea sun boat - - - -")
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    page.set_input_files("#upload input[type=file]", [speech, broken])
    page.wait_for_selector(".job[data-state=done]")
    assert "Indexed: 1 of 2 recordings, 1 failed" in page.inner_text("#progress")
    failed = page.inner_text("#progress [data-status=failed]")
    assert "broken.wav" in failed and "cannot be read as audio" in failed and str(tmp_path) not in failed
    assert "1 recording, 00:16" in page.inner_text("#listing")
    page.get_by_role("tab", name="Search").click()
    ask(page, "sun")
    assert page.inner_text(".hit:first-child .said") == "tea sea sun boat"
    assert page.inner_text(".hit:first-child mark") == "sun"
    wait_until(page, "a.readyState >= 1 && a.currentTime === 8")  # the hit's start, before anything is clicked
    page.click(".hit:first-child .play")
    wait_until(page, "!a.paused && a.currentTime > 8.2")
    assert 8.2 < state(page)["time"] < 12
    wait_until(page, "a.paused")  # it ends where the hit does
    assert state(page)["time"] == pytest.approx(12.0, abs=0.4)


@pytest.fixture
def page(visit: Callable, service: SearchService) -> Any:
    """The page with the hits of "cat" in a recording of 24 seconds; the best is at 16, the next at 0."""
    page = visit(service)
    ask(page, "cat")
    wait_until(page, "a.readyState >= 1 && a.currentTime === 16")
    return page


def test_a_click_on_the_strip_plays_from_there(page: Any) -> None:
    box = page.locator(".hit:first-child .strip").bounding_box()
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + box["height"] / 2)
    wait_until(page, "!a.paused && a.currentTime >= 6 && a.currentTime < 7.5")
    slider = "Number(a.closest('.hit').querySelector('.strip').getAttribute('aria-valuenow'))"
    wait_until(page, f"Math.abs({slider} - a.currentTime) < 0.3")


def click_on_strip(page: Any, second: float) -> None:
    box = page.locator(".hit:first-child .strip").bounding_box()
    page.mouse.click(box["x"] + box["width"] * second / 24, box["y"] + box["height"] / 2)


def test_the_strip_plays_past_the_moment(page: Any) -> None:
    click_on_strip(page, 21)  # the moment ends at 20
    wait_until(page, "!a.paused && a.currentTime > 21.6")
    page.click(".hit:first-child .play")
    wait_until(page, "!a.paused && a.currentTime > 16.2 && a.currentTime < 20")
    click_on_strip(page, 19.5)  # from Play it would end at 20
    wait_until(page, "!a.paused && a.currentTime > 20.4")


def test_each_play_ends_with_the_moment(page: Any) -> None:
    for _ in range(2):
        page.click(".hit:first-child .play")
        wait_until(page, "!a.paused && a.currentTime > 16.2")
        wait_until(page, "a.paused")
        assert state(page)["time"] == pytest.approx(20.0, abs=0.3)
    page.evaluate("document.querySelector('.hit audio').play()")  # as the browser's own button does
    wait_until(page, "!a.paused && a.currentTime > 20.6")


def test_one_plays_at_a_time(page: Any) -> None:
    """The first is silent as soon as the second plays: no script can see both play, the browser's controls or not."""
    wait_until(page, "a.readyState >= 1", 2)
    page.click(".hit:first-child .play")
    wait_until(page, "!a.paused && a.currentTime > 16.1")
    both = page.evaluate(
        """() => { const [first, second] = document.querySelectorAll('.hit audio');
            document.querySelector('.hit:nth-child(2) .play').click();
            return [!first.paused, !second.paused]; }"""
    )
    assert both == [False, True]
    page.evaluate("document.querySelector('.hit audio').play()")  # as the browser's own button does
    wait_until(page, "a.paused", 2)
    assert state(page)["plays"]


def test_the_strip_is_a_slider_for_the_keyboard(page: Any) -> None:
    strip = page.locator(".hit:first-child .strip")
    assert strip.get_attribute("role") == "slider" and strip.get_attribute("aria-valuetext") == "00:16 of 00:24"
    strip.focus()
    for key, second in [("ArrowLeft", 11), ("ArrowRight", 16), ("Home", 0), ("PageUp", 23.95), ("End", 23.95)]:
        page.keyboard.press(key)
        wait_until(page, f"Math.abs(a.currentTime - {second}) < 0.01")
        assert state(page)["slider"] == pytest.approx(second, abs=0.01)
    page.keyboard.press("Home")
    page.keyboard.press("Space")
    wait_until(page, "!a.paused && a.currentTime > 0.1")
    page.keyboard.press("Space")
    wait_until(page, "a.paused")


def test_a_marked_word_plays_from_there(page: Any) -> None:
    page.click(".hit:first-child mark:nth-of-type(2) button")
    wait_until(page, "a.currentTime >= 18 && a.currentTime < 19.5")


def test_subtitles_are_a_click_away(page: Any) -> None:
    with page.expect_download() as download:
        page.click(".hit:first-child .downloads a:has-text('Subtitles')")
    name = page.inner_text(".hit:first-child h3")
    assert download.value.suggested_filename == f"{Path(name).stem}.srt"
    assert "00:00:" in Path(download.value.path()).read_text()


def test_all_can_be_reached_with_the_tab_key(page: Any) -> None:
    page.focus("#question textarea")
    seen = []
    for _ in range(14):
        page.keyboard.press("Tab")
        seen.append(page.evaluate("document.activeElement.className + ' ' + document.activeElement.innerText"))
    assert any("Search" in one for one in seen) and any("strip" in one for one in seen)
    assert any("play" in one for one in seen) and any(one.endswith(" cat") for one in seen)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_is_wider_than_the_screen(
    visit: Callable, service: SearchService, width: int, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = visit(service, color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 844})

    def check() -> None:
        assert page.evaluate("document.documentElement.scrollWidth") == width
        parts = "[...document.querySelectorAll('.gradio-container *')].filter(e => e.offsetParent)"
        assert page.evaluate(f"Math.max(...{parts}.map(e => e.getBoundingClientRect().right))") <= width
        assert page.evaluate(INSIDE) == []

    ask(page, "cat")
    for tab in ("Recordings", "Search"):
        page.get_by_role("tab", name=tab).click()
        page.wait_for_timeout(200)
        check()
    contrast = page.evaluate(CONTRAST)
    assert contrast and min(contrast.values()) >= 4.5, contrast  # WCAG 2.2, AA
    long = evil_hit()._replace(recording=Recording("0" * 16, "talks/" + "long-name " * 9 + "x" * 99, Path("a"), 8.0, 2))
    monkeypatch.setattr(service, "search", lambda *_: Found("long", [long], 0.01))
    page.fill("#question textarea", "long")
    page.press("#question textarea", "Enter")
    page.wait_for_selector(".hit h3:has-text('long-name')")
    check()


INSIDE = """() => [...document.querySelectorAll('.hit')].flatMap(hit => {
  const right = hit.getBoundingClientRect().right;
  return [...hit.querySelectorAll('*')].filter(e => e.offsetParent && e.getBoundingClientRect().right > right)
    .map(e => e.tagName); })"""


CONTRAST = """() => {
  const rgba = (text) => (text.match(/[\\d.]+/g) || [0, 0, 0, 0]).map(Number);
  const linear = (v) => v <= .03928 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4;
  const light = (c) => { const [r, g, b] = c.map(v => linear(v / 255));
    return .2126 * r + .7152 * g + .0722 * b; };
  const ground = (e) => { for (; e; e = e.parentElement) { const c = rgba(getComputedStyle(e).backgroundColor);
    if (c.length < 4 || c[3] > .99) return c.slice(0, 3); } return [255, 255, 255]; };
  const result = {};
  for (const s of ['.hit h3', '.hit .score', '.hit .said', '.hit mark button', '.hit .play', '.hit .rank', '.axis span',
                   '.found p', '.top h1', '.top p', '#search', '#question textarea',
                   '#question [data-testid=block-info]']) {
    const e = document.querySelector(s), a = light(rgba(getComputedStyle(e).color).slice(0, 3)), b = light(ground(e));
    result[s] = (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  }
  return result; }"""


def test_a_spoken_question(visit: Callable, service: SearchService, speak: Speak, tmp_path: Path) -> None:
    page = visit(service)
    page.click("#aloud button")
    page.click("#spoken button[aria-label='Upload file']")
    page.set_input_files("#spoken input[type=file]", speak(tmp_path / "q.wav", "tea sea"))
    page.wait_for_selector(".hit")
    assert page.inner_text(".hit:first-child .said") == "tea sea sun boat"


DROP = """async ([name, bytes]) => {
  const data = new DataTransfer(), box = document.querySelector("#question textarea");
  data.items.add(new File([new Uint8Array(bytes)], name, {type: "audio/wav"}));
  for (const kind of ["dragenter", "dragover", "drop"])
    box.dispatchEvent(new DragEvent(kind, {dataTransfer: data, bubbles: true, cancelable: true}));
}"""


def test_sound_dropped_into_a_typed_question(
    visit: Callable, service: SearchService, speak: Speak, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    search = service.search
    monkeypatch.setattr(service, "search", lambda question, *rest: asked.append(question) or search(question, *rest))
    page = visit(service)
    page.fill("#question textarea", "tea")
    page.evaluate(DROP, ["q.wav", list(speak(tmp_path / "q.wav", "sea sun").read_bytes())])
    page.wait_for_selector("#question .thumbnail-item")
    page.press("#question textarea", "Enter")
    page.wait_for_selector(".hit")
    text, waveform = asked[0]
    assert text == "tea" and len(waveform) == 2 * SAMPLE_RATE
    assert "tea sea sun" in page.inner_text(".found")
    assert page.inner_text(".hit:first-child .said") == "tea sea sun boat"
    page.click("#search")
    page.wait_for_function("document.querySelector('#results').innerText.includes('tea sea sun')")
    page.click("#question .thumbnail-item button, #question .delete-button")
    ask(page, "cat")


def test_question_spoken_into_the_microphone(
    visit: Callable, service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[Any] = []

    def search(question: np.ndarray, *_: Any) -> Found:
        received.append(question)
        return Found(EVIL, [evil_hit()], 0.01)

    monkeypatch.setattr(service, "search", search)
    page = visit(service, permissions=["microphone"])
    page.click("#aloud button")
    page.click("#spoken button:has-text('Record')")
    page.wait_for_timeout(2000)
    page.click("#spoken button:has-text('Stop')")
    page.wait_for_selector(".hit")
    (waveform,) = received
    assert 1.0 < len(waveform) / SAMPLE_RATE < 5.0 and abs(waveform).max() > 0.05  # beeps of Chromium's own


def test_a_folder_of_the_server(visit: Callable, empty_service: SearchService) -> None:
    page = visit(empty_service)
    page.get_by_role("tab", name="Recordings").click()
    page.click("#start")
    page.wait_for_selector(".job[data-state=done]")
    assert "2 of 2 recordings" in page.inner_text("#progress") and "talks/sub/b.wav" in page.inner_text("#listing")


def test_formats_unknown_to_browsers_come_as_wav(visit: Callable, service: SearchService, talks: Path) -> None:
    (talks / "a.wav").write_bytes(b"not what was indexed")
    page = visit(service)
    ask(page, "cat")
    page.wait_for_function("document.querySelector('.hit audio').src.includes('.wav#t=16')")
    wait_until(page, "a.readyState >= 1 && a.currentTime === 16 && a.duration === 24")


def test_transcripts_are_text_in_the_browser_too(
    visit: Callable, service: SearchService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "search", lambda *_: Found(EVIL, [evil_hit()], 0.01))
    page = visit(service)
    ask(page, "cat")
    assert EVIL in page.inner_text(".hit .said") and page.evaluate("window.hit") is None


@pytest.mark.parametrize(
    ("states", "summary"),
    [
        (["failed"], "Indexed: 0 of 1 recording, 1 failed"),
        (["indexed", "silent", "failed"], "Indexed: 2 of 3 recordings, 1 failed"),
        (["indexed"], "Indexed: 1 of 1 recording"),
    ],
)
def test_jobs_count_what_was_indexed(service: SearchService, states: list[Any], summary: str) -> None:
    files = [FileProgress(Path(f"{state}.wav"), state) for state in states]
    assert f"{summary}</p>" in jobs_html([Job(1, files, "done")], service)


def test_uploads_are_removed_on_the_page(
    visit: Callable, empty_service: SearchService, speak: Speak, tmp_path: Path
) -> None:
    page = visit(empty_service)
    page.get_by_role("tab", name="Recordings").click()
    page.set_input_files("#upload input[type=file]", [speak(tmp_path / "talk.wav", "cat the dog")])
    page.wait_for_selector(".job[data-state=done]")
    asked = []
    page.once("dialog", lambda dialog: (asked.append(dialog.message), dialog.accept()))
    page.click("#listing .small")
    page.wait_for_selector("text=The index is empty")
    assert asked == ["Delete talk.wav and what the index has of it?"]
    assert list((tmp_path / "uploads").iterdir()) == []


def test_a_page_that_lost_its_login_says_so(visit: Callable, service: SearchService) -> None:
    page = visit(service, ServeConfig(token="correct horse"), "/?token=correct%20horse", refused=True)
    page.wait_for_selector("#question textarea")
    page.context.clear_cookies()
    page.fill("#question textarea", "cat")
    page.press("#question textarea", "Enter")
    page.wait_for_selector("text=You are logged out")
    page.click("text=Log in again")
    page.wait_for_selector("#token")


def test_a_fault_is_said_in_a_line(visit: Callable, empty_service: SearchService) -> None:
    page = visit(empty_service)
    page.wait_for_selector("#question textarea")
    page.fill("#question textarea", "cat")
    page.click("#search")
    page.wait_for_selector("text=nothing is indexed yet; add recordings first")


def test_a_page_with_a_token_asks_for_it(visit: Callable, service: SearchService, serve: Callable) -> None:
    page = visit(service, ServeConfig(token="correct horse"), "/?token=correct%20horse")
    assert page.url.endswith("/")
    ask(page, "cat")
    wait_until(page, "a.readyState >= 1 && a.currentTime === 16")  # audio comes with the cookie
    assert json.loads(page.evaluate("fetch('/api/index').then(r => r.text())"))["recordings"] == 2


def test_the_token_form_opens_the_page(visit: Callable, service: SearchService) -> None:
    page = visit(service, ServeConfig(token="correct horse"))
    page.fill("#token", "wrong horse")
    page.click("text=Open")
    page.wait_for_selector("text=This is not the token.")
    page.fill("#token", "correct horse")
    page.click("text=Open")
    ask(page, "cat")
    assert page.url.endswith("/")
