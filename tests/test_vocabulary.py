"""Text and token ids."""

import random
from pathlib import Path

import pytest
from tokenizers import Tokenizer
from tokenizers.implementations import BertWordPieceTokenizer

from clsr.errors import InputError
from clsr.models.text_encoder import TextEncoder
from clsr.vocabulary import BLANK, UNKNOWN, ReleaseVocabulary, Vocabulary, Word, fold_accents, normalise

PIECES = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", "'", "play", "##ing", "##ed", "the", "cat", "s", "[", "]", "[unused0]"]


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer.from_str(BertWordPieceTokenizer({piece: i for i, piece in enumerate(PIECES)}).to_str())


@pytest.mark.parametrize(
    ("text", "normal"),
    [
        ("Hello, World!", "hello world"),
        ("  two\tspaces \n", "two spaces"),
        ("It’s Rachel's café", "it's rachel's café"),
        ("'quoted' words'", "quoted words"),
        ("1,100 and 2,50", "1100 and 2 50"),  # only thousands have three digits
        ("1,234,567", "1234567"),
        ("well-known e.g. ½", "well known e g 1 2"),
        ("Zürich ŁÓDŹ ﬁne", "zürich łódź fine"),
        ("İstanbul", "istanbul"),
        ("語音，檢索。", "語音 檢索"),
        ("１９９０年（ＵＳＢ）", "1990年 usb"),  # full-width letters, digits and brackets
        ("共有1,100人", "共有1100人"),
        ("１，２３４元", "1234元"),
        ("在1990，200人", "在1990 200人"),  # a full-width comma is one of the sentence
        ("臺灣与台湾", "臺灣与台湾"),  # traditional stays traditional, simplified simplified
        ("《山海經》、「水」——火…", "山海經 水 火"),
        ("二〇〇八年", "二〇〇八年"),
        ("\uf9d0", "類"),  # a compatibility character is the one it stands for
        ("¿?…—", ""),
        ("", ""),
        # Hindi: vowel signs, virama and nukta are marks; the danda is a full stop.
        ("हिन्दी में स्वागत है।", "हिन्दी में स्वागत है"),
        ("\u0958\u0932\u092e", "\u0915\u093c\u0932\u092e"),  # qalam; NFC writes its first letter with a nukta
        ("“वि\u200dज्ञान”", "विज्ञान"),  # a joiner is a format character
        # Thai: tones and vowels above and below are marks, and am is one letter.
        ("น้ำดื่มที่นี่ ๒๐ บาท!", "น้ำดื่มที่นี่ ๒๐ บาท"),
        # Arabic and Persian: vowels are marks, the joiner of Persian is a format character.
        ("اَلسَّلَامُ عَلَيْكُمْ، كَيْفَ؟", "اَلسَّلَامُ عَلَيْكُمْ كَيْفَ"),
        ("\ufefb", "لا"),  # a form of presentation
        ("می\u200cخواهم", "میخواهم"),
        # Japanese: voicing marks, composed, with a space of their own, or half-width.
        ("がっこう、パン。", "がっこう パン"),
        ("か\u3099っこう ハ\u309aン か\u309bっこう", "がっこう パン がっこう"),
        ("ﾊﾟﾝ ｶﾞｯｺｳ ｺｰﾋｰ", "パン ガッコウ コーヒー"),
        # Vietnamese: tones tell words apart.
        ("Việt Nam: Má, mà, mả, mã, mạ", "việt nam má mà mả mã mạ"),
        ("Vie\u0323\u0302t", "việt"),
        # Korean: syllables of parts are composed; letters that stand alone stay as they are.
        ("\u1112\u1161\u11ab국어 ㅋㅋ", "한국어 ㅋㅋ"),
        ("‘한국’은", "한국 은"),  # quotation marks, no apostrophe
        # German and Turkish: lower case of Unicode, whatever the language.
        ("Straße GROẞ STRASSE", "straße groß strasse"),
        ("İZMİR Iğdır ışık I\u0307zmir", "izmir iğdır ışık izmir"),
        ("Έτος ΟΔΟΣ", "έτος οδος"),
        ("Ёлка, йод", "ёлка йод"),
        ("Երևան", "երևան"),  # one letter of Armenian, of which NFKC makes two
        # Characters that nobody sees part no word.
        ("co\u00adoperate zero\u200bwidth \ufeffmark \u202ause\u202c", "cooperate zerowidth mark use"),
        ("❤\ufe0f 1\ufe0f\u20e3 葛\U000e0100", "1 葛"),
        ("\u0301 a\u0301", "á"),  # a mark alone is on no letter
        ("\ud800 word", "word"),
        # Apostrophes, however they are written.
        ("Rachel\u02bcs o`clock o′clock d´accord l‘eau it＇s", "rachel's o'clock o'clock d'accord l'eau it's"),
        ("dogs\u02bc `code` 5′ ''a''b''", "dogs code 5 a b"),
        ("他說‘你好’吧", "他說 你好 吧"),
    ],
)
def test_normalise(text: str, normal: str):
    assert normalise(text) == normal
    assert normalise(normal) == normal


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("It’s Rachel's café", "it's rachel's cafe"),
        ("Zürich ŁÓDŹ ﬁne", "zurich łodz fine"),  # the bar of ł is no accent
        ("Έτος Ёлка Việt", "ετος елка viet"),
        ("हिन्दी がっこう اَلسَّلَامُ", "हिन्दी がっこう اَلسَّلَامُ"),  # marks of other scripts are no accents
    ],
)
def test_accents_fold_only_in_alphabets(text: str, folded: str):
    assert fold_accents(text) == folded
    assert fold_accents(folded) == folded


