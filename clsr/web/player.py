"""Hits, jobs and recordings as HTML. Transcripts and names are untrusted: all text goes through ``escape``."""

from __future__ import annotations

import html
import math
import re
from collections.abc import Sequence

from clsr.search.hit import Hit, format_clock
from clsr.vocabulary import Word
from clsr.web.jobs import FileProgress, Job
from clsr.web.playback import NATIVE
from clsr.web.service import Found, FoundHit, Profile, Recording, SearchService

BARS = 120  # in a strip; more are too fine for a phone
SHADES = 5
ROWS = 100  # shown of a list of recordings
STRIP_HEIGHT = 40.0
LOWEST_BAR = 0.08  # of the height, so that a low score shows a bar and a span without words shows none
SIGNS = {
    "waiting": "·", "indexing": "…", "indexed": "✓", "partial": "!", "silent": "–", "failed": "✗", "cancelled": "–",
}  # fmt: skip
ORDER = {"indexing": 0, "failed": 1, "waiting": 3}  # of the files of a job; those that are finished are 2


def escape(text: str) -> str:
    """Text as HTML shows it, braces and backticks included, which templates of the page would expand."""
    escaped = html.escape(text, quote=True)
    return escaped.translate({ord(character): f"&#{ord(character)};" for character in "{}$`"})


def hits_html(found: Found) -> str:
    """The hits of a search as an ordered list, each with transcript, strip and player; weak ones are folded away."""
    if not found.hits:
        return '<p class="note">Nothing was found. Try other words, or another ranking under “Options”.</p>'
    scores = [score for hit in found.hits for _, _, score in hit.profile]
    low, high = (min(scores), max(scores)) if scores else (0.0, 1.0)
    strong, weak = ([hit for hit in found.hits if hit.hit.weak is folded] for folded in (False, True))
    question = f"“{escape(found.question)}”"
    summary = f"{_count(strong)} for {question}" if strong else f"Nothing matches {question} well"
    legend = "".join(f'<i class="s{shade}"></i>' for shade in range(SHADES))
    head = (
        f'<div class="found"><p role="status">{summary} ({found.seconds * 1000:.0f} ms)</p>'
        f'<p class="legend" aria-hidden="true">score <span>low</span>{legend}<span>high</span></p></div>'
    )
    best = f'<ol class="hits">{"".join(_hit(hit, low, high) for hit in strong)}</ol>' if strong else ""
    if not weak:
        return head + best
    folded = f'<ol class="hits" start="{len(strong) + 1}">{"".join(_hit(hit, low, high) for hit in weak)}</ol>'
    return f'{head}{best}<details class="weak"><summary>{_count(weak)} with a low score</summary>{folded}</details>'


def _count(hits: Sequence[FoundHit]) -> str:
    return f"{len(hits)} moment{'s' * (len(hits) > 1)}"


def _hit(found: FoundHit, low: float, high: float) -> str:
    hit, recording = found.hit, found.recording
    start, end = format_clock(math.floor(hit.start_s)), format_clock(math.ceil(hit.end_s))
    wav = f"/api/audio/{recording.id}.wav"
    source = wav if recording.path.suffix.lower() not in NATIVE else f"/api/audio/{recording.id}"
    fragment = f"#t={hit.start_s:.3f}"  # page.js knows the end: browsers apply one of a fragment once, to any position
    name = escape(recording.name)
    return (
        f'<li class="hit" data-start="{hit.start_s:.3f}" data-recording="{recording.id}">'
        f'<div class="head"><span class="rank" aria-label="Rank {hit.rank}">{hit.rank}</span>'
        f'<div class="where"><h3 title="{name}">{name}</h3><p class="score">score {hit.score:.3f}</p></div>'
        f'<button type="button" class="play" data-at="{hit.start_s:.3f}" data-end="{hit.end_s:.3f}" '
        f'aria-label="Play {name} from {start}">'
        f'<span aria-hidden="true">▶</span> {start}–{end}</button></div>'
        f'<p class="said">{transcript_html(hit)}</p>'
        f"{strip_html(hit, recording, found.profile, low, high)}"
        f'<audio controls preload="metadata" src="{source}{fragment}" data-wav="{wav}" aria-label="{name}">'
        f"</audio>{_downloads(recording)}</li>"
    )


