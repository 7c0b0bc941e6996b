"""Tests of recipes/drcd/local: what is spoken of a miniature of the publisher's layout, and the small text encoder."""

import importlib.util
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from clsr.corpora.one_to_one import same_text
from clsr.models.text_encoder import load_text_encoder
from clsr.vocabulary import normalise

LOCAL = Path(__file__).resolve().parents[2] / "recipes" / "drcd" / "local"

BUILT = "這座木橋建於１９２３年，橋身長\u3000六十公尺，全長共用了２，４００根木頭，沒有用一根鐵釘，全靠卡榫。"
MADE = "村裡的木匠花了兩年才完工！"  # too short to be a passage by itself
FLOOD = "洪水曾經三次淹過橋面，最後一次沖走了全部的欄杆，新的欄杆是學校的學生用竹子一節一節做成的。"
TEA_HOUSE = "橋的東端有一間由ＡＢＣ茶行出資興建的小茶亭，夏天的午後老人都在那裡下棋，一直到天黑才回家去。"
RIVER = "渡船一次只能載十二個人和兩頭牛，船夫收的不是錢，而是一個沒有人聽過的故事，所以老人總是不用等船。"
TEMPLE = "西端則是一座石造的土地公廟，廟前的榕樹據說比橋還要老上一百歲，樹下長年擺著三張石凳供人休息。"


def make_question(id_: str, question: str, answer: str, context: str, start: int | None = None) -> dict[str, Any]:
    """A question as the publisher has it: answers have ids of their own, and the development set two of them."""
    place = context.find(answer) if start is None else start
    answers = [{"id": str(i + 1), "text": answer, "answer_start": place} for i in range(2)]
    return {"id": id_, "question": question, "answers": answers}


def article(title: str, id_: str, *paragraphs: tuple[str, list[dict[str, Any]]]) -> dict[str, Any]:
    numbered = [{"id": f"{id_}-{i + 1}", "context": text, "qas": qas} for i, (text, qas) in enumerate(paragraphs)]
    return {"title": title, "id": id_, "paragraphs": numbered}


def plain(title: str, id_: str) -> dict[str, Any]:
    """An article of one paragraph and one question."""
    context = f"{title}在城外的山坡上。"
    return article(title, id_, (context, [make_question(f"{id_}-1-1", f"{title}在哪裡？", "山坡上", context)]))


