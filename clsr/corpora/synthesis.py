"""JSONL of questions and contexts -> a retrieval set, a data directory or one long recording, spoken by espeak-ng.

The synthesiser comes as the Python package ``espeakng-loader`` and is driven through ctypes.
"""

import ctypes
import hashlib
import json
import multiprocessing
import os
import random
import re
from _ctypes import dlclose
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soxr

from clsr.audio.waveform import SAMPLE_RATE, add_noise, duration_s, write_waveform
from clsr.corpora.config import SynthesisConfig
from clsr.data.kaldi import Utterance, write_data_dir, write_lines, write_table
from clsr.data.retrieval_set import write_answers, write_relevance
from clsr.errors import InputError, each_once
from clsr.extras import require

# Full-width letters, digits and the marks within numbers: espeak-ng is silent about them or spells their names.
_FULL_WIDTH = "０１２３４５６７８９％．" + "".join(chr(ord(a) + i) for a in "Ａａ" for i in range(26))
_HALF_WIDTH = {ord(c): ord(c) - 0xFEE0 for c in _FULL_WIDTH}
_FULL_WIDTH_THOUSANDS = re.compile("(?<=[０-９])，(?=[０-９]{3}(?![０-９]))")

_SYNCHRONOUS, _BY_CHARACTER, _UTF8, _RATE, _PITCH = 2, 1, 1, 1, 3  # of speak_lib.h


class SynthesisRow(NamedTuple):
    """A line of the JSONL file; ``words`` is the context as transcripts write it, ``answer`` empty where unknown."""

    id: str
    question: str
    context: str
    words: str
    answer: str = ""


class SpokenText(NamedTuple):
    """What is spoken into a file; texts of one speaker have one voice, speed and pitch."""

    id: str
    speaker: str
    text: str


class _Task(NamedTuple):
    """One file to be spoken, and how."""

    id: str
    path: Path
    text: str
    words: str
    voice: str
    rate_wpm: int
    pitch: int


class Synthesizer:
    """espeak-ng in this process."""

    def __init__(self) -> None:
        """Find the library.

        Raises:
            InputError: the package ``espeakng-loader`` is not installed.
        """
        require("espeakng_loader")
        import espeakng_loader

        self._library = espeakng_loader.get_library_path()
        self._data = Path(espeakng_loader.get_data_path())

    def say(self, text: str, voice: str, rate_wpm: int = 170, pitch: int = 50) -> np.ndarray:
        """The text spoken, ``(N,)`` float32 at 16 kHz; the same arguments always give the same samples.

        Args:
            text: what to say, in the language of the voice. Full-width letters and numbers are said as half-width
                ones, which espeak-ng knows; a full-width comma stays one of the sentence, but within a number.
            voice: an espeak-ng voice, with a variant if wanted: ``en-us``, ``en-us+f2``, ``en-gb-x-rp+m3``, ``cmn``.
            rate_wpm: speed in words a minute, 80 to 450.
            pitch: 0 to 99, 50 is the voice's own.

        Raises:
            InputError: espeak-ng has no such voice or variant, or says nothing.
        """
        chunks: list[bytes] = []

        @ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
        def receive(samples: int | None, count: int, _events: int | None) -> int:
            if samples and count:
                chunks.append(ctypes.string_at(samples, 2 * count))
            return 0

        # Loaded afresh each time (7 ms): its random and oscillator state outlives even espeak_Terminate, so that one
        # sentence would sound differently after another.
        library = ctypes.CDLL(self._library)
        try:
            rate = library.espeak_Initialize(_SYNCHRONOUS, 0, os.fsencode(self._data), 0)
            if rate <= 0:
                raise InputError(f"{self._data}: espeak-ng cannot start from it; install espeakng-loader again")
            library.espeak_SetSynthCallback(receive)
            library.espeak_ng_SetRandSeed(ctypes.c_long(1))
            self._set_voice(library, voice)
            library.espeak_SetParameter(_RATE, rate_wpm, 0)
            library.espeak_SetParameter(_PITCH, pitch, 0)
            spoken = _FULL_WIDTH_THOUSANDS.sub(",", text).translate(_HALF_WIDTH).encode() + b"\0"
            library.espeak_Synth(spoken, len(spoken), 0, _BY_CHARACTER, 0, _UTF8, None, None)
            library.espeak_Synchronize()
            library.espeak_Terminate()
        finally:
            dlclose(library._handle)
        samples = np.frombuffer(b"".join(chunks), dtype="<i2")
        if not samples.any():
            raise InputError(f"voice {voice} says nothing for {text!r}; give it words of its language")
        return soxr.resample(samples.astype(np.float32) / 32_768, rate, SAMPLE_RATE)

    def _set_voice(self, library: ctypes.CDLL, voice: str) -> None:
        """Choose a voice. espeak-ng keeps the old voice for an unknown name and drops an unknown variant silently."""
        variant = voice.partition("+")[2]
        known = not variant or (self._data / "voices" / "!v" / variant).is_file()
        if library.espeak_SetVoiceByName(voice.encode()) != 0 or not known:
            raise InputError(f"{voice}: espeak-ng has no such voice; try en-us+f2, en-gb-x-rp+m3 or cmn")


