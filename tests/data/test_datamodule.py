"""Batches: what is in them, and in which order they come."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from clsr.audio.features import fbank, stack_frames
from clsr.audio.waveform import SAMPLE_RATE, read_waveform, write_waveform
from clsr.config import DataConfig
from clsr.data.datamodule import Encoders, SpeechBatch, SpeechDataModule, split_batch
from clsr.data.kaldi import Utterance, write_data_dir, write_table
from clsr.data.retrieval_set import write_relevance
from clsr.data.splits import Pair, Split, read_split
from clsr.errors import InputError
from clsr.vocabulary import UNKNOWN

LETTERS = Encoders(lambda text: [ord(c) - ord("a") + 2 for c in text if c.islower()], lambda text: [len(text)])


@pytest.fixture
def make_split(tmp_path: Path) -> Callable[..., Split]:
    """Write utterances of so many seconds of white noise, each with one letter more of text than the one before."""

    def make(durations_s: list[float]) -> Split:
        utterances = []
        for number, duration_s in enumerate(durations_s):
            path = tmp_path / f"u{number:03}.wav"
            samples = np.random.default_rng(number).uniform(-0.5, 0.5, int(duration_s * SAMPLE_RATE))
            write_waveform(path, samples)
            text = "abcdefgh"[: 1 + number % 8]
            utterances.append(Utterance(f"u{number:03}", path, 0.0, duration_s, text, "s"))
        return Split(utterances, [], {})

    return make


def data_module(split: Split, config: DataConfig | None = None, seed: int = 0) -> SpeechDataModule:
    return SpeechDataModule(split, split, LETTERS, config or DataConfig(), seed)


def epoch(module: SpeechDataModule, number: int = 0) -> Iterator[SpeechBatch]:
    """Batches of an epoch, outside a trainer."""
    module._train_sampler.set_epoch(number)
    module.train_set.epoch = number
    return (module.train_set[cuts] for cuts in module._train_sampler)


def test_each_epoch_draws_one_question_a_passage(tone_set: Path):
    write_table(tone_set / "questions" / "text", [("q1", "Low?"), ("q2", "Low again?"), ("q3", "Other?")])
    write_relevance(tone_set / "qrels", {"q1": {"p-a": 1}, "q2": {"p-a": 1}, "q3": {"p-b": 1}})
    module = data_module(read_split(tone_set), DataConfig())
    seen = []
    for number in (*range(20), 3):
        (batch,) = epoch(module, number)
        rows = dict(zip(batch.ids, batch.pair_rows.tolist(), strict=True))
        assert (rows["p-b"], rows["p-c"]) == (2, -1)
        seen.append(rows["p-a"])
    assert set(seen) == {0, 1} and seen[-1] == seen[3]  # drawn from seed, epoch and id


def test_what_is_in_a_batch(make_split: Callable[..., Split]):
    split = make_split([1.0, 0.5, 0.7])
    split = Split(split.utterances, [Pair("q", "p", 0), Pair("r", "s", 1)], {"u002": [1], "u000": [0]})
    (batch,) = epoch(data_module(split))
    order = [batch.ids.index(f"u00{number}") for number in range(3)]
    assert batch.pair_rows[order].tolist() == [0, -1, 1]
    assert batch.targets[order].tolist() == [[2, 0, 0], [2, 3, 0], [2, 3, 4]]
    assert batch.target_lengths[order].tolist() == [1, 2, 3]
    assert batch.ctc_targets[order].tolist() == [[1], [2], [3]]
    assert batch.frame_lengths[order].tolist() == [17, 8, 12]  # 98, 48 and 68 frames of 10 ms, stacked by 6
    for utterance, row in zip(split.utterances, order):
        expected = stack_frames(fbank(read_waveform(utterance.recording)))
        assert torch.equal(batch.features[row, : len(expected)], expected)
        assert not batch.features[row, len(expected) :].any()


def test_an_utterance_may_be_part_of_a_recording(make_split: Callable[..., Split]):
    (utterance,) = make_split([2.0]).utterances
    part = replace(utterance, start_s=0.5, end_s=1.5)
    (batch,) = epoch(data_module(Split([part], [], {})))
    assert torch.equal(batch.features[0], stack_frames(fbank(read_waveform(utterance.recording)[8000:24_000])))


def test_an_epoch_holds_every_utterance_once(make_split: Callable[..., Split]):
    durations_s = np.random.default_rng(0).uniform(0.2, 2.0, 60).round(2).tolist()
    module = data_module(make_split(durations_s), DataConfig(batch_s=6.0, buckets=4))
    batches = list(epoch(module))
    ids = [i for batch in batches for i in batch.ids]
    assert sorted(ids) == [f"u{number:03}" for number in range(60)]
    padded_s = 0.0
    for batch in batches:
        spoken_s = [durations_s[int(i[1:])] for i in batch.ids]
        assert sum(spoken_s) <= 6.0
        padded_s += max(spoken_s) * len(spoken_s)
    assert padded_s < 1.3 * sum(durations_s)  # in random order it is 1.7 times


def test_order_depends_on_epoch_and_seed(make_split: Callable[..., Split]):
    split = make_split([0.3] * 30)

    def order(seed: int, number: int) -> list[list[str]]:
        return [batch.ids for batch in epoch(data_module(split, DataConfig(batch_s=1.5), seed), number)]

    assert order(0, 0) == order(0, 0)
    assert order(0, 0) != order(0, 1) != order(1, 1)


def test_a_trainer_gets_its_order_and_noise(make_split: Callable[..., Split]):
    module = data_module(make_split([0.3] * 30), DataConfig(batch_s=1.5))
    for number in (0, 1, 2):
        module.trainer = SimpleNamespace(current_epoch=number, global_rank=0, world_size=1, accumulate_grad_batches=1)  # type: ignore[assignment]
        batches = [batch.ids for batch in module.train_dataloader()]
        assert module.train_set.epoch == number
        assert batches == [batch.ids for batch in epoch(data_module(module.train_set.split, module.config), number)]


def test_an_interrupted_epoch_goes_on(make_split: Callable[..., Split]):
    split, config = make_split([0.3] * 30), DataConfig(batch_s=1.5)
    whole = [batch.ids for batch in epoch(data_module(split, config), 0)]
    resumed = data_module(split, config)
    resumed.load_state_dict({"batches": 2})
    assert [batch.ids for batch in resumed.train_dataloader()] == whole[2:]
    assert [batch.ids for batch in resumed.train_dataloader()] == whole  # the next epoch is whole again


@pytest.mark.parametrize("devices", [2, 3])
def test_devices_share_an_epoch(make_split: Callable[..., Split], devices: int):
    module = data_module(make_split([0.3] * 31), DataConfig(batch_s=1.5))
    whole = sorted(i for batch in epoch(module, 0) for i in batch.ids)
    shares = []
    for device in range(devices):
        module.trainer = SimpleNamespace(
            current_epoch=0, global_rank=device, world_size=devices, accumulate_grad_batches=1
        )  # type: ignore[assignment]
        shares.append([batch.ids for batch in module.train_dataloader()])
    assert len({len(of_device) for of_device in shares}) == 1  # nobody waits for a batch that does not come
    assert sorted(i for of_device in shares for ids in of_device for i in ids) == whole  # each once


def test_parts_of_a_batch(make_split: Callable[..., Split]):
    module = data_module(make_split([0.3, 0.9, 0.6, 0.6]), DataConfig(batch_s=10.0))
    (batch,) = epoch(module, 0)
    parts = split_batch(batch, 24)
    assert [i for part in parts for i in part.ids] == batch.ids
    assert [part.features.shape[0] * part.features.shape[1] <= 24 for part in parts] == [True] * len(parts)
    assert 1 < len(parts) < 4
    for part in parts:
        for i, name in enumerate(part.ids):
            row = batch.ids.index(name)
            assert part.features.shape[1] == part.frame_lengths.max()
            assert torch.equal(part.features[i], batch.features[row, : part.features.shape[1]])
            assert torch.equal(part.targets[i], batch.targets[row, : part.targets.shape[1]])
            assert part.pair_rows[i] == batch.pair_rows[row]
    assert [part.ids for part in split_batch(batch, 1)] == [[name] for name in batch.ids]
    assert [part.ids for part in split_batch(batch, 10**6)] == [batch.ids]


def test_development_batches_are_fixed_and_clean(make_split: Callable[..., Split]):
    module = data_module(make_split([0.4] * 12), DataConfig(batch_s=2.0, noise_probability=1.0))
    first, second = ([module.dev_set[cuts] for cuts in module.val_dataloader().sampler] for _ in range(2))
    assert [batch.ids for batch in first] == [batch.ids for batch in second]
    utterance = module.dev_set.utterances[first[0].ids[0]]
    assert torch.equal(first[0].features[0], stack_frames(fbank(read_waveform(utterance.recording))))


def test_noise_is_drawn_anew_each_epoch(make_split: Callable[..., Split]):
    split = make_split([0.3])
    config = DataConfig(noise_probability=1.0, noise_snr_db=(10.0, 10.0))
    module = data_module(split, config)
    batches = [next(epoch(module, number)).features for number in (0, 1, 0)]
    assert torch.equal(batches[0], batches[2])
    assert not torch.equal(batches[0], batches[1])
    assert not torch.equal(batches[0], next(epoch(data_module(split, config, seed=1), 0)).features)
    assert torch.equal(batches[0], next(epoch(data_module(split, config), 0)).features)


def test_noise_has_the_requested_ratio(make_split: Callable[..., Split]):
    split = make_split([3.0])
    module = data_module(split, DataConfig(noise_probability=1.0, noise_snr_db=(0.0, 0.0)))
    frames, power = module.train_set.frames("u000")
    assert power == pytest.approx(1 / 12, rel=0.02)  # of uniform samples between -0.5 and 0.5
    louder = next(epoch(module)).features.exp().mean() / stack_frames(frames).exp().mean()
    assert louder.item() == pytest.approx(2.0, rel=0.03)  # white noise at 0 dB on white noise


def test_noise_reaches_the_requested_share(make_split: Callable[..., Split]):
    module = data_module(make_split([0.2] * 5), DataConfig(noise_probability=0.3))
    changed = 0
    for number in range(100):
        module.train_set.epoch = number
        for i in module.train_set.utterances:
            clean = stack_frames(module.train_set.frames(i)[0])
            changed += not torch.equal(module.train_set._features(i), clean)
    assert changed / 500 == pytest.approx(0.3, abs=0.08)  # 4 deviations


def test_a_baseline_front_end_gets_noisy_waveforms(make_split: Callable[..., Split]):
    split = make_split([3.0])
    as_it_is = LETTERS._replace(features=lambda waveform: torch.from_numpy(waveform)[:, None])
    clean = SpeechDataModule(split, split, as_it_is, DataConfig(), 0)
    waveform = next(epoch(clean)).features[0, :, 0]
    assert np.array_equal(waveform, read_waveform(split.utterances[0].recording))
    noisy = SpeechDataModule(split, split, as_it_is, DataConfig(noise_probability=1.0, noise_snr_db=(6.0, 6.0)), 0)
    first, second, again = (next(epoch(noisy, number)).features[0, :, 0] for number in (0, 1, 0))
    assert torch.equal(first, again) and not torch.equal(first, second)
    assert (10 * torch.log10(waveform.square().mean() / (first - waveform).square().mean())).item() == pytest.approx(
        6.0
    )


def test_filter_banks_are_kept_up_to_a_size(make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch):
    read = []

    def count(path: Path, start_s: float, end_s: float) -> np.ndarray:
        read.append(path.stem)
        return read_waveform(path, start_s, end_s)

    monkeypatch.setattr("clsr.data.datamodule.read_waveform", count)
    split = make_split([1.0, 1.0])  # 98 frames of 80 float32 each: 31,360 bytes
    for cache_bytes, reads in ((0, 6), (40_000, 4), (70_000, 2)):
        read.clear()
        module = data_module(split, DataConfig(cache_gb=cache_bytes / 2**30))
        for number in range(3):
            list(epoch(module, number))
        assert len(read) == reads


@pytest.mark.slow
def test_workers_fill_the_cache_up_to_its_size(make_split: Callable[..., Split], monkeypatch: pytest.MonkeyPatch):
    split = make_split([1.0] * 5)
    expected = {u.id: data_module(split).train_set.frames(u.id) for u in split.utterances}
    for cache_bytes, kept in ((10**6, 5), (70_000, 2), (0, 0)):
        data = data_module(split, DataConfig(cache_gb=cache_bytes / 2**30)).train_set
        data.fill(workers=2)
        with monkeypatch.context() as patch:  # what was handed over is not read again
            patch.setattr(data, "make", lambda utterance_id: ("read", utterance_id))
            found = {u.id: data.frames(u.id) for u in split.utterances if u.id in data._kept}
        assert len(found) == kept
        for utterance_id, (frames, power) in found.items():
            assert torch.equal(frames, expected[utterance_id][0]) and power == expected[utterance_id][1]
    data = data_module(split).train_set
    data.fill(workers=0)
    assert not data._kept  # no processes, nothing to hand over


def test_long_utterances_are_left_out_and_counted(make_split: Callable[..., Split], caplog: pytest.LogCaptureFixture):
    split = make_split([0.5, 1.5, 0.8])
    with caplog.at_level(logging.WARNING, "clsr"):
        module = data_module(split, DataConfig(max_utterance_s=1.0))
    assert sorted(i for batch in epoch(module) for i in batch.ids) == ["u000", "u002"]
    assert len(module.dev_set.split.utterances) == 3
    assert "1 of 3 training utterances are longer than 1 s and left out (data.max_utterance_s)" in caplog.text
    with pytest.raises(InputError, match="no training utterance is shorter than data.max_utterance_s = 0.1"):
        data_module(split, DataConfig(max_utterance_s=0.1))


@pytest.mark.parametrize("known", [[], [UNKNOWN, UNKNOWN]])
def test_a_transcript_with_no_known_piece_is_named(make_split: Callable[..., Split], known: list[int]):
    split = make_split([0.5, 0.5])
    encoders = Encoders(lambda text: known if text == "ab" else [2], lambda text: [])
    with pytest.raises(InputError, match="u001: transcript 'ab' holds no known piece"):
        SpeechDataModule(split, split, encoders, DataConfig(), 0)


def test_one_utterance_is_enough(make_split: Callable[..., Split]):
    (batch,) = epoch(data_module(make_split([0.5])))
    assert batch.ids == ["u000"]


def test_a_missing_recording_is_named(make_split: Callable[..., Split], tmp_path: Path):
    split = make_split([0.5, 0.5])
    write_data_dir(tmp_path, split.utterances)
    split.utterances[1].recording.unlink()
    with pytest.raises(InputError, match="u001: no such audio file"):
        read_split(tmp_path)
