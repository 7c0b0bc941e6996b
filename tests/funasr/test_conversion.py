"""``clsr convert funasr:``: a checkpoint over the encoder of a release, trained and searched like any other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from clsr.checkpoint import load_recogniser_weights, load_speech_encoder
from clsr.checkpoint_folder import load_config, read_meta, require_trained
from clsr.cli.main import main
from clsr.config import DataConfig, OptimizerConfig, TrainerConfig, TrainingConfig
from clsr.errors import InputError
from clsr.funasr.conversion import convert_funasr
from clsr.funasr.release import read_release
from clsr.funasr.sense_voice_release import read_sense_voice
from clsr.models.frontend import SanmFrontend
from clsr.models.paraformer import Paraformer
from clsr.padding import pad
from clsr.settings import read_settings, start_settings
from clsr.training.asr import train_asr

WAVEFORM = np.random.default_rng(0).standard_normal(12_345).astype(np.float32) / 10


@pytest.fixture(params=["tiny_release", "sense_voice_release"])
def release(request: pytest.FixtureRequest) -> Path:
    return request.getfixturevalue(request.param)


def test_rows_are_the_frames_of_the_release(
    tiny_release: Path, sense_voice_release: Path, tiny_bert: Path, tmp_path: Path
):
    voice = read_sense_voice(sense_voice_release).network
    paraformer = Paraformer((own := read_release(tiny_release)).model, len(own.vocabulary)).eval()
    paraformer.load_state_dict({name: own.weights[name] for name in paraformer.state_dict()})
    features, lengths = pad(paraformer.frontend.extract([WAVEFORM]))
    with torch.no_grad():
        expected = {
            "paraformer": paraformer.encoder(paraformer.cmvn(features), lengths)[0][0],
            "sensevoice": voice(features, lengths)[0, 4:],
        }
    for kind, folder in (("paraformer", tiny_release), ("sensevoice", sense_voice_release)):
        convert_funasr(folder, tmp_path / kind, str(tiny_bert))
        assert load_config(tmp_path / kind).model.frontend == kind and read_meta(tmp_path / kind).untrained
        (rows,) = load_speech_encoder(tmp_path / kind).paraformer.frontend.extract([WAVEFORM])
        assert rows.shape == (13, 32) and torch.allclose(rows, expected[kind], atol=1e-5)


def test_what_lies_over_a_release_is_trained(release: Path, tone_corpus: Path, tiny_bert: Path, tmp_path: Path):
    start = tmp_path / "start"
    convert_funasr(release, start, str(tiny_bert))
    with pytest.raises(InputError, match="not trained yet"):
        require_trained(start)
    config = read_settings(TrainingConfig, base=start_settings(start))
    config = replace(config, optimizer=OptimizerConfig(1e-3, 1, 2), trainer=TrainerConfig(validate_every=2))
    config = replace(config, data=DataConfig(batch_s=8.0, feature_dir=str(tmp_path / "features")))
    train_asr(config, tone_corpus, tmp_path / "asr", start)
    kept = list((tmp_path / "features").rglob("*.npy"))
    assert kept and all(np.load(path).shape[1] == 32 for path in kept)
    before, after = load_recogniser_weights(start), load_recogniser_weights(tmp_path / "asr")
    changed = {name.partition(".")[0] for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"encoder", "predictor", "decoder"}
    for precision in ("float32", "int8", "bf16"):
        model = load_speech_encoder(tmp_path / "asr", precision=precision)
        assert isinstance(model.paraformer.frontend, SanmFrontend)
        found = model.encode([WAVEFORM, WAVEFORM[:100]])
        assert found.vectors.shape == (2, 32) and np.allclose((found.vectors**2).sum(1), 1, atol=1e-3)


def test_faulty_conversions_end_in_one_line(
    release: Path, tiny_bert: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    options = ["--output", str(tmp_path / "out"), "--text-encoder", str(tiny_bert)]
    assert main(["convert", f"funasr:{release}", *options, "--decoder", "whisper"]) == 2
    assert capsys.readouterr().err.endswith("has none: leave it out\n") and not (tmp_path / "out").exists()
    assert main(["convert", f"funasr:{release}", *options]) == 0
    assert main(["convert", f"funasr:{release}", *options]) == 2
    assert "out: holds a checkpoint" in capsys.readouterr().err
