"""Folders of released FunASR models: read as they are, re-headed, or refused before anything is written."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from clsr.checkpoint import load_recogniser, load_speech_encoder, load_weights
from clsr.checkpoint_folder import read_meta
from clsr.config import TrainingConfig
from clsr.errors import InputError
from clsr.funasr.release import import_release, read_model_config, read_release
from clsr.index.index import Index
from clsr.model import load
from clsr.models.text_encoder import load_text_encoder
from clsr.settings import read_settings, start_settings
from clsr.training.asr import train_asr
from clsr.training.post import train_post
from clsr.vocabulary import RELEASE_MARKS, ReleaseVocabulary, Vocabulary
from clsr.web.config import ServiceConfig
from clsr.web.service import SearchService

BESIDE = {  # what the tiny release holds beside the recogniser, as BiCif and SeACo releases do: number of weights
    "decoder.embed.": 1, "predictor.upsample_cnn.": 2, "predictor.blstm.": 2, "predictor.cif_output2.": 1,
    "seaco_decoder.": 1, "bias_encoder.": 1, "hotword_output_layer.": 1,
}  # fmt: skip


class Payload:
    """Something that touches a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


@pytest.fixture
def folder(tiny_release: Path, tmp_path: Path) -> Path:
    """A copy of the tiny release, to be damaged."""
    return shutil.copytree(tiny_release, tmp_path / "release")


@pytest.fixture
def tokens(folder: Path) -> list[str]:
    return json.loads((folder / "tokens.json").read_text())


@pytest.fixture
def refused(folder: Path, tmp_path: Path) -> Callable[[str], str]:
    """Import, which must fail with a line that matches and write nothing; return the line."""

    def run(match: str) -> str:
        with pytest.raises(InputError, match=match) as caught:
            import_release(folder, tmp_path / "out")
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()
        return str(caught.value)

    return run


def change_config(folder: Path, key: str, value: Any) -> None:
    values = yaml.safe_load((folder / "config.yaml").read_text())
    section, _, name = key.rpartition(".")
    (values[section] if section else values)[name] = value
    (folder / "config.yaml").write_text(yaml.safe_dump(values))


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    weights = torch.load(folder / "model.pt", weights_only=True)
    change(weights)
    torch.save(weights, folder / "model.pt")


def test_a_release_is_read_with_all_its_files(folder: Path, tokens: list[str], tmp_path: Path):
    release = import_release(folder, tmp_path / "out")
    assert release.ignored == BESIDE
    model = release.model
    encoder = (model.encoder.width, model.encoder.hidden, model.encoder.layers, model.encoder.heads)
    assert (encoder, model.encoder.kernel, model.encoder.dropout) == ((32, 48, 3, 4), 11, 0.1)
    assert (model.decoder.hidden, model.decoder.layers, model.decoder.heads, model.decoder.kernel) == (48, 2, 4, 11)
    cif = model.cif
    assert (cif.ending, cif.tail, cif.length_margin, cif.threshold) == ("tail", 0.45, 0, 1.0)
    assert (cif.left_context, cif.right_context) == (1, 1)
    loaded = load_recogniser(tmp_path / "out")
    original = torch.load(folder / "model.pt", weights_only=True)
    state = loaded.paraformer.state_dict()
    assert torch.equal(state["cmvn.shift"], torch.full((560,), -2.5))
    assert torch.equal(state["cmvn.scale"], torch.full((560,), 0.25))
    for name in state.keys() - {"cmvn.shift", "cmvn.scale"}:
        assert torch.equal(state[name], original[name]), name
    assert loaded.vocabulary.pieces == tokens and loaded.paraformer.never == []
    assert read_meta(tmp_path / "out").kind == "release"


def test_what_funasr_saves_in_training_is_read_too(folder: Path, tokens: list[str]):
    expected = read_release(folder).weights
    weights = torch.load(folder / "model.pt", weights_only=True)
    torch.save({"state_dict": {k: w.half() for k, w in weights.items()}, "epoch": 3}, folder / "model.pt")
    (folder / "tokens.json").unlink()
    (folder / "tokens.txt").write_text("".join(f"{token}\n" for token in tokens))
    found = read_release(folder)
    assert found.vocabulary.pieces == tokens
    assert all(torch.allclose(found.weights[name], expected[name], atol=1e-3) for name in expected)


