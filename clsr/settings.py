"""Settings from YAML files and command lines, and back.

A settings file names only what differs from the defaults in ``config.py``. A key that is unknown or there twice, or a
value of the wrong type or out of range, is an error that names the file and the key.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, get_type_hints

from clsr.config import BUNDLED
from clsr.errors import InputError

if TYPE_CHECKING:
    from jsonargparse import ArgumentParser

Settings = TypeVar("Settings")

LEAST = {  # what a setting has to be at least
    "seed": 0,
    "lora.rank": 0,
    "model.cif.length_margin": 0,
    "model.cif.firings_per_token": 1,
    "model.sampler.ratio": 0,
    "model.whisper.thawed_layers": 0,
    "model.search.beam": 1,
    "model.search.word_weight": 0,
    "model.search.unknown_penalty": 0,
    "model.search.blank_bonus": 0,
    "model.adaptor.top_k": 1,
    "loss.ctc_weight": 0,
    "loss.mwer_weight": 0,
    "loss.mwer_candidates": 2,
    "loss.nll_ramp_steps": 0,
    "loss.sampled_outputs": 0,
    "data.workers": 0,
    "optimizer.learning_rate": 0,
    "optimizer.released_share": 0,
    "optimizer.max_steps": 1,
    "trainer.average": 1,
    "trainer.accumulate": 1,
    "trainer.chunk_s": 0,
    "trainer.devices": 1,
}
MOST = {"model.adaptor.top_k": 8}  # a recognition keeps so many tokens of a position (paraformer.BEST)
ABOVE_0 = ("model.cif.threshold", "model.adaptor.gamma", "loss.temperature", "data.batch_s")
FORMER_KEYS = {  # of version 0.1, whose checkpoints are still read
    "lora.whole": "lora.modules_to_save",
    "model.adaptor.passage_map": "model.adaptor.passage_projection",
    "model.cif.margin": "model.cif.length_margin",
    "model.ctc.slots": "model.ctc.upsampling",
}
DROPPED_KEYS = ("loss.centre",)  # of version 0.1: measured, and no better
FORMER_VALUES = {("model.adaptor.input", "log_probabilities"): "logits"}  # which no softmax tells apart
SHARES = (  # 0 to 1
    "model.encoder.dropout",
    "model.decoder.dropout",
    "model.whisper.dropout",
    "loss.mae_weight",
    "loss.nll_weight",
    "loss.label_smoothing",
    "data.noise_probability",
)


def read_settings(
    kind: type[Settings],
    files: Sequence[str | Path] = (),
    options: Sequence[str] = (),
    base: dict[str, Any] | None = None,
) -> Settings:
    """Build settings from YAML files, later ones over earlier ones, and options such as ``--optimizer.max_steps 100``.

    ``base`` holds values that come before all files, in place of the defaults.

    Raises:
        InputError: a file is missing or is no YAML mapping; a key is unknown, there twice or of an earlier version, or
            its value of the wrong type or out of range.
    """
    parser = settings_parser(kind)
    merged: dict[str, Any] = _flatten(base or {})
    for file in files:
        values = _flatten(read_yaml(Path(file)))
        _refuse_former(values, f"{file}: ")
        _parse(parser, _as_options(values), f"{file}: ")
        merged |= values
    _refuse_former(dict(option.removeprefix("--").partition("=")[::2] for option in options), "")
    settings = kind(**vars(_parse(parser, [*_as_options(merged), *options], "")))
    _check_ranges(_flatten(dataclasses.asdict(settings)), ", ".join(map(str, files)))  # type: ignore[call-overload]
    return settings


def read_checkpoint_settings(kind: type[Settings], path: Path) -> Settings:
    """Read the ``config.yaml`` of a checkpoint, one of an earlier version too.

    Raises:
        InputError: as ``read_settings``.
    """
    parsed = _parse(settings_parser(kind), _as_options(_today(_flatten(read_yaml(path)))), f"{path}: ")
    settings = kind(**vars(parsed))
    _check_ranges(_flatten(dataclasses.asdict(settings)), str(path))  # type: ignore[call-overload]
    return settings


def start_settings(checkpoint: Path) -> dict[str, Any]:
    """Return what a stage takes over from the checkpoint it starts from: text encoder, vocabulary and sizes."""
    values = _today(_flatten(read_yaml(checkpoint / "config.yaml")))
    taken = {key: values[key] for key in values if key.split(".")[0] in ("text_encoder", "vocabulary", "model")}
    bundled = checkpoint / BUNDLED  # one that a stage has trained
    return taken | {"text_encoder": str(bundled)} if bundled.is_dir() else taken


def setting_names(kind: type) -> list[str]:
    """Return the names of all settings, as in ``model.encoder.layers``."""
    return [setting.key for setting in list_settings(kind)]


def settings_parser(kind: type) -> ArgumentParser:
    """Return a parser whose options are the fields of a settings dataclass (``--model.encoder.layers 4``)."""
    from jsonargparse import ArgumentParser

    parser = ArgumentParser(exit_on_error=False, add_help=False, default_env=False, allow_abbrev=False)
    parser.add_class_arguments(kind, as_group=False)
    return parser


class Setting(NamedTuple):
    """A setting: its key (``optimizer.max_steps``), its section, its default, and what it means."""

    key: str
    section: type
    default: Any
    meaning: str


def list_settings(kind: type, prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass and of those in it, with their meanings from the docstrings."""
    hints, texts = get_type_hints(kind), meanings(kind)
    for entry in dataclasses.fields(kind):
        if dataclasses.is_dataclass(hints[entry.name]):
            yield from list_settings(hints[entry.name], f"{prefix}{entry.name}.")
        else:
            yield Setting(f"{prefix}{entry.name}", kind, entry.default, texts.get(entry.name, ""))


