"""Our networks beside FunASR's own, with the same weights: the same numbers, without its faults.

FunASR is the oracle for one utterance at a time. Where it is wrong (padding, rounding, heavy frames), the test shows
both sides.
"""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor

from clsr.audio.features import FEATURE_SIZE, fbank, stack_frames
from clsr.audio.waveform import SAMPLE_RATE
from clsr.config import CifConfig, DecoderConfig, EncoderConfig, ModelConfig
from clsr.models.cif import add_tail, integrate_and_fire, scale_to
from clsr.models.paraformer import Paraformer
from clsr.padding import length_mask

TINY = ModelConfig(
    encoder=EncoderConfig(width=32, hidden=48, layers=3, heads=4, kernel=11),
    cif=CifConfig(left_context=1, right_context=1, ending="tail", tail=0.45),
    decoder=DecoderConfig(hidden=40, layers=2, heads=4, kernel=11),
)
V = 17


@pytest.fixture(scope="module")
def funasr() -> SimpleNamespace:
    """FunASR's modules; importing any of them imports hundreds of others."""
    from funasr.frontends.wav_frontend import WavFrontend, apply_lfr
    from funasr.models.paraformer.cif_predictor import CifPredictorV2, cif_v1
    from funasr.models.paraformer.decoder import ParaformerSANMDecoder
    from funasr.models.sanm.encoder import SANMEncoder

    return SimpleNamespace(
        WavFrontend=WavFrontend, apply_lfr=apply_lfr, CifPredictorV2=CifPredictorV2, cif_v1=cif_v1,
        ParaformerSANMDecoder=ParaformerSANMDecoder, SANMEncoder=SANMEncoder,
    )  # fmt: skip


@pytest.fixture(scope="module")
def ours() -> Paraformer:
    torch.manual_seed(0)
    model = Paraformer(TINY, V).eval()
    with torch.no_grad():
        for weight in model.parameters():  # biases and gains too, so that each of them is compared
            weight.add_(0.05 * torch.randn_like(weight))
        model.predictor.cif_output.bias.fill_(-1.0)  # a token about every fourth frame
    return model


@pytest.fixture(scope="module")
def theirs(funasr: SimpleNamespace, ours: Paraformer) -> torch.nn.ModuleDict:
    """FunASR's three modules with our weights, loaded by name."""
    encoder = funasr.SANMEncoder(
        input_size=FEATURE_SIZE, output_size=32, attention_heads=4, linear_units=48, num_blocks=3, dropout_rate=0.0,
        positional_dropout_rate=0.0, input_layer="pe", kernel_size=11, sanm_shfit=0, selfattention_layer_type="sanm",
    )  # fmt: skip
    predictor = funasr.CifPredictorV2(idim=32, l_order=1, r_order=1, threshold=1.0, dropout=0.0, tail_threshold=0.45)
    decoder = funasr.ParaformerSANMDecoder(
        vocab_size=V, encoder_output_size=32, attention_heads=4, linear_units=40, num_blocks=2, att_layer_num=2,
        dropout_rate=0.0, positional_dropout_rate=0.0, kernel_size=11, sanm_shfit=0,
    )  # fmt: skip
    modules = torch.nn.ModuleDict({"encoder": encoder, "predictor": predictor, "decoder": decoder}).eval()
    weights = {name: weight for name, weight in ours.state_dict().items() if not name.startswith("cmvn.")}
    outcome = modules.load_state_dict(weights, strict=False)
    assert outcome.unexpected_keys == []
    assert outcome.missing_keys == ["decoder.embed.0.weight"]  # allocated by FunASR and never used
    return modules


