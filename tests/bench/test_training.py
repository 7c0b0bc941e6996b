"""The training benchmark: that both sides do the same work, on batches as training makes them."""

from pathlib import Path

import pytest
import torch

from clsr.audio.features import fbank, stack_frames
from clsr.bench import training
from clsr.bench.timing import Timing
from clsr.bench.training import (
    AGAINST,
    FunasrTraining,
    added,
    make_corpus,
    make_module,
    make_paraformer,
    measure,
    padding_share,
    settings,
    stacked_frames,
    table,
)
from clsr.config import DecoderConfig, EncoderConfig, ModelConfig
from clsr.data.datamodule import split_batch
from clsr.training.asr import AsrModule
from clsr.training.joint import JointModule


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tiny recogniser, few utterances and small banks."""
    tiny = ModelConfig(EncoderConfig(32, 48, 2, 2, 5), decoder=DecoderConfig(48, 1, 2, 5))
    monkeypatch.setitem(training.SIZES, "mini", tiny)
    monkeypatch.setattr(training, "UTTERANCES", 40)
    monkeypatch.setattr(training, "BATCHES", 1)


def test_padding_by_hand():
    assert padding_share([[3, 3]]) == 0.0
    assert padding_share([[3, 3], [2, 4]]) == pytest.approx(2 / 14)


def test_frames_are_those_of_the_features():
    for samples in (400, 1359, 1360, 5000, 48_000):
        assert stacked_frames(samples / 16_000) == len(stack_frames(fbank(torch.randn(samples).numpy())))


def test_bucketed_epochs_are_whole_and_waste_less_padding(tmp_path: Path):
    corpus = make_corpus(tmp_path, 0)
    ids = sorted(cut.id for cuts in corpus.cuts for cut in cuts)
    assert ids == [utterance.id for utterance in corpus.split.utterances]
    (batch,) = corpus.batches()
    frames = [stacked_frames(corpus.data.train_set.utterances[i].duration_s) for i in batch.ids]
    assert batch.frame_lengths.tolist() == frames
    assert 0 <= corpus.padding(0)["bucketed"] < corpus.padding(0)["random"] < 0.4


def test_additions_are_shares_of_their_base():
    times = {name: Timing(s, s, s) for name, s in (("plain", 2.0), ("sampler", 2.5), ("dropout", 1.0))}
    assert added(times) == {"sampler": 0.25, "dropout": -0.5}


@pytest.mark.slow
def test_each_kind_of_step_does_its_work(tmp_path: Path):
    split = make_corpus(tmp_path, 0).split
    for name in ("plain", *AGAINST):
        module = make_module(name, "mini", split, 0)
        config, model = settings(name, "mini").loss, module.paraformer.config
        assert isinstance(module, JointModule if "joint" in name else AsrModule)
        assert ("dropout" in name) == (model.encoder.dropout > 0) == (model.decoder.dropout > 0)
        assert ("sampler" in name) == (model.sampler.ratio > 0)
        if isinstance(module, JointModule):
            assert ("bank" in name) == (config.negatives == "bank")
            assert ("projection" in name) == (module.passage_projection is not None)
            size = int(name.partition("bank of ")[2].partition(", ")[0].replace(",", "") or training.UTTERANCES)
            assert len(module.bank.questions) == len(module.bank.passages) == size


@pytest.mark.parametrize("kind", ["plain", "dropout", "sampler"])
def test_funasr_does_the_same_work(tmp_path: Path, kind: str):
    """Losses and gradients are ours, where nothing is drawn; of one utterance, after which FunASR sees no padding."""
    pytest.importorskip("funasr")
    batch = split_batch(make_corpus(tmp_path, 0).batches()[0], 1)[0]
    config = settings(kind, "mini")
    ours, theirs = make_paraformer(config.model, 0), FunasrTraining(make_paraformer(config.model, 0), 0.9)
    assert sum(weight.numel() for weight in ours.parameters()) == sum(w.numel() for w in theirs.parameters())
    if kind == "dropout":
        dropped = {module.p for module in theirs.whole.modules() if isinstance(module, torch.nn.Dropout)}
        assert dropped == {0.1}
        return
    if kind == "sampler":
        assert theirs.whole.sampling_ratio == 0.75
        theirs.whole.sampling_ratio = ours.config.sampler.ratio = 1e-9  # two passes, and nothing replaced
    module = AsrModule(ours, None, config, training.Split([], [], {}))  # type: ignore[arg-type]
    expected, found = module.training_step(batch, 0), theirs(batch)
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)
    expected.backward()
    found.backward()
    for part in ("encoder", "predictor", "decoder"):
        other = dict(getattr(theirs.whole, part).named_parameters())
        for name, weight in getattr(ours, part).named_parameters():
            assert torch.allclose(weight.grad, other[name].grad, rtol=1e-3, atol=1e-6), name


@pytest.mark.slow
def test_a_measurement_is_whole(monkeypatch: pytest.MonkeyPatch):
    pytest.importorskip("funasr")
    result = measure(repeats=1)
    assert set(result["seconds"]) == {"plain", *AGAINST, *(f"funasr: {n}" for n in result["funasr_over_clsr"]),
                                      "preparing a batch"}  # fmt: skip
    assert set(result["funasr_over_clsr"]) == {"plain", "dropout", "sampler", "dropout and sampler"}
    assert all(0 < low <= median <= high for median, low, high in result["seconds"].values())
    text = table(result)
    assert all(f"| {name} |" in text for name in AGAINST)
