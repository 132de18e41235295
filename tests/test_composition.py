"""Sentences by a language model: what passes, what is refused, asked again, kept and never asked for twice."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from clinical_asr.composition import Request, compose, orders, read_journal
from clinical_asr.errors import FlywheelError
from clinical_asr.phi import identifier
from clinical_asr.prompts import Order, digest, in_style, messages, tidy, unusable
from clinical_asr.records import EntityCategory, Term
from clinical_asr.sentences import CONTEXTS, load_frames
from clinical_asr.wording import fill

TERMS = [
    Term(term=name, entity_category=EntityCategory.DRUG) for name in ("cefazolin", "Beta-Blocker", "insulin, regular")
]
ENDINGS = ("tonight", "tomorrow", "on Monday", "at noon", "in the evening", "next week", "after lunch", "at once")


class Model:
    """Answers with a usable sentence about the term, or with what ``reply`` says for the nth request."""

    def __init__(self, reply: Callable[[str, int], str | None] = lambda *_: None) -> None:
        self.reply, self.asked = reply, list[tuple[str, int, Sequence[dict[str, str]]]]()

    def __call__(self, requests: Iterable[Request]) -> Iterator[str]:
        for request in requests:
            n = len(self.asked)
            self.asked.append((request.subject, request.seed, request.conversation))
            usual = f"The ward gave {request.subject} to bed four and will look at the pressure again {ENDINGS[n % 8]}."
            yield self.reply(request.subject, n) or usual


def test_every_order_gets_a_sentence_tagged_with_model_and_prompt(tmp_path: Path) -> None:
    wanted = orders(TERMS, CONTEXTS, 4)
    built, refused = compose(wanted, Model(), tmp_path / "j.jsonl", model="m-7b")
    assert not refused and len(built) == 12
    assert {s.source for s in built} == {f"m-7b#{digest('lower')}"}
    assert [(s.term, s.context_type) for s in built] == [(o.term.term, o.context) for o in wanted]
    assert "beta blocker" in built[4].text and "insulin regular" in built[8].text
    assert len({s.text for s in built}) == 12


def test_the_same_command_again_asks_nothing_and_another_seed_or_model_or_style_asks_anew(tmp_path: Path) -> None:
    wanted, journal = orders(TERMS, CONTEXTS, 4), tmp_path / "j.jsonl"
    first, _ = compose(wanted, Model(), journal, model="m")
    again = Model()
    assert compose(wanted, again, journal, model="m")[0] == first and again.asked == []
    for other in ({"model": "n"}, {"model": "m", "seed": 7}, {"model": "m", "style": "written"}):
        model = Model()
        compose(wanted, model, journal, **other)  # type: ignore[arg-type]
        assert len(model.asked) == 12
    grown = Model()
    compose(
        orders([*TERMS, Term(term="heparin", entity_category=EntityCategory.DRUG)], CONTEXTS, 4),
        grown,
        journal,
        model="m",
    )
    assert [subject for subject, _, _ in grown.asked] == ["heparin"] * 4


@pytest.mark.parametrize("torn", [0, 1, 40])
def test_a_run_that_stops_anywhere_continues_there(tmp_path: Path, torn: int) -> None:
    wanted, journal = orders(TERMS, CONTEXTS, 4), tmp_path / "j.jsonl"

    def fails(_: str, n: int) -> None:
        if n == 5:
            raise FlywheelError("gone")

    with pytest.raises(FlywheelError, match="gone"):
        compose(wanted, Model(fails), journal, model="m")
    if torn:
        journal.write_bytes(journal.read_bytes()[:-torn])
    model = Model()
    built, _ = compose(wanted, model, journal, model="m")
    assert len(built) == 12 and len(model.asked) == 7 + bool(torn)
    assert len(read_journal(journal)) == 12


def test_a_refused_sentence_is_asked_for_again_with_the_reason_and_another_seed(tmp_path: Path) -> None:
    model = Model(
        lambda subject, n: f"Mr. Okafor was given {subject} before the first cut was made today." if n == 0 else None
    )
    built, refused = compose([Order(TERMS[0], "handoff")], model, tmp_path / "j.jsonl", model="m")
    assert len(built) == 1 and not refused and read_journal(tmp_path / "j.jsonl")[0].asked == 2
    (_, first, _), (_, second, talk) = model.asked
    assert first != second
    assert "Okafor" in talk[-2]["content"] and "a name with a title" in talk[-1]["content"]


def test_what_never_passes_is_listed_and_not_kept(tmp_path: Path) -> None:
    model = Model(lambda subject, n: "I cannot help with that request, sorry." if subject == "cefazolin" else None)
    built, refused = compose(orders(TERMS, CONTEXTS, 4), model, tmp_path / "j.jsonl", model="m", tries=2)
    assert len(built) == 8 and len(refused) == 4
    assert all(len(row.reasons) == 2 and "does not contain 'cefazolin'" in row.line() for row in refused)
    assert {row.term for row in read_journal(tmp_path / "j.jsonl")} == {"Beta-Blocker", "insulin, regular"}


def test_a_model_that_repeats_itself_is_refused(tmp_path: Path) -> None:
    same = Model(lambda subject, n: f"The ward gave {subject} to bed four and looked at the pressure again.")
    built, refused = compose(orders(TERMS[:1], CONTEXTS, 3), same, tmp_path / "j.jsonl", model="m", tries=1)
    assert len(built) == 1 and len(refused) == 2 and "already" in refused[0].reasons[0]


GOOD = "We gave cefazolin within the hour before the first cut was made this morning."


@pytest.mark.parametrize(("text", "why"), [
    ("", "one sentence"), (GOOD + "\n" + GOOD, "one sentence"),
    (GOOD.replace("cefazolin", "cefazoline"), "does not contain"),
    (GOOD.replace("cefazolin", "pre-cefazolin"), "does not"), (GOOD + " Then cefazolin again.", "2 times"),
    ("We gave cefazolin.", "3 words"), (GOOD * 3, "3 times"),
    (GOOD.replace("the hour", "2 hours"), "'2' is not written"), (GOOD.replace("the hour", "five mg"), "'mg'"),
    (GOOD.replace("hour", "hour 🙂"), "symbols"), (GOOD.replace("hour", "{term}"), "symbols"),
    (GOOD.replace("We", "Dr. Chen"), "a name with a title"),
    (GOOD.replace("We", "doctor Chen"), "a name with a title"),
    (GOOD.replace("We", "mrs smith"), "a name with a title"),
    (GOOD.replace("We", "John and Mary"), "a person's name"),
    (GOOD.replace("We", "A man named Olu"), "a person's name"),
    (GOOD.replace("We", "Date of birth is March third, we"), "a date of birth"),
    (GOOD.replace("this morning", "on March third"), "a date"),
    (GOOD.replace("this morning", "on 03/04/1961"), "a date"),
    (GOOD.replace("this morning", "on the fifth of may"), "a date"),
    (GOOD.replace("We", "MRN four, we"), "a record number"),
    (GOOD.replace("We", "Call 555-010-9988, we"), "a telephone number"),
    (GOOD.replace("We", "Call five five five zero one, we"), "a long number"),
    (GOOD.replace("We", "Write to a.b@ward.org, we"), "an e-mail"),
    (GOOD.replace("We", "At 12 Elm Street we"), "a postal"),
    (GOOD.replace("We", "A ninety two year old, we"), "an age above 89"),
])  # fmt: skip
def test_what_cannot_be_used_says_why(text: str, why: str) -> None:
    assert why in unusable(text, "cefazolin", "lower")


def test_what_can_be_used_is_left_alone() -> None:
    assert unusable(GOOD, "cefazolin", "lower") == unusable(GOOD.lower(), "cefazolin", "lower") == ""
    assert (
        unusable("Cefazolin, 2.5 milligrams, was given by the night team before the cut.", "cefazolin", "written") == ""
    )
    assert "does not contain" in unusable(GOOD.upper(), "cefazolin", "written")
    assert "already" in unusable(GOOD, "cefazolin", "lower", [GOOD.lower()])


def test_no_frame_of_the_package_looks_like_a_persons_data() -> None:
    """384 clinical sentences written by hand: the net must let them all through."""
    frames = [f for cells in load_frames().values() for cell in cells.values() for f in cell]
    texts = [fill(frame, "stent", style) for frame in frames for style in ("lower", "written")]  # type: ignore[arg-type]
    assert [(identifier(text), text) for text in texts if identifier(text)] == []


@pytest.mark.parametrize(
    "reply", ['"{}"', "Sentence: {}", "- {}", "```\n{}\n```", "<think>let me\nsee</think>\n{}", "“{}”"]
)
def test_what_models_put_around_a_sentence_comes_off(reply: str) -> None:
    assert tidy(reply.format(GOOD)) == GOOD


def test_typographic_quotes_become_plain_and_styles_differ() -> None:
    text = "She’s had Cefazolin — two grams — since the night team came in at ten."
    assert in_style(text, "Cefazolin", "lower") == "she's had cefazolin two grams since the night team came in at ten"
    assert (
        in_style(text, "Cefazolin", "written")
        == "She's had Cefazolin - two grams - since the night team came in at ten."
    )


def test_the_prompt_names_term_category_and_context_and_nothing_else_of_the_list() -> None:
    term = Term(term="cefazolin", entity_category=EntityCategory.DRUG, extra={"ward": "4B", "note": "Mr. Smith"})
    told = json.dumps(messages(Order(term, "handoff"), "lower"))
    assert "cefazolin" in told and "drug" in told and "handover" in told
    assert "4B" not in told and "Smith" not in told
