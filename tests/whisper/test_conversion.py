"""``clsr convert``: from a release to a checkpoint that is trained, measured and searched like any other."""

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.byte_pairs import read_words
from clsr.checkpoint import load_recogniser_weights, load_speech_encoder, restore
from clsr.checkpoint_folder import load_config, load_vocabulary, read_meta, require_trained
from clsr.config import DataConfig, LoraConfig, LossConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.data.datamodule import SpeechDataModule
from clsr.data.splits import read_splits
from clsr.errors import InputError
from clsr.models.frontend import WhisperFrontend
from clsr.models.paraformer import Paraformer
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_settings, start_settings
from clsr.systems.parabge import load_parabge, train_parabge
from clsr.training.asr import asr_losses, front_end, make_encoders, start_paraformer, train_asr
from clsr.training.joint import train_joint
from clsr.training.post import train_post
from clsr.whisper.conversion import convert_whisper


def settings(start: Path, **changes: object) -> TrainingConfig:
    """Two steps from a checkpoint, in small batches."""
    config = read_settings(TrainingConfig, base=start_settings(start))
    config = replace(config, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(validate_every=2))
    return replace(config, data=DataConfig(batch_s=8.0), **changes)


def test_parts_start_from_the_release(converted: Path):
    weights, config = load_recogniser_weights(converted), load_config(converted).model
    assert (config.frontend, config.decoder.kind, config.cif.firings_per_token) == ("whisper", "whisper", 1.3)
    vocabulary = load_vocabulary(converted, load_text_encoder(load_config(converted).text_encoder).tokenizer)
    assert vocabulary.decode(vocabulary.encode("Red boat")) == "red boat"
    assert weights["decoder.output_layer.weight"].shape == (len(vocabulary), 16)
    assert not weights["decoder.own_map.weight"].any()
    assert read_meta(converted).untrained
    with pytest.raises(InputError, match="not trained yet"):
        require_trained(converted)


def test_trained_in_all_stages_and_loaded(converted: Path, tone_corpus: Path, tmp_path: Path):
    features = DataConfig(batch_s=8.0, feature_dir=str(tmp_path / "features"))
    config = replace(settings(converted), data=features)
    train_asr(config, tone_corpus, tmp_path / "asr", converted)
    kept = list((tmp_path / "features").rglob("*.npy"))
    assert kept and all(np.load(path).shape[1] == 48 for path in kept)
    joint = replace(settings(tmp_path / "asr"), loss=LossConfig(0.5, 0.1))
    train_joint(joint, tone_corpus, tmp_path / "joint", tmp_path / "asr")
    train_post(settings(tmp_path / "joint"), tone_corpus, tmp_path / "post", tmp_path / "joint")
    require_trained(tmp_path / "post")
    words = [read_words(tmp_path / stage / "words.txt") for stage in ("asr", "joint", "post")]
    said = Counter(word for line in (tone_corpus / "train" / "passages" / "text").read_text().splitlines()
                   for word in line.split()[1:])  # fmt: skip
    assert words[0] == words[1] == words[2] and {word: words[0][word] for word in said} == said
    assert load_speech_encoder(tmp_path / "post").search and not load_speech_encoder(converted).search
    waveforms = [np.random.default_rng(n).standard_normal(n).astype(np.float32) for n in (16_000, 9_000, 100)]
    for precision in ("float32", "int8", "bf16"):
        model = load_speech_encoder(tmp_path / "post", precision=precision)
        found = model.encode(waveforms)
        assert found.vectors.shape == (3, 32) and np.allclose((found.vectors**2).sum(1), 1, atol=1e-3)
        if precision == "float32":
            assert np.allclose(model.encode(waveforms[::-1]).vectors[::-1], found.vectors, atol=1e-5)


def test_parabge_takes_the_release_as_front_end(converted: Path, tone_corpus: Path, tmp_path: Path):
    train_parabge(settings(converted), tone_corpus, tmp_path / "parabge", converted)
    model, _ = load_parabge(tmp_path / "parabge")
    assert isinstance(model.frontend, WhisperFrontend)
    weights = load_recogniser_weights(converted)
    for name, weight in model.frontend.state_dict().items():  # frozen
        assert torch.equal(weight, weights[f"frontend.{name}"]), name
    noise = np.random.default_rng(0).standard_normal(9_600).astype(np.float32)
    (rows,) = model.frontend.extract([noise])
    assert rows.shape == (10, 48)
    frames = model.encoder(model.cmvn(rows)[None], torch.tensor([10]))[0]
    by_hand = torch.nn.functional.normalize(model.projection(frames.mean(1)), dim=1)
    assert torch.allclose(model.encode([noise]), by_hand, atol=1e-6)


