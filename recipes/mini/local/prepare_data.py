#!/usr/bin/env python
"""Write the mini corpus: made-up statements over a few hundred words, and one vague question for each.

A statement is a deed (who did what) with some of: to or with whom, where, when, how, why. Its question asks for one of
these, leaves some of the others out and words some differently, so that even the perfect transcript of a statement is
not always the nearest to its question. Every word is one WordPiece of the uncased BERT vocabulary.
"""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clsr.corpora.script import positive, run_script
from clsr.data.kaldi import write_lines

MIN_WORDS, MAX_WORDS = 10, 16
MIN_NAMED = 2  # parts of the statement that a question names at least, besides its deed
KEPT = 0.55  # chance that it names a part, beyond that
REWORDED = 0.5  # chance that a question says such a part, or the deed, in other words


def listed(text: str) -> list[str]:
    """The words of a word list."""
    return text.split()


MEN = listed("king prince monk priest sailor soldier bishop")
WOMEN = listed("queen princess nurse widow actress nun")
PEOPLE = listed(
    """
    teacher doctor farmer judge lawyer artist singer writer poet dancer driver pilot captain hunter merchant
    guard student professor scientist engineer mayor thief reporter gardener tailor butcher miner spy
    """
)
MANNERS = listed("old young tall rich poor brave quiet clever proud angry happy lonely famous strange")
RELATIVES = listed("brother sister mother father uncle aunt cousin friend neighbor daughter grandfather partner")
COLORS = listed("red green yellow black white brown purple silver")
QUALITIES = listed("small large heavy wooden broken golden ancient dirty expensive empty")
TASTES = listed("fresh hot cold sweet spicy")
LOOKS = listed("small large black white brown young old wild hungry sick")
THINGS = listed(
    """
    book letter map ring sword knife lamp clock mirror painting hat coat bag box chair table key camera radio
    bottle basket blanket candle carpet crown doll flag helmet jacket rope shield shirt necklace diamond
    """
)
FOODS = listed("bread soup cheese cake rice chicken salad honey butter potatoes beans pie chocolate fish")
BUILDINGS = listed("house bridge wall tower fence church school temple castle barn cabin ship wagon gate")
ANIMALS = listed("horse dog cat cow goat sheep duck lion wolf bear fox rabbit monkey snake eagle elephant")
TOPICS = listed("history music money science religion poetry politics medicine football gold war magic")
INSTRUMENTS = listed("piano guitar violin drum flute trumpet")
CITIES = listed("london paris rome berlin madrid cairo tokyo boston chicago moscow vienna dublin")
VEHICLES = listed("train bus boat plane taxi")
DISASTERS = listed("fire flood storm earthquake bomb")
FORCES = listed("great sudden terrible")
PLACES = listed(
    """
    river lake forest market station harbor hill mountain beach farm village park hospital library museum prison
    palace hotel theater kitchen garden valley cave factory
    """
)
ENCLOSED = listed("market station village park hospital library museum prison palace hotel theater kitchen garden")
NUMBERS = listed("three seven ten twenty")
DAYS = listed("monday tuesday wednesday thursday friday saturday sunday")
HOURS = listed("morning afternoon evening night")
SEASONS = listed("spring summer autumn winter")
MONTHS = listed("january march april june august october december")
EVENTS = listed("wedding funeral festival election battle holiday concert trial")
REASONS = [
    line.strip()
    for line in """
    because it was cold
    because it was late
    because nobody else wanted it
    because of an old promise
    to win a prize
    to make some money
    to keep a secret
    to please a stranger
    to save a life
    to end an argument
    without any help
    by mistake
    """.strip().splitlines()
]
OTHER_WORDS = {  # how a question may put it; every other noun of the statements stays as it is
    "teacher": "instructor", "doctor": "physician", "soldier": "warrior", "writer": "author", "lawyer": "attorney",
    "thief": "criminal", "merchant": "trader", "scientist": "researcher", "judge": "magistrate",
    "ring": "jewel", "necklace": "jewel", "diamond": "jewel", "sword": "weapon", "knife": "weapon", "hat": "garment",
    "coat": "garment", "jacket": "garment", "shirt": "garment",
    "church": "building", "house": "building", "castle": "building", "temple": "building", "school": "building",
    "bread": "food", "soup": "food", "rice": "food", "beans": "vegetables", "potatoes": "vegetables",
    "horse": "animal", "dog": "pet", "cat": "pet", "cow": "animal", "snake": "creature", "eagle": "bird",
    "duck": "bird", "lion": "beast", "wolf": "beast", "bear": "beast",
    "piano": "instrument", "guitar": "instrument", "violin": "instrument", "flute": "instrument",
}  # fmt: skip


