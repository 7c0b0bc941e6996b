"""The hub gets one request, and a silent hub gives a clear message."""

import urllib.error
import urllib.request
from email.message import Message
from io import BytesIO
from pathlib import Path

import modelscope
import pytest

from clsr.errors import InputError
from clsr.hub import fetch
from clsr.models.text_encoder import load_text_encoder


@pytest.fixture
def requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, bool]]:
    """A cache that has the model ``here``, and a hub that has ``there`` too.

    Each requested name is recorded, and whether the request stays on this machine.
    """
    calls: list[tuple[str, bool]] = []

    def download(name: str, local_files_only: bool) -> str:
        calls.append((name, local_files_only))
        if name != "here" and (local_files_only or name != "there"):
            raise RuntimeError("no such model:\n404")
        return str(tmp_path)

    monkeypatch.setattr(modelscope, "snapshot_download", download)
    return calls


def answer(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> None:
    def opened(*_: object, **__: object) -> BytesIO:
        if error:
            raise error
        return BytesIO()

    monkeypatch.setattr(urllib.request, "urlopen", opened)


def test_hub_that_answers_gets_the_request(requests: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for error in (None, urllib.error.HTTPError("https://hub", 403, "forbidden", Message(), None)):
        answer(monkeypatch, error)
        assert fetch("there") == tmp_path
        with pytest.raises(InputError, match=r"model 'gone' could not be fetched .*\(no such model: 404\)"):
            fetch("gone")
    assert requests == [("there", True), ("there", False), ("gone", True), ("gone", False)] * 2


def test_cached_files_need_no_hub(requests: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, AssertionError("the hub was asked"))
    assert fetch("here") == tmp_path
    assert requests == [("here", True)]


def test_cached_files_are_found_without_a_network(requests: list, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answer(monkeypatch, urllib.error.URLError("no route"))
    assert fetch("here") == tmp_path
    with pytest.raises(
        InputError, match=r"no network: .* does not answer\): where there is a network, run 'modelscope"
    ):
        load_text_encoder("modelscope:gone")
    assert requests == [("here", True), ("gone", True)]
