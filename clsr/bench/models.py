"""Models to time: of the sizes that people use, with random weights that fire as many tokens as speech has."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, NoReturn

import torch
from torch import nn

from clsr.audio.features import FRAME_S
from clsr.config import OFFLINE_TEXT_ENCODER, CifConfig, DecoderConfig, EncoderConfig, ModelConfig, Precision
from clsr.models.bert import Bert
from clsr.models.paraformer import Paraformer
from clsr.models.speech_encoder import SpeechEncoder
from clsr.models.text_encoder import TextEncoder, load_text_encoder
from clsr.text.encoder import SentenceEncoder
from clsr.vocabulary import Vocabulary

Size = Literal["full", "mini"]

TOKENS_A_SECOND = 3.3  # of speech
MINI_PIECES = 400
FINGERPRINT = "0" * 16  # of random weights
BERT_WIDTH, BERT_LAYERS, HEAD_WIDTH = 768, 12, 64  # of BERT-base


class RandomWeights:
    """Where ``clsr.Model`` has a model of random weights from: nowhere, its parts are given."""

    reference = "random weights"
    other_text_encoder: str | None = None
    folder = Path(reference)

    def fingerprint(self, text_encoder: SentenceEncoder | None) -> str:
        """The same digits for all."""
        return FINGERPRINT

    def load_query_encoder(self, precision: Precision) -> NoReturn:
        """Refuse: it is given."""
        raise NotImplementedError("random weights are not loaded")

    def load_text_encoder(self, precision: Precision) -> NoReturn:
        """Refuse: it is given."""
        raise NotImplementedError("random weights are not loaded")

    def load_recogniser(self, device: str, precision: Precision) -> NoReturn:
        """Refuse: it is given."""
        raise NotImplementedError("random weights are not loaded")

    def load_speech_encoder(self, device: str, precision: Precision) -> NoReturn:
        """Refuse: it is given."""
        raise NotImplementedError("random weights are not loaded")


def make_encoder(size: Size, length_margin: int = 0) -> SpeechEncoder:
    """Make a model of a size, in float32 on the CPU.

    Args:
        size: "full" is a recogniser of the sizes of the released Paraformer-large (arXiv:2206.08317), with all pieces
            of BERT as outputs, and a text encoder of the sizes of BERT-base, all weights random; "mini" is the mini
            recipe's recogniser with random weights, and the offline text encoder.
        length_margin: length hypotheses below and above the rounded quantity. With random weights hardly any of them
            is unlikely enough to be dropped; a trained model drops most.
    """
    torch.manual_seed(0)
    text_encoder = load_text_encoder(OFFLINE_TEXT_ENCODER)
    if size == "full":
        text_encoder = make_text_encoder()
        vocabulary = Vocabulary.whole(text_encoder.tokenizer)
        encoder, decoder = EncoderConfig(512, 2048, 50, 4, 11), DecoderConfig(2048, 16, 4, 11)
        config = ModelConfig(encoder=encoder, decoder=decoder)
    else:
        vocabulary = Vocabulary.whole(text_encoder.tokenizer)
        vocabulary = Vocabulary(vocabulary.pieces[:MINI_PIECES], text_encoder.tokenizer)
        config = ModelConfig()
    config.cif = CifConfig(length_margin=length_margin)
    paraformer = Paraformer(config, len(vocabulary))
    rate = TOKENS_A_SECOND * FRAME_S  # tokens a frame
    nn.init.zeros_(paraformer.predictor.cif_output.weight)
    nn.init.constant_(paraformer.predictor.cif_output.bias, math.log(rate / (1 - rate)))
    return SpeechEncoder(paraformer, text_encoder, vocabulary).eval()


def make_text_encoder(width: int = BERT_WIDTH) -> TextEncoder:
    """Make a text encoder with random weights, by default of the sizes of BERT-base.

    Pieces and pooling are the offline one's.

    Args:
        width: of its vectors, a multiple of 64.
    """
    known = load_text_encoder(OFFLINE_TEXT_ENCODER)
    config = {
        "vocab_size": len(known.word_embeddings), "hidden_size": width, "num_hidden_layers": BERT_LAYERS,
        "num_attention_heads": width // HEAD_WIDTH, "intermediate_size": 4 * width, "max_position_embeddings": 512,
        "type_vocab_size": 2, "layer_norm_eps": 1e-12, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return TextEncoder(Bert(config), known.tokenizer, known.pooling, known.prompts, known.folder, "random")
