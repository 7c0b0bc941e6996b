"""The page: search, play, add recordings. Gradio draws it; ``player.py`` writes players and strips as HTML."""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gradio as gr

from clsr.audio.waveform import AUDIO_SUFFIXES
from clsr.errors import InputError
from clsr.search.query import Query
from clsr.web.player import hits_html, jobs_html, recordings_html
from clsr.web.service import Found, SearchService

HERE = Path(__file__).parent
FONTS = ["system-ui", "-apple-system", "Segoe UI", "Roboto", "sans-serif"]  # of the browser's machine
MONO = ["ui-monospace", "Menlo", "Consolas", "monospace"]
BEST = ""  # the mode of a search that names none
MODES = [("by meaning", BEST), ("by words", "bm25"), ("both", "hybrid")]
REFRESH_S = 0.7
MOST_CHARACTERS = 2000  # of a typed question
WELCOME = '<p class="note">Search for something that was said. Each hit is a moment that you can play.</p>'
EMPTY = '<p class="note">Nothing is indexed yet. Add recordings under “Recordings”, then search.</p>'

_log = logging.getLogger("clsr")


def make_page(service: SearchService) -> gr.Blocks:
    """The page of a service."""
    with gr.Blocks(title="clsr", analytics_enabled=False, delete_cache=(3600, 3600), fill_width=True) as page:
        gr.HTML('<header class="top"><h1>clsr</h1><p>Find the right moment in hours of speech.</p></header>')
        with gr.Tabs(elem_id="tabs"):
            with gr.Tab("Search", id="search"):
                chosen = _add_search(service, page)
            with gr.Tab("Recordings", id="recordings"):
                _add_recordings(service, page, chosen)
    return page


def page_style() -> dict[str, Any]:
    """Theme, style sheet and script of the page; nothing is fetched from elsewhere."""
    theme = gr.themes.Base(
        primary_hue=gr.themes.colors.indigo, neutral_hue=gr.themes.colors.slate, font=FONTS, font_mono=MONO,
        radius_size=gr.themes.sizes.radius_lg, text_size=gr.themes.sizes.text_md,
    )  # fmt: skip
    script = (HERE / "page.js").read_text(encoding="utf-8")
    return {
        "theme": theme,
        "css": (HERE / "page.css").read_text(encoding="utf-8"),
        "head": f'<meta name="referrer" content="same-origin"><script>{script}</script>',
    }


def _add_search(service: SearchService, page: gr.Blocks) -> gr.Dropdown:
    with gr.Row(elem_id="ask", equal_height=True):
        question = gr.MultimodalTextbox(
            label="Question", placeholder="Who sold the old horse? A sound dropped here is added.", max_lines=3,
            sources=["upload"], file_types=list(AUDIO_SUFFIXES), submit_btn=False,
            max_plain_text_length=MOST_CHARACTERS, elem_id="question", scale=5, autofocus=True,
        )  # fmt: skip
        button = gr.Button("Search", variant="primary", elem_id="search", scale=1, min_width=120)
    with gr.Row(elem_id="more"):
        with gr.Accordion("Spoken question", open=False, elem_id="aloud"):
            spoken = gr.Audio(
                sources=["microphone", "upload"], type="filepath", label="Question, up to a minute",
                elem_id="spoken", buttons=[], editable=False,
            )  # fmt: skip
        with gr.Accordion("Options", open=False, elem_id="options"):
            mode = gr.Radio(MODES, value=BEST, label="Ranking", elem_id="mode")
            top_k = gr.Slider(1, 50, value=10, step=1, label="Number of moments", elem_id="top_k")
            chosen = gr.Dropdown(
                _choices(service), multiselect=True, label="Only these recordings", elem_id="only", filterable=True
            )
    results = gr.HTML(WELCOME if service.recordings() else EMPTY, elem_id="results")

    searches = PageSearches(service)

    async def ask(
        given: dict[str, Any], mode: str, top_k: float, ids: Sequence[str], request: gr.Request
    ) -> str | dict[str, Any]:
        text, sounds = given["text"][:MOST_CHARACTERS], [Path(path) for path in given["files"]]
        if not text.strip() and not sounds:
            raise gr.Error("Type a question first, or drop a sound.", print_exception=False)
        return await searches.found([text, *sounds] if sounds else text, mode, top_k, ids, request)

    async def ask_aloud(
        path: str | None, mode: str, top_k: float, ids: Sequence[str], request: gr.Request
    ) -> str | dict[str, Any]:
        return await searches.found(Path(path), mode, top_k, ids, request) if path else gr.skip()

    quiet: dict[str, Any] = {"api_visibility": "private", "concurrency_limit": None, "show_progress": "minimal"}
    gr.on([question.submit, button.click], ask, [question, mode, top_k, chosen], results, **quiet)
    gr.on([spoken.stop_recording, spoken.upload], ask_aloud, [spoken, mode, top_k, chosen], results, **quiet)
    page.unload(searches.leave)
    return chosen