def test_a_new_head_for_a_text_encoder(folder: Path, tiny_bert: Path, tmp_path: Path):
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        import_release(folder, tmp_path / name, str(tiny_bert), seed)
    loaded = load_speech_encoder(tmp_path / "a")
    assert loaded.vocabulary.pieces == Vocabulary.whole(loaded.text_encoder.tokenizer).pieces
    state = loaded.paraformer.state_dict()
    own = read_release(folder).weights
    heads = {"decoder.output_layer.weight", "decoder.output_layer.bias"}
    assert all(torch.equal(state[name], own[name]) for name in state.keys() - heads)
    again, other = (load_speech_encoder(tmp_path / name).paraformer.state_dict() for name in "bc")
    assert all(torch.equal(state[name], again[name]) and not torch.equal(state[name], other[name]) for name in heads)
    config = read_settings(TrainingConfig, base=start_settings(tmp_path / "a"))
    assert (config.text_encoder, config.vocabulary) == (str(tiny_bert), "whole")
    cif = config.model.cif
    assert (cif.ending, cif.length_margin) == ("scale", 1)  # FunASR's ending is for its own outputs
    assert read_meta(tmp_path / "a").kind == "asr"


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        (["lo@@", "ve", "Red", "b@@", "北", "<unk>", "'"], {"ve": 4, "red": 5, "北": 7}),
        (["▁the", "m", "▁red", "北", "▁北", "▁", "ing"], {"the": 3, "red": 5, "北": 6}),
        (["RED", "red", "a", "７"], {"red": 4, "a": 5, "7": 6}),
    ],
)
def test_parts_of_words_are_no_whole_words(pieces: list[str], expected: dict[str, int]):
    assert ReleaseVocabulary([*RELEASE_MARKS, *pieces]).whole_words() == expected


def test_rows_of_shared_words_are_copied(folder: Path, tokens: list[str], tiny_bert: Path, tmp_path: Path):
    release = import_release(folder, tmp_path / "out", str(tiny_bert))
    own, new = read_release(folder), load_weights(tmp_path / "out")
    words = tokens[3:11]
    pieces = Vocabulary.load(
        tmp_path / "out" / "vocabulary.txt", load_text_encoder(str(tiny_bert)).tokenizer
    ).pieces  # "ve" and "lo@@" are parts of words, Han characters are unknown to this text encoder
    assert release.shared == len(words) == 8
    for name in ("decoder.output_layer.weight", "decoder.output_layer.bias"):
        for number, word in enumerate(words):
            assert torch.equal(new[name][pieces.index(word)], own.weights[name][3 + number])
        assert not torch.equal(new[name][pieces.index("the")], own.weights[name][3])


def test_new_output_layer_is_marked_until_trained(
    folder: Path, tiny_bert: Path, tone_corpus: Path, tiny_settings: TrainingConfig, tmp_path: Path
):
    import_release(folder, tmp_path / "out", str(tiny_bert))
    import_release(folder, tmp_path / "own")
    assert read_meta(tmp_path / "out").untrained and not read_meta(tmp_path / "own").untrained
    assert "untrained" not in json.loads((tmp_path / "own" / "meta.json").read_text())
    base = start_settings(tmp_path / "out")
    config = read_settings(TrainingConfig, options=["--optimizer.max_steps=1"], base=base)
    train_asr(replace(config, data=tiny_settings.data), tone_corpus, tmp_path / "trained", tmp_path / "out")
    assert not read_meta(tmp_path / "trained").untrained
    assert load(tmp_path / "trained").fingerprint


def test_untrained_checkpoint_is_refused_everywhere(folder: Path, tiny_bert: Path, tone_corpus: Path, tmp_path: Path):
    untrained = tmp_path / "out"
    import_release(folder, untrained, str(tiny_bert))
    refusal = rf"out: its output layer is not trained yet.*: run clsr train-asr --start {untrained} --data"
    recording = str(next(iter((tone_corpus / "dev" / "passages").glob("*.wav"))))
    uses: list[Callable[[], object]] = [
        lambda: Index.open_or_create(tmp_path / "index", untrained),
        lambda: Index.create(tmp_path / "index", load(untrained)).add(recording),
        lambda: SearchService(ServiceConfig(tmp_path / "index", untrained, allowed=(tone_corpus,))),
        lambda: load(untrained).transcribe(recording),
        lambda: load(untrained).encode("red"),
        lambda: train_post(TrainingConfig(str(tiny_bert)), tone_corpus, tmp_path / "post", untrained),
    ]
    for use in uses:
        with pytest.raises(InputError, match=refusal):
            use()
    assert not (tmp_path / "index").exists() and not (tmp_path / "post").exists()


def test_an_import_cut_short_is_done_again(folder: Path, tokens: list[str], tmp_path: Path):
    import_release(folder, tmp_path / "out")
    (tmp_path / "out" / "meta.json").unlink()
    import_release(folder, tmp_path / "out")
    assert load_recogniser(tmp_path / "out").vocabulary.pieces == tokens