def one(frames: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features of one utterance, and its length."""
    torch.manual_seed(seed)
    return torch.randn(1, frames, FEATURE_SIZE), torch.tensor([frames])


@pytest.mark.parametrize("frames", [1, 2, 7, 40, 83])
def test_encoder_frames(ours: Paraformer, theirs: torch.nn.ModuleDict, frames: int):
    features, lengths = one(frames)
    expected, _, _ = theirs["encoder"](features, lengths)
    found, _ = ours.encoder(features, lengths)
    assert (found - expected).abs().max() <= 1e-4


@pytest.mark.parametrize("frames", [5, 40, 83])
def test_firing_weights_and_token_embeddings_with_a_tail(ours: Paraformer, theirs: torch.nn.ModuleDict, frames: int):
    frames_out, mask = ours.encoder(*one(frames))
    tokens, count, weights, _ = theirs["predictor"](frames_out, mask=mask[:, None].float())
    found = ours.predictor(frames_out, mask)
    assert (found - weights[:, :frames]).abs().max() <= 1e-4
    tailed, tailed_weights = add_tail(frames_out, found, torch.tensor([frames]), 0.45)
    assert (tailed_weights - weights).abs().max() <= 1e-4
    embeddings, lengths = integrate_and_fire(tailed, tailed_weights)
    assert lengths.item() == int(count) > 0
    assert (embeddings - tokens).abs().max() <= 1e-4


def test_token_embeddings_in_training(ours: Paraformer, theirs: torch.nn.ModuleDict):
    for seed in range(20):
        frames, mask = ours.encoder(*one(40, seed))
        targets = torch.tensor([9])
        tokens, quantity, _, _ = theirs["predictor"](
            frames, mask=mask[:, None].float(), target_label_length=targets.float()[:, None]
        )
        weights = ours.predictor(frames, mask)
        found, lengths = integrate_and_fire(frames, scale_to(weights, targets))
        assert weights.sum().item() == pytest.approx(quantity.item(), abs=1e-4)
        assert lengths.item() == 9
        kept = int((tokens.abs().sum(2) > 0).sum())  # FunASR may have lost the last one, see below
        assert kept >= 8 and (found[:, :kept] - tokens[:, :kept]).abs().max() <= 1e-4


@pytest.mark.parametrize(("tokens", "frames"), [(1, 4), (6, 20), (25, 60)])
def test_decoder_log_probabilities(ours: Paraformer, theirs: torch.nn.ModuleDict, tokens: int, frames: int):
    torch.manual_seed(0)
    embeddings, memory = torch.randn(1, tokens, 32), torch.randn(1, frames, 32)
    token_lengths, frame_lengths = torch.tensor([tokens]), torch.tensor([frames])
    expected, _ = theirs["decoder"](memory, frame_lengths, embeddings, token_lengths)
    found = ours.decoder(embeddings, length_mask(token_lengths), memory, length_mask(frame_lengths))
    assert (found.log_softmax(2) - expected.log_softmax(2)).abs().max() <= 1e-4


def test_the_whole_way_from_features_to_log_probabilities(ours: Paraformer, theirs: torch.nn.ModuleDict):
    features, lengths = one(70)
    frames, _, _ = theirs["encoder"](features, lengths)
    tokens, count, _, _ = theirs["predictor"](frames, mask=torch.ones(1, 1, 70))
    expected, _ = theirs["decoder"](frames, lengths, tokens, count.long())
    recognised = ours.recognise(features, lengths)
    assert recognised.token_lengths.tolist() == count.tolist()
    known = expected[..., 2:].log_softmax(2).topk(recognised.tokens.shape[2])  # ours never says [PAD], [UNK]
    assert torch.equal(recognised.tokens, known.indices + 2)
    assert (recognised.log_probabilities - known.values).abs().max() <= 1e-4


def test_padding_changes_funasrs_weights_and_not_ours(ours: Paraformer, theirs: torch.nn.ModuleDict):
    torch.manual_seed(0)
    features, lengths = torch.randn(2, 40, FEATURE_SIZE), torch.tensor([40, 25])
    batch_frames, _, _ = theirs["encoder"](features, lengths)
    alone_frames, _, _ = theirs["encoder"](features[1:, :25], lengths[1:])
    _, _, in_batch, _ = theirs["predictor"](batch_frames, mask=length_mask(lengths)[:, None].float())
    _, _, alone, _ = theirs["predictor"](alone_frames, mask=torch.ones(1, 1, 25))
    wrong = (in_batch[1, :25] - alone[0, :25]).abs()
    assert wrong[:24].max() <= 1e-4
    assert wrong[24] > 1e-2  # its convolution sees what the encoder made of the padding
    ours_in_batch = ours.predictor(*ours.encoder(features, lengths))
    ours_alone = ours.predictor(*ours.encoder(features[1:, :25], lengths[1:]))
    assert (ours_in_batch[1, :25] - ours_alone[0]).abs().max() <= 1e-5
    assert (ours_alone - alone[:, :25]).abs().max() <= 1e-4  # alone both agree


def test_rounding_costs_funasr_last_tokens(funasr: SimpleNamespace):
    torch.manual_seed(0)
    lost = 0
    for _ in range(1600):
        weights = torch.rand(1, int(torch.randint(10, 200, ())))
        frames = torch.ones(*weights.shape, 1)
        targets = torch.randint(1, weights.shape[1] // 3 + 1, (1,))
        tokens, _ = funasr.cif_v1(frames, weights * (targets / weights.sum(1))[:, None], 1.0)  # as CifPredictorV2 does
        lost += not tokens[0, -1].any()
        found, lengths = integrate_and_fire(frames, scale_to(weights, targets))
        assert torch.equal(lengths, targets)
        assert (found > 0.99).all()
    assert 200 < lost < 800


def test_a_last_utterance_without_tokens_stops_funasr(funasr: SimpleNamespace):
    frames, weights = torch.ones(2, 3, 1), torch.tensor([[0.5, 0.5, 0.5], [0.1, 0.1, 0.1]])
    with pytest.raises(IndexError):
        funasr.cif_v1(frames, weights, 1.0)
    tokens, lengths = integrate_and_fire(frames, weights)
    assert tokens.flatten().tolist() == [1.0, 0.0] and lengths.tolist() == [1, 0]


def test_a_heavy_frame_fires_once_in_funasr(funasr: SimpleNamespace):
    frames, weights = torch.tensor([[[1.0], [10.0]]]), torch.tensor([[0.5, 2.75]])
    tokens, _ = funasr.cif_v1(frames, weights, 1.0)
    assert (tokens != 0).sum() == 1
    assert integrate_and_fire(frames, weights)[0].flatten().tolist() == [5.5, 10.0, 10.0]


@pytest.mark.parametrize("samples", [400, 401, 1999, 16_000, 15_999, 12_345])
def test_features(funasr: SimpleNamespace, samples: int):
    waveform = 0.1 * np.random.default_rng(samples).standard_normal(samples, dtype=np.float32)
    waveform += 0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / SAMPLE_RATE).astype(np.float32)
    frontend = funasr.WavFrontend(fs=16_000, window="hamming", n_mels=80, lfr_m=7, lfr_n=6, dither=0.0)
    expected, lengths = frontend(torch.from_numpy(waveform)[None], torch.tensor([samples]))
    found = stack_frames(fbank(waveform))
    assert len(found) == lengths.item()
    assert (found - expected[0]).abs().max() <= 1e-3


def test_stacking_of_every_length(funasr: SimpleNamespace):
    torch.manual_seed(0)
    for count in range(1, 100):
        frames = torch.randn(count, 80)
        assert torch.equal(stack_frames(frames), funasr.apply_lfr(frames, 7, 6)), count


def test_running_sums_cost_funasr_precision(funasr: SimpleNamespace):
    torch.manual_seed(0)
    frames, weights = torch.randn(1, 1000, 64), 0.48 * torch.rand(1, 1000)  # a minute, four tokens a second
    exact, _ = integrate_and_fire(frames.double(), weights)
    tokens, _ = funasr.cif_v1(frames, weights, 1.0)
    found, _ = integrate_and_fire(frames, weights)
    tokens = tokens[:, : exact.shape[1]]  # it makes room for one more than fire
    assert (found - exact).abs().max() < 1e-6 < 2e-5 < (tokens - exact).abs().max()