class Part(NamedTuple):
    """A part of a statement: what it says, and how a question that names it may put it."""

    slot: str
    text: str
    vague: str


class Deed(NamedTuple):
    """A verb and what it goes with."""

    past: str
    base: str
    kind: str  # of what it is done to, a key of KINDS
    preposition: str  # of the other person
    other_past: str  # a verb that a question may use for it
    other_base: str


class Kind(NamedTuple):
    """A kind of object."""

    nouns: list[str]
    adjectives: list[str]
    question: str  # how a question asks for one
    unnamed: str  # what a question says in place of one that it does not name


class Pair(NamedTuple):
    """A statement, its question, and the words of the statement that answer it."""

    question: str
    context: str
    answer: str


KINDS = {
    "thing": Kind(THINGS, COLORS + QUALITIES, "what", "something"),
    "food": Kind(FOODS, TASTES, "what food", "some food"),
    "building": Kind(BUILDINGS, [*QUALITIES, "white", "red"], "what", "something"),
    "animal": Kind(ANIMALS, LOOKS, "which animal", "an animal"),
    "topic": Kind(TOPICS, [], "which subject", "something"),
    "instrument": Kind(INSTRUMENTS, COLORS + QUALITIES, "which instrument", "some music"),
    "person": Kind(PEOPLE, MANNERS, "whom", "someone"),
    "route": Kind(CITIES, [], "where", ""),
}
DEEDS = [
    Deed(*line.split())
    for line in """
    gave give thing to presented present
    sold sell thing to traded trade
    sent send thing to posted post
    brought bring thing to delivered deliver
    showed show thing to displayed display
    offered offer thing to proposed propose
    found find thing with discovered discover
    lost lose thing with forgot forget
    hid hide thing from concealed conceal
    stole steal thing from took take
    bought buy thing from purchased purchase
    carried carry thing for transported transport
    borrowed borrow thing from obtained obtain
    cooked cook food for prepared prepare
    served serve food to offered offer
    shared share food with divided divide
    tasted taste food with tried try
    built build building for constructed construct
    painted paint building for decorated decorate
    cleaned clean building with washed wash
    repaired repair building for fixed fix
    designed design building for planned plan
    fed feed animal with raised raise
    chased chase animal with pursued pursue
    caught catch animal for captured capture
    rescued rescue animal with saved save
    trained train animal for taught teach
    taught teach topic to explained explain
    studied study topic with learned learn
    discussed discuss topic with debated debate
    played play instrument for performed perform
    practiced practice instrument with learned learn
    met meet person with encountered encounter
    visited visit person with saw see
    helped help person with assisted assist
    followed follow person with tracked track
    warned warn person with alerted alert
    """.strip().splitlines()
]
JOURNEYS = [
    Deed("traveled", "travel", "route", "with", "went", "go"),
    Deed("returned", "return", "route", "with", "came", "come"),
    Deed("moved", "move", "route", "with", "went", "go"),
    Deed("escaped", "escape", "route", "with", "fled", "flee"),
]
DAMAGES = [
    Deed("destroyed", "destroy", "building", "", "ruined", "ruin"),
    Deed("damaged", "damage", "building", "", "hurt", "hurt"),
]
IRREGULAR = {"gave", "showed", "hid", "stole"}  # deeds whose passive is another word than their past
QUESTION_WORDS = {
    "where": "where",
    "city": "in which city",
    "when": "when",
    "why": "why",
    "how": "how",
    "price": "for how much",
}


def make_pairs(seed: int) -> Iterator[Pair]:
    """Endless pairs; no two have statements of the same words, in whatever order, or the same question."""
    draw = random.Random(seed)
    statements: set[tuple[str, ...]] = set()
    questions: set[str] = set()
    while True:
        deed, parts = draw_scene(draw)
        context = state(draw, deed, parts)
        words = tuple(sorted(context.split()))
        if not MIN_WORDS <= len(words) <= MAX_WORDS or words in statements:
            continue
        question, answer = ask(draw, deed, parts)
        if question not in questions:
            statements.add(words)
            questions.add(question)
            yield Pair(question, context, answer)


