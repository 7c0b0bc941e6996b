"""Fixtures for all tests: the shared data where a machine has it, speech made of tones, and a tiny model of it."""

import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from clsr.audio.waveform import SAMPLE_RATE, write_waveform
from clsr.data.kaldi import Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import write_relevance

if TYPE_CHECKING:
    import torch

    from clsr.config import TrainingConfig
    from clsr.models.text_encoder import TextEncoder

pytest_plugins = ["loudness", "sense_voice_folder", "small_reports"]  # of several folders of tests, in tests/fixtures

TONE_WORDS = ("red", "blue", "green", "old", "dog", "cat", "sun", "boat")
TONE_SAMPLES = 4800  # of one word


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what runs in a browser as slow."""
    for item in items:
        if "browser" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Keep torch to one thread: on tiny tensors several mostly wait for each other, minutes of it on a busy machine."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real recordings, texts and odd files, beside the repository; a test that needs them is skipped without."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no shared data at {path}")
    return path


@pytest.fixture
def tone_set(tmp_path: Path) -> Path:
    """Retrieval set of three passages that are tones of 220, 440 and 660 Hz, 0.5 s each, with a text question each."""
    folder = tmp_path / "tone_set"
    (folder / "passages").mkdir(parents=True)
    (folder / "questions").mkdir()
    words = {"a": "the low tone", "b": "the middle tone", "c": "the high tone"}
    passages = []
    for number, (id_, text) in enumerate(words.items(), start=1):
        path = folder / "passages" / f"{id_}.wav"
        write_waveform(path, 0.5 * np.sin(2 * np.pi * 220 * number * np.arange(SAMPLE_RATE // 2) / SAMPLE_RATE))
        passages.append(Utterance(f"p-{id_}", path, 0.0, 0.5, text, "tuning-fork"))
    write_data_dir(folder / "passages", passages)
    write_table(folder / "questions" / "text", ((f"q-{id_}", f"Where is {text}?") for id_, text in words.items()))
    write_relevance(folder / "qrels", {f"q-{id_}": {f"p-{id_}": 1} for id_ in words})
    return folder


@pytest.fixture(scope="session")
def say_in_tones() -> Callable[[str], np.ndarray]:
    """Speak a language in which each word is a tone of 0.3 s: a recogniser learns it in seconds."""

    def say(text: str) -> np.ndarray:
        time_s = np.arange(TONE_SAMPLES) / SAMPLE_RATE
        pitches_hz = [300 * 1.4 ** TONE_WORDS.index(word) for word in text.split()]
        tones = [0.5 * np.hanning(TONE_SAMPLES) * np.sin(2 * np.pi * pitch * time_s) for pitch in pitches_hz]
        return np.concatenate(tones).astype(np.float32)

    return say


@pytest.fixture(scope="session")
def tone_corpus(tmp_path_factory: pytest.TempPathFactory, say_in_tones: Callable[[str], np.ndarray]) -> Path:
    """Retrieval sets ``train`` (24 passages) and ``dev`` (6) in the language of tones, all sentences different."""
    draw = random.Random(0)
    texts = list(dict.fromkeys(" ".join(draw.sample(TONE_WORDS, draw.randint(2, 4))) for _ in range(40)))[:30]
    folder = tmp_path_factory.mktemp("tone_corpus")
    for name, split in (("train", texts[:24]), ("dev", texts[24:])):
        passages, questions = folder / name / "passages", folder / name / "questions"
        passages.mkdir(parents=True)
        questions.mkdir()
        utterances = []
        for number, text in enumerate(split):
            path, waveform = passages / f"p{number:02}.wav", say_in_tones(text)
            write_waveform(path, waveform)
            utterances.append(Utterance(f"p{number:02}", path, 0.0, len(waveform) / SAMPLE_RATE, text, "tuning-fork"))
        write_data_dir(passages, utterances)
        write_table(
            questions / "text", ((f"q{number:02}", f"Where is the {text}?") for number, text in enumerate(split))
        )
        write_relevance(
            folder / name / "qrels", {f"q{number:02}": {f"p{number:02}": 1} for number in range(len(split))}
        )
    return folder


@pytest.fixture(scope="session")
def tiny_bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sentence-transformers folder of a BERT of 32 channels with random weights that knows the language of tones."""
    import torch
    from safetensors.torch import save_file
    from tokenizers.implementations import BertWordPieceTokenizer

    from clsr.models.bert import Bert

    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "'", *letters, *(f"##{c}" for c in letters)]
    pieces += ["where", "is", "the", *TONE_WORDS]
    config = {
        "model_type": "bert", "architectures": ["BertModel"], "hidden_act": "gelu", "vocab_size": len(pieces),
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64,
        "max_position_embeddings": 40, "type_vocab_size": 2, "layer_norm_eps": 1e-12, "pad_token_id": 0,
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    kinds = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    files = {
        "config.json": config,
        "modules.json": [
            {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for i, (kind, path) in enumerate(kinds)
        ],
        "1_Pooling/config.json": {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": 40, "do_lower_case": True},
        "tokenizer_config.json": {"tokenizer_class": "BertTokenizerFast", "do_lower_case": True},
    }
    folder = tmp_path_factory.mktemp("tiny_bert")
    (folder / "1_Pooling").mkdir()
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}).save(str(folder / "tokenizer.json"))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Bert(config).state_dict()
    weights["embeddings.position_embeddings.weight"] *= 0.1  # so that a text is known by its words
    weights["embeddings.token_type_embeddings.weight"] *= 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def wide_bert(tmp_path_factory: pytest.TempPathFactory, tiny_bert: Path) -> Path:
    """Folder of another text encoder with the pieces of the tiny one: 48 channels and three more rows than pieces."""
    import shutil

    import torch
    from safetensors.torch import save_file

    from clsr.models.bert import Bert

    folder = shutil.copytree(tiny_bert, tmp_path_factory.mktemp("wide_bert") / "wide")
    config = json.loads((folder / "config.json").read_text())
    config |= {"hidden_size": 48, "vocab_size": config["vocab_size"] + 3}
    (folder / "config.json").write_text(json.dumps(config))
    with torch.random.fork_rng():
        torch.manual_seed(1)
        weights = Bert(config).state_dict()
    weights["embeddings.position_embeddings.weight"] *= 0.1
    weights["embeddings.token_type_embeddings.weight"] *= 0.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="session")
