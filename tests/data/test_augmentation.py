"""Augmentation: speeds, rooms, noises and masks do what they say, and depend on seed, epoch and utterance alone."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from clsr.audio.features import fbank, stack_frames
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.checkpoint import load_weights
from clsr.config import AugmentConfig, DataConfig, TrainingConfig
from clsr.data.augmentation import Augmentation, at_speed, speed_copies, to_cuts_at_speed
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule
from clsr.data.kaldi import Utterance
from clsr.data.splits import Pair, Split
from clsr.errors import InputError
from clsr.training.asr import train_asr

LETTERS = Encoders(lambda text: [ord(c) - ord("a") + 2 for c in text], lambda text: [])


@pytest.fixture
def split(tmp_path: Path) -> Split:
    """Six utterances of 2 s of white noise, one of them a span in the middle of its recording."""
    utterances = []
    for number in range(6):
        path = tmp_path / f"u{number}.wav"
        write_waveform(path, np.random.default_rng(number).uniform(-0.5, 0.5, 4 * SAMPLE_RATE))
        utterances.append(Utterance(f"u{number}", path, 1.0, 3.0, "abc", "s"))
    return Split(utterances, [Pair("q", "p", 0)], {"u1": [0]})


@pytest.fixture
def sound(tmp_path: Path) -> Callable[..., str]:
    """Write a float32 wav into a folder; the folder's name."""

    def write(samples: np.ndarray, folder: str = "sounds", name: str = "s.wav", rate: int = SAMPLE_RATE) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        soundfile.write(tmp_path / folder / name, samples, rate, subtype="FLOAT")
        return str(tmp_path / folder)

    return write


def impulses(*places: tuple[int, float], length: int = 8000) -> np.ndarray:
    """An impulse response of so many samples, with values at these places."""
    response = np.zeros(length, np.float32)
    for place, value in places:
        response[place] = value
    return response


def speech(samples: int = 2 * SAMPLE_RATE, seed: int = 9) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, samples).astype(np.float32)


def batches(split: Split, config: AugmentConfig, epoch: int = 0, seed: int = 0, **data: float) -> Iterator[SpeechBatch]:
    module = SpeechDataModule(split, split, LETTERS, DataConfig(augment=config, **data), seed)  # type: ignore[arg-type]
    module._train_sampler.set_epoch(epoch)
    module.train_set.epoch = epoch
    return (module.train_set[cuts] for cuts in module._train_sampler)


def features(
    split: Split, config: AugmentConfig, epoch: int = 0, seed: int = 0, **data: float
) -> dict[str, torch.Tensor]:
    return {i: f for batch in batches(split, config, epoch, seed, **data) for i, f in zip(batch.ids, batch.features)}


def test_all_is_off_by_default(split: Split):
    for utterance_id, frames in features(split, AugmentConfig()).items():
        clean = read_waveform(split.utterances[int(utterance_id[1])].recording, 1.0, 3.0)
        assert torch.equal(frames, stack_frames(fbank(clean)))


# Speeds


def test_a_copy_is_played_faster(tmp_path: Path):
    time_s = np.arange(4 * SAMPLE_RATE) / SAMPLE_RATE
    write_waveform(tmp_path / "tone.wav", 0.5 * np.sin(2 * np.pi * 1000 * time_s))
    utterance = Utterance("u", tmp_path / "tone.wav", 1.0, 3.0, "abc", "s")
    slow, same, fast = speed_copies(utterance, (0.8, 1.0, 1.25))
    assert same is utterance
    assert [(u.id, u.duration_s, u.text, u.start_s, u.end_s) for u in (slow, fast)] == [
        ("u_sp0.8", 2.5, "abc", 1.0, 3.0), ("u_sp1.25", 1.6, "abc", 1.0, 3.0),
    ]  # fmt: skip
    assert [cut.duration for cut in to_cuts_at_speed([slow, same, fast])] == [2.5, 2.0, 1.6]
    for copy, pitch_hz in ((slow, 800), (same, 1000), (fast, 1250)):
        played = at_speed(read_waveform(copy.recording, copy.start_s, copy.end_s), copy)
        assert len(played) == round(copy.duration_s * SAMPLE_RATE)
        assert np.abs(np.fft.rfft(played)).argmax() / copy.duration_s == pytest.approx(pitch_hz, abs=1)