def test_another_checkpoint_is_not_overwritten(folder: Path, tone_model: Path, tmp_path: Path):
    other = shutil.copytree(tone_model, tmp_path / "other")
    before = {path: path.read_bytes() for path in other.iterdir() if path.is_file()}
    with pytest.raises(InputError, match=r"other: not empty \(.*\): name another --output"):
        import_release(folder, other)
    with pytest.raises(InputError, match="release: not empty"):
        import_release(folder, folder)
    assert before == {path: path.read_bytes() for path in other.iterdir() if path.is_file()}


@pytest.mark.parametrize("name", ["config.yaml", "model.pt", "am.mvn", "tokens.json"])
def test_a_missing_file_is_named(folder: Path, refused: Callable[[str], str], name: str):
    (folder / name).unlink()
    refused(f"release: no {name}.*name the whole folder of a FunASR model")


def test_a_folder_that_is_not_there(tmp_path: Path):
    with pytest.raises(InputError, match=r"no config.yaml, model.pt, am.mvn, tokens.json or tokens.txt in it"):
        import_release(tmp_path / "nowhere", tmp_path / "out")


def test_code_in_the_weights_is_not_run(folder: Path, refused: Callable[[str], str], tmp_path: Path):
    weights = torch.load(folder / "model.pt", weights_only=True)
    torch.save(weights | {"extra": Payload(tmp_path / "touched")}, folder / "model.pt")
    refused(r"model.pt: asks to call \S+, which weights never need, and nothing of it was run")
    assert not (tmp_path / "touched").exists()
    torch.load(folder / "model.pt", weights_only=False)  # it would have been
    assert (tmp_path / "touched").exists()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.999])
def test_weights_cut_short(folder: Path, refused: Callable[[str], str], share: float):
    content = (folder / "model.pt").read_bytes()
    (folder / "model.pt").write_bytes(content[: int(share * len(content))])
    refused("model.pt: damaged.*copy it again")


def test_something_else_than_weights(folder: Path, refused: Callable[[str], str]):
    torch.save({"epoch": 3}, folder / "model.pt")
    refused("model.pt: holds something else than tensors by name")
    (folder / "model.pt").write_text("<html>404</html>")
    refused("model.pt: damaged, or no weights of PyTorch")


def test_tokens_that_are_not_the_models(folder: Path, tokens: list[str], refused: Callable[[str], str]):
    (folder / "tokens.json").write_text(json.dumps(tokens[:-1]))
    refused(r"tokens.json: 17 tokens, but decoder.output_layer of model.pt has 18 outputs")


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        ([*RELEASE_MARKS, "a", "b", "a"], "token 'a' comes twice, as 3 and 5"),
        (["<unk>", *RELEASE_MARKS], r"tokens start with \['<unk>', '<blank>', '<s>'\], not with"),
        ([*RELEASE_MARKS, 7], "no list of tokens"),
        ({"a": 1}, "no list of tokens"),
    ],
)
def test_malformed_tokens(folder: Path, refused: Callable[[str], str], tokens: Any, message: str):
    (folder / "tokens.json").write_text(json.dumps(tokens))
    refused(f"tokens.json: {message}")


def test_tokens_that_are_no_json(folder: Path, refused: Callable[[str], str]):
    (folder / "tokens.json").write_text('["<blank>", "<s>"')
    refused("tokens.json: cannot be read")


def test_a_layer_of_another_size(folder: Path, refused: Callable[[str], str]):
    name = "encoder.encoders.0.feed_forward.w_1.weight"
    change_weights(folder, lambda weights: weights.update({name: torch.zeros(64, 32)}))
    refused(rf"weight {name} is \(64, 32\), but \(48, 32\) by config.yaml")


def test_unknown_and_missing_weights_are_listed(folder: Path, refused: Callable[[str], str]):
    change_weights(folder, lambda weights: weights.update({"lm.a": torch.zeros(1), "vad.b": torch.zeros(1)}))
    refused("model.pt: 2 unknown weights, .*: lm.a, vad.b$")
    change_weights(folder, lambda weights: [weights.pop(name) for name in ("lm.a", "vad.b", "encoder.after_norm.bias")])
    refused("model.pt: 1 missing weights, .*: encoder.after_norm.bias$")