def test_of_texts_keeps_used_pieces_by_frequency(tokenizer: Tokenizer):
    vocabulary = Vocabulary.of_texts(["The cat, playing!", "the cat", "THE dog"], tokenizer)
    assert vocabulary.pieces == ["[PAD]", "[UNK]", "the", "cat", "##ing", "play"]
    assert vocabulary.text_ids == [1, 0, 8, 9, 6, 5]
    assert (vocabulary.pieces[BLANK], vocabulary.pieces[UNKNOWN]) == ("[PAD]", "[UNK]")


def test_texts_without_a_known_piece_are_refused(tokenizer: Tokenizer):
    with pytest.raises(InputError, match="no piece that the text encoder knows"):
        Vocabulary.of_texts(["dog", "?", ""], tokenizer)


def test_the_whole_vocabulary_omits_special_tokens(tokenizer: Tokenizer):
    expected = ["[PAD]", "[UNK]", "'", "play", "##ing", "##ed", "the", "cat", "s", "[", "]"]
    assert Vocabulary.whole(tokenizer).pieces == expected


def test_encode_normalises_and_marks_what_is_unknown(tokenizer: Tokenizer):
    vocabulary = Vocabulary.of_texts(["the cat playing"], tokenizer)
    index = vocabulary.pieces.index
    assert vocabulary.encode("The CAT-dog played.") == [
        index("the"), index("cat"), UNKNOWN, index("play"), UNKNOWN,
    ]  # fmt: skip
    assert vocabulary.encode("?!") == []


def test_words_join_pieces_and_apostrophes(tokenizer: Tokenizer):
    vocabulary = Vocabulary.whole(tokenizer)
    pieces = ["the", "play", "##ing", "cat", "'", "s"]
    indices = [vocabulary.pieces.index(piece) for piece in pieces]
    times = [(0.0, 0.3), (0.3, 0.5), (0.5, 0.9), (1.0, 1.25), (1.25, 1.5), (1.5, 2.0)]
    assert vocabulary.words(indices, times) == [
        Word("the", 0.0, 0.3),
        Word("playing", 0.3, 0.9),
        Word("cat's", 1.0, 2.0),
    ]
    assert vocabulary.decode(indices) == "the playing cat's"


def test_a_word_may_lack_its_beginning(tokenizer: Tokenizer):
    vocabulary = Vocabulary.whole(tokenizer)
    continuation, apostrophe, cat = (vocabulary.pieces.index(piece) for piece in ("##ing", "'", "cat"))
    assert vocabulary.decode([continuation, cat]) == "ing cat"
    assert vocabulary.decode([apostrophe, cat]) == "' cat"
    assert vocabulary.decode([]) == ""


def test_text_survives_encoding_and_decoding(minilm: TextEncoder):
    text = "In 1,987 O'Brien's unbelievably café-like jukebox wasn't (quite) antidisestablishmentarian!"
    vocabulary = Vocabulary.whole(minilm.tokenizer)
    assert vocabulary.decode(vocabulary.encode(text)) == fold_accents(text)
    assert [vocabulary.text_ids[i] for i in vocabulary.encode(text)] == minilm.token_ids(normalise(text))