class PageSearches:
    """The searches of pages that are open: one a page, so that the next one, or closing the page, cancels it."""

    def __init__(self, service: SearchService) -> None:
        self._service = service
        self._waiting: dict[str, Future[Found]] = {}  # by session

    async def found(
        self, question: Query, mode: Any, top_k: float, ids: Sequence[str], request: gr.Request
    ) -> str | dict[str, Any]:
        """The hits as HTML; nothing changes where the search was cancelled."""
        session, client = str(request.session_hash), request.client.host if request.client else ""
        try:
            self.leave(request)
            search = self._service.submit_search(question, int(top_k), mode or None, list(ids or ()), client)
            self._waiting[session] = search
            try:
                return hits_html(await asyncio.wrap_future(search))
            except asyncio.CancelledError:
                if not search.cancelled():  # the server stops
                    raise
                return gr.skip()
            finally:
                if self._waiting.get(session) is search:
                    del self._waiting[session]
        except Exception as error:
            raise _fault(self._service, error, str(question)) from None

    def leave(self, request: gr.Request) -> None:
        """Cancel what a page waits for."""
        search = self._waiting.pop(str(request.session_hash), None)
        if search is not None:
            search.cancel()


def _add_recordings(service: SearchService, page: gr.Blocks, chosen: gr.Dropdown) -> None:
    upload = gr.File(
        file_count="multiple", file_types=list(AUDIO_SUFFIXES), label="Drop recordings here, or click to choose them",
        elem_id="upload", height=170,
    )  # fmt: skip
    folders = service.folders.listing()
    with gr.Row(visible=bool(folders), elem_id="folders"):
        folder = gr.Dropdown(
            folders, label="Folder of this server", value=folders[0] if folders else None, elem_id="folder", scale=4
        )
        start = gr.Button("Index folder", elem_id="start", scale=1, min_width=140)
    progress = gr.HTML(elem_id="progress")
    listing = gr.HTML(elem_id="listing")
    timer = gr.Timer(REFRESH_S, active=False)
    refresh = gr.Button("Refresh", elem_id="refresh")  # page.js presses it

    def shown() -> tuple[Any, ...]:
        jobs = service.jobs()
        active = any(job.active for job in jobs)  # read first, so that the last refresh shows everything
        choices = gr.skip() if active else gr.Dropdown(choices=_choices(service))
        return (
            jobs_html(jobs, service),
            recordings_html(service.recordings(), service),
            gr.Timer(active=active),
            choices,
        )

    def take(paths: list[str] | None) -> tuple[Any, ...]:
        if paths:
            _attempt(service, lambda: _take_uploads(service, [Path(path) for path in paths]))
        return None, *shown()

    def start_folder(name: str | None) -> tuple[Any, ...]:
        if name:
            _attempt(service, lambda: service.start_indexing([name]))
        return shown()

    views = [progress, listing, timer, chosen]
    quiet: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
    upload.upload(take, upload, [upload, *views], **quiet)
    start.click(start_folder, folder, views, **quiet)
    timer.tick(shown, None, views, **quiet)
    refresh.click(shown, None, views, **quiet)
    page.load(shown, None, views, **quiet)


def _take_uploads(service: SearchService, given: Sequence[Path]) -> None:
    """Move what Gradio received into the folder for uploads, and index it."""
    parts: list[tuple[Path, str]] = []
    try:
        for path in given:
            part = service.new_upload()
            parts.append((part, path.name))
            shutil.copyfile(path, part)
            path.unlink(missing_ok=True)
        service.index_uploads(parts)
    finally:
        for part, _ in parts:
            part.unlink(missing_ok=True)


def _attempt(service: SearchService, act: Callable[[], object]) -> None:
    try:
        act()
    except Exception as error:
        raise _fault(service, error) from None


def _fault(service: SearchService, error: Exception, spoken: str = "") -> gr.Error:
    """The message that the page shows, without paths of the server."""
    if isinstance(error, InputError):
        message = str(error).replace(spoken, "the spoken question") if spoken.startswith("/") else str(error)
        return gr.Error(service.without_paths(message), print_exception=False)
    _log.error("a request of the page failed", exc_info=error)
    return gr.Error("Internal error: see the log of the server.", print_exception=False)


def _choices(service: SearchService) -> list[tuple[str, str]]:
    return [(recording.name, recording.id) for recording in service.recordings()]