def test_a_long_list_is_abbreviated(folder: Path, refused: Callable[[str], str]):
    change_weights(folder, lambda weights: weights.update({f"lm.{i:03}": torch.zeros(1) for i in range(250)}))
    line = refused("250 unknown weights")
    assert line.endswith("lm.099 and 150 more")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("model", "SenseVoiceSmall", "model is 'SenseVoiceSmall'; what can be imported has 'Paraformer' or "),
        ("encoder", "ConformerEncoder", "encoder is 'ConformerEncoder'; what can be imported has 'SANMEncoder'"),
        ("decoder", "ContextualParaformerDecoder", "decoder is 'Contextual.*'ParaformerSANMDecoder'"),
        ("predictor", "CifPredictor", "predictor is 'CifPredictor'; .* 'CifPredictorV2' or 'CifPredictorV3'"),
        ("frontend", "WhisperFrontend", "frontend is 'WhisperFrontend'; .* 'WavFrontend'"),
        ("normalize", "GlobalMVN", "normalize is 'GlobalMVN'; .* None"),
        ("encoder_conf.input_layer", "conv2d", "encoder_conf.input_layer is 'conv2d'; .* 'pe'"),
        ("encoder_conf.sanm_shfit", 5, "encoder_conf.sanm_shfit is 5; .* 0"),
        ("decoder_conf.sanm_shfit", 5, "decoder_conf.sanm_shfit is 5; .* 0"),
        ("decoder_conf.att_layer_num", 1, "decoder_conf.num_blocks is 2 and att_layer_num 1"),
        ("encoder_conf.num_blocks", "many", "encoder_conf.num_blocks is 'many', and should be a whole number"),
        ("encoder_conf.attention_heads", 5, "encoder_conf.attention_heads is 5, and should be a divisor of 32"),
        ("encoder_conf.chunk_size", 10, "encoder_conf has chunk_size, and it is not known what that changes"),
        ("encoder_conf", "large", "encoder_conf is 'large', and should hold keys and values"),
        ("predictor_conf.idim", 64, "predictor_conf.idim is 64, and should be 32"),
        ("predictor_conf.smooth_factor", 0.5, "predictor_conf.smooth_factor is 0.5; .* 1.0"),
        ("predictor_conf.tail_threshold", 0.0, "predictor_conf.tail_threshold is 0.0, and should be a number from"),
        ("frontend_conf.fs", 8000, "frontend_conf.fs is 8000; .* 16000"),
        ("frontend_conf.lfr_m", 1, "frontend_conf.lfr_m is 1; .* 7"),
        ("model_conf.eos", 3, "model_conf.eos is 3; .* 2"),
    ],
)
def test_another_architecture_is_refused_by_key(
    folder: Path, refused: Callable[[str], str], key: str, value: Any, message: str
):
    change_config(folder, key, value)
    refused(f"config.yaml: {message}")


def test_funasrs_defaults_hold_for_what_is_not_said(folder: Path, refused: Callable[[str], str]):
    values = yaml.safe_load((folder / "config.yaml").read_text())
    del values["encoder_conf"]["input_layer"]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    refused("encoder_conf.input_layer is not given, which means 'conv2d'; what can be imported has 'pe'")
    values["encoder_conf"]["input_layer"] = "pe"
    del values["encoder_conf"]["kernel_size"], values["decoder_conf"]["kernel_size"]
    del values["decoder_conf"]["att_layer_num"]
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    model = read_model_config(folder / "config.yaml")
    assert (model.encoder.kernel, model.decoder.kernel, model.decoder.layers) == (11, 21, 6)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("<Rescale>", "<Scale>", "<Rescale> holds 0 numbers, not 560 finite ones"),
        ("-2.5 -2.5", "-2.5", "<AddShift> holds 280 numbers"),
        ("0.25 ]", "nan ]", "<Rescale> holds 560 numbers, not 560 finite ones"),
        ("0.25 ]", "x ]", "<Rescale> holds something else than numbers"),
        ("<Nnet>", "\0", None),
    ],
)
def test_malformed_statistics(folder: Path, refused: Callable[[str], str], old: str, new: str, message: str | None):
    text = (folder / "am.mvn").read_text().replace(old, new)
    (folder / "am.mvn").write_text(text)
    if message:
        refused(f"am.mvn: {message}")
    else:  # only the two layers are read
        read_release(folder)


def test_statistics_that_are_no_text(folder: Path, refused: Callable[[str], str]):
    (folder / "am.mvn").write_bytes(b"\xff\xfe\x00binary")
    refused("am.mvn: cannot be read")


def test_an_unknown_text_encoder_leaves_nothing(folder: Path, tmp_path: Path):
    with pytest.raises(InputError, match="text encoder 'nowhere': no such folder"):
        import_release(folder, tmp_path / "out", "nowhere")
    assert not (tmp_path / "out").exists()