def synthesize(jsonl: str | Path, output: str | Path, config: SynthesisConfig, also: str | Path | None = None) -> None:
    """Speak every context of a JSONL file and write a retrieval set, or a data directory if ``passages_only``.

    Rows are ``{"id", "question", "context"}``. The passage of a row answers its question and no other. Transcripts are
    the contexts as ``clsr.vocabulary.normalise`` writes them, and speakers are the voices. Audio that is already there
    is kept, so that an interrupted run resumes where it stopped.

    Args:
        jsonl: the rows; other keys are ignored.
        output: the folder to write; a run with other rows or settings in the same folder is refused.
        config: voices, speed, noise and what to write.
        also: rows whose contexts are passages too, ones that answer no question.

    Raises:
        InputError: a row lacks a field, an id is there twice, a setting is out of range, or a voice does not exist.
    """
    output = Path(output)
    rows = read_rows(jsonl, config)
    others = read_rows(also, replace(config, passages_only=True)) if also is not None else []
    twice = {row.id for row in rows} & {row.id for row in others}
    if twice:
        raise InputError(f"{also}: {min(twice)}: is in {jsonl} too; make ids unique")
    for voice in config.voices:  # a number is said in every language
        Synthesizer().say("1", voice)
    _claim(output, [Path(file) for file in (jsonl, also) if file is not None], config)
    folder = output if config.passages_only else output / "passages"
    relevance: dict[str, dict[str, int]] = {row.id: {} for row in rows}
    passages = []
    for row in (*rows, *others):
        voices = random.Random(f"{config.seed} {row.id}").sample(config.voices, config.voices_per_text)
        for number, voice in enumerate(voices):
            id_ = row.id if len(voices) == 1 else f"{row.id}-v{number}"
            passages.append(_task(id_, folder, row.context, row.words, voice, config))
            if row.id in relevance:
                relevance[row.id][id_] = 1
    _speak(passages, folder, config)
    if not config.passages_only:
        _write_questions(rows, output / "questions", config)
        write_relevance(output / "qrels", relevance)


def speak_texts(texts: Iterable[SpokenText], folder: Path, config: SynthesisConfig) -> dict[str, Utterance]:
    """Speak texts into ``folder/wav``, where audio that is there already is kept: utterances by the ids of the texts.

    Args:
        texts: ids are names of files.
        folder: made where needed.
        config: voices, speed and noise; the seed and the speaker decide which voice it is.

    Raises:
        InputError: a voice does not exist, or a text has no words that it can say.
    """
    tasks = []
    for one in texts:
        voice = random.Random(f"{config.seed} {one.speaker} question").choice(config.voices)
        task = _task(one.speaker, folder, one.text, one.text, voice, config)
        tasks.append(task._replace(id=one.id, path=folder / "wav" / f"{one.id}.wav"))
    _speak_missing(tasks, folder, config)
    return {utterance.id: utterance for utterance in map(_utterance, tasks)}


