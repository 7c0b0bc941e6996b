"""Low-rank adapters: what they train, what they leave alone, and what is left of them: nothing."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from clsr.checkpoint import load_paraformer, load_speech_encoder, load_weights
from clsr.config import LoraConfig, LossConfig, TrainingConfig
from clsr.errors import InputError
from clsr.models.paraformer import Paraformer
from clsr.settings import read_settings, write_yaml
from clsr.training.asr import AsrModule, train_asr
from clsr.training.joint import train_joint
from clsr.training.lora import add_adapters, merged


@pytest.fixture
def adapting(tiny_settings: TrainingConfig) -> TrainingConfig:
    """Adapters of rank 2 on two kinds of layers; eight steps."""
    return replace(
        tiny_settings,
        lora=LoraConfig(rank=2, alpha=8, layers=("linear_q_k_v", "w_1"), modules_to_save=("predictor",)),
        optimizer=replace(tiny_settings.optimizer, max_steps=8, warmup_steps=1, learning_rate=0.02),
        trainer=replace(tiny_settings.trainer, validate_every=4),
    )


def test_the_trained_parameters_by_hand(adapting: TrainingConfig):
    """Width 32, hidden 64, two encoder layers (the first reads 560 features), one decoder layer and a last one."""
    paraformer = Paraformer(adapting.model, 10)
    predictor = sum(weight.numel() for weight in paraformer.predictor.parameters())
    add_adapters(paraformer, adapting, Path("start"))
    trained = {name: weight.numel() for name, weight in paraformer.named_parameters() if weight.requires_grad}
    attention = 2 * (560 + 96) + 2 * (32 + 96)
    feed_forward = 4 * 2 * (32 + 64)
    assert sum(trained.values()) == attention + feed_forward + predictor
    assert all("lora_" in name or name.startswith("predictor.") for name in trained)


def test_adapters_start_neutral_and_merge_exactly(adapting: TrainingConfig):
    torch.manual_seed(0)
    paraformer = Paraformer(adapting.model, 10).eval()
    names = {name: weight.shape for name, weight in paraformer.state_dict().items()}
    features, lengths = torch.randn(2, 12, 560), torch.tensor([12, 9])
    targets, target_lengths = torch.tensor([[2, 3, 4], [5, 6, 0]]), torch.tensor([3, 2])

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return paraformer(features, lengths, targets, target_lengths).logits

    plain = logits()
    weight = paraformer.encoder.encoders[0].feed_forward.w_1.weight.detach().clone()
    adapted = add_adapters(paraformer, adapting, Path("start"))
    assert torch.equal(logits(), plain)
    layer = paraformer.encoder.encoders[0].feed_forward.w_1
    with torch.no_grad():
        for name, parameter in paraformer.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    by_hand = weight + 8 / 2 * layer.lora_B.default.weight @ layer.lora_A.default.weight
    changed = logits()
    assert (changed - plain).abs().max() > 0.01
    weights = merged(adapted, {name: value.clone() for name, value in paraformer.state_dict().items()})
    assert {name: value.shape for name, value in weights.items()} == names
    assert torch.allclose(weights["encoder.encoders.0.feed_forward.w_1.weight"], by_hand, atol=1e-6)
    paraformer = Paraformer(adapting.model, 10).eval()
    paraformer.load_state_dict(weights)
    assert torch.allclose(logits(), changed, atol=1e-5)


def test_a_trained_model_is_an_ordinary_checkpoint(
    tmp_path: Path, adapting: TrainingConfig, tone_corpus: Path, tone_model: Path
):
    train_asr(adapting, tone_corpus, tmp_path, start=tone_model)
    before, after = load_weights(tone_model), load_weights(tmp_path)
    assert set(before) == set(after)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    adapted = ("linear_q_k_v.weight", "w_1.weight")
    assert changed == {name for name in before if name.endswith(adapted) or name.startswith("predictor.")}
    assert load_speech_encoder(tmp_path).vocabulary.pieces == load_speech_encoder(tone_model).vocabulary.pieces
    state = torch.load(tmp_path / "state" / "last.ckpt", weights_only=False)["state_dict"]
    frozen = {name.removeprefix("paraformer.").replace("base_layer.", ""): value for name, value in state.items()}
    for name in before:
        assert name.startswith("predictor.") or torch.equal(frozen[name], before[name])


def test_checkpoint_recognises_as_the_last_state(
    tmp_path: Path, adapting: TrainingConfig, tone_corpus: Path, tone_model: Path, monkeypatch: pytest.MonkeyPatch
):
    measure = lambda self: self.log("dev/wer", 1 / self.global_step)  # noqa: E731  # so that the last state is the best
    monkeypatch.setattr(AsrModule, "on_validation_epoch_end", measure)
    train_asr(adapting, tone_corpus, tmp_path, start=tone_model)
    state = torch.load(tmp_path / "state" / "last.ckpt", weights_only=False)["state_dict"]
    vocabulary = load_speech_encoder(tone_model).vocabulary
    with_adapters = load_paraformer(tone_model, vocabulary)
    add_adapters(with_adapters, adapting, tone_model)
    with_adapters.load_state_dict({name.removeprefix("paraformer."): value for name, value in state.items()})
    features, lengths = torch.randn(2, 15, 560), torch.tensor([15, 11])
    with torch.no_grad():
        found = load_speech_encoder(tmp_path).paraformer
        one, other = (model.recognise(features, lengths) for model in (with_adapters, found))
    assert torch.equal(one.tokens[..., 0], other.tokens[..., 0])
    assert torch.allclose(one.log_probabilities, other.log_probabilities, atol=1e-5)


def test_an_interrupted_run_goes_on(
    tmp_path: Path, adapting: TrainingConfig, tone_corpus: Path, tone_model: Path, monkeypatch: pytest.MonkeyPatch
):
    train_asr(adapting, tone_corpus, tmp_path / "whole", start=tone_model)
    step: Callable[..., torch.Tensor] = AsrModule.training_step
    taken: list[int] = []

    def fail(self: AsrModule, *arguments: object) -> torch.Tensor:
        taken.append(self.global_step)
        if len(taken) == 6:
            raise RuntimeError("power cut")
        return step(self, *arguments)

    monkeypatch.setattr(AsrModule, "training_step", fail)
    with pytest.raises(RuntimeError, match="power cut"):
        train_asr(adapting, tone_corpus, tmp_path / "cut", start=tone_model)
    train_asr(adapting, tone_corpus, tmp_path / "cut", start=tone_model)
    assert taken == [0, 1, 2, 3, 4, 5, 4, 5, 6, 7]
    cut, whole = load_weights(tmp_path / "cut"), load_weights(tmp_path / "whole")
    assert cut.keys() == whole.keys() and all(torch.equal(cut[name], whole[name]) for name in whole)


def test_joint_training_with_adapters(tmp_path: Path, adapting: TrainingConfig, tone_corpus: Path, tone_model: Path):
    train_joint(replace(adapting, loss=LossConfig(0.4, 0.2)), tone_corpus, tmp_path, start=tone_model)
    before, after = load_weights(tone_model), load_weights(tmp_path)
    assert {name: weight.shape for name, weight in before.items()} == {name: w.shape for name, w in after.items()}
    assert not torch.equal(
        before["decoder.decoders.0.feed_forward.w_1.weight"], after["decoder.decoders.0.feed_forward.w_1.weight"]
    )
    assert torch.equal(before["decoder.output_layer.weight"], after["decoder.output_layer.weight"])


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (
            {"layers": ("w_1", "fsmn_block")},
            "lora.layers: no linear layer that is trained is called fsmn_block; there are cif_output, linear_k_v",
        ),
        ({"modules_to_save": ("output_layer",)}, "lora.modules_to_save: no part is called output_layer"),
    ],
)
def test_names_that_fit_nothing(adapting: TrainingConfig, lora: dict, message: str):
    config = replace(adapting, lora=replace(adapting.lora, **lora))
    with pytest.raises(InputError, match=message):
        add_adapters(Paraformer(config.model, 10), config, Path("start"))


def test_what_adapters_cannot_do(tmp_path: Path, adapting: TrainingConfig, tone_corpus: Path, tone_model: Path):
    with pytest.raises(InputError, match="lora.rank: adapters need a trained recogniser"):
        train_asr(adapting, tone_corpus, tmp_path / "out")
    config = replace(adapting, trainer=replace(adapting.trainer, average=2))
    with pytest.raises(InputError, match="trainer.average: 2 states with adapters have no mean"):
        train_asr(config, tone_corpus, tmp_path / "out", start=tone_model)
    assert not (tmp_path / "out").exists()


def test_settings_come_back_as_they_were(tmp_path: Path, adapting: TrainingConfig):
    write_yaml(tmp_path / "config.yaml", adapting)
    assert read_settings(TrainingConfig, [tmp_path / "config.yaml"]) == adapting
    config = read_settings(TrainingConfig, options=["--lora.rank=4", '--lora.layers=["w_1"]'])
    assert (config.lora.rank, config.lora.layers) == (4, ("w_1",))
