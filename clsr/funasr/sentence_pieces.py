"""SentencePiece's pieces as words: what SenseVoice's outputs stand for."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from clsr.errors import InputError
from clsr.vocabulary import HAN, Word, join_words

SENSE_VOICE_PIECES = "chn_jpn_yue_eng_ko_spectok.bpe.model"  # file of a release
WORD_START = "▁"
_TAG = re.compile(r"<\|.*\|>|</?s>|<unk>")  # <|en|>, <|HAPPY|>, <|Laughter|> and what else is no text
_HAN = re.compile(f"[{HAN}]")


class SentencePieces:
    """Outputs of a recogniser as text.

    Args:
        pieces: the piece of each output index, ``(V,)``; the first is the blank of CTC.
    """

    def __init__(self, pieces: Sequence[str]):
        self.pieces = list(pieces)
        self.marks = frozenset(index for index, piece in enumerate(pieces) if _TAG.fullmatch(piece))

    @classmethod
    def load(cls, path: Path) -> SentencePieces:
        """Read a model of SentencePiece.

        Raises:
            InputError: it is damaged.
        """
        from sentencepiece import SentencePieceProcessor

        try:
            processor = SentencePieceProcessor(model_file=str(path))
        except (OSError, RuntimeError) as error:
            raise InputError(f"{path}: no readable model of SentencePiece: copy it again") from error
        return cls([processor.id_to_piece(index) for index in range(processor.get_piece_size())])

    def __len__(self) -> int:
        return len(self.pieces)

    def decode(self, indices: Sequence[int]) -> str:
        """Join output indices into text, tags left out."""
        return join_words(word.text for word in self.words(indices, [(0.0, 0.0)] * len(indices)))

    def words(self, indices: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
        """Join pieces into words, each from the start of its first piece to the end of its last.

        A word begins at ``▁`` and on either side of a Han character; tags are left out.
        """
        words: list[Word] = []
        begins = True
        for index, (start_s, end_s) in zip(indices, times, strict=True):
            if index in self.marks:
                continue
            written = self.pieces[index].replace(WORD_START, " ")
            text = written.strip()
            begins = begins or written.startswith(" ")
            if text:
                last = words[-1] if words else Word("", start_s, end_s)
                if begins or _HAN.search(last.text[-1:] + text[:1]):
                    words.append(Word(text, start_s, end_s))
                else:
                    words[-1] = Word(last.text + text, last.start_s, end_s)
            begins = written.endswith(" ")
        return words