def synthesize_recording(
    jsonl: str | Path, output_wav: str | Path, config: SynthesisConfig, gap_s: float = 0.5
) -> None:
    """Speak the contexts of a JSONL file one after another in one wav, and write where each lies.

    Args:
        jsonl: rows as for ``synthesize``.
        output_wav: the recording. Beside it, ending in ``.json``, goes a list of
            ``{"id", "start_s", "end_s", "question", "context"}``.
        config: who speaks, and noise over the whole of it.
        gap_s: silence between two contexts in seconds.

    Raises:
        InputError: as ``synthesize``.
    """
    output_wav, synthesizer, gap = Path(output_wav), Synthesizer(), np.zeros(round(gap_s * SAMPLE_RATE), np.float32)
    pieces: list[np.ndarray] = []
    places = []
    position = 0
    for row in read_rows(jsonl, config):
        voice = random.Random(f"{config.seed} {row.id}").choice(config.voices)
        task = _task(row.id, output_wav.parent, row.context, row.words, voice, config)
        spoken = synthesizer.say(task.text, task.voice, task.rate_wpm, task.pitch)
        span = {"start_s": position / SAMPLE_RATE, "end_s": (position + len(spoken)) / SAMPLE_RATE}
        places.append({"id": row.id, **span, "question": row.question, "context": row.context})
        pieces += [spoken, gap]
        position += len(spoken) + len(gap)
    output_wav.parent.mkdir(parents=True, exist_ok=True)
    write_waveform(output_wav, _degrade(np.concatenate(pieces[:-1]), output_wav.stem, config))
    write_lines(output_wav.with_suffix(".json"), [json.dumps(places, ensure_ascii=False, indent=1) + "\n"])


def read_rows(jsonl: str | Path, config: SynthesisConfig) -> list[SynthesisRow]:
    """Rows of a JSONL file, in its order.

    Raises:
        InputError: with file and line: no JSON object, a missing or empty field, an id there twice or unfit for a file
            name, a context without words. Questions may be missing when ``config.passages_only``, answers always.
    """
    from clsr.vocabulary import normalise

    jsonl = Path(jsonl)
    if not jsonl.is_file():
        raise InputError(f"{jsonl}: no such file; write one JSON object a line with id, question and context")
    rows: dict[str, SynthesisRow] = {}
    for number, line in enumerate(jsonl.read_bytes().splitlines(), start=1):
        place = f"{jsonl}:{number}"
        id_, question, context, answer = _fields(line, place, config.passages_only)
        words = normalise(context)
        if id_ in rows:
            raise InputError(f"{place}: {id_}: is there twice; make ids unique")
        if id_.split() != [id_] or "/" in id_ or id_.startswith("."):
            raise InputError(f"{place}: {id_!r} names a file and is one word without '/' and leading '.'; rename it")
        if not words:
            raise InputError(f"{place}: {id_}: context has no words; remove the row")
        rows[id_] = SynthesisRow(id_, " ".join(question.split()), context, words, " ".join(answer.split()))
    if not rows:
        raise InputError(f"{jsonl}: is empty; write one JSON object a line with id, question and context")
    return list(rows.values())


def _fields(line: bytes, place: str, passages_only: bool) -> tuple[str, str, str, str]:
    try:
        row = json.loads(line, object_pairs_hook=each_once)
    except ValueError as error:
        raise InputError(f"{place}: is not JSON ({error}); write one object a line") from error
    if not isinstance(row, dict):
        raise InputError(f"{place}: is not a JSON object; write one object a line")
    for key in ("id", "context") if passages_only else ("id", "question", "context"):
        if not isinstance(row.get(key), str) or not row[key].strip():
            raise InputError(f"{place}: {row.get('id')}: {key} is missing or empty; give it as text")
    answer = row.get("answer") or ""
    if not isinstance(answer, str):
        raise InputError(f"{place}: {row['id']}: answer is no text; give one as text, or none")
    fields = row["id"], str(row.get("question") or ""), row["context"], answer
    try:
        "".join(fields).encode()
    except UnicodeEncodeError as error:  # \ud800 without its other half
        raise InputError(f"{place}: has half a character ({error.reason}); write it whole") from error
    return fields