def write(path: Path, *articles: dict[str, Any]) -> None:
    whole = {"version": "1.3", "data": list(articles)}
    path.write_text(json.dumps(whole, ensure_ascii=False, indent=1), encoding="utf-8")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """SHA-1 of 茶園 starts with 06, of 鐘樓 with ac, of 木橋 with c6; 渡船 is in both files, so tested alone."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    first, second = BUILT + MADE + FLOOD, TEA_HOUSE + TEMPLE
    bridge = article(
        "木橋", "9001",
        (first, [
            make_question("9001-1-1", "木橋建於\u3000哪一年？", "１９２３年", first),
            make_question("9001-1-2", "橋身有多長？", "六十公尺", first),  # in the passage of the one before
            make_question("9001-1-3", "欄杆是用什麼做的？", "竹子", first, start=3),  # said to be elsewhere: looked for
            make_question("9001-1-4", "用了什麼釘子？", "銅釘", first),  # is not there
        ]),
        (second, [
            make_question("9001-2-1", "木橋建於 哪一年?", "天黑", second),  # but for its width the question before it
            make_question("9001-2-2", "誰出資蓋了茶亭？", "ＡＢＣ茶行", second),
        ]),
    )  # fmt: skip
    write(folder / "DRCD_training.json", bridge, plain("鐘樓", "9002"), plain("茶園", "9003"), plain("渡船", "9004"))
    write(folder / "DRCD_dev.json", plain("渡船", "9102"))
    return folder


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return load("prepare_data")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"drcd_{name}", LOCAL / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(script: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, LOCAL / script, *map(str, arguments)], check=False, capture_output=True, text=True
    )


def read_rows(path: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def write_rows(path: Path, *rows: object) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def test_what_is_written_of_the_published_files(corpus: Path, tmp_path: Path) -> None:
    result = run("prepare_data.py", corpus, tmp_path / "text", "--rest")
    assert result.returncode == 0, result.stderr
    train, dev, test, asr_rows = (
        read_rows(tmp_path / f"text/{n}.jsonl") for n in ("train", "dev", "test", "asr.train")
    )
    assert [(row["id"], row["question"], row["context"]) for row in train] == [
        ("9001-1-1", "木橋建於 哪一年？", BUILT),
        ("9001-1-3", "欄杆是用什麼做的？", FLOOD),
        ("9001-2-2", "誰出資蓋了茶亭？", TEA_HOUSE),
        ("9002-1-1", "鐘樓在哪裡？", "鐘樓在城外的山坡上。"),
    ]
    assert [row["id"] for row in dev] == ["9003-1-1"] and [row["id"] for row in test] == ["9102-1-1"]
    assert asr_rows[:4] == train
    assert [(row["id"], row["context"]) for row in asr_rows[4:]] == [
        *((f"{row['id']}-q", row["question"]) for row in train),
        ("9001-2-2-x0", TEMPLE),  # MADE is too short to be spoken alone
    ]
    assert [row["id"] for row in read_rows(tmp_path / "text/asr.dev.jsonl")] == ["9003-1-1", "9003-1-1-q"]
    assert "DRCD_training.json: 1 questions whose answer is not there are left out" in result.stderr
    assert "DRCD_dev.json: sha256 " in result.stderr and "(none is published)" in result.stderr


def test_full_width_text_is_read_as_half_width() -> None:
    assert normalise(BUILT + TEA_HOUSE).startswith("這座木橋建於1923年 橋身長 六十公尺 全長共用了2400根木頭")
    assert "由abc茶行" in normalise(TEA_HOUSE)


def test_without_the_rest_only_pairs_are_spoken(corpus: Path, tmp_path: Path) -> None:
    assert run("prepare_data.py", corpus, tmp_path / "text").returncode == 0
    assert not any("-x" in row["id"] for row in read_rows(tmp_path / "text/asr.train.jsonl"))


def selected(id_: str, title: str, context: str, **change: Any) -> dict[str, Any]:
    row = {"id": id_, "title": title, "question": f"{id_}是什麼？", "context": context, "context_short": context}
    return row | {"answer": "x"} | change


def test_a_selection_goes_before_the_published_files(script: ModuleType, corpus: Path) -> None:
    rows = [
        selected("1", "木橋", "一"),
        selected("2", "木橋", "一"),
        selected("3", "茶園", "三"),
        selected("4", "渡船", "四"),
    ]
    write_rows(corpus / "drcd.train.jsonl", *rows)
    write_rows(corpus / "drcd.dev.jsonl", selected("9", "渡船", "九"))
    splits = script.make_splits(corpus)
    assert {name: [pair.id for pair in pairs] for name, pairs in splits.items()} == {
        "train": ["1"],
        "dev": ["3"],
        "test": ["9"],
    }


def read_aloud(id_: str, title: str, context: str, answer: str, **change: Any) -> dict[str, Any]:
    """A row of ODSQA: what was read aloud, beside what a recogniser made of it."""
    fields = {"question": f"{id_}十麼", "context": context[:-1], "answer": "x"}
    row = {"question_ref": f"{id_}是什麼？", "context_ref": context, "answer_ref": answer}
    return {"id": id_, "title": title, **fields, **row, **change}


def test_odsqa_is_measured_on_articles_not_trained_on(corpus: Path, tmp_path: Path) -> None:
    rows = [
        read_aloud("1", "木橋", BUILT, "木頭"),  # trained on
        read_aloud("2", "茶園", MADE, "兩年"),  # dev
        read_aloud("3", "渡船", RIVER + TEMPLE, "兩頭牛"),  # in the test set, as it may be
        read_aloud("4", "水塔", TEMPLE, "鐵釘"),  # an answer that is not there
        read_aloud("5", "水塔", FLOOD, "三次"),  # a passage trained on
        read_aloud("6", "水塔", TEMPLE, "石凳"),
    ]
    write_rows(corpus / "odsqa_zh.jsonl", *rows)
    result = run("prepare_data.py", corpus, tmp_path / "text")
    assert result.returncode == 0, result.stderr
    assert read_rows(tmp_path / "text/odsqa.jsonl") == [
        {"id": "3", "question": "3是什麼？", "context": RIVER},
        {"id": "6", "question": "6是什麼？", "context": TEMPLE},
    ]
    assert "odsqa_zh.jsonl: 1 questions whose answer is not there are left out" in result.stderr


def test_faults_of_odsqa(corpus: Path, tmp_path: Path) -> None:
    write_rows(corpus / "odsqa_zh.jsonl", read_aloud("1", "水塔", TEMPLE, "石凳", context_ref=""))
    check_refused(run("prepare_data.py", corpus, tmp_path / "text"), "odsqa_zh.jsonl:1: 1: a text is empty", tmp_path)


def replace_first(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new, 1)


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (
            "DRCD_training.json",
            None,
            "no such file or folder; get it with: wget https://raw.githubusercontent.com/DRCK",
        ),
        ("DRCD_dev.json", None, "no such file or folder; get it with: wget https://raw.githubusercontent.com/DRCK"),
        ("DRCD_dev.json", lambda text: text[:-9], "is no JSON in UTF-8"),
        ("DRCD_dev.json", lambda text: text.replace("qas", "qa"), "article 0, paragraph 0: qas is missing"),
        (
            "DRCD_training.json",
            lambda text: replace_first(text, '"9001-1-2"', '"9001-1-1"'),
            "article 0, paragraph 0: question 9001-1-1: the id is there twice",
        ),
        (
            "DRCD_training.json",
            lambda text: replace_first(text, "橋身有多長？", "\u3000"),
            "article 0, paragraph 0, question 9001-1-2: question is missing or empty",
        ),
    ],
)
def test_faults_of_published_files(
    corpus: Path, tmp_path: Path, name: str, damage: Callable[[str], str] | None, message: str
) -> None:
    path = corpus / name
    path.unlink() if damage is None else path.write_text(damage(path.read_text(encoding="utf-8")), encoding="utf-8")
    check_refused(run("prepare_data.py", corpus, tmp_path / "text"), f"{path}: {message}", tmp_path)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1], ":2: is no object of id, title, question, context_short, context"),
        (selected("5", "茶園", "五", question=None), ":2: is no object of id, title"),
        (selected("5", "茶園", "五", context_short="\u3000"), ":2: 5: a text is empty; mend or remove the line"),
    ],
)
def test_faults_of_a_selection(corpus: Path, tmp_path: Path, row: object, message: str) -> None:
    write_rows(corpus / "drcd.train.jsonl", selected("1", "木橋", "一"), row)
    check_refused(run("prepare_data.py", corpus, tmp_path / "text"), "drcd.dev.jsonl: no such file or folder", tmp_path)
    write_rows(corpus / "drcd.dev.jsonl", selected("9", "渡船", "九"))
    check_refused(run("prepare_data.py", corpus, tmp_path / "text"), f"drcd.train.jsonl{message}", tmp_path)


def check_refused(result: "subprocess.CompletedProcess[str]", message: str, tmp_path: Path) -> None:
    errors = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert result.returncode == 2 and len(errors) == 1 and message in errors[0], result.stderr
    assert result.stderr.splitlines()[-1] == errors[0] and not (tmp_path / "text").exists()


def test_real_selection(script: ModuleType, shared_data: Path) -> None:
    splits = script.make_splits(shared_data / "text_qa")
    odsqa = splits.pop("odsqa")
    assert len(odsqa) == 227 and not {pair.title for pair in odsqa} & {
        pair.title for name in ("train", "dev") for pair in splits[name]
    }
    assert {name: len(pairs) for name, pairs in splits.items()} == {"train": 450, "dev": 50, "test": 100}
    pairs = [pair for split in splits.values() for pair in split]
    assert len({same_text(pair.question) for pair in pairs}) == len({same_text(pair.context) for pair in pairs}) == 600
    titles = [{pair.title for pair in split} for split in splits.values()]
    assert sum(map(len, titles)) == len(set().union(*titles))


def test_the_vocabulary_has_every_character_once() -> None:
    pieces = load("make_text_encoder").make_vocabulary(["水Ａ１，水水山\u3000", "山 B?石"])
    assert pieces[:5] == ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    assert pieces[-3:] == ["水", "山", "石"]  # 3, 2 and 1 times; letters, digits and marks stand before them
    assert len(pieces) == len(set(pieces)) and {"a", "##a", "1", "##1", "?", "，"} <= set(pieces)
    assert not any(piece.isspace() or piece in "ＡA１" for piece in pieces)


@pytest.mark.slow
def test_the_made_text_encoder_loads_and_is_reproducible(tmp_path: Path) -> None:
    write_rows(tmp_path / "texts.jsonl", {"question": "誰造橋？", "context": BUILT})
    for name, seed in (("one", 0), ("two", 0), ("three", 1)):
        options = ("--output", tmp_path / name, "--width", 32, "--layers", 1, "--seed", seed)
        result = run("make_text_encoder.py", tmp_path / "texts.jsonl", *options)
        assert result.returncode == 0, result.stderr
    one, two, three = (load_text_encoder(str(tmp_path / name)) for name in ("one", "two", "three"))
    assert one.fingerprint == two.fingerprint != three.fingerprint
    unknown = one.tokenizer.token_to_id("[UNK]")
    ids = one.token_ids(normalise(BUILT))
    assert unknown not in ids and unknown in one.token_ids("廟")
    assert len(one.token_ids("木橋Bridge 9")) == 2 + 6 + 1
    vectors = one.encode(["木橋", "誰造橋？"], "passage")
    assert torch.linalg.vector_norm(vectors, dim=1).tolist() == pytest.approx([1.0, 1.0])
    assert not torch.allclose(vectors[0], vectors[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("content", "options", "message"),
    [
        (None, [], "texts.jsonl: no such file"),
        ('{"question": "q", "context": "c"}\n{"question": "q"}\n', [], "texts.jsonl:2: is no object with question and"),
        ('{"question": "q", "context": "c"}\n', ["--width", "40"], "argument --width: invalid width value: '40'"),
    ],
)
def test_faults_of_training_texts(tmp_path: Path, content: str | None, options: list[str], message: str) -> None:
    if content is not None:
        (tmp_path / "texts.jsonl").write_text(content)
    result = run("make_text_encoder.py", tmp_path / "texts.jsonl", "--output", tmp_path / "encoder", *options)
    assert result.returncode == 2 and message in result.stderr.splitlines()[-1]
    assert not (tmp_path / "encoder").exists()
