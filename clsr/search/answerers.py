"""Windows that may hold an answer -> an audio language model -> the answer, in words.

An answerer is named by a reference: ``local:FOLDER`` is a Qwen2-Audio model in a folder, and ``http://HOST:PORT/v1#MODEL``
(or https) a model behind the OpenAI-compatible chat interface.
"""

from __future__ import annotations

import base64
import io
import json
import math
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import soundfile

from clsr.audio.waveform import SAMPLE_RATE
from clsr.errors import InputError

API_KEY = "CLSR_API_KEY"  # environment variable; sent to the server that the reference names, and nowhere else
MAX_TOKENS = 64  # of an answer
TYPED = "Answer the question by a word or a phrase from the recording, and say nothing else. Question: {}"
SPOKEN = "Answer the question that follows by a word or a phrase from the recording, and say nothing else."


class Answerer(Protocol):
    """A model that answers a question from speech."""

    def answer(self, question: str | np.ndarray, windows: Sequence[np.ndarray]) -> str:
        """Return the answer that 16 kHz windows ``(N_i,)``, best first, give to a question (typed, or ``(N,)``)."""
        ...


def load_answerer(reference: str) -> Answerer:
    """Load the answerer of a reference, ``local:FOLDER`` or ``http://HOST:PORT/v1#MODEL``.

    Raises:
        InputError: the reference is of neither form, or its folder holds no such model.
    """
    scheme, _, place = reference.partition(":")
    url, _, model = reference.partition("#")
    if scheme == "local" and place:
        return LocalAnswerer(Path(place))
    if scheme in ("http", "https") and urllib.parse.urlsplit(url).netloc and model:
        return ServerAnswerer(url, model)
    raise InputError(f"{reference}: names no answerer; give local:FOLDER or http://HOST:PORT/v1#MODEL")


class LocalAnswerer:
    """A Qwen2-Audio model (``Qwen2AudioForConditionalGeneration``) in a folder, its processor beside it.

    It answers greedily. Its encoder takes so many seconds at a time (30 in the released models): a longer waveform goes
    in as equal parts, each an audio of the chat, since the processor would cut off the rest of it.
    """

    def __init__(self, folder: Path):
        """Load the model, to the accelerator if there is one.

        Raises:
            InputError: the folder is not there, or holds another model.
        """
        import torch
        from transformers import AutoConfig, AutoProcessor, Qwen2AudioForConditionalGeneration

        if not (folder / "config.json").is_file():
            raise InputError(f"{folder}: holds no model (config.json); name the folder of a Qwen2-Audio model")
        try:
            kind = AutoConfig.from_pretrained(folder).model_type
            if kind != "qwen2_audio":
                raise ValueError(f"a model of type {kind}")
            self.processor = AutoProcessor.from_pretrained(folder)
            model: Any = Qwen2AudioForConditionalGeneration.from_pretrained(folder, dtype="auto")
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{folder}: cannot be loaded as a Qwen2-Audio model ({_brief(error)})") from error
        self.model = model.to("cuda" if torch.cuda.is_available() else "cpu").eval()

    def answer(self, question: str | np.ndarray, windows: Sequence[np.ndarray]) -> str:
        """Return the answer that 16 kHz windows ``(N_i,)`` give to a question."""
        import torch

        longest = self.processor.feature_extractor.n_samples
        parts = [piece for part in _parts(question, windows) for piece in _pieces(part, longest)]
        content = [{"type": "text", "text": p} if isinstance(p, str) else {"type": "audio", "audio": p} for p in parts]
        prompt = self.processor.apply_chat_template(
            [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
        )
        waveforms = [part for part in parts if not isinstance(part, str)]
        inputs = self.processor(text=prompt, audio=waveforms, sampling_rate=SAMPLE_RATE, return_tensors="pt")
        inputs = inputs.to(self.model.device)
        inputs["input_features"] = inputs["input_features"].to(self.model.dtype)
        with torch.inference_mode():
            tokens = self.model.generate(**inputs, max_new_tokens=MAX_TOKENS, do_sample=False)
        written = tokens[:, inputs["input_ids"].shape[1] :]
        return self.processor.batch_decode(written, skip_special_tokens=True)[0].strip()


@dataclass
class ServerAnswerer:
    """A model behind the OpenAI-compatible chat interface that takes audio (``input_audio`` parts, base64 wav).

    The key, where the server wants one, comes from the environment variable ``CLSR_API_KEY``. A server that is busy
    (429), at fault (5xx) or does not answer gets the request again after 1, 2, 4... seconds.

    Attributes:
        url: what stands before ``/chat/completions``.
        model: its name on the server.
        timeout_s: for one request.
        retries: requests after the first.
        wait_s: before the first of them.
    """

    url: str
    model: str
    timeout_s: float = 300.0
    retries: int = 5
    wait_s: float = 1.0

    def answer(self, question: str | np.ndarray, windows: Sequence[np.ndarray]) -> str:
        """Return the answer that 16 kHz windows ``(N_i,)`` give to a question.

        Raises:
            InputError: the server refuses, cannot be reached, or breaks the interface.
        """
        content = [
            {"type": "text", "text": part} if isinstance(part, str) else {"type": "input_audio", "input_audio": {
                "data": base64.b64encode(_wav(part)).decode(), "format": "wav"}}
            for part in _parts(question, windows)
        ]  # fmt: skip
        body = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "max_tokens": MAX_TOKENS,
        }
        reply = self._post(json.dumps(body).encode())
        try:
            written = json.loads(reply)["choices"][0]["message"]["content"]
            if not isinstance(written, str):
                raise TypeError("its content is no text")
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise InputError(f"{self._place}: is no chat completion ({error!r}); check URL and server") from error
        return written.strip()

    @property
    def _place(self) -> str:
        return f"{self.url.rstrip('/')}/chat/completions"

    def _post(self, body: bytes) -> bytes:
        key = os.environ.get(API_KEY)
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
        request = urllib.request.Request(self._place, body, headers)
        for attempt in range(self.retries + 1):
            try:
                with urllib.request.urlopen(request, timeout=self.timeout_s) as response:
                    return response.read()
            except urllib.error.HTTPError as error:
                fault = f"status {error.code}"
                if error.code != 429 and error.code < 500:
                    reply = _brief(error.read(300).decode(errors="replace"))
                    raise InputError(f"{self._place}: {fault} ({reply}); check URL, model and {API_KEY}") from error
            except (OSError, HTTPException) as error:  # a URLError is an OSError
                fault = _brief(getattr(error, "reason", error)) or type(error).__name__
            if attempt < self.retries:
                time.sleep(self.wait_s * 2**attempt)
        raise InputError(f"{self._place}: {fault}, {attempt + 1} times; the same command goes on once it answers")


def _parts(question: str | np.ndarray, windows: Sequence[np.ndarray]) -> list[str | np.ndarray]:
    """The parts of the prompt in order: texts and waveforms."""
    return [*windows, TYPED.format(question)] if isinstance(question, str) else [*windows, SPOKEN, question]


def _pieces(part: str | np.ndarray, longest: int) -> list[str] | list[np.ndarray]:
    """A waveform in equal parts of at most so many samples; a text as it is."""
    return [part] if isinstance(part, str) else np.array_split(part, math.ceil(len(part) / longest))


def _wav(waveform: np.ndarray) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, waveform, SAMPLE_RATE, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _brief(error: object) -> str:
    return " ".join(str(error).split())[:200]