def _claim(output: Path, files: Sequence[Path], config: SynthesisConfig) -> None:
    """Note in the folder what it is made from."""
    settings = {key: value for key, value in asdict(config).items() if key != "jobs"}
    rows = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    claim(output / "synthesis.json", {"rows_sha256": rows, **settings})


def claim(note: Path, made_from: Mapping[str, object]) -> None:
    """Note in a folder what it is made from, so that a run with other rows or settings cannot mix into it.

    Raises:
        InputError: the folder has a note that says otherwise, or cannot be written.
    """
    text = json.dumps(made_from, indent=1) + "\n"
    if note.is_file() and note.read_text(encoding="utf-8") != text:
        raise InputError(
            f"{note.parent}: holds speech made from other rows or settings ({note}); delete it or name another"
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    write_lines(note, [text])


def _task(id_: str, folder: Path, text: str, words: str, voice: str, config: SynthesisConfig) -> _Task:
    draw = random.Random(f"{config.seed} {id_} manner")
    rate_wpm, pitch = draw.randint(*config.rate_wpm), draw.randint(*config.pitch)
    return _Task(id_, folder / "wav" / f"{id_}.wav", text, words, voice, rate_wpm, pitch)


def _speak(tasks: Sequence[_Task], folder: Path, config: SynthesisConfig) -> None:
    """Speak what is not there yet, then write the data directory."""
    _speak_missing(tasks, folder, config)
    write_data_dir(folder, map(_utterance, tasks))


def _utterance(task: _Task) -> Utterance:
    return Utterance(task.id, task.path, 0.0, duration_s(task.path), task.words, task.voice)


def _speak_missing(tasks: Sequence[_Task], folder: Path, config: SynthesisConfig) -> None:
    """Speak what is not there yet, in parallel."""
    from tqdm import tqdm

    (folder / "wav").mkdir(parents=True, exist_ok=True)
    for stale in (folder / "wav").glob(".*.tmp"):  # of a run that was killed
        stale.unlink()
    missing = [task for task in tasks if not task.path.is_file()]
    jobs = min(config.jobs or os.cpu_count() or 1, len(missing))
    speak = partial(_speak_one, config=config)
    with tqdm(total=len(missing), desc=f"speak {folder}", unit="file", disable=None) as progress:
        if jobs <= 1:
            for task in missing:
                speak(task)
                progress.update()
        else:  # spawned, since the parent may hold threads that a fork would break
            with multiprocessing.get_context("spawn").Pool(jobs) as pool:
                for _ in pool.imap_unordered(speak, missing, chunksize=8):
                    progress.update()


def _speak_one(task: _Task, config: SynthesisConfig) -> None:
    waveform = Synthesizer().say(task.text, task.voice, task.rate_wpm, task.pitch)
    write_waveform(task.path, _degrade(waveform, task.id, config))


def _degrade(waveform: np.ndarray, id_: str, config: SynthesisConfig) -> np.ndarray:
    """The waveform with the noise asked for, drawn from the seed and the id, and scaled down where it would clip."""
    if config.noise_snr_db is not None:
        digest = hashlib.sha256(f"{config.seed} {id_} noise".encode()).digest()
        noise = np.random.default_rng(list(digest)).standard_normal(len(waveform), dtype=np.float32)
        waveform = add_noise(waveform, noise, config.noise_snr_db)
    return waveform / max(1.0, float(np.abs(waveform).max()))


def _write_questions(rows: Sequence[SynthesisRow], folder: Path, config: SynthesisConfig) -> None:
    """Write the questions as text alone, or spoken, each by a voice of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    if config.speak_questions:
        tasks = []
        for row in rows:
            voice = random.Random(f"{config.seed} {row.id} question").choice(config.voices)
            tasks.append(_task(row.id, folder, row.question, row.question, voice, config))
        _speak(tasks, folder, config)
    else:
        write_table(folder / "text", ((row.id, row.question) for row in rows))
    write_answers(folder / "answers", {row.id: row.answer for row in rows if row.answer})