def _downloads(recording: Recording) -> str:
    """Links to the whole transcript of a recording."""
    place, name = f"/api/recordings/{recording.id}/transcript?format=", escape(recording.name)
    links = (
        f'<a href="{place}{kind}" download aria-label="{title} of {name}">{title}</a>'
        for kind, title in (("txt", "Transcript"), ("srt", "Subtitles"))
    )
    return f'<span class="downloads">{" · ".join(links)}</span>'


def transcript_html(hit: Hit) -> str:
    """Transcript of the moment; each matching word is marked, and a button that plays from it."""
    pieces, position = [], 0
    for word in hit.matches:
        start = _find(hit.text, word.text, position)
        if start >= 0:
            pieces += [escape(hit.text[position:start]), _mark(word)]
            position = start + len(word.text)
    pieces.append(escape(hit.text[position:]))
    transcript = f"<span>{''.join(pieces)}</span>"
    before, between, after = hit.window_text.partition(hit.text) if hit.text else ("", "", "")
    if between and (before.strip() or after.strip()):
        transcript = (
            f'<span class="around">{escape(before)}</span>{transcript}<span class="around">{escape(after)}</span>'
        )
    return transcript


def _mark(word: Word) -> str:
    clock = format_clock(math.floor(word.start_s))
    at = f'data-at="{word.start_s:.3f}" title="{clock}"'
    return f'<mark><button type="button" {at}>{escape(word.text)}</button></mark>'


def _find(text: str, word: str, position: int) -> int:
    """Position of a whole word in the text from a position on, else of its letters, else -1."""
    found = re.compile(rf"(?<!\S){re.escape(word)}(?!\S)").search(text, position)
    return found.start() if found else text.find(word, position)


def strip_html(hit: Hit, recording: Recording, profile: Profile, low: float, high: float) -> str:
    """The whole recording as a strip of bars, higher and darker with the score; the hit is marked.

    The strip is a slider: a click or the arrow keys move the player, and the player moves the slider's line.
    """
    duration_s = max(recording.duration_s, hit.end_s, 1e-3)
    bars = bar_scores(profile, duration_s)
    width = 1000.0 / BARS
    drawn = []
    for number, score in enumerate(bars):
        if score is not None:
            share = (score - low) / (high - low) if high > low else 1.0
            height = STRIP_HEIGHT * (LOWEST_BAR + (1 - LOWEST_BAR) * share)
            shade = min(SHADES - 1, int(share * SHADES))
            drawn.append(
                f'<rect class="s{shade}" x="{number * width:.1f}" y="{STRIP_HEIGHT - height:.1f}" '
                f'width="{width * 0.78:.1f}" height="{height:.1f}"/>'
            )
    left, span = 100 * hit.start_s / duration_s, 100 * (hit.end_s - hit.start_s) / duration_s
    total = format_clock(math.floor(duration_s))
    return (
        f'<div class="strip" role="slider" tabindex="0" aria-label="Position in {escape(recording.name)}" '
        f'aria-valuemin="0" aria-valuemax="{duration_s:.3f}" aria-valuenow="{hit.start_s:.3f}" '
        f'aria-valuetext="{format_clock(math.floor(hit.start_s))} of {total}" data-duration="{duration_s:.3f}">'
        f'<span class="marked" style="left:{left:.3f}%;width:{span:.3f}%"></span>'
        f'<svg viewBox="0 0 1000 {STRIP_HEIGHT:.0f}" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(drawn)}</svg>"
        f'<span class="line" style="left:{left:.3f}%"></span><span class="under" hidden></span></div>'
        f'<div class="axis" aria-hidden="true"><span>{format_clock(0)}</span><span>{total}</span></div>'
    )


def bar_scores(profile: Profile, duration_s: float) -> list[float | None]:
    """The score at the middle of each bar: the best of the windows there; ``None`` where nothing was recognised."""
    bars: list[float | None] = []
    for number in range(BARS):
        middle_s = (number + 0.5) * duration_s / BARS
        here = [score for start_s, end_s, score in profile if start_s <= middle_s < end_s]
        bars.append(max(here) if here else None)
    return bars


