"""BERT in plain PyTorch: input embeddings to contextual token vectors.

The text encoders of search are small and must be there at once: importing transformers takes two to three seconds,
half of what a search from a cold start may take. Parameter names are those of Hugging Face's ``BertModel``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from clsr.errors import InputError
from clsr.models.attention import Products, attend
from clsr.text.folder import require_absolute_positions

if TYPE_CHECKING:
    from transformers import PreTrainedModel


class _Embeddings(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        width = config["hidden_size"]
        self.word_embeddings = nn.Embedding(config["vocab_size"], width)
        self.position_embeddings = nn.Embedding(config["max_position_embeddings"], width)
        self.token_type_embeddings = nn.Embedding(config["type_vocab_size"], width)
        self.LayerNorm = nn.LayerNorm(width, config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, rows: Tensor) -> Tensor:
        positions = self.position_embeddings.weight[: rows.shape[1]]
        return self.dropout(self.LayerNorm(rows + self.token_type_embeddings.weight[0] + positions))


class _Projection(nn.Module):
    """Linear map, dropout, residual, normalisation: what closes both halves of a layer."""

    def __init__(self, inner: int, config: dict):
        super().__init__()
        self.dense = nn.Linear(inner, config["hidden_size"])
        self.LayerNorm = nn.LayerNorm(config["hidden_size"], config["layer_norm_eps"])
        self.dropout = nn.Dropout(config["hidden_dropout_prob"])

    def forward(self, hidden: Tensor, residual: Tensor) -> Tensor:
        return self.LayerNorm(self.dropout(self.dense(hidden)) + residual)


class BertSelfAttention(nn.Module):
    """Attention between tokens, before its output projection."""

    def __init__(self, config: dict):
        super().__init__()
        width = config["hidden_size"]
        self.heads = config["num_attention_heads"]
        self.products: Products = "fused"
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.dropout = config["attention_probs_dropout_prob"]

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        """Map token vectors ``(B, U, E)`` with mask ``(B, U)`` to what they read: ``(B, U, E)``."""
        projected = (self.query(hidden), self.key(hidden), self.value(hidden))
        return attend(*projected, mask, self.heads, self.dropout if self.training else 0.0, self.products)


class _Attention(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.self = BertSelfAttention(config)
        self.output = _Projection(config["hidden_size"], config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        return self.output(self.self(hidden, mask), hidden)


class _Intermediate(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.dense = nn.Linear(config["hidden_size"], config["intermediate_size"])

    def forward(self, hidden: Tensor) -> Tensor:
        return F.gelu(self.dense(hidden))


class _Layer(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.attention = _Attention(config)
        self.intermediate = _Intermediate(config)
        self.output = _Projection(config["intermediate_size"], config)

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        hidden = self.attention(hidden, mask)
        return self.output(self.intermediate(hidden), hidden)


class _Layers(nn.Module):
    def __init__(self, config: dict):
        super().__init__()
        self.layer = nn.ModuleList(_Layer(config) for _ in range(config["num_hidden_layers"]))

    def forward(self, hidden: Tensor, mask: Tensor) -> Tensor:
        for layer in self.layer:
            hidden = layer(hidden, mask)
        return hidden


class Bert(nn.Module):
    """Encoder of Devlin et al. (arXiv:1810.04805), without the pooler, which sentence encoders do not use.

    Args:
        config: the ``config.json`` of a Hugging Face BERT with exact GELU.
    """

    def __init__(self, config: dict):
        super().__init__()
        self.max_positions: int = config["max_position_embeddings"]
        self.embeddings = _Embeddings(config)
        self.encoder = _Layers(config)

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The word embedding matrix."""
        return self.embeddings.word_embeddings

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Map input embeddings ``(B, U, E)`` with mask ``(B, U)`` to token vectors ``(B, U, E)``."""
        return self.encoder(self.embeddings(embeddings), mask)


class HuggingFaceEncoder(nn.Module):
    """Any other encoder of transformers that takes ``inputs_embeds``, behind the same three members as ``Bert``."""

    def __init__(self, model: PreTrainedModel):
        super().__init__()
        self.model = model
        # RoBERTa and its kin number positions from padding_idx + 1.
        reserved = 2 if model.config.model_type in {"roberta", "xlm-roberta", "camembert", "mpnet"} else 0
        self.max_positions: int = model.config.max_position_embeddings - reserved

    @property
    def word_embeddings(self) -> nn.Embedding:
        """The word embedding matrix."""
        embeddings = self.model.get_input_embeddings()
        assert isinstance(embeddings, nn.Embedding)
        return embeddings

    def forward(self, embeddings: Tensor, mask: Tensor) -> Tensor:
        """Map input embeddings ``(B, U, E)`` with mask ``(B, U)`` to token vectors ``(B, U, E)``."""
        return self.model(inputs_embeds=embeddings, attention_mask=mask.long()).last_hidden_state


def load_encoder(folder: Path) -> Bert | HuggingFaceEncoder:
    """Load the transformer of a Hugging Face folder with safetensors weights, in float32.

    Raises:
        InputError: the network needs code that is not in transformers.
        ValueError, KeyError, OSError, RuntimeError: the folder is damaged.
    """
    from safetensors.torch import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    require_absolute_positions(config, folder)
    if config["model_type"] == "bert" and config["hidden_act"] == "gelu":
        weights = {name.removeprefix("bert."): w for name, w in load_file(folder / "model.safetensors").items()}
        model = Bert(config)  # on the meta device it would save a tenth of a second and import torch._dynamo: 1.5 s
        own = {name: weights[name].float() for name in model.state_dict()}
        model.load_state_dict(own, assign=True)
        return model
    from transformers import CONFIG_MAPPING, AutoModel

    if config["model_type"] not in CONFIG_MAPPING:
        raise InputError(
            f"{folder}: a network of type {config['model_type']!r}, which needs code of its authors that clsr does not "
            "run; name a text encoder that transformers has"
        )
    return HuggingFaceEncoder(AutoModel.from_pretrained(folder, local_files_only=True, use_safetensors=True).float())


def save_encoder(model: Bert | HuggingFaceEncoder, source: Path, folder: Path) -> None:
    """Write the weights into a folder; what ``source`` holds beside them (a pooler) is taken over."""
    from safetensors.torch import load_file, save_file

    if isinstance(model, HuggingFaceEncoder):
        model.model.save_pretrained(folder)
        return
    weights = {name.removeprefix("bert."): w for name, w in load_file(source / "model.safetensors").items()}
    weights |= {name: weight.detach().cpu().contiguous() for name, weight in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