def draw_scene(draw: random.Random) -> tuple[Deed, list[Part]]:
    """A deed and its parts: who, what or route, then the others in the order of a plain sentence."""
    kind = draw.random()
    if kind < 0.05:
        disaster, deed = draw.choice(DISASTERS), draw.choice(DAMAGES)
        who = Part("who", f"a {draw.choice(FORCES)} {disaster}", f"a {disaster}")
        return deed, [who, draw_object(draw, deed.kind), *draw_circumstances(draw, ["where", "city", "when"], 3)]
    who, his = draw_person(draw, "who")
    if kind < 0.15:
        start, end = draw.sample(CITIES, 2)
        vehicle = f"by {draw.choice(VEHICLES)}"
        route = Part("route", f"from {start} to {end}", draw.choice([f"from {start}", f"to {end}"]))
        others = [
            Part("how", vehicle, vehicle),
            draw_whom(draw, "with", his),
            *draw_circumstances(draw, ["when", "why"], 1),
        ]
        return draw.choice(JOURNEYS), [who, route, *draw.sample(others, draw.choice([2, 3]))]
    deed = draw.choice(DEEDS)
    others = draw_circumstances(draw, ["where", "city", "when", "why"], draw.choice([1, 2, 2, 3]))
    if deed.base in ("buy", "sell"):
        price = f"for {draw.choice(NUMBERS)} dollars"
        others.insert(0, Part("price", price, price))
    if draw.random() < 0.6:
        others.insert(0, draw_whom(draw, deed.preposition, his))
    return deed, [who, draw_object(draw, deed.kind), *others]


def draw_person(draw: random.Random, slot: str, preposition: str = "") -> tuple[Part, str]:
    """Somebody known by what they do, and the word for what is theirs."""
    role = draw.choice(MEN + WOMEN + 2 * PEOPLE)
    his = "his" if role in MEN else "her" if role in WOMEN else draw.choice(["his", "her"])
    text = f"the {draw.choice(MANNERS)} {role}"
    vague = draw.choice([text, f"the {role}"])
    return Part(slot, f"{preposition} {text}".strip(), f"{preposition} {reword(draw, vague)}".strip()), his


def draw_whom(draw: random.Random, preposition: str, his: str) -> Part:
    """The other person: a relative of the first, or a stranger."""
    if draw.random() < 0.4:
        return draw_person(draw, "whom", preposition)[0]
    text = f"{preposition} {his} {draw.choice(RELATIVES)}"
    return Part("whom", text, text if draw.random() > REWORDED else f"{preposition} a relative")


def draw_object(draw: random.Random, kind: str) -> Part:
    """What the deed is done to."""
    if kind == "person":
        return draw_person(draw, "what")[0]
    noun = draw.choice(KINDS[kind].nouns)
    if kind == "topic":
        return Part("what", noun, noun)
    adjective = draw.choice(KINDS[kind].adjectives)
    text = f"{'some' if kind == 'food' else article(adjective)} {adjective} {noun}"
    vague = draw.choice([text, noun if kind == "food" else f"{article(noun)} {noun}"])
    return Part("what", text, reword(draw, vague))


def draw_circumstances(draw: random.Random, slots: list[str], count: int) -> list[Part]:
    """As many of the slots as ``count`` says, in their order."""
    place = draw.choice(PLACES)
    near = draw.choice(["near", "behind", "inside"] if place in ENCLOSED else ["near", "behind"])
    texts = {
        "where": f"{near} the {place}",
        "city": f"in {draw.choice(CITIES)}",
        "why": draw.choice(REASONS),
    }
    parts = {slot: Part(slot, text, text) for slot, text in texts.items()} | {"when": draw_time(draw)}
    chosen = draw.sample(slots, count)
    return [parts[slot] for slot in slots if slot in chosen]