def tiny_settings(tiny_bert: Path) -> "TrainingConfig":
    """Settings of a recogniser that learns the language of tones in 60 steps, a second or two."""
    from clsr.config import TrainingConfig
    from clsr.settings import read_settings

    sizes = {
        "encoder": {"width": 32, "hidden": 64, "layers": 2, "heads": 2},
        "decoder": {"hidden": 64, "layers": 1, "heads": 2},
    }
    values = {
        "text_encoder": str(tiny_bert),
        "model": sizes,
        "data": {"batch_s": 15.0},
        "optimizer": {"learning_rate": 5e-3, "warmup_steps": 10, "max_steps": 60},
        "trainer": {"validate_every": 30},
    }
    return read_settings(TrainingConfig, base=values)


@pytest.fixture(scope="session")
def tone_model(tmp_path_factory: pytest.TempPathFactory, tone_corpus: Path, tiny_settings: "TrainingConfig") -> Path:
    """Checkpoint of a recogniser of the language of tones, trained by ``clsr.training.asr.train_asr``."""
    from clsr.training.asr import train_asr

    folder = tmp_path_factory.mktemp("tone_model") / "asr"
    train_asr(tiny_settings, tone_corpus, folder)
    return folder


@pytest.fixture(scope="session")
def tiny_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny FunASR model, BiCif's and SeACo's additions included, made without FunASR; 18 tokens."""
    import torch
    import yaml

    from clsr.funasr.parity import SHAPES, release_config
    from clsr.funasr.release import read_model_config
    from clsr.models.paraformer import Paraformer

    folder = tmp_path_factory.mktemp("tiny_release")
    tokens = ["<blank>", "<s>", "</s>", *TONE_WORDS, *"一二三四", "lo@@", "ve", "<unk>"]
    (folder / "tokens.json").write_text(json.dumps(tokens, ensure_ascii=False))
    (folder / "config.yaml").write_text(yaml.safe_dump(release_config(SHAPES["tiny"])))
    layers = [("AddShift", "-2.5 " * 560), ("Rescale", "0.25 " * 560)]
    text = "".join(f"<{name}> 560 560\n<LearnRateCoef> 0 [ {values}]\n" for name, values in layers)
    (folder / "am.mvn").write_text(f"<Nnet>\n<Splice> 560 560\n[ 0 ]\n{text}</Nnet>\n")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        weights = Paraformer(read_model_config(folder / "config.yaml"), len(tokens)).state_dict()
    weights["predictor.cif_output.bias"].fill_(-1.0)  # about four tokens a second
    beside = ["decoder.embed.0.weight", "seaco_decoder.after_norm.bias", "bias_encoder.bias_ih_l0"]
    beside += ["predictor.upsample_cnn.weight", "predictor.upsample_cnn.bias", "hotword_output_layer.bias"]
    beside += ["predictor.blstm.weight_ih_l0", "predictor.blstm.bias_hh_l0_reverse", "predictor.cif_output2.weight"]
    kept = {name: weight for name, weight in weights.items() if not name.startswith("cmvn.")}
    torch.save(kept | {name: torch.zeros(2) for name in beside}, folder / "model.pt")
    return folder


@pytest.fixture(scope="session")
def release_model(tmp_path_factory: pytest.TempPathFactory, tiny_release: Path) -> Path:
    """Checkpoint of the tiny release with its own tokens."""
    from clsr.funasr.release import import_release

    folder = tmp_path_factory.mktemp("release_model")
    import_release(tiny_release, folder)
    return folder


@pytest.fixture(scope="session")
def descend() -> Callable[..., list[float]]:
    """Take gradient steps with Adam; the losses, one a step."""
    import torch

    def run(
        step: "Callable[[int], torch.Tensor]", weights: "Iterable[torch.Tensor]", rate: float, count: int
    ) -> list[float]:
        optimizer, losses = torch.optim.Adam(weights, rate), []
        for number in range(count):
            loss = step(number)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        return losses

    return run


@pytest.fixture(scope="session")
def minilm() -> "TextEncoder":
    """The offline default text encoder, frozen."""
    from clsr.config import OFFLINE_TEXT_ENCODER
    from clsr.models.text_encoder import load_text_encoder

    return load_text_encoder(OFFLINE_TEXT_ENCODER)
