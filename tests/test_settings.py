"""Settings from files and options, and back."""

import errno
import json
from pathlib import Path

import pytest

from clsr.config import AdaptorConfig, EncoderConfig, ModelConfig, TrainingConfig
from clsr.errors import InputError
from clsr.models.paraformer import BEST
from clsr.settings import (
    ABOVE_0,
    DROPPED_KEYS,
    FORMER_KEYS,
    LEAST,
    MOST,
    SHARES,
    describe_settings,
    read_checkpoint_settings,
    read_settings,
    read_yaml,
    setting_names,
    start_settings,
    write_yaml,
)


@pytest.fixture
def write(tmp_path: Path):
    """Write a settings file and return its path."""

    def write_file(text: str, name: str = "settings.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text)
        return path

    return write_file


def test_nothing_given_is_the_defaults():
    assert read_settings(TrainingConfig) == TrainingConfig()


def test_later_beats_earlier_and_options_beat_files(write):
    first = write("seed: 1\noptimizer: {max_steps: 10, warmup_steps: 5}\n", "first.yaml")
    second = write("seed: 2\noptimizer: {max_steps: 20}\n", "second.yaml")
    settings = read_settings(
        TrainingConfig, [first, second], ["--seed", "3"], base={"seed": 0, "model": {"encoder": {"layers": 9}}}
    )
    assert (settings.seed, settings.optimizer.max_steps, settings.optimizer.warmup_steps) == (3, 20, 5)
    assert settings.model.encoder == EncoderConfig(layers=9)
    assert settings.optimizer.clip_norm == TrainingConfig().optimizer.clip_norm


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("seed: 1\noptimizer: {max_steps: 3}\nseed: 2\n", 3, "seed"),
        ("optimizer:\n  max_steps: 3\n  max_steps: 3\n", 3, "max_steps"),
        ("optimizer: {max_steps: 3}\noptimizer: {warmup_steps: 3}\n", 2, "optimizer"),
        ("lora: {layers: [{a: 1, a: 1}]}\n", 1, "a"),
    ],
)
def test_a_double_key_names_file_and_line(write, text: str, line: int, key: str):
    path = write(text)
    with pytest.raises(InputError, match=f"^{path}:{line}: {key} is there twice"):
        read_settings(TrainingConfig, [path])


def test_a_key_with_a_dot_counts_as_double(write):
    path = write("optimizer.max_steps: 3\noptimizer: {max_steps: 4}\n")
    with pytest.raises(InputError, match=f"^{path}: optimizer.max_steps is there twice"):
        read_settings(TrainingConfig, [path])
    assert read_settings(TrainingConfig, [write("optimizer.max_steps: 3\n")]).optimizer.max_steps == 3


def test_former_keys_of_checkpoints_are_read(write):
    old = write(
        "model:\n  cif: {margin: 2}\n  ctc: {slots: 2}\n  adaptor: {passage_map: true, input: log_probabilities}\n"
        "lora: {whole: [predictor]}\nloss: {centre: true}\n",
        "config.yaml",
    )
    settings = read_checkpoint_settings(TrainingConfig, old)
    assert (settings.model.cif.length_margin, settings.model.ctc.upsampling) == (2, 2)
    assert settings.model.adaptor == AdaptorConfig(passage_projection=True, input="logits")
    assert settings.lora.modules_to_save == ("predictor",)
    assert read_settings(TrainingConfig, base=start_settings(old.parent)).model == settings.model


@pytest.mark.parametrize("former", FORMER_KEYS)
def test_former_keys_of_users_are_refused(write, former: str):
    section, _, key = former.rpartition(".")
    nested = f"{key}: 1"
    for name in reversed(section.split(".")):
        nested = f"{name}: {{{nested}}}"
    path = write(nested)
    with pytest.raises(InputError, match=f"^{path}: {former} is called {FORMER_KEYS[former]} now"):
        read_settings(TrainingConfig, [path])
    with pytest.raises(InputError, match=f"^{former} is called {FORMER_KEYS[former]} now"):
        read_settings(TrainingConfig, options=[f"--{former}=1"])


@pytest.mark.parametrize("dropped", DROPPED_KEYS)
def test_dropped_keys_of_users_are_refused(write, dropped: str):
    section, _, key = dropped.partition(".")
    path = write(f"{section}: {{{key}: true}}")
    with pytest.raises(InputError, match=f"^{path}: {dropped} is no setting any more: remove it"):
        read_settings(TrainingConfig, [path])
    with pytest.raises(InputError, match=f"^{dropped} is no setting any more: remove it"):
        read_settings(TrainingConfig, options=[f"--{dropped}=true"])


def test_former_values_of_users_are_refused(write):
    path = write("model: {adaptor: {input: log_probabilities}}")
    with pytest.raises(InputError, match=f"^{path}: model.adaptor.input: log_probabilities is the same as logits"):
        read_settings(TrainingConfig, [path])


def test_former_keys_are_no_settings():
    names = set(setting_names(TrainingConfig))
    assert names.isdisjoint({*FORMER_KEYS, *DROPPED_KEYS}) and names.issuperset(FORMER_KEYS.values())