def draw_time(draw: random.Random) -> Part:
    """A day, a season, a month or an event."""
    day, hour = draw.choice(DAYS), draw.choice(HOURS)
    season, month, event = draw.choice(SEASONS), draw.choice(MONTHS), draw.choice(EVENTS)
    early, after = draw.choice(["early", "late"]), draw.choice(["before", "during", "after"])
    return draw.choice(
        [
            Part("when", f"on {day} {hour}", draw.choice([f"on {day}", f"on {day} {hour}"])),
            Part("when", f"in {early} {month}", f"in {month}"),
            Part("when", f"last {season}", f"last {season}"),
            Part("when", f"{after} the {event}", f"{after} the {event}"),
        ]
    )


def state(draw: random.Random, deed: Deed, parts: list[Part]) -> str:
    """The statement: plain, with a part in front, or in the passive."""
    who, what, *others = (part.text for part in parts)
    front = [number for number, part in enumerate(parts[2:]) if part.slot in ("when", "city", "where")]
    order = draw.random()
    opening = others.pop(draw.choice(front)) if front and order < 0.35 else ""
    if parts[1].slot == "what" and deed.past not in IRREGULAR and order > 0.8:
        sentence = [what, "was", deed.past, "by", who]
    else:
        sentence = [who, deed.past, what]
    return " ".join([opening, *sentence, *others]).strip()


def ask(draw: random.Random, deed: Deed, parts: list[Part]) -> tuple[str, str]:
    """A question for one part that names some of the others, and its answer: that part as the statement has it.

    A preposition that the question begins with (to whom, in which city) is left out of the answer.
    """
    target = draw.choice(parts)
    others = [part for part in parts if part is not target]
    chosen = draw.sample(others, max(MIN_NAMED, sum(draw.random() < KEPT for _ in others)))
    named = {part.slot: part.vague for part in chosen}
    past, base = (deed.past, deed.base) if draw.random() > REWORDED else (deed.other_past, deed.other_base)
    kind = KINDS[deed.kind]
    rest = [part.vague for part in parts[2:] if part.slot in named]
    who = named.get("who", "a disaster" if deed in DAMAGES else "someone")
    what = named.get(parts[1].slot, kind.unnamed)
    if target.slot == "who":
        words = ["what" if deed in DAMAGES else "who", past, what, *rest]
    elif target is parts[1]:
        words = [kind.question, "did", who, base, *rest]
    elif target.slot == "whom":
        words = [target.text.split()[0], "whom did", who, base, what, *rest]
    else:
        words = [QUESTION_WORDS[target.slot], "did", who, base, what, *rest]
    question = " ".join(word for word in words if word) + "?"
    preposition, _, rest_of_part = target.text.partition(" ")
    return question, rest_of_part if question.startswith(f"{preposition} ") else target.text


def reword(draw: random.Random, phrase: str) -> str:
    """The phrase with another word for its noun, now and then, where there is one."""
    *others, noun = phrase.split()
    if noun not in OTHER_WORDS or draw.random() > REWORDED:
        return phrase
    noun = OTHER_WORDS[noun]
    if len(others) == 1 and others[0] in ("a", "an"):
        others = [article(noun)]
    return " ".join([*others, noun])


def article(noun: str) -> str:
    """The indefinite article before a word."""
    return "an" if noun[0] in "aeiou" else "a"


def write_corpus(output: Path, sizes: dict[str, int], seed: int) -> None:
    """Write ``<split>.jsonl`` for each split, drawn in this order: what comes last does not change what came before."""
    pairs = make_pairs(seed)
    output.mkdir(parents=True, exist_ok=True)
    for split, size in sizes.items():
        rows = ({"id": f"{split}-{number:05d}", **next(pairs)._asdict()} for number in range(size))
        write_lines(output / f"{split}.jsonl", (json.dumps(row) + "\n" for row in rows))


def prepare(args: argparse.Namespace) -> None:
    """Write the corpus in the sizes of the options."""
    sizes = {"test": args.test_pairs, "dev": 200, "long": 40, "train": args.statements}
    if args.smoke:
        sizes = {"test": 12, "dev": 8, "long": 6, "train": 48}
    write_corpus(args.output, sizes, args.seed)


def main() -> None:
    """Read the command line and write the corpus."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="folder for train, dev, test and long .jsonl")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--statements", type=positive, default=10000, help="training pairs")
    parser.add_argument("--test-pairs", type=positive, default=600)
    parser.add_argument("--smoke", action="store_true", help="a few pairs of each, whatever the other sizes")
    run_script(parser, prepare)


if __name__ == "__main__":
    main()