def describe_settings(kind: type) -> str:
    """Return one line per setting: its option, what it means, its default."""
    return "\n".join(f"  --{s.key:<32} {s.meaning} ({json.dumps(s.default)})" for s in list_settings(kind))


def meanings(kind: type) -> dict[str, str]:
    """Return what each field of a dataclass means: the ``Args`` of its docstring, and of those it is derived from."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        found |= _args(base.__doc__ or "")
    return found


def _args(docstring: str) -> dict[str, str]:
    """Read the ``Args`` of a Google docstring: field name to its text."""
    texts: dict[str, str] = {}
    for line in inspect.cleandoc(docstring).partition("Args:\n")[2].splitlines():
        name, _, text = line.strip().partition(": ")
        if line.startswith("    ") and not line.startswith("     "):
            texts[name] = text
        elif texts:
            texts[next(reversed(texts))] += " " + line.strip()
    return {name: text if text.endswith("...") else text.removesuffix(".") for name, text in texts.items()}


def write_yaml(path: Path, settings: Any) -> None:
    """Write settings, defaults included, as YAML that ``read_settings`` accepts; all of it or nothing."""
    import yaml

    values = json.loads(json.dumps(dataclasses.asdict(settings)))  # tuples become lists, as YAML has them
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML mapping.

    Raises:
        InputError: the file is missing, is no YAML, holds a key twice, or something else than a mapping.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        _refuse_doubles(yaml.compose(text, yaml.SafeLoader), path)
        values = yaml.safe_load(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}): name an existing settings file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{path}: an anchor holds itself: write the values out") from error
    if values is not None and not isinstance(values, dict):
        raise InputError(f"{path}: expected keys and values, found a {type(values).__name__}")
    doubles = [key for key, count in Counter(_leaves(values or {})).items() if count > 1]
    if doubles:
        raise InputError(f"{path}: {doubles[0]} is there twice, once with a dot: keep one of them")
    return values or {}


def _refuse_doubles(node: Any, path: Path) -> None:
    """Refuse a key that is twice in one mapping of a YAML document: YAML itself takes the last one without a word."""
    import yaml

    if isinstance(node, yaml.SequenceNode):
        for entry in node.value:
            _refuse_doubles(entry, path)
    elif isinstance(node, yaml.MappingNode):
        seen = set()
        for key, value in node.value:
            if str(key.value) in seen:
                raise InputError(f"{path}:{key.start_mark.line + 1}: {key.value} is there twice: keep one of them")
            seen.add(str(key.value))
            _refuse_doubles(value, path)


def _refuse_former(flat: dict[str, Any], where: str) -> None:
    """Refuse keys and values of an earlier version, naming those of today."""
    for key, value in flat.items():
        if key in FORMER_KEYS:
            raise InputError(f"{where}{key} is called {FORMER_KEYS[key]} now: rename it")
        if key in DROPPED_KEYS:
            raise InputError(f"{where}{key} is no setting any more: remove it")
        if isinstance(value, str) and (key, value) in FORMER_VALUES:
            raise InputError(f"{where}{key}: {value} is the same as {FORMER_VALUES[key, value]}, and is called so now")


def _today(flat: dict[str, Any]) -> dict[str, Any]:
    """Give keys and values of an earlier version the names of today, and leave out what has none."""
    renamed = {FORMER_KEYS.get(key, key): value for key, value in flat.items() if key not in DROPPED_KEYS}
    return {k: FORMER_VALUES.get((k, v), v) if isinstance(v, str) else v for k, v in renamed.items()}


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _leaves(values: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield the name of each value, ``a.b`` both for ``a.b: 1`` and for ``a: {b: 1}``."""
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}"


def _as_options(flat: dict[str, Any]) -> list[str]:
    return [f"--{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in flat.items()]


def _parse(parser: ArgumentParser, arguments: Sequence[str], where: str) -> Any:
    from argparse import ArgumentError

    try:
        return parser.instantiate(parser.parse_args(list(arguments)))
    except ArgumentError as error:
        raise InputError(where + " ".join(str(error).split())) from error


def _check_ranges(values: dict[str, Any], where: str) -> None:
    """Refuse values out of range, and values that do not go together."""
    for name, value in values.items():
        if name in LEAST and value < LEAST[name]:
            wanted = f"{LEAST[name]} or more"
        elif name in MOST and value > MOST[name]:
            wanted = f"{MOST[name]} or less"
        elif name in ABOVE_0 and value <= 0:
            wanted = "above 0"
        elif name in SHARES and not 0 <= value <= 1:
            wanted = "from 0 to 1"
        elif name.endswith("coder.heads") and (value < 1 or values.get("model.encoder.width", 0) % value):
            wanted = f"a divisor of model.encoder.width, {values.get('model.encoder.width')}"
        elif name == "loss.nll_weight" and value + values["loss.mae_weight"] > 1:
            wanted = (
                f"at most 1 - loss.mae_weight, {1 - values['loss.mae_weight']:g}: the rest is the recogniser's weight"
            )
        else:
            continue
        raise InputError(f"{where + ': ' if where else ''}{name} is {value}, and should be {wanted}")