def test_values_are_typed(write):
    settings = read_settings(
        TrainingConfig,
        [write("optimizer: {learning_rate: 1e-4}\ndata: {noise_snr_db: [3, 30]}\ntext_encoder: 7\n")],
        ["--loss.negatives=batch"],
    )
    assert settings.optimizer.learning_rate == 1e-4  # a string to YAML 1.1
    assert settings.data.noise_snr_db == (3.0, 30.0)
    assert settings.text_encoder == "7"
    assert settings.loss.negatives == "batch"


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("optimiser: {max_steps: 3}\n", "optimiser.max_steps"),
        ("optimizer: {max_step: 3}\n", "optimizer.max_step"),  # no abbreviations: they would become interface
        ("model: {encoder: {size: 3}}\n", "model.encoder.size"),
        ("1: 2\n", "1"),
    ],
)
def test_an_unknown_key_names_file_and_key(write, text: str, key: str):
    path = write(text)
    with pytest.raises(InputError, match=f"{path}: .*--{key}="):
        read_settings(TrainingConfig, [path])


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("optimizer: {max_steps: 3.5}\n", "optimizer.max_steps"),
        ("seed: yes\n", "seed"),
        ("loss: {negatives: some}\n", "loss.negatives"),
        ("data: {noise_snr_db: [3]}\n", "data.noise_snr_db"),
        ("optimizer: 3\n", "optimizer"),
    ],
)
def test_value_of_wrong_type_names_its_key(write, text: str, key: str):
    path = write(text)
    with pytest.raises(InputError, match=f'{path}: .*"{key}"') as caught:
        read_settings(TrainingConfig, [path])
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_refused():
    with pytest.raises(InputError, match="--optimizer.max_step"):
        read_settings(TrainingConfig, options=["--optimizer.max_step", "3"])


def test_files_that_are_no_settings(write, tmp_path: Path):
    with pytest.raises(InputError, match="absent.yaml: cannot be read .No such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="settings.yaml: not YAML: .*line 1"):
        read_yaml(write("a: ["))
    with pytest.raises(InputError, match="settings.yaml: expected keys and values, found a list"):
        read_yaml(write("- 1\n"))
    assert read_yaml(write("# nothing but a comment\n")) == {}


def test_what_is_written_is_read_back(tmp_path: Path):
    settings = TrainingConfig(
        text_encoder="null", seed=5, model=ModelConfig(encoder=EncoderConfig(width=64, dropout=0.25))
    )
    settings.data.noise_snr_db = (-1.5, 40.0)
    write_yaml(tmp_path / "config.yaml", settings)
    assert read_settings(TrainingConfig, [tmp_path / "config.yaml"]) == settings


def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.yaml"
    write_yaml(path, TrainingConfig(seed=1))

    def fail(self: Path, *_: object, **__: object) -> None:
        with self.open("w") as file:
            file.write("see")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(OSError, match="No space"):
        write_yaml(path, TrainingConfig(seed=2))
    monkeypatch.undo()
    assert read_settings(TrainingConfig, [path]).seed == 1
    assert list(tmp_path.iterdir()) == [path]


def test_stage_inherits_text_encoder_vocabulary_and_sizes(tmp_path: Path):
    settings = TrainingConfig(text_encoder="mine", vocabulary="whole", seed=4)
    settings.model.encoder.width = 48
    settings.optimizer.max_steps = 7
    write_yaml(tmp_path / "config.yaml", settings)
    started = read_settings(TrainingConfig, base=start_settings(tmp_path))
    assert started == TrainingConfig(text_encoder="mine", vocabulary="whole", model=settings.model)


def test_every_setting_is_described():
    lines = describe_settings(TrainingConfig).splitlines()
    steps = next(line for line in lines if "--optimizer.max_steps " in line)
    assert (
        steps.split()
        == "--optimizer.max_steps number of training steps; with ``trainer.patience`` the limit (4000)".split()
    )
    assert not [line for line in lines if len(line.split()) < 3]  # an option, a meaning, a default


@pytest.mark.parametrize(
    ("option", "value", "wanted"),
    [
        ("loss.mwer_candidates", "1", "2 or more"),
        ("model.cif.length_margin", "-1", "0 or more"),
        ("trainer.accumulate", "0", "1 or more"),
        ("model.adaptor.gamma", "0", "above 0"),
        ("model.adaptor.top_k", "9", "8 or less"),
        ("loss.nll_weight", "1.5", "from 0 to 1"),
    ],
)
def test_a_value_out_of_range_is_refused(tmp_path: Path, option: str, value: str, wanted: str):
    with pytest.raises(InputError, match=f"^{option} is {value}(.0)?, and should be {wanted}$"):
        read_settings(TrainingConfig, options=[f"--{option}", value])
    nested: object = json.loads(value)
    for key in reversed(option.split(".")):
        nested = {key: nested}
    file = tmp_path / "settings.yaml"
    file.write_text(json.dumps(nested))  # JSON is YAML
    with pytest.raises(InputError, match=f"^{file}: {option} is {value}"):
        read_settings(TrainingConfig, [file])


def test_every_range_belongs_to_a_setting():
    known = set(setting_names(TrainingConfig))
    assert known.issuperset((*LEAST, *MOST, *ABOVE_0, *SHARES))
    assert MOST["model.adaptor.top_k"] == BEST


def test_an_anchor_in_itself_is_refused(write) -> None:
    with pytest.raises(InputError, match=r"settings\.yaml: an anchor holds itself"):
        read_yaml(write("a: &x {<<: *x}\n"))