def test_an_epoch_holds_each_utterance_at_each_speed(split: Split):
    lengths_s = {"_sp0.5": 4.0, "_sp0.8": 2.5, "": 2.0, "_sp1.25": 1.6, "_sp2": 1.0}
    found = list(batches(split, AugmentConfig(speeds=(0.5, 0.8, 1.0, 1.25, 2.0)), batch_s=8.0, buckets=3))
    ids = [i for batch in found for i in batch.ids]
    assert sorted(ids) == sorted(f"u{n}{affix}" for n in range(6) for affix in lengths_s)
    for batch in found:
        seconds = [lengths_s[i[2:]] for i in batch.ids]
        assert max(seconds) <= 2 * min(seconds)  # by chance there would be copies four times as long
        assert batch.frame_lengths.tolist() == [-(-(int(s * 100) - 2) // 6) for s in seconds]
        assert batch.pair_rows.tolist() == [0 if i.startswith("u1") else -1 for i in batch.ids]


def test_the_longest_copy_counts(split: Split, caplog: pytest.LogCaptureFixture):
    found = features(split, AugmentConfig(speeds=(0.5, 2.0)), max_utterance_s=3.0)
    assert sorted(found) == [f"u{n}_sp2" for n in range(6)]
    assert "6 of 12 training utterances are longer than 3 s" in caplog.text


# Noises


@pytest.mark.parametrize("snr_db", [0.0, 10.0])
@pytest.mark.parametrize("length_s", [0.5, 2.0, 30.0])
def test_noise_has_the_requested_ratio(sound, snr_db: float, length_s: float):
    time_s = np.arange(int(length_s * 8000)) / 8000
    folder = sound(0.01 * np.sin(2 * np.pi * 400 * time_s), rate=8000)
    config = AugmentConfig(noise_dir=folder, noise_probability=1.0, noise_snr_db=(snr_db, snr_db))
    clean = speech()
    noise = Augmentation(config, 0).alter(clean, "u", 0) - clean
    ratio = np.sum(clean.astype(np.float64) ** 2) / np.sum(noise.astype(np.float64) ** 2)
    assert 10 * np.log10(ratio) == pytest.approx(snr_db, abs=1e-3)
    assert np.abs(np.fft.rfft(noise)).argmax() / 2 == pytest.approx(400, abs=1)  # resampled, and repeated where short


def test_noise_comes_from_any_part_of_files(sound):
    sound(np.arange(20 * SAMPLE_RATE, dtype=np.float32) / 1e6, name="up.wav")
    folder = sound(-np.arange(20 * SAMPLE_RATE, dtype=np.float32) / 1e6, name="down.flac.wav")
    augmentation = Augmentation(AugmentConfig(noise_dir=folder, noise_probability=1.0, noise_snr_db=(0.0, 0.0)), 0)
    found = [augmentation.alter(speech(), "u", epoch) - speech() for epoch in range(40)]
    rising = [noise[-1] > noise[0] for noise in found]
    assert 8 < sum(rising) < 32
    # A ramp's first value against its rise says from where it was taken; scaling leaves that as it is.
    starts_s = [2 * noise[:100].mean() / (noise[-100:].mean() - noise[:100].mean()) for noise in found]
    assert min(starts_s) < 3 and max(starts_s) > 15


def test_noise_has_its_share_and_range(sound):
    folder = sound(speech(seed=1))
    augmentation = Augmentation(AugmentConfig(noise_dir=folder, noise_probability=0.3, noise_snr_db=(5.0, 15.0)), 0)
    clean, ratios_db = speech(), []
    for number in range(300):
        noise = augmentation.alter(clean, f"u{number}", 0) - clean
        if noise.any():
            ratios_db.append(10 * np.log10(np.sum(clean**2) / np.sum(noise**2)))
    assert len(ratios_db) / 300 == pytest.approx(0.3, abs=0.08)  # 3 deviations
    assert 4.9 < min(ratios_db) < 6.5 and 13.5 < max(ratios_db) < 15.1


def test_silence_takes_no_noise_and_gives_none(sound):
    config = AugmentConfig(noise_dir=sound(np.zeros(SAMPLE_RATE)), noise_probability=1.0)
    assert np.array_equal(Augmentation(config, 0).alter(speech(), "u", 0), speech())
    config = replace(config, noise_dir=sound(speech(), "loud"))
    assert not Augmentation(config, 0).alter(np.zeros(100, np.float32), "u", 0).any()


# Rooms


@pytest.mark.parametrize(("place", "rate"), [(0, 16_000), (500, 16_000), (500, 8_000)])
def test_a_unit_impulse_changes_nothing(sound, place: int, rate: int):
    config = AugmentConfig(reverb_dir=sound(impulses((place, 1.0)), rate=rate), reverb_probability=1.0)
    time_s = np.arange(2 * SAMPLE_RATE) / SAMPLE_RATE
    clean = (0.3 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)  # far below the band that 8 kHz cuts off
    room = Augmentation(config, 0).alter(clean, "u", 0)
    assert np.allclose(room[500:-500], clean[500:-500], atol=2e-3 if rate < SAMPLE_RATE else 1e-5)
    assert room.shape == clean.shape and room.dtype == np.float32


def test_an_echo_follows_the_impulse_response(sound):
    config = AugmentConfig(reverb_dir=sound(impulses((100, 0.8), (900, 0.4))), reverb_probability=1.0)
    clean = speech()
    room = Augmentation(config, 0).alter(clean, "u", 0)
    expected = clean.copy()
    expected[800:] += 0.5 * clean[:-800]  # 50 ms after the direct sound, half as loud
    expected *= np.sqrt(np.sum(clean**2) / np.sum(expected**2))
    assert np.allclose(room, expected, atol=1e-4)
    assert np.sum(room**2) == pytest.approx(np.sum(clean**2), rel=1e-4)  # a room keeps the power


def test_of_several_channels_the_first_is_taken(sound):
    both = np.stack([impulses((0, 1.0)), impulses((0, 1.0), (4000, 1.0))], axis=1)
    config = AugmentConfig(reverb_dir=sound(both), reverb_probability=1.0)
    assert np.allclose(Augmentation(config, 0).alter(speech(), "u", 0), speech(), atol=1e-5)


def test_noise_stands_outside_the_room(sound):
    """The ratio is that of the reverberant speech, and the noise has no echo."""
    noises, rooms = sound(speech(seed=1), "noises"), sound(impulses((0, 1.0), (800, 0.5)), "rooms")
    config = AugmentConfig(noise_dir=noises, noise_probability=1.0, noise_snr_db=(3.0, 3.0), reverb_dir=rooms,
                           reverb_probability=1.0)  # fmt: skip
    room = Augmentation(replace(config, noise_probability=0.0), 0).alter(speech(), "u", 0)
    noise = Augmentation(config, 0).alter(speech(), "u", 0) - room
    assert 10 * np.log10(np.sum(room**2) / np.sum(noise**2)) == pytest.approx(3.0, abs=1e-2)
    echo = np.sum(noise[800:] * noise[:-800]) / np.sum(noise**2)
    assert abs(echo) < 0.05


# Masks


MASKS = AugmentConfig(time_masks=2, time_mask_frames=4, time_mask_share=0.5, frequency_masks=2, frequency_mask_bins=10)


def test_a_mask_covers_the_band_in_all_frames():
    frames = torch.randn(30, 560)
    widths_t, widths_f = set(), set()
    for epoch in range(60):
        masked = Augmentation(MASKS, 0).mask(frames, "u", epoch)
        is_mean = masked == frames.mean(0)
        rows = is_mean.all(1)
        bins = is_mean[~rows].view(-1, 7, 80).all(0).all(0)  # (80,), in every frame of every stack
        untouched = ~rows[:, None] & ~bins.repeat(7)
        assert torch.equal(masked[untouched], frames[untouched])
        assert torch.equal(is_mean, ~untouched)
        widths_t.add(int(rows.sum()))
        widths_f.add(int(bins.sum()))
    assert widths_t == set(range(9))  # two spans of 0 to 4
    assert min(widths_f) <= 2 and 15 <= max(widths_f) <= 20  # two bands of 0 to 10


def test_a_time_mask_keeps_to_its_share():
    config = replace(MASKS, time_masks=1, time_mask_frames=100, time_mask_share=0.2, frequency_masks=0)
    frames = torch.randn(20, 560)
    masked = [(Augmentation(config, 0).mask(frames, "u", e) == frames.mean(0)).all(1).sum() for e in range(50)]
    assert max(masked) == 4
    for short in (1, 2):
        assert Augmentation(MASKS, 0).mask(torch.randn(short, 560), "u", 0).shape == (short, 560)


def test_a_mask_is_zero_after_normalisation():
    frames = torch.randn(50, 560)
    normalised = frames - frames.mean(0)  # what CMVN subtracts, were this the whole corpus
    config = replace(MASKS, frequency_masks=0, time_masks=1, time_mask_frames=10)
    masked = Augmentation(config, 0).mask(frames, "u", 1) - frames.mean(0)
    changed = (masked != normalised).all(1)
    assert changed.any() and not masked[changed].any()


# Draws


@pytest.fixture
def everything(sound) -> AugmentConfig:
    sound(impulses((0, 1.0), (300, 0.5)), "rooms", "a.wav")
    rooms, noises = sound(impulses((0, 1.0), (700, 0.7)), "rooms", "b.wav"), sound(speech(7 * SAMPLE_RATE), "noises")
    return replace(MASKS, speeds=(0.9, 1.0), noise_dir=noises, noise_probability=0.8, reverb_dir=rooms)


def test_draws_depend_on_seed_epoch_and_utterance(split: Split, everything: AugmentConfig):
    first = features(split, everything, epoch=3)
    fewer = Split(split.utterances[3:], [], {})
    for other in (
        features(split, everything, epoch=3, cache_gb=0.0),
        features(fewer, everything, epoch=3, batch_s=5.0),
    ):
        assert len(other) in {6, 12}
        for utterance_id, frames in other.items():
            assert torch.equal(frames, first[utterance_id][: len(frames)])
    for other in (features(split, everything, epoch=4), features(split, everything, epoch=3, seed=1)):
        assert all(not torch.equal(frames, first[i]) for i, frames in other.items())


def test_development_speech_stays_as_it_is(split: Split, everything: AugmentConfig):
    module = SpeechDataModule(split, split, LETTERS, DataConfig(augment=everything), 0)
    (batch,) = [module.dev_set[cuts] for cuts in module.val_dataloader().sampler]
    assert sorted(batch.ids) == [f"u{n}" for n in range(6)]
    clean = read_waveform(module.dev_set.utterances[batch.ids[0]].recording, 1.0, 3.0)
    assert torch.equal(batch.features[0], stack_frames(fbank(clean)))


def test_statistics_are_of_clean_speech(split: Split, everything: AugmentConfig):
    module = SpeechDataModule(split, split, LETTERS, DataConfig(augment=everything), 0)
    frames, power = module.train_set.frames("u2")
    clean = read_waveform(split.utterances[2].recording, 1.0, 3.0)
    assert torch.equal(frames, fbank(clean)) and power == pytest.approx(np.mean(clean**2), rel=1e-5)


def test_waveforms_are_kept_where_they_are_altered(split: Split, everything: AugmentConfig, monkeypatch):
    read = []

    def count(path: Path, start_s: float, end_s: float) -> np.ndarray:
        read.append(path.stem)
        return read_waveform(path, start_s, end_s)

    monkeypatch.setattr("clsr.data.datamodule.read_waveform", count)
    for config, size in (
        (replace(everything, speeds=(1.0,)), 4 * 32_000),
        (replace(MASKS, speeds=(1.0,)), 4 * 80 * 198),
    ):
        for room_for, reads in ((6, 6), (3, 6 + 3)):
            read.clear()
            module = SpeechDataModule(
                split, split, LETTERS, DataConfig(augment=config, cache_gb=room_for * size / 2**30), 0
            )
            for epoch in range(2):
                module._train_sampler.set_epoch(epoch)
                assert sum(len(module.train_set[cuts].ids) for cuts in module._train_sampler) == 6
            assert len(read) == reads


# Settings


@pytest.mark.parametrize("setting", ["noise_dir", "reverb_dir"])
def test_sounds_that_are_not_there(split: Split, tmp_path: Path, setting: str):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "LICENSE").write_text("none")
    (tmp_path / "bad" / "deep").mkdir(parents=True)
    (tmp_path / "bad" / "deep" / "x.wav").write_text("no audio")
    for folder, message in (("none", "no such folder"), ("empty", "holds no audio; looked for .wav")):
        with pytest.raises(InputError, match=f"data.augment.{setting}: {tmp_path / folder}: {message}"):
            features(split, AugmentConfig(**{setting: str(tmp_path / folder)}))
    with pytest.raises(InputError, match=r"bad/deep/x.wav: cannot be read as audio"):
        features(split, AugmentConfig(**{setting: str(tmp_path / "bad")}))


def test_a_silent_response_is_refused(split: Split, sound):
    with pytest.raises(InputError, match=r"s.wav: is silent and no impulse response"):
        features(split, AugmentConfig(reverb_dir=sound(np.zeros(100))))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("speeds", ()), ("speeds", (0.0, 1.0)), ("speeds", (1.0, 1.0)), ("noise_snr_db", (10.0, 5.0)),
        ("noise_probability", 1.5), ("reverb_probability", -0.1), ("time_masks", -1), ("time_mask_share", 2.0),
        ("frequency_mask_bins", 81),
    ],
)  # fmt: skip
def test_settings_out_of_range(split: Split, setting: str, value: object):
    with pytest.raises(InputError, match=f"data.augment.{setting}: .* is out of range"):
        features(split, AugmentConfig(**{setting: value}))  # type: ignore[arg-type]


def test_faults_come_before_training(tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig):
    data = replace(tiny_settings.data, augment=AugmentConfig(noise_dir=str(tmp_path / "none")))
    with pytest.raises(InputError, match="no such folder"):
        train_asr(replace(tiny_settings, data=data), tone_corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_augmented_training_is_reproducible(
    tmp_path: Path, tone_corpus: Path, tiny_settings: TrainingConfig, everything: AugmentConfig
):
    data = replace(tiny_settings.data, augment=everything)
    config = replace(tiny_settings, data=data, optimizer=replace(tiny_settings.optimizer, max_steps=3))
    for name in ("one", "same"):
        train_asr(config, tone_corpus, tmp_path / name)
    train_asr(replace(config, data=tiny_settings.data), tone_corpus, tmp_path / "clean")
    one, same, clean = (load_weights(tmp_path / n)["decoder.output_layer.weight"] for n in ("one", "same", "clean"))
    assert torch.equal(one, same) and not torch.equal(one, clean)
