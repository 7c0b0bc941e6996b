"""Whisper of transformers: training, transcripts, folders; the same in CTranslate2's layout."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.audio.waveform import read_waveform
from clsr.checkpoint_folder import read_meta
from clsr.config import DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import Encoders, SpeechDataModule
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.systems.load import load_system
from clsr.systems.pipeline import Pipeline
from clsr.systems.whisper import Whisper, WhisperModule, load_whisper, new_whisper, train_whisper

SECOND = 16_000


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples, dtype=np.float32)


@pytest.fixture(scope="module")
def whisper(tiny_settings: TrainingConfig) -> Whisper:
    """A model that takes 2 s, with random weights: what it writes is gibberish, but always the same."""
    torch.manual_seed(0)
    return new_whisper(tiny_settings.model, ["red dog", "the old boat"], 1.3).eval()


@pytest.fixture(scope="module")
def text_encoder(tiny_settings: TrainingConfig) -> TextEncoder:
    return load_text_encoder(tiny_settings.text_encoder)


def test_targets_are_prompt_text_and_end(whisper: Whisper):
    targets = whisper.targets("Red dog!")
    tokens = whisper.tokenizer.convert_ids_to_tokens(targets)
    assert tokens[0] == "<|notimestamps|>" and tokens[-1] == "<|endoftext|>"
    assert whisper.tokenizer.decode(targets, skip_special_tokens=True) == "red dog"
    assert whisper.features(noise(SECOND)).shape == (200, 80)


def test_each_target_is_predicted_from_those_before_it(whisper: Whisper):
    features = whisper.features(noise(SECOND))[None]
    targets = torch.tensor([whisper.targets("red dog")])
    logits = whisper(features, targets)
    start = whisper.model.config.decoder_start_token_id
    for place in range(targets.shape[1]):  # one by one, as in decoding
        before = torch.tensor([[start, *targets[0, :place]]])
        alone = whisper.model(input_features=features.transpose(1, 2), decoder_input_ids=before).logits[0, -1]
        assert torch.allclose(logits[0, place], alone, atol=1e-4)


def test_it_writes_what_is_likeliest_token_by_token(whisper: Whisper):
    waveform = noise(SECOND)
    generation = whisper.model.generation_config
    ids = [generation.decoder_start_token_id, generation.no_timestamps_token_id]
    while len(ids) < generation.max_length and ids[-1] != generation.eos_token_id:
        features = whisper.features(waveform)[None].transpose(1, 2)
        logits = whisper.model(input_features=features, decoder_input_ids=torch.tensor([ids])).logits
        ids.append(int(logits[0, -1].argmax()))
    assert whisper.write([waveform])[0] == whisper.tokenizer.decode(ids, skip_special_tokens=True).strip()


def test_longer_audio_is_written_in_parts(whisper: Whisper, monkeypatch: pytest.MonkeyPatch):
    sizes: list[int] = []

    def features(waveform: np.ndarray) -> torch.Tensor:
        sizes.append(len(waveform))
        return torch.zeros(200, 80)

    monkeypatch.setattr(whisper, "features", features)
    whisper.write([noise(5 * SECOND)])
    assert sizes == [26667, 26667, 26666]


def test_timestamped_models_decode_from_stamp_to_stamp(whisper: Whisper, monkeypatch: pytest.MonkeyPatch):
    generated_from: dict = {}

    def generate(**inputs: torch.Tensor) -> torch.Tensor:
        generated_from.update(inputs)
        return torch.tensor([whisper.targets("red dog")])

    monkeypatch.setattr(whisper.model, "generate", generate)
    monkeypatch.setattr(whisper.model.config, "vocab_size", 4000)
    assert whisper.write([noise(5 * SECOND)]) == ["red dog"]
    assert generated_from["return_timestamps"] and generated_from["input_features"].shape == (1, 80, 500)


def test_it_learns_to_write_tones_down(tiny_settings: TrainingConfig, tone_corpus: Path, descend):
    splits = read_splits(tone_corpus)
    torch.manual_seed(0)
    texts = [utterance.text or "" for utterance in splits[0].utterances]
    module = WhisperModule(new_whisper(tiny_settings.model, texts, 1.2), tiny_settings)
    encoders = Encoders(module.whisper.targets, lambda text: [], module.whisper.features)
    data = SpeechDataModule(*splits, encoders, DataConfig(batch_s=4.0), 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    total, tokens = 0.0, 0
    for row, length in enumerate(batch.target_lengths.tolist()):  # alone, without padding
        targets = batch.targets[row : row + 1, :length]
        shares = module.whisper(batch.features[row : row + 1], targets).log_softmax(2)[0]
        total -= shares[range(length), targets[0]].sum().item()
        tokens += length
    assert module.training_step(batch, 0).item() == pytest.approx(total / tokens, rel=1e-4)
    losses = descend(lambda step: module.training_step(batch, step), module.parameters(), 3e-3, 160)
    assert losses[-1] < 0.1
    module.whisper.eval()
    utterances = [data.train_set.utterances[utterance_id] for utterance_id in batch.ids]
    waveforms = [read_waveform(u.recording, u.start_s, u.end_s) for u in utterances]
    waveforms.insert(1, np.tile(waveforms[0], 3))  # a long one keeps its place
    written = module.whisper.write(waveforms)
    references = [data.train_set.utterances[utterance_id].text for utterance_id in batch.ids]
    assert [written[0], *written[2:]] == references
    assert written == [module.whisper.write([waveform])[0] for waveform in waveforms]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_settings: TrainingConfig, tone_corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("whisper")
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(2), loss=LossConfig())
    train_whisper(config, tone_corpus, folder)
    return folder


def test_a_checkpoint_is_a_released_folder_too(trained: Path, tiny_settings: TrainingConfig):
    assert read_meta(trained).kind == "whisper" and "dev/ce" in read_meta(trained).metrics
    own, released = (load_system(place, tiny_settings.text_encoder) for place in (str(trained), f"whisper:{trained}"))
    assert own.rows == released.rows == ("whisper-bge-scratch",)  # trained from nothing
    recognised = own.recognise([noise(SECOND)])
    assert recognised == released.recognise([noise(SECOND)])
    assert load_whisper(trained).extractor.n_samples == 2 * SECOND  # the longest has four words of 0.3 s


def test_training_goes_on_from_a_folder(
    trained: Path, tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(0.0, 1, 1), trainer=TrainerConfig(1))  # nothing moves
    train_whisper(config, tone_corpus, tmp_path, start=trained)
    after = load_whisper(tmp_path).model.state_dict()
    for name, weight in load_whisper(trained).model.state_dict().items():
        assert torch.equal(after[name], weight), name


def test_a_pipeline_keeps_order_and_norm(text_encoder: TextEncoder):
    texts = {1: "Red dog!", 2: "The old boat.", 3: ""}
    system = Pipeline(lambda waveforms: [texts[len(w)] for w in waveforms], text_encoder, "whisper-bge")
    recognised = system.recognise([np.zeros(size, np.float32) for size in (2, 3, 1)])
    assert system.transcribe(recognised) == ["the old boat", "", "red dog"]
    vectors = system.encode(recognised, "whisper-bge", "passage")
    expected = torch.cat([text_encoder.encode([text], "passage") for text in ("the old boat", "", "red dog")])
    assert torch.allclose(vectors, expected, atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    assert torch.equal(system.encode_text(["who?"], "question"), text_encoder.encode(["who?"], "question"))


def test_the_noisy_row_has_another_text_encoder(trained: Path, tiny_settings: TrainingConfig):
    system = load_system(f"whisper-noisy:{trained}", tiny_settings.text_encoder)
    assert system.rows == ("whisper-bge-scratch-noisy",)
    with pytest.raises(InputError, match="needs the text encoder that was fine-tuned on its transcripts"):
        load_system(f"whisper-noisy:{trained}")


def test_what_cannot_be_loaded_is_named(trained: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: no such folder; give a folder"):
        load_system("whisper:nowhere")
    copy = shutil.copytree(trained, tmp_path / "copy", ignore=shutil.ignore_patterns("logs", "state"))
    (copy / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"not a readable WhisperForConditionalGeneration .*: copy the folder again"):
        load_system(f"whisper:{copy}")
    with pytest.raises(InputError, match=r"not a readable WhisperForConditionalGeneration"):
        load_system(f"faster-whisper:{copy}")  # the layout is told by what is in the folder
    (copy / "model.safetensors").unlink()
    with pytest.raises(InputError, match=r"no model.safetensors: name a folder"):
        load_system(f"faster-whisper:{copy}")


def test_converted_folders_are_read_too(tmp_path: Path, tiny_settings: TrainingConfig):
    converters = pytest.importorskip("ctranslate2.converters", reason="CTranslate2 is an extra: clsr[people]")
    whole = new_whisper(tiny_settings.model, ["red dog", "the old boat"], 30.0)  # it takes nothing shorter
    for part in (whole.model, whole.extractor, whole.tokenizer):
        part.save_pretrained(tmp_path / "source")
    converted, beside = tmp_path / "ct2", ["tokenizer.json", "preprocessor_config.json"]
    converters.TransformersConverter(str(tmp_path / "source"), copy_files=beside).convert(str(converted))
    system = load_system(f"faster-whisper:{converted}", tiny_settings.text_encoder)
    assert system.rows == ("whisper-bge",)
    recognised = system.recognise([noise(SECOND), noise(2 * SECOND)])
    assert [system.recognise([noise(size)])[0] for size in (SECOND, 2 * SECOND)] == recognised
    (converted / "model.bin").write_bytes(b"nothing")
    with pytest.raises(InputError, match="not a readable model"):
        load_system(f"faster-whisper:{converted}", tiny_settings.text_encoder)
