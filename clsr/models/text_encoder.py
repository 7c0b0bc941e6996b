"""The text encoder: token ids, or input embeddings in their place, to unit vectors.

`clsr.text.encoder` computes the same for queries without PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from clsr.errors import InputError
from clsr.models.bert import Bert, HuggingFaceEncoder, load_encoder, save_encoder
from clsr.padding import length_mask, pad
from clsr.text.encoder import TextTokens
from clsr.text.folder import LinearMap, Side, TextEncoderFolder, open_text_encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer


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

    Attributes:
        dimensions: first numbers of a vector that are kept, and scaled to norm 1 (as for Matryoshka representations,
            arXiv:2205.13147); ``None`` keeps all.
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
        self.dimensions: int | None = None
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
        """Size of a vector, E; of a whole one that of a word embedding, but where linear maps follow pooling."""
        if self.dimensions is not None:
            return self.dimensions
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
        return nn.functional.normalize(pooled[:, : self.dimensions].float(), dim=1)

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

    def embed_text(self, text: str) -> Tensor:
        """Look up the word embeddings of a text, without opening and closing tokens: ``(U, D)``."""
        return self.word_embeddings[self.token_ids(text)]

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

    @torch.no_grad()
    def encode_tokens(self, texts: Sequence[str], kind: Side = "passage", batch_size: int = 16) -> list[TextTokens]:
        """Encode the tokens of each text; those past the longest input are left out.

        The vectors are those of ``token_vectors``, on the CPU.
        """
        longest = self.max_tokens + len(self.opening) - len(self._opening_ids(kind))
        encodings = self.tokenizer.encode_batch(list(texts), add_special_tokens=False)
        ids = [encoding.ids[:longest] for encoding in encodings]
        found: list[TextTokens | None] = [None] * len(ids)
        order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
        for start in range(0, len(order), batch_size):
            batch = order[start : start + batch_size]
            rows, lengths = pad([torch.tensor(ids[i], dtype=torch.long) for i in batch])
            device = self.word_embeddings.device
            vectors = self.token_vectors(self.word_embeddings[rows.to(device)], lengths.to(device), kind).cpu().numpy()
            for i, of_text in zip(batch, vectors, strict=True):
                count = len(ids[i])
                found[i] = TextTokens(ids[i], encodings[i].offsets[:count], of_text[:count].copy())
        return [tokens for tokens in found if tokens is not None]

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


def weighted_means(vectors: Tensor, weights: Sequence[Sequence[float]]) -> Tensor:
    """Return the weighted mean of each group of successive vectors ``(H, E)``, as unit rows ``(B, E)``."""
    owner = torch.tensor([i for i, group in enumerate(weights) for _ in group], dtype=torch.long)
    weight = torch.tensor([w for group in weights for w in group])
    means = vectors.new_zeros(len(weights), vectors.shape[1]).index_add_(0, owner, vectors * weight[:, None])
    return nn.functional.normalize(means, dim=1)


def load_text_encoder(reference: str) -> TextEncoder:
    """Load a frozen text encoder by reference.

    Args:
        reference: as `clsr.text.folder.open_text_encoder` takes it.

    Raises:
        InputError: nothing loadable is there.
    """
    return build_text_encoder(open_text_encoder(reference))


def build_text_encoder(folder: TextEncoderFolder) -> TextEncoder:
    """Load the frozen text encoder of a folder.

    Raises:
        InputError: the folder is damaged.
    """
    try:
        transformer = load_encoder(folder.path)
        dense = {one.name: _load_map(folder, one) for one in folder.maps}
    except InputError:
        raise
    except Exception as error:  # safetensors and transformers each raise their own kinds
        raise folder.unreadable(error) from error
    return TextEncoder(transformer, folder.tokenizer, folder.pooling, folder.prompts, folder.path, folder.fingerprint,
                       dense)  # fmt: skip


def _load_map(folder: TextEncoderFolder, described: LinearMap) -> nn.Linear:
    from safetensors.torch import load_file

    linear = nn.Linear(described.in_features, described.out_features, described.bias)
    weights = load_file(folder.map_weights(described))
    linear.load_state_dict({name.removeprefix("linear."): weight.float() for name, weight in weights.items()})
    return linear.eval()