def jobs_html(jobs: Sequence[Job], service: SearchService) -> str:
    """The active indexing jobs, or the last finished one."""
    shown = [job for job in jobs if job.active] or list(jobs[:1])
    return "".join(_job(job, service) for job in reversed(shown))


def _job(job: Job, service: SearchService) -> str:
    percent = round(100 * job.share)
    failed = sum(file.status == "failed" for file in job.files)
    left = sum(file.status == "cancelled" for file in job.files)
    state = {
        "waiting": "Waiting", "running": "Indexing", "done": "Indexed", "failed": "Stopped", "cancelled": "Cancelled",
    }[job.state]  # fmt: skip
    recordings = f"recording{'s' * (len(job.files) > 1)}"
    summary = f"{state}: {job.done - failed - left} of {len(job.files)} {recordings}"
    summary += f", {failed} failed" if failed else ""
    cancel = f'<button type="button" class="small" data-delete="/api/index/jobs/{job.id}">Cancel</button>' * job.active
    error = f'<p class="reason">{escape(service.without_paths(job.error))}</p>' if job.error else ""
    rows = "".join(_file(file, service) for file in _worth_showing(job.files)) + _rest(len(job.files))
    return (
        f'<section class="job" data-state="{job.state}"><p role="status">{summary}</p>{cancel}'
        f'<progress max="100" value="{percent}" aria-label="{state}">{percent} %</progress>{error}'
        f'<ul class="files">{rows}</ul></section>'
    )


def _worth_showing(files: Sequence[FileProgress]) -> list[FileProgress]:
    """The files to show: in progress, failed, last finished, then waiting; at most ``ROWS``."""
    ranked = [(ORDER.get(file.status, 2), number, file) for number, file in enumerate(files)]
    ranked.sort(key=lambda one: (one[0], one[1] if one[0] != 2 else -one[1]))
    return [file for _, _, file in ranked[:ROWS]]


def _rest(count: int) -> str:
    return f'<li><span class="state">and {count - ROWS} more</span></li>' if count > ROWS else ""


def _file(file: FileProgress, service: SearchService) -> str:
    state = file.status + (f" {file.share:.0%}" if file.status == "indexing" and file.share else "")
    length = f" · {format_clock(math.ceil(file.duration_s))}" if file.duration_s else ""
    reason = file.reason and service.without_paths(file.reason.replace(str(file.path), file.path.name))
    return (
        f'<li data-status="{file.status}"><span class="sign" aria-hidden="true">{SIGNS[file.status]}</span>'
        f'<span class="name">{escape(service.folders.name(file.path))}</span><span class="state">{state}{length}</span>'
        + (f'<span class="reason">{escape(reason)}</span>' if reason else "")
        + "</li>"
    )


def recordings_html(recordings: Sequence[Recording], service: SearchService) -> str:
    """The recordings of the index; uploads can be removed."""
    if not recordings:
        return '<p class="note">The index is empty. Add recordings above.</p>'
    hours = format_clock(math.ceil(sum(recording.duration_s for recording in recordings)))
    rows = "".join(
        f'<li><span class="name">{escape(recording.name)}</span>'
        f'<span class="state">{format_clock(math.ceil(recording.duration_s))}</span>{_downloads(recording)}'
        f"{_remove_button(recording) if service.is_upload(recording) else ''}</li>"
        for recording in recordings[:ROWS]
    ) + _rest(len(recordings))
    count = f"{len(recordings)} recording{'s' * (len(recordings) > 1)}"
    return f'<section class="job"><p>{count}, {hours} in all</p><ul class="files">{rows}</ul></section>'


def _remove_button(recording: Recording) -> str:
    name = escape(recording.name)
    return (
        f'<button type="button" class="small" data-delete="/api/recordings/{recording.id}" '
        f'data-sure="Delete {name} and what the index has of it?" aria-label="Remove {name}">Remove</button>'
    )
