"""CLAP of transformers: pieces, training, folders."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from clsr.checkpoint_folder import fingerprint, read_meta
from clsr.config import DataConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechDataModule
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.text_encoder import load_text_encoder
from clsr.padding import pad
from clsr.systems.clap import Clap, ClapModule, ClapSystem, load_clap, new_clap, train_clap
from clsr.systems.load import load_system
from clsr.systems.parabge import NO_TARGETS
from clsr.training.losses import batch_nll

LONG = 23 * 16_000  # three pieces


@pytest.fixture(scope="module")
def clap(tiny_settings: TrainingConfig) -> Clap:
    torch.manual_seed(0)
    return new_clap(tiny_settings.model, load_text_encoder(tiny_settings.text_encoder).tokenizer).eval()


def noise(samples: int) -> np.ndarray:
    return np.random.default_rng(samples).standard_normal(samples, dtype=np.float32)


def test_short_waveforms_agree_with_transformers(clap: Clap):
    import soxr

    waveform = noise(9000)
    inputs = clap.extractor(soxr.resample(waveform, 16_000, 48_000), sampling_rate=48_000, return_tensors="pt")
    expected = clap.model.get_audio_features(inputs["input_features"]).pooler_output
    features = clap.features(waveform)
    assert features.shape == (1001, 64)
    assert torch.allclose(clap(features[None], torch.tensor([1001])), expected, atol=1e-5)


def test_long_waveforms_are_the_mean_of_pieces(clap: Clap):
    features = clap.features(noise(LONG))
    pieces = features.split(1001)
    assert len(pieces) == 3
    alone = torch.cat([clap(piece[None], torch.tensor([1001])) for piece in pieces])
    expected = torch.nn.functional.normalize(alone.mean(0), dim=0)
    short = clap.features(noise(9000))
    vectors = clap(*pad([short, features]))  # one piece beside three
    assert torch.allclose(vectors[1], expected, atol=1e-5)
    assert torch.allclose(vectors[0], clap(short[None], torch.tensor([1001]))[0], atol=1e-5)


def test_fusion_has_four_channels_and_no_randomness(tiny_settings: TrainingConfig, clap: Clap):
    from transformers import ClapFeatureExtractor, ClapModel

    config = clap.model.config
    audio = config.audio_config.to_dict() | {"enable_fusion": True}
    torch.manual_seed(0)
    fused = Clap(ClapModel(type(config)(text_config=config.text_config.to_dict(), audio_config=audio)),
                 ClapFeatureExtractor(truncation="fusion"), clap.tokenizer).eval()  # fmt: skip
    features = fused.features(noise(LONG))
    assert features.shape == (3 * 4 * 1001, 64) and torch.equal(features, fused.features(noise(LONG)))
    vectors = fused(features[None], torch.tensor([len(features)]))
    assert vectors.norm().item() == pytest.approx(1.0, abs=1e-5)


def test_the_system_keeps_order_and_norm(clap: Clap):
    system = ClapSystem(clap)
    waveforms = [noise(n) for n in (9000, LONG, 5000)]
    recognised = system.recognise(waveforms)
    vectors = system.encode(recognised, "clap", "passage")
    alone = torch.cat([system.encode(system.recognise([waveform]), "clap", "question") for waveform in waveforms])
    assert torch.allclose(vectors, alone, atol=1e-6)
    assert torch.allclose(vectors.norm(dim=1), torch.ones(3), atol=1e-5)
    texts = ["where is the red dog", "old boat", "the sun " * 600]  # the last one is longer than the tower takes
    together = system.encode_text(texts, "question")
    assert torch.allclose(together, torch.cat([system.encode_text([text], "question") for text in texts]), atol=1e-5)
    assert torch.allclose(together.norm(dim=1), torch.ones(3), atol=1e-5)
    assert system.transcribe(recognised) is None


def test_one_batch_is_learnt_by_heart(tiny_settings: TrainingConfig, tone_corpus: Path, clap: Clap, descend):
    splits = read_splits(tone_corpus)
    config = replace(tiny_settings, loss=LossConfig(temperature=0.1), data=DataConfig(batch_s=4.0))
    torch.manual_seed(0)
    fresh = new_clap(config.model, load_text_encoder(config.text_encoder).tokenizer)
    module = ClapModule(fresh, config, splits)
    data = SpeechDataModule(*splits, NO_TARGETS._replace(features=fresh.features), config.data, 0)
    batch = next(data.train_set[cuts] for cuts in data._train_sampler)
    questions = [splits[0].pairs[row].question for row in batch.pair_rows]
    module.clap.eval()
    speech = module.clap(batch.features, batch.frame_lengths)
    expected = batch_nll(speech, module.clap.encode_texts(questions), 0.1)
    assert module.training_step(batch, 0).item() == pytest.approx(expected.item(), rel=1e-5)
    parameters = [weight for weight in module.parameters() if weight.requires_grad]
    losses = descend(lambda step: module.training_step(batch, step), parameters, 3e-3, 25)
    assert losses[-1] < 0.5 * losses[0]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, tiny_settings: TrainingConfig, tone_corpus: Path) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    config = replace(tiny_settings, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(2))
    train_clap(config, tone_corpus, folder)
    return folder


def test_a_checkpoint_is_a_released_folder_too(trained: Path, tiny_settings: TrainingConfig, tone_corpus: Path):
    assert read_meta(trained).kind == "clap" and "dev/recall@1" in read_meta(trained).metrics
    assert len(fingerprint(trained)) == 16
    own, released = load_system(str(trained)), load_system(f"clap:{trained}")
    assert own.rows == released.rows == ("clap",)
    recognised = [system.encode(system.recognise([noise(9000)]), "clap", "passage") for system in (own, released)]
    assert torch.equal(*recognised)


def test_a_release_may_be_a_pickle(clap: Clap, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As laion/clap-htsat-unfused is."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for part in (clap.model.config, clap.extractor, clap.tokenizer):
        part.save_pretrained(tmp_path / "clap")
    torch.save(clap.model.state_dict(), tmp_path / "clap" / "pytorch_model.bin")
    system = load_system(f"clap:{tmp_path / 'clap'}")
    (found,) = system.recognise([noise(9000)])
    assert torch.allclose(found, ClapSystem(clap).recognise([noise(9000)])[0], atol=1e-6)


def test_training_goes_on_from_a_folder(
    trained: Path, tiny_settings: TrainingConfig, tone_corpus: Path, tmp_path: Path
):
    config = replace(tiny_settings, optimizer=OptimizerConfig(0.0, 1, 1), trainer=TrainerConfig(1))  # nothing moves
    train_clap(config, tone_corpus, tmp_path, start=trained)
    before, after = (load_file(folder / "model.safetensors") for folder in (trained, tmp_path))
    for name, weight in before.items():  # but the running statistics of the spectrogram
        assert "batch_norm" in name or torch.equal(after[name], weight), name


def test_what_cannot_be_loaded_is_named(trained: Path, tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere: no model.safetensors: name a folder with config.json"):
        load_clap(tmp_path / "nowhere")
    weights = load_file(trained / "model.safetensors")
    for name in ("config.json", "preprocessor_config.json", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / name).write_bytes((trained / name).read_bytes())
    lost = weights.pop("text_projection.linear1.bias")
    save_file(weights, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"lacks weight text_projection.linear1.bias of ClapModel"):
        load_clap(tmp_path)
    save_file(weights | {"text_projection.linear1.bias": lost[:3]}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match=r"not a readable ClapModel"):
        load_clap(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "clap"})[:-3])
    with pytest.raises(InputError, match=r"not a readable ClapModel .*copy the folder again"):
        load_clap(tmp_path)