def test_features_of_noise_agree_in_bfloat16(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("clsr.training.asr.lays_out_bfloat16", lambda: True)
    weights = load_recogniser_weights(converted)
    vocabulary = load_vocabulary(converted, load_text_encoder(load_config(converted).text_encoder).tokenizer)
    paraformer = Paraformer(load_config(converted).model, len(vocabulary), 0, vocabulary.never)
    restore(paraformer, weights, converted)
    waveform = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    rows = {}
    for precision in ("32-true", "bf16-mixed"):
        trainer = TrainerConfig(precision=precision)
        data = DataConfig(feature_dir=str(tmp_path / precision))
        extract, cached = front_end(paraformer.frontend, replace(settings(converted), trainer=trainer, data=data))
        assert extract is not None and cached is not None
        rows[precision], exact = extract(waveform).float(), cached(waveform).float()
        assert torch.allclose(exact, rows["32-true"], atol=2e-3)  # as float16: what is kept serves all precisions
    assert torch.nn.functional.cosine_similarity(*rows.values(), dim=1).min() > 0.999
    assert not torch.equal(*rows.values())
    assert paraformer.frontend.encoder.conv1.weight.dtype == torch.float32


def test_a_frozen_encoder_stays_as_it_was(converted: Path, tone_corpus: Path, tmp_path: Path):
    train_asr(settings(converted), tone_corpus, tmp_path / "frozen", converted)
    before, after = load_recogniser_weights(converted), load_recogniser_weights(tmp_path / "frozen")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert not any(name.startswith("frontend.") or "linear_k_v" in name for name in changed)
    assert not changed & {"decoder.output_layer.weight", "decoder.positions", "decoder.start"}
    assert {"decoder.own_map.weight", "decoder.layers.0.self_attn.linear_out.weight"} <= changed
    config = settings(converted)
    thawed = replace(config, model=replace(config.model, whisper=replace(config.model.whisper, thawed_layers=1)))
    train_asr(thawed, tone_corpus, tmp_path / "thawed", converted)
    after = load_recogniser_weights(tmp_path / "thawed")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    upper = {name.split(".")[3] for name in changed if name.startswith("frontend.encoder.layers.")}
    assert upper == {"1"} and "frontend.encoder.after_norm.weight" in changed


def test_adapters_go_to_thawed_layers_alone(converted: Path, tone_corpus: Path, tmp_path: Path):
    config = settings(converted, lora=LoraConfig(2, 8, layers=("linear_q_k_v", "w_1"), modules_to_save=("predictor",)))
    thawed = replace(config, model=replace(config.model, whisper=replace(config.model.whisper, thawed_layers=1)))
    before, of_frontend = load_recogniser_weights(converted), {}
    for name, one in {"frozen": config, "thawed": thawed}.items():
        train_asr(one, tone_corpus, tmp_path / name, converted)
        after = load_recogniser_weights(tmp_path / name)
        of_frontend[name] = {
            key for key in before if key.startswith("frontend.") and not torch.equal(before[key], after[key])
        }
    assert not of_frontend["frozen"]
    layer = "frontend.encoder.layers.1"
    assert of_frontend["thawed"] == {f"{layer}.self_attn.linear_q_k_v.weight", f"{layer}.feed_forward.w_1.weight"}


def test_thawed_layers_compute_what_frozen_ones_do(converted: Path, tone_corpus: Path):
    waveform = np.random.default_rng(0).standard_normal(12_345).astype(np.float32)
    frontend = load_speech_encoder(converted).paraformer.frontend
    rows = frontend.extract([waveform])[0]
    assert rows.shape == (13, 48)  # 12.9 rows of 960 samples
    for lower in (0, 1):
        frontend.frozen_layers = lower
        with torch.no_grad():
            split = frontend(frontend.extract([waveform])[0][None], torch.tensor([13]))[0]
        assert torch.allclose(split, rows, atol=1e-5)


def test_a_batch_is_learnt_by_heart(converted: Path, tone_corpus: Path, descend: Callable):
    config, splits = settings(converted), read_splits(tone_corpus)
    text_encoder = load_text_encoder(config.text_encoder)
    torch.manual_seed(0)
    vocabulary, paraformer, units = start_paraformer(config, splits[0], text_encoder, converted)
    data = SpeechDataModule(*splits, make_encoders(vocabulary, config, units, paraformer), config.data, 0)
    batch = data.train_set[next(iter(data._train_sampler))]
    paraformer.eval().decoder.requires_grad_(True)  # no dropout; sixteen channels need all of theirs
    weights = [weight for weight in paraformer.parameters() if weight.requires_grad]

    def step(number: int) -> torch.Tensor:
        output = paraformer(batch.features, batch.frame_lengths, batch.targets, batch.target_lengths)
        losses = asr_losses(output, batch, config.loss)
        return losses["ce"] + losses["mae"]

    losses = descend(step, weights, 5e-3, 400)
    assert losses[-1] < losses[0] / 20


def test_a_decoder_from_nothing_is_the_other_option(
    whisper_release: Path, tiny_bert: Path, tone_corpus: Path, tmp_path: Path
):
    convert_whisper(whisper_release, tmp_path / "start", str(tiny_bert), decoder="sanm")
    config = load_config(tmp_path / "start").model
    assert (config.frontend, config.decoder.kind, config.cif.firings_per_token) == ("whisper", "sanm", 1.0)
    train_asr(settings(tmp_path / "start"), tone_corpus, tmp_path / "asr", tmp_path / "start")
    assert load_speech_encoder(tmp_path / "asr").encode([np.zeros(16_000, np.float32)]).vectors.shape == (1, 32)


def test_bad_input_is_refused(
    whisper_release: Path, converted: Path, tiny_bert: Path, tone_corpus: Path, tmp_path: Path
):
    with pytest.raises(InputError, match="holds a checkpoint"):
        convert_whisper(whisper_release, converted, str(tiny_bert))
    (tmp_path / "release").mkdir()
    for name in ("model.safetensors", "config.json"):
        (tmp_path / "release" / name).write_bytes((whisper_release / name).read_bytes())
    with pytest.raises(InputError, match="tokenizer.json: missing"):
        convert_whisper(tmp_path / "release", tmp_path / "out", str(tiny_bert))
    assert not (tmp_path / "out").exists()
    config = settings(converted)
    soft = replace(config, model=replace(config.model, adaptor=replace(config.model.adaptor, codes="soft")))
    with pytest.raises(InputError, match="byte pairs are words of several rows"):
        train_joint(soft, tone_corpus, tmp_path / "joint", converted)