def test_a_real_vocabulary_is_read_back_whole(minilm: TextEncoder, tmp_path: Path):
    vocabulary = Vocabulary.whole(minilm.tokenizer)
    path = tmp_path / "vocabulary.txt"
    path.write_text(str(vocabulary), encoding="utf-8")
    again = Vocabulary.load(path, minilm.tokenizer)
    assert (again.pieces, again.text_ids) == (vocabulary.pieces, vocabulary.text_ids)
    assert len(again) == 30_522 - 994 - 3  # without [unused...], [CLS], [SEP], [MASK]


@pytest.fixture
def chinese_tokenizer() -> Tokenizer:
    pieces = ["[UNK]", "[PAD]", "[CLS]", "[SEP]", *"他用手機在年打電話", "19", "##90", "90", "usb", "##s"]
    return Tokenizer.from_str(BertWordPieceTokenizer({piece: i for i, piece in enumerate(pieces)}).to_str())


@pytest.mark.parametrize(
    ("text", "pieces", "decoded"),
    [
        ("他打電話。", "他 打 電 話", "他打電話"),
        ("在１９９０年", "在 19 ##90 年", "在1990年"),
        ("19 90年", "19 90 年", "19 90年"),  # two numbers stay two
        ("他用ＵＳＢ，usbs 19", "他 用 usb usb ##s 19", "他用usb usbs 19"),
    ],
)
def test_chinese_characters_are_pieces(chinese_tokenizer: Tokenizer, text: str, pieces: str, decoded: str):
    vocabulary = Vocabulary.whole(chinese_tokenizer)
    indices = vocabulary.encode(text)
    assert [vocabulary.pieces[i] for i in indices] == pieces.split()
    assert vocabulary.decode(indices) == decoded
    assert vocabulary.encode(decoded) == indices  # decoded text encodes to the same pieces


def test_unknown_chinese_characters_count_one_by_one(chinese_tokenizer: Tokenizer):
    vocabulary = Vocabulary.of_texts(["他打電話"], chinese_tokenizer)
    assert sorted(vocabulary.pieces[2:]) == sorted("他打電話")
    assert vocabulary.encode("他用電腦") == [
        vocabulary.pieces.index("他"),
        UNKNOWN,
        vocabulary.pieces.index("電"),
        UNKNOWN,
    ]


def test_another_text_encoder_is_noticed(tokenizer: Tokenizer, minilm: TextEncoder, tmp_path: Path):
    path = tmp_path / "vocabulary.txt"
    path.write_text(str(Vocabulary.of_texts(["the cat"], tokenizer)))
    with pytest.raises(InputError, match=r"vocabulary.txt:1: piece '\[PAD\]' has id 1 here and 0 in the text encoder"):
        Vocabulary.load(path, minilm.tokenizer)


def test_faults_of_vocabulary_files(tokenizer: Tokenizer, tmp_path: Path):
    path = tmp_path / "vocabulary.txt"
    with pytest.raises(InputError, match="vocabulary.txt: missing"):
        Vocabulary.load(path, tokenizer)
    path.write_text("[PAD]\t1\n[UNK]\t0\nthe\t8\nca")
    with pytest.raises(InputError, match="vocabulary.txt:4: expected a piece, a tab and its id, found 'ca'"):
        Vocabulary.load(path, tokenizer)
    path.write_text("the\t8\ncat\t9\n")
    with pytest.raises(InputError, match="starts with"):
        Vocabulary.load(path, tokenizer)
    with pytest.raises(InputError, match="does not know piece 'dog'"):
        Vocabulary(["[PAD]", "[UNK]", "dog"], tokenizer)


RELEASE = ["<blank>", "<s>", "</s>", *"你好吗", "1", "9", "hello", "world", "lo@@", "ve", "'s", "<unk>"]


@pytest.fixture
def release() -> ReleaseVocabulary:
    return ReleaseVocabulary(RELEASE)


def indices(text: str, pieces: list[str] = RELEASE) -> list[int]:
    return [pieces.index(piece) for piece in text.split()]


@pytest.mark.parametrize(
    ("pieces", "text"),
    [
        ("你 好", "你好"),
        ("hello world", "hello world"),
        ("lo@@ ve", "love"),
        ("hello lo@@ ve world", "hello love world"),
        ("你 好 hello world 吗", "你好hello world吗"),
        ("1 9 1 9 吗", "1919吗"),
        ("<s> 你 <blank> 好 <unk> </s>", "你好"),
        ("lo@@ <unk> ve", "love"),
        ("hello <unk> world", "hello world"),
        ("lo@@ 你 ve", "lo你ve"),  # a Han character ends the word, complete or not
        ("hello lo@@", "hello lo"),
        ("", ""),
    ],
)
def test_a_release_writes_characters_and_words(release: ReleaseVocabulary, pieces: str, text: str):
    assert release.decode(indices(pieces)) == text


