"""Phrase boosting on CPU, with the embedded base: terms it has never heard of appear, and only when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from clinical_asr.boosting import Boosting
from clinical_asr.errors import ConfigError, ModelError

pytest.importorskip("nemo")
torch = pytest.importorskip("torch")

from clinical_asr.bases import mini_base  # noqa: E402
from clinical_asr.cli.engines import boosted, synthesiser, transcriber  # noqa: E402
from clinical_asr.engines.nemo_boosting import boost, phrases  # noqa: E402
from clinical_asr.nemo_file import restore  # noqa: E402

pytestmark = pytest.mark.nemo
SAID = {"troponin": "the troponin was higher this morning", "warfarin": "she stopped the warfarin last week"}


def heard(model: object, speech: list[object]) -> str:
    found = model.transcribe(speech, batch_size=2, verbose=False)  # type: ignore[attr-defined]
    return " ".join(getattr(text, "text", text) for text in found)


def test_boosted_terms_are_heard_and_the_rest_stays(tmp_path: Path) -> None:
    model, speak = restore(mini_base()), synthesiser()
    speech: list[object] = [speak(text, "en-us+f5-r160-p50") for text in SAID.values()]
    plain = heard(model, speech)
    boost(model, list(SAID), 1.0)
    boosted = heard(model, speech)
    assert sum(term in boosted for term in SAID) > sum(term in plain for term in SAID)
    assert "higher this morning" in boosted
    boost(model, list(SAID), 0.0)
    assert heard(model, speech) == plain


def test_terms_are_written_as_the_base_writes(tiny_nemo: Path) -> None:
    model = restore(tiny_nemo)
    assert phrases(model, ["Warfarin", " warfarin ", ""]) == ["warfarin"]

    class Cased:
        vocab = ("▁War", "far", "in")

    class Base:
        tokenizer = Cased()

    assert phrases(Base(), ["warfarin"]) == ["warfarin", "Warfarin"]


@pytest.mark.parametrize(("terms", "strength"), [([], 1.0), (["a"], -1.0), ([" "], 1.0)])
def test_what_cannot_be_boosted_is_refused(tiny_nemo: Path, terms: list[str], strength: float) -> None:
    with pytest.raises(ConfigError, match="boosting"):
        boost(restore(tiny_nemo), terms, strength)


def test_a_boosted_recogniser_has_a_name_of_its_own_and_leaves_the_plain_one_as_it_was(tmp_path: Path) -> None:
    import soundfile

    plain, speak = transcriber(mini_base(), "mini"), synthesiser()
    audio = {term: tmp_path / f"{term}.wav" for term in SAID}
    for term, text in SAID.items():
        soundfile.write(audio[term], speak(text, "en-us+f5-r160-p50"), 16_000, subtype="PCM_16")
    before, mild, strong = plain.transcribe(audio), *(boosted(plain, Boosting(tuple(SAID), s)) for s in (0.1, 1.0))
    assert len({(one.name, one.digest) for one in (plain, mild, strong)}) == 3
    leaning = strong.transcribe(audio)
    assert sum(term in str(leaning[term]) for term in SAID) > sum(term in str(before[term]) for term in SAID)
    assert plain.transcribe(audio) == before, "the model in memory is plain again"
    mild.transcribe(audio)
    assert strong.transcribe(audio) == leaning, "two strengths of one model in turn"


def test_a_model_without_a_transducer_says_why_it_cannot_be_boosted(tiny_ctc: Path) -> None:
    with pytest.raises(ModelError, match="no transducer decoder to boost"):
        boosted(transcriber(tiny_ctc), Boosting(("warfarin",), 0.5))
