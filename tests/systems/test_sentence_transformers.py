"""A model of sentence-transformers as a system, with random weights."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from clsr.audio.waveform import read_waveform
from clsr.config import TrainingConfig
from clsr.data.retrieval_set import read_retrieval_set
from clsr.errors import InputError
from clsr.evaluation.config import EvaluationConfig
from clsr.evaluation.measure import evaluate
from clsr.models.text_encoder import load_text_encoder
from clsr.systems.clap import Clap, ClapSystem, new_clap
from clsr.systems.load import load_system
from clsr.systems.sentence_transformers import SentenceTransformerSystem, load_sentence_transformer


@pytest.fixture(scope="module")
def clap(tiny_settings: TrainingConfig) -> Clap:
    torch.manual_seed(0)
    return new_clap(tiny_settings.model, load_text_encoder(tiny_settings.text_encoder).tokenizer).eval()


@pytest.fixture(scope="module")
def folder(clap: Clap, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import Transformer
    from transformers import ClapProcessor

    parts, path = tmp_path_factory.mktemp("parts"), tmp_path_factory.mktemp("st") / "clap"
    clap.model.save_pretrained(parts)
    ClapProcessor(clap.extractor, clap.tokenizer).save_pretrained(parts)
    SentenceTransformer(modules=[Transformer(str(parts))], device="cpu").save_pretrained(str(path))
    return path


class MessageModel:
    """Has the interface of sentence-transformers; a vector says what an input had in which order."""

    def __init__(self, *kinds: str) -> None:
        self.kinds = kinds

    def __getitem__(self, _: int) -> None:
        """No first module with a processor."""

    def supports(self, kind: str) -> bool:
        return kind in self.kinds

    def encode_query(self, inputs: list[Any], **_: Any) -> torch.Tensor:
        return torch.tensor([[*map(self._number, self._parts(one)), 0, 0, 0][:3] for one in inputs]).float()

    def encode_document(self, inputs: list[Any], **_: Any) -> torch.Tensor:
        return -self.encode_query(inputs)

    def _parts(self, one: Any) -> list[Any]:
        if not isinstance(one, list):
            return [one]
        (message,) = one
        assert message["role"] == "user"
        return [part[part["type"]] for part in message["content"]]

    def _number(self, part: Any) -> float:
        return float(part) if isinstance(part, str) else float((part["array"] if isinstance(part, dict) else part)[0])


def test_clap_has_the_vectors_of_its_towers(folder: Path, clap: Clap, tone_set: Path) -> None:
    system, towers = load_system(f"st:{folder}"), ClapSystem(clap)
    waveforms = [read_waveform(passage.recording) for passage in read_retrieval_set(tone_set).passages]
    vectors = system.encode(system.recognise(waveforms), "st", "passage")
    assert torch.allclose(vectors, towers.encode(towers.recognise(waveforms), "clap", "passage"), atol=1e-4)
    texts = ["where is the sun", "old boat"]
    assert torch.allclose(system.encode_text(texts, "question"), towers.encode_text(texts, "question"), atol=1e-4)


def test_it_is_measured_beside_a_model(folder: Path, tone_model: Path, tone_corpus: Path) -> None:
    report = evaluate([tone_model, f"st:{folder}"], tone_corpus / "dev", EvaluationConfig(rows=("clsr", "st")))
    assert [row.name for row in report.rows] == ["clsr", "st"]
    assert report.rows[1].wer is None and report.rows[1].q2c is not None


def test_parts_are_a_message_in_order() -> None:
    system = SentenceTransformerSystem(MessageModel("text", "audio", "message"))  # type: ignore[arg-type]
    (two,) = system.recognise([np.full(100, 2.0, np.float32)])
    inputs = [["1", two, "3"], [two, "3"], [two], ["1"]]
    rows = torch.tensor([[1.0, 2, 3], [2, 3, 0], [2, 0, 0], [1, 0, 0]])
    expected = torch.nn.functional.normalize(rows, dim=1)
    assert torch.equal(system.encode_parts(inputs, "st", "question"), expected)
    assert torch.equal(system.encode_parts(inputs, "st", "passage"), -expected)
    with pytest.raises(InputError, match="positions of its tokens cannot be shuffled"):
        system.encode_parts(inputs, "st", "question", seed=0)


def test_the_order_of_clsr_is_kept(tone_model: Path, say_in_tones: Callable[[str], np.ndarray]) -> None:
    adapter = pytest.importorskip("clsr.adapters.sentence_transformers")
    system, own = SentenceTransformerSystem(adapter.load(tone_model)), load_system(str(tone_model))
    speech = [say_in_tones("red dog"), say_in_tones("old boat")]
    parts = [["where is the", 0, "sun"], [1, "is the"]]
    vectors = [
        one.encode_parts([[part if isinstance(part, str) else found[part] for part in of] for of in parts],
                         one.rows[-1], "question")
        for one in (system, own) for found in [one.recognise(speech)]
    ]  # fmt: skip
    assert torch.allclose(*vectors, atol=1e-5)


def test_a_model_without_messages_takes_no_mixtures() -> None:
    system = SentenceTransformerSystem(MessageModel("text", "audio"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="row st: the model takes no messages"):
        system.encode_parts([["1", np.ones(5)]], "st", "question")


def test_other_folders_are_refused(folder: Path, tiny_settings: TrainingConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no modules\.json"):
        load_sentence_transformer(tmp_path)
    with pytest.raises(InputError, match="takes no audio"):
        load_sentence_transformer(Path(str(tiny_settings.text_encoder)))
    with_code = tmp_path / "with_code"
    shutil.copytree(folder, with_code)
    modules = json.loads((with_code / "modules.json").read_text())
    modules[0]["type"] = "own.Own"
    (with_code / "modules.json").write_text(json.dumps(modules))
    (with_code / "own.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="loads without code from the folder") as refused:
        load_sentence_transformer(with_code)
    assert "\n" not in str(refused.value)