def test_words_of_a_release_span_their_tokens(release: ReleaseVocabulary):
    times = [(0.0, 0.5), (0.5, 1.0), (1.0, 1.5), (1.5, 2.0), (2.0, 2.5)]
    found = release.words(indices("你 lo@@ <unk> ve 好"), times)
    assert found == [Word("你", 0.0, 0.5), Word("love", 0.5, 2.0), Word("好", 2.0, 2.5)]


def test_transcripts_of_pieces_are_joined_as_words_are(release: ReleaseVocabulary):
    assert release.join(["你好", "吗", "hello", "world"]) == "你好吗hello world"
    marked = ReleaseVocabulary(["<blank>", "<s>", "</s>", "▁hi", "<unk>"])
    assert marked.join(["hi 9", "9 hi"]) == "hi 9 9 hi"


def test_decoding_is_funasrs(release: ReleaseVocabulary):
    from funasr.utils.postprocess_utils import sentence_postprocess

    draw = random.Random(0)
    units = ["你", "好", "吗", "1", "hello", "world", "lo@@ ve", "lo@@ lo@@ ve", "<unk>"]
    for _ in range(500):
        pieces = " ".join(draw.choices(units, k=draw.randint(1, 8))).split()
        assert release.decode([RELEASE.index(piece) for piece in pieces]) == sentence_postprocess(pieces)[0], pieces


def test_funasr_moves_ends_of_words_cut_short(release: ReleaseVocabulary):
    from funasr.utils.postprocess_utils import sentence_postprocess

    assert sentence_postprocess(["hello", "lo@@"])[0] == "hello"
    assert sentence_postprocess(["lo@@", "你", "world"])[0] == "你loworld"
    assert release.decode(indices("lo@@ 你 world")) == "lo你world"


def test_decoding_is_sentencepieces(tmp_path: Path):
    import sentencepiece

    sentences = ["the cat sat on the mat", "a dog's life", "where is the cat", "dogs and cats sat there"] * 5
    (tmp_path / "text").write_text("\n".join(sentences))
    sentencepiece.SentencePieceTrainer.train(
        input=str(tmp_path / "text"), model_prefix=str(tmp_path / "bpe"), vocab_size=40, model_type="bpe",
        unk_id=0, bos_id=1, eos_id=2, unk_piece="<blank>", minloglevel=2,
    )  # fmt: skip
    model = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "bpe.model"))
    pieces = [model.id_to_piece(i) for i in range(40)]
    vocabulary = ReleaseVocabulary(pieces)
    for sentence in sentences:
        assert vocabulary.decode(model.encode(sentence)) == sentence
    draw = random.Random(0)
    for _ in range(200):  # pieces in any order, as a recogniser may put them
        drawn = draw.choices(range(3, 40), k=draw.randint(1, 12))
        assert vocabulary.decode(drawn) == " ".join(model.decode_pieces([pieces[i] for i in drawn]).split())


def test_a_release_goes_through_its_file(tmp_path: Path):
    odd = ReleaseVocabulary(["<blank>", "<s>", "</s>", "a\tb", "", "\u3000", "\x85", "\u2028", "<unk>"])
    (tmp_path / "vocabulary.txt").write_text(str(odd), encoding="utf-8", newline="")
    loaded = ReleaseVocabulary.load(tmp_path / "vocabulary.txt")
    assert loaded.pieces == odd.pieces
    assert loaded.token_ids == list(range(9)) and len(loaded) == 9


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<blank>\t0\n<s>\t2\n", "vocabulary.txt:2: expected a token, a tab and 1, found '<s>"),
        ("<blank>\t0\na\n", "vocabulary.txt:2: expected a token, a tab and 1, found 'a'"),
        ("[PAD]\t0\n", "tokens start with"),
    ],
)
def test_a_damaged_file_of_a_release(tmp_path: Path, content: str, message: str):
    (tmp_path / "vocabulary.txt").write_text(content)
    with pytest.raises(InputError, match=message):
        ReleaseVocabulary.load(tmp_path / "vocabulary.txt")
    with pytest.raises(InputError, match="missing: import the model again"):
        ReleaseVocabulary.load(tmp_path / "nowhere.txt")


def test_a_token_with_a_line_break():
    with pytest.raises(InputError, match="token 3 holds a line break"):
        ReleaseVocabulary(["<blank>", "<s>", "</s>", "\n"])
