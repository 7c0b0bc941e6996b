"""Tests of clsr/search/answerers.py: a tiny Qwen2-Audio with random weights, and a stand-in server on this machine."""

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, read_waveform
from clsr.errors import InputError
from clsr.search import answerers as module
from clsr.search.answerers import API_KEY, LocalAnswerer, ServerAnswerer, load_answerer

TONE = (0.5 * np.sin(np.arange(SAMPLE_RATE) / 5)).astype(np.float32)


def completion(content: object) -> bytes:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content}}]}).encode()


class StandIn(ThreadingHTTPServer):
    """A server that gives the replies it is told to, one after the other, and records the requests."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, bytes]] = []
        self.requests: list[tuple[str, Any, dict[str, Any]]] = []  # path, headers, body
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    server: StandIn

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.requests.append((self.path, self.headers, body))
        status, reply = self.server.replies.pop(0)
        self.send_response(status)
        self.send_header("Content-Length", str(len(reply)))
        self.end_headers()
        self.wfile.write(reply)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[StandIn]:
    with StandIn() as stand_in:
        thread = threading.Thread(target=stand_in.serve_forever)
        thread.start()
        yield stand_in
        stand_in.shutdown()
        thread.join()


def answerer(server: StandIn) -> ServerAnswerer:
    return ServerAnswerer(server.url, "reader", timeout_s=10, retries=2, wait_s=0.01)


def test_requests_follow_the_server_interface(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(API_KEY, "secret")
    server.replies = [(200, completion(" a red hat\n"))]
    assert load_answerer(f"{server.url}#reader").answer("what was sold?", [TONE, -TONE[:100]]) == "a red hat"
    ((path, headers, body),) = server.requests
    assert (path, headers["Authorization"], body["model"]) == ("/v1/chat/completions", "Bearer secret", "reader")
    ((first, second, text),) = [message["content"] for message in body["messages"]]
    assert text["type"] == "text" and text["text"].endswith("Question: what was sold?")
    for part, waveform in ((first, TONE), (second, -TONE[:100])):
        assert part["type"] == "input_audio" and part["input_audio"]["format"] == "wav"
        decoded = read_waveform(base64.b64decode(part["input_audio"]["data"]))
        assert len(decoded) == len(waveform) and np.abs(decoded - waveform).max() < 1e-4


def test_a_spoken_question_comes_after_the_windows(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(API_KEY, raising=False)
    server.replies = [(200, completion("tea"))]
    assert answerer(server).answer(TONE[:50], [TONE]) == "tea"
    ((_, headers, body),) = server.requests
    parts = body["messages"][0]["content"]
    assert [part["type"] for part in parts] == ["input_audio", "text", "input_audio"]
    assert len(read_waveform(base64.b64decode(parts[2]["input_audio"]["data"]))) == 50
    assert headers["Authorization"] is None


def test_request_to_a_busy_server_is_repeated(server: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    server.replies = [(429, b""), (503, b""), (200, completion("tea"))]
    assert answerer(server).answer("what?", [TONE]) == "tea"
    assert waits == [0.01, 0.02]
    server.replies = [(500, b"")] * 3
    with pytest.raises(InputError, match=r"/v1/chat/completions: status 500, 3 times; the same command goes on"):
        answerer(server).answer("what?", [TONE])
    assert len(server.requests) == 6


def test_refusal_is_one_line_with_url_and_status(server: StandIn) -> None:
    server.replies = [(404, b'{"error":\n "no such model"}')]
    with pytest.raises(InputError) as refused:
        answerer(server).answer("what?", [TONE])
    message = str(refused.value)
    assert message.startswith(f'{server.url}/chat/completions: status 404 ({{"error": "no such model"}})')
    assert "\n" not in message and len(server.requests) == 1


@pytest.mark.parametrize(
    "reply", [b"<html>", b"[]", b'{"choices": []}', completion(None), b'{"choices": [{"message": "tea"}]}', b"\xff"]
)
def test_malformed_answers_are_refused(server: StandIn, reply: bytes) -> None:
    server.replies = [(200, reply)]
    with pytest.raises(InputError, match="/v1/chat/completions: is no chat completion"):
        answerer(server).answer("what?", [TONE])


def test_no_server_is_one_line() -> None:
    with StandIn() as gone:
        url = gone.url
    with pytest.raises(InputError, match=r"chat/completions: .*refused, 2 times"):
        ServerAnswerer(url, "reader", retries=1, wait_s=0.01).answer("what?", [TONE])


@pytest.mark.parametrize("reference", ["local:", "http://host/v1", "http:///v1#m", "qwen", "ftp://host/v1#m"])
def test_other_references_are_refused(reference: str) -> None:
    with pytest.raises(InputError, match="names no answerer"):
        load_answerer(reference)


@pytest.fixture(scope="module")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Qwen2-Audio of 16 channels with random weights; its encoder takes two seconds at a time."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import (
        PreTrainedTokenizerFast,
        Qwen2AudioConfig,
        Qwen2AudioForConditionalGeneration,
        Qwen2AudioProcessor,
        WhisperFeatureExtractor,
    )

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>"]
    tokens = [*special, "[UNK]", *"abcdefghijklmnopqrstuvwxyz?.:"]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token="[UNK]", pad_token=special[0], eos_token=special[2],
        additional_special_tokens=special[1:],
    )  # fmt: skip
    size = {"num_hidden_layers": 2, "num_attention_heads": 2, "hidden_size": 16, "intermediate_size": 32}
    config = Qwen2AudioConfig(
        audio_config={
            "model_type": "qwen2_audio_encoder", "num_mel_bins": 8, "encoder_layers": 1, "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "d_model": 16, "max_source_positions": 100,
        },
        text_config={"model_type": "qwen2", "vocab_size": len(tokens), "num_key_value_heads": 2, **size,
                     "pad_token_id": 0, "eos_token_id": 2, "bos_token_id": 0},
        audio_token_index=tokens.index("<|AUDIO|>"),
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tiny_qwen")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        Qwen2AudioForConditionalGeneration(config).save_pretrained(folder)
    extractor = WhisperFeatureExtractor(feature_size=8, chunk_length=2, return_attention_mask=True)
    Qwen2AudioProcessor(extractor, tokenizer).save_pretrained(folder)
    return folder


def test_local_model_receives_the_whole_long_window(tiny_qwen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    local = load_answerer(f"local:{tiny_qwen}")
    assert isinstance(local, LocalAnswerer)
    given: list[dict[str, Any]] = []
    generate = local.model.generate

    def spy(**inputs: Any) -> Any:
        given.append(inputs)
        return generate(**inputs)

    monkeypatch.setattr(local.model, "generate", spy)
    five_s = np.tile(TONE, 5)
    written = local.answer("what?", [five_s, TONE])
    assert isinstance(written, str) and written == local.answer("what?", [five_s, TONE])
    frames = given[0]["feature_attention_mask"].sum(1).tolist()
    assert len(frames) == 4 and sum(frames[:3]) == pytest.approx(500, abs=3) and frames[3] == 100
    ids = given[0]["input_ids"][0].tolist()
    assert ids.count(4) == ids.count(5) == 4  # an audio_bos and an audio_eos around each part
    local.answer(TONE, [TONE])
    assert len(given[2]["feature_attention_mask"]) == 2


def test_folder_without_such_a_model_is_refused(tmp_path: Path, tiny_bert: Path) -> None:
    with pytest.raises(InputError, match="holds no model"):
        load_answerer(f"local:{tmp_path / 'gone'}")
    with pytest.raises(InputError, match="cannot be loaded as a Qwen2-Audio model .a model of type bert") as refused:
        load_answerer(f"local:{tiny_bert}")
    assert "\n" not in str(refused.value)
