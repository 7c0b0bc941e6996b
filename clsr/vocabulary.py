"""Text and token ids: the text encoder's WordPieces, restricted to what a corpus uses, or a release's own tokens."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from clsr.errors import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

BLANK = 0  # output index of [PAD]: padding of targets and the blank of CTC; never recognised
UNKNOWN = 1  # output index of [UNK]: a piece outside the output layer; never recognised
SPECIAL_PIECES = ("[PAD]", "[UNK]")
RELEASE_MARKS = ("<blank>", "<s>", "</s>")  # the first tokens of a FunASR release; they stand for no speech
RELEASE_UNWRITTEN = {*RELEASE_MARKS, "<unk>", "<OOV>"}

# Han characters and the zero of their numbers: what BERT tokenizers set apart, the zero excepted.
HAN = "\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0002ebef\U0002f800-\U0002fa1f\U00030000-\U000323af"

# Scripts that put no spaces between words, or none within quotation marks, and know no apostrophe.
_QUOTED_INSIDE = f"{HAN}\u0e00-\u0eff\u1000-\u109f\u1100-\u11ff\u1780-\u17ff\u3005-\u30ff\u3130-\u318f\uac00-\ud7af"
_NUMBER_COMMA = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")
_SENTENCE_COMMA = re.compile("(?<![０-９])，|，(?![０-９])")  # full-width, but not within a full-width number
_APOSTROPHES = frozenset("'’‘‛`´′\u02bc\u055a\uff07")  # as keyboards, word processors and web pages write them
_OUTER_APOSTROPHE = re.compile(rf"''+|(?<!\S)'|'(?!\S)|(?<=[{_QUOTED_INSIDE}])'|'(?=[{_QUOTED_INSIDE}])")
_SECOND_DOT = re.compile("(?<=[ij])\u0307")  # of the lower case of İ
# Letters and marks that nobody sees: variation selectors, the grapheme joiner, Mongolian ones, Hangul fillers.
_UNSEEN = frozenset(
    {*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0), *range(0x180B, 0x1810), 0x34F, 0x115F, 0x1160, 0x3164, 0xFFA0}
)
_ACCENTS = re.compile("(?<=[a-z\u00c0-\u052f\u1e00-\u1fff])[\u0300-\u036f]+")  # of Latin, Greek, Cyrillic letters
_HAN = re.compile(f"[{HAN}]")
_UNSPACED = re.compile(f"[{HAN}0-9]")  # Han characters and digits, which FunASR writes without spaces
_WORD_START = "▁"  # of sentencepiece


class _UsualForms(dict[int, str]):
    """The usual form of each character, for ``str.translate``: none of what nobody sees, ``fi`` of a ligature.

    That is the form of NFKC, but for letters of scripts that NFKC would take apart: Thai and Lao ``am``, Armenian
    ``և``, Hangul letters that stand alone. Voicing marks with a space of their own join their kana.
    """

    def __missing__(self, code: int) -> str:
        character = chr(code)
        kind, *parts = unicodedata.decomposition(character).split() or [""]
        if code in _UNSEEN or unicodedata.category(character) in ("Cf", "Me"):
            self[code] = ""
        elif kind in ("<wide>", "<narrow>"):
            self[code] = chr(int(parts[0], 16))
        elif kind == "<compat>" and unicodedata.category(character) == "Lo":
            self[code] = character
        else:
            self[code] = unicodedata.normalize("NFKC", character)
        return self[code]


_USUAL_FORMS = _UsualForms(
    {0x309B: "\u3099", 0x309C: "\u309a", 0x587: "և", 0x149: "n"} | {ord(c): "'" for c in _APOSTROPHES}
)


def normalise(text: str) -> str:
    """Write text of any script as words: lower case, no punctuation, single spaces, composed characters (NFC).

    Letters, digits and the marks on them stay (Unicode categories L, N, Mn, Mc): accents, vowel signs, tones, voicing.
    Format characters (Cf: soft hyphens, joiners, directions) and variation selectors go without parting a word; all
    else parts words. An apostrophe inside a word stays, written ``'`` whichever character it was (``’``, U+02BC, a
    backtick, a prime); others go. Thousands separators go (``1,100`` becomes ``1100``).

    Compatible forms become the usual ones (as in NFKC): full-width letters and digits half-width, half-width kana
    full-width, ligatures letters; a full-width comma is a mark of punctuation between half-width digits. Traditional
    Chinese characters stay traditional, simplified ones simplified. Lower case is Unicode's, the same for all
    languages: both ``I`` and ``İ`` become ``i``; ``ı`` and ``ß`` stay.

    >>> normalise("Rachel’s café cost $1,100 -- twice!")
    "rachel's café cost 1100 twice"
    >>> normalise("१० बजे, हिन्दी में स्वागत है।")
    '१० बजे हिन्दी में स्वागत है'
    >>> normalise("１９９０年，共有1,100人。")
    '1990年 共有1100人'
    """
    text = _SENTENCE_COMMA.sub(" ", text).translate(_USUAL_FORMS)
    text = unicodedata.normalize("NFC", _SECOND_DOT.sub("", text.lower()))
    kept: list[str] = []
    for character in _NUMBER_COMMA.sub("", text):
        kind = unicodedata.category(character)
        if kind[0] in "LN" or character == "'":
            kept.append(character)
        elif kind[0] != "M":
            kept.append(" ")
        elif kept and kept[-1] not in " '":  # a mark alone is on no letter
            kept.append(character)
    return " ".join(_OUTER_APOSTROPHE.sub(" ", "".join(kept)).split())


def fold_accents(text: str) -> str:
    """Normalise text, and leave out the accents of Latin, Greek and Cyrillic letters.

    Uncased WordPieces are written like this, so a recogniser of them can write nothing else: word errors are counted
    between texts of this form, and the targets of recognisers have it. Marks of other scripts stay.

    >>> fold_accents("Crème brûlée für Вася, हिन्दी")
    'creme brulee fur вася हिन्दी'
    """
    text = normalise(text)
    if text.isascii():
        return text
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


class Word(NamedTuple):
    """A recognised word and its times, in seconds."""

    text: str
    start_s: float
    end_s: float


class CodeRows(NamedTuple):
    """The rows of the text encoder that stand for the outputs of an utterance."""

    positions: np.ndarray  # (R,), the position among the outputs that each row comes from
    text_ids: np.ndarray  # (R, K), the text encoder's ids of the outputs there, best first; -1 where one has no part


class Vocabulary:
    """The recogniser's output layer in terms of the text encoder's WordPieces.

    Output index ``0`` is ``[PAD]`` (also the CTC blank), ``1`` is ``[UNK]``; the other indices are pieces of
    the text encoder. ``text_ids[i]`` is the text encoder's id of output index ``i``: the index that turns a
    recognised token into a row of the text encoder's embedding matrix.

    Args:
        pieces: the piece of each output index, ``(V,)``, starting with ``SPECIAL_PIECES``.
        tokenizer: the text encoder's own tokenizer.

    Raises:
        InputError: a piece is not one of the tokenizer's.
    """

    never = (BLANK, UNKNOWN)  # output indices that are never recognised
    marks: frozenset[int] = frozenset()  # output indices that are left out of token lists

    def __init__(self, pieces: Sequence[str], tokenizer: Tokenizer):
        if tuple(pieces[:2]) != SPECIAL_PIECES:
            raise InputError(f"vocabulary starts with {list(pieces[:2])}, not with {list(SPECIAL_PIECES)}")
        ids = [tokenizer.token_to_id(piece) for piece in pieces]
        if None in ids:
            piece = pieces[ids.index(None)]
            raise InputError(f"the text encoder does not know piece '{piece}': name the encoder this vocabulary is of")
        self.pieces = list(pieces)
        self.text_ids: list[int] = [i for i in ids if i is not None]
        self.tokenizer = tokenizer
        self._index = {text_id: index for index, text_id in enumerate(self.text_ids)}
        self._text_ids = np.array(self.text_ids)

    @classmethod
    def of_texts(cls, texts: Iterable[str], tokenizer: Tokenizer) -> Vocabulary:
        """Restrict the output layer to the pieces that the texts use, most frequent first.

        Raises:
            InputError: the texts hold no piece at all.
        """
        counts: dict[str, int] = {}
        for text in texts:
            for piece in tokenizer.encode(normalise(text), add_special_tokens=False).tokens:
                counts[piece] = counts.get(piece, 0) + 1
        counts = {piece: n for piece, n in counts.items() if piece not in SPECIAL_PIECES}
        if not counts:
            raise InputError("the transcripts hold no piece that the text encoder knows: check the text files")
        return cls([*SPECIAL_PIECES, *sorted(counts, key=lambda piece: (-counts[piece], piece))], tokenizer)

    @classmethod
    def whole(cls, tokenizer: Tokenizer) -> Vocabulary:
        """Keep every piece of the text encoder that can occur in text."""
        pieces = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().__getitem__)
        written = (p for p in pieces if not (p.startswith("[") and p.endswith("]") and len(p) > 2))
        return cls([*SPECIAL_PIECES, *written], tokenizer)

    @classmethod
    def load(cls, path: Path, tokenizer: Tokenizer) -> Vocabulary:
        """Read ``vocabulary.txt`` and check it against the text encoder.

        Raises:
            InputError: it is missing, a line is malformed, or a piece has another id in this text encoder.
        """
        if not path.is_file():
            raise InputError(f"{path}: missing: name a checkpoint of train-asr, train-joint or train-post")
        pieces = []
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
            piece, _, text_id = line.partition("\t")
            if not text_id.isdigit():
                raise InputError(f"{path}:{number}: expected a piece, a tab and its id, found '{line}'")
            if tokenizer.token_to_id(piece) != int(text_id):
                raise InputError(
                    f"{path}:{number}: piece '{piece}' has id {text_id} here and {tokenizer.token_to_id(piece)} in the "
                    "text encoder: name the text encoder that this checkpoint was trained with, or another one of the "
                    "same pieces"
                )
            pieces.append(piece)
        return cls(pieces, tokenizer)

    @property
    def token_ids(self) -> list[int]:
        """The id that each output index is reported by: the text encoder's."""
        return self.text_ids

    def __len__(self) -> int:
        return len(self.pieces)

    def __str__(self) -> str:
        """The lines of ``vocabulary.txt``: a piece, a tab, the text encoder's id."""
        return "".join(f"{piece}\t{i}\n" for piece, i in zip(self.pieces, self.text_ids, strict=True))

    def encode(self, text: str) -> list[int]:
        """Turn text into output indices; a piece outside the output layer becomes ``UNKNOWN``."""
        ids = self.tokenizer.encode(normalise(text), add_special_tokens=False).ids
        return [self._index.get(i, UNKNOWN) for i in ids]

    def text_token_ids(self, indices: Sequence[int]) -> list[int]:
        """Return the text encoder's ids of output indices."""
        return [self.text_ids[index] for index in indices]

    def code_rows(self, tokens: np.ndarray) -> CodeRows:
        """Return the text encoder's rows that stand for the best outputs ``(U, K)`` of an utterance: one each."""
        return CodeRows(np.arange(len(tokens)), self._text_ids[tokens])

    def decode(self, indices: Sequence[int]) -> str:
        """Join output indices into text, undoing what WordPiece split."""
        return self.join(word.text for word in self.words(indices, [(0.0, 0.0)] * len(indices)))

    def join(self, texts: Iterable[str]) -> str:
        """Join words, or transcripts of successive pieces: a space, but none beside a Han character."""
        return join_words(texts)

    def words(self, indices: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
        """Join pieces into words, each from the start of its first piece to the end of its last.

        Continuation pieces (``##ing``) and inner apostrophes (``rachel ' s``) are glued to their word.
        """
        words: list[Word] = []
        glue = False
        for index, (start_s, end_s) in zip(indices, times, strict=True):
            piece = self.pieces[index]
            if words and (piece.startswith("##") or piece == "'" or glue):
                last = words[-1]
                words[-1] = Word(last.text + piece.removeprefix("##"), last.start_s, end_s)
            else:
                words.append(Word(piece.removeprefix("##"), start_s, end_s))
            glue = piece == "'" and words[-1].text != "'"
        return words


class ReleaseVocabulary:
    """The output layer of an imported FunASR model in its own tokens: it writes text, and no text encoder knows it.

    Three ways of splitting words are undone: characters (a Han character or digit is a word, written without spaces
    around it), ``@@`` at the end of a piece that its word continues after, and, where any token has it, sentencepiece's
    ``▁`` at the start of a word. Single letters stay single: FunASR joins spelt ones (``u s a``) into ``USA``.

    Args:
        pieces: the token of each output index, ``(V,)``, starting with ``RELEASE_MARKS``.

    Raises:
        InputError: the first tokens are others, a token comes twice, or one holds a line break.
    """

    never: tuple[int, ...] = ()  # FunASR recognises any output, then drops the marks
    marks = frozenset(range(len(RELEASE_MARKS)))

    def __init__(self, pieces: Sequence[str]):
        if tuple(pieces[: len(RELEASE_MARKS)]) != RELEASE_MARKS:
            raise InputError(f"tokens start with {list(pieces[:3])}, not with {list(RELEASE_MARKS)}")
        first: dict[str, int] = {}
        for index, piece in enumerate(pieces):
            if first.setdefault(piece, index) != index:
                raise InputError(f"token '{piece}' comes twice, as {first[piece]} and {index}")
            if "\n" in piece:
                raise InputError(f"token {index} holds a line break: {piece!r}")
        self.pieces = list(pieces)
        self._marked = any(piece.startswith(_WORD_START) for piece in pieces)

    @classmethod
    def load(cls, path: Path) -> ReleaseVocabulary:
        """Read ``vocabulary.txt``.

        Raises:
            InputError: it is missing, or a line is malformed or out of order.
        """
        if not path.is_file():
            raise InputError(f"{path}: missing: import the model again")
        pieces = []
        for number, line in enumerate(path.read_text(encoding="utf-8").rstrip("\n").split("\n")):
            piece, _, index = line.rpartition("\t")
            if index != str(number):
                raise InputError(f"{path}:{number + 1}: expected a token, a tab and {number}, found '{line}'")
            pieces.append(piece)
        try:
            return cls(pieces)
        except InputError as error:
            raise InputError(f"{path}: {error}: import the model again") from error

    @property
    def token_ids(self) -> list[int]:
        """The id that each output index is reported by: itself."""
        return list(range(len(self.pieces)))

    def whole_words(self) -> dict[str, int]:
        """The output index of each token that stands for a whole word, or a Han character, by its text without accents.

        A part of a word is none: not ``lo@@``, and where words start with ``▁``, no token without that mark but a Han
        character. Of two tokens with one such text, the one that is written like it counts, else the first.

        >>> ReleaseVocabulary([*RELEASE_MARKS, "lo@@", "Love", "北", "'"]).whole_words()
        {'love': 4, '北': 5}
        """
        found: dict[str, int] = {}
        for index, piece in enumerate(self.pieces):
            text = piece.removeprefix(_WORD_START)
            han = len(text) == 1 and _HAN.match(text)
            part = piece.endswith("@@") or (self._marked and text == piece and not han)
            word = "" if part or piece in RELEASE_UNWRITTEN else fold_accents(text)
            if word and (word not in found or piece == word):
                found[word] = index
        return found

    def __len__(self) -> int:
        return len(self.pieces)

    def __str__(self) -> str:
        """The lines of ``vocabulary.txt``: a token, a tab, its output index."""
        return "".join(f"{piece}\t{index}\n" for index, piece in enumerate(self.pieces))

    def decode(self, indices: Sequence[int]) -> str:
        """Join output indices into text, undoing what splitting did."""
        return self.join(word.text for word in self.words(indices, [(0.0, 0.0)] * len(indices)))

    def join(self, texts: Iterable[str]) -> str:
        """Join words, or transcripts of successive pieces: a space, but none beside a Han character or digit."""
        return " ".join(texts) if self._marked else _join(texts, _UNSPACED)

    def words(self, indices: Sequence[int], times: Sequence[tuple[float, float]]) -> list[Word]:
        """Join tokens into words, each from the start of its first token to the end of its last."""
        words: list[Word] = []
        glue = False
        for index, (start_s, end_s) in zip(indices, times, strict=True):
            piece = self.pieces[index]
            if piece in RELEASE_UNWRITTEN:
                continue
            text = piece.replace(_WORD_START, "").removesuffix("@@")
            goes_on = not piece.startswith(_WORD_START) if self._marked else glue and not _UNSPACED.match(text)
            if words and goes_on:
                words[-1] = Word(words[-1].text + text, words[-1].start_s, end_s)
            else:
                words.append(Word(text, start_s, end_s))
            glue = piece.endswith("@@")
        return [word for word in words if word.text]


def join_words(texts: Iterable[str]) -> str:
    """Join words into text: a space between two of them, but none beside a Han character.

    >>> join_words(["the", "city", "北", "京"])
    'the city北京'
    """
    return _join(texts, _HAN)


def _join(texts: Iterable[str], unspaced: re.Pattern[str]) -> str:
    """Join texts with a space between two of them, unless a character on either side of it is unspaced."""
    joined = ""
    for text in texts:
        joined += text if not joined or unspaced.search(joined[-1:] + text[:1]) else f" {text}"
    return joined
