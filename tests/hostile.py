"""What foreign bytes are given to, for hypothesis (a few seconds, in the suite) and for atheris (hours, by hand).

A target takes any bytes. It returns, or it raises a ``FlywheelError``: the one line that a person sees. Everything else
is a finding, and so is a promise that does not hold of what was read.
"""

from __future__ import annotations

import atexit
import contextlib
import shutil
import tempfile
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from clinical_asr.errors import FlywheelError

Target = Callable[[bytes], None]


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where the bytes of a target lie; in memory where the machine allows it."""
    memory = Path("/dev/shm")
    made = Path(tempfile.mkdtemp(prefix="hostile-", dir=memory if memory.is_dir() else None))
    atexit.register(shutil.rmtree, made, True)
    return made


def file(name: str, content: bytes) -> Path:
    """A file with this content."""
    path = folder() / name
    path.write_bytes(content)
    return path


def text(content: bytes) -> str:
    """Any text that can come out of a file: no lone surrogates."""
    return content.decode("utf-8", "replace")


def one_line(error: FlywheelError) -> None:
    """An error is one line, without anything that a terminal would obey."""
    shown = str(error)
    assert (shown and shown.isprintable()) or not set(shown) & set("\n\r\x1b\u202e"), repr(shown)
    shown.encode("utf-8")


def manifest(content: bytes) -> None:
    """Every line is accounted for, whatever stands in it; what passed can be written and read again."""
    from clinical_asr.cycle import account
    from clinical_asr.manifest import check

    report = check(file("manifest.jsonl", content))
    account("manifest", report.declared, report.entries)
    assert len(report.rows) + sum(entry.outcome.value == "failed" for entry in report.entries) == len(report.entries)
    for finding in (*report.problems, *report.warnings):
        one_line(finding)
    assert report.ok == (not report.problems)


def transcripts(content: bytes) -> None:
    """Hypotheses of ours and of NeMo's; what is read can be scored or is refused."""
    from clinical_asr.scores import score
    from clinical_asr.transcripts import read_transcripts

    score(read_transcripts(file("hyps.jsonl", content)))


def pairs(content: bytes) -> None:
    """Two text files, line by line."""
    from clinical_asr.scores import score
    from clinical_asr.transcripts import read_pairs

    said, _, heard = content.partition(b"\0")
    score(read_pairs(file("said.txt", said), file("heard.txt", heard)))


def terms(content: bytes) -> None:
    """A list that is read is written and read again unchanged; its variants make an index."""
    from clinical_asr.jsonl import write_csv
    from clinical_asr.terms import COLUMNS, read_terms
    from clinical_asr.variants import Variants

    listed = read_terms(file("terms.csv", content))
    names = list(dict.fromkeys(name for term in listed for name in term.extra))
    write_csv(folder() / "again.csv", listed, [*COLUMNS, *names])
    assert [(t.term, t.entity_category) for t in read_terms(folder() / "again.csv")] == [
        (t.term, t.entity_category) for t in listed
    ]
    Variants(listed)


def overrides(content: bytes) -> None:
    """The file of pronunciations, and one line more for it."""
    from clinical_asr.overrides import Override, append_override, read_overrides

    path = file("overrides.csv", content)
    before = read_overrides(path)
    line = Override(term="heparin", ipa="ˈhɛpəɹɪn", verified_by="=A", verified_at="2026-01-02", notes="-1+1")
    append_override(path, line)
    assert [one.term for one in read_overrides(path)] == [*(one.term for one in before), "heparin"]
    assert read_overrides(path)[-1].notes == "-1+1"


def auditions(content: bytes) -> None:
    """The verdicts."""
    from clinical_asr.audition_record import read_auditions

    read_auditions(file("auditions.jsonl", content))


def recipe(content: bytes) -> None:
    """A recipe, checked: its numbers can be trained with."""
    from clinical_asr.config import load_recipe

    read = load_recipe(str(file("recipe.yaml", content)))
    assert 0 < read.learning_rate <= 1 and 1 <= read.epochs <= 10_000


def frames(content: bytes) -> None:
    """Frames for sentences."""
    from clinical_asr.sentences import load_frames

    load_frames(file("frames.yaml", content))


def documents(content: bytes) -> None:
    """What earlier stages wrote: a decision, a signature, scores."""
    from clinical_asr.jsonl import read_json, read_rows
    from clinical_asr.records import Decision
    from clinical_asr.tally import Score, Signature

    path = file("document.json", content)
    for kind in (Decision, Signature, dict[str, Any]):
        with contextlib.suppress(FlywheelError):
            read_json(path, kind)
    read_rows(path, Score)


def respelling(content: bytes) -> None:
    """What is read as a respelling is IPA."""
    from clinical_asr.ipa import require_ipa
    from clinical_asr.respelling import to_ipa

    require_ipa(to_ipa(text(content)))


def ipa(content: bytes) -> None:
    """IPA to the mnemonics of the speech engine: nothing else may reach it."""
    from clinical_asr.engines.espeak_ipa import mnemonics
    from clinical_asr.ipa import require_ipa

    require_ipa(text(content))
    said = mnemonics(text(content))
    assert "]]" not in said and said.isprintable(), said


def ssml(content: bytes) -> None:
    """XML whatever stands in the text, and the text is still in it."""
    from clinical_asr.ssml import pieces, speak

    words, _, sound = text(content).partition("\0")
    imposed = dict.fromkeys(words.split()[:3], sound or "x")
    assert "".join(part for part, _ in pieces(words, imposed)) == words
    spoken = speak(words, imposed)
    if spoken.startswith("<speak>") and any(said for _, said in pieces(words, imposed)):
        parsed = ElementTree.fromstring(spoken)
        assert {element.tag for element in parsed.iter()} <= {"speak", "phoneme"}


def nemo(content: bytes) -> None:
    """A model file: read to its end, or refused."""
    from clinical_asr.nemo_file import check_archive, read_architecture, read_tensors

    path = file("model.nemo", content)
    check_archive(path)
    read_architecture(path)
    read_tensors(path)


def model_config(content: bytes) -> None:
    """The config within a model file."""
    from clinical_asr.architecture import architecture_of
    from clinical_asr.model_config import check_config, parse_config

    config = parse_config(content, "model.nemo")
    check_config(config, ["tokenizer.model"], "model.nemo")
    architecture_of(config)


def dictionary(content: bytes) -> None:
    """A reply of the dictionary."""
    from clinical_asr.engines.merriam_webster import respellings

    word, _, reply = content.partition(b"\0")
    for said in respellings(text(word), reply):
        assert isinstance(said, str) and said.strip()


def language_model(content: bytes) -> None:
    """A reply of a language model: a sentence, or to be asked for again."""
    from clinical_asr.engines.llm import _Again, _content

    with contextlib.suppress(_Again):
        assert isinstance(_content(content), str)


def advice(content: bytes) -> None:
    """The typed numbers behind ``advise``."""
    from clinical_asr.cli.advise import _counts, _rates

    for parse in (_counts, _rates):
        with contextlib.suppress(FlywheelError):
            parse(text(content), "--flag")


TARGETS: dict[str, Target] = {
    target.__name__: target
    for target in (manifest, transcripts, pairs, terms, overrides, auditions, recipe, frames, documents, respelling,
                   ipa, ssml, nemo, model_config, dictionary, language_model, advice)
}  # fmt: skip


def attempt(target: Target, content: bytes) -> None:
    """Give bytes to a target; a typed error of one line is an answer."""
    try:
        target(content)
    except FlywheelError as error:
        one_line(error)


def _model() -> bytes:
    from nemo_builder import nemo as built

    return built(folder() / "seed.nemo").read_bytes()


SEEDS: dict[str, tuple[bytes, ...]] = {
    "nemo": (_model(),),
    "manifest": (
        b'{"audio_filepath":"a.wav","text":"give heparin","duration":1.0,"term":"heparin","entity_category":"drug",'
        b'"ipa_source":"g2p","voice_id":"v","noise_level":"snr_5db","context_type":"handoff"}\n',
    ),
    "transcripts": (b'{"id":"a","text":"give heparin","pred_text":"give a pin","term":"heparin"}\n',),
    "pairs": (b"give heparin now\0give a pin now",),
    "terms": (b"term,entity_category,variants\nHbA1c,lab,A1c; hemoglobin A1c\nheparin,drug,\n",),
    "overrides": ("term,ipa,verified_by,verified_at,notes\nheparin,ˈhɛpəɹɪn,A,2026-01-02,x\n".encode(),),
    "auditions": (b'{"term":"heparin","verdict":"good","by":"A","at":"2026-01-02"}\n',),
    "recipe": (b"name: mine\nepochs: 3\nlearning_rate: 3.0e-4\nbetas: [0.9, 0.98]\nfactors: [1.0]\n",),
    "frames": (b"drug:\n  handoff:\n    - 'please give {term} to the patient in bed four before ten tonight'\n",),
    "documents": (b'{"verdict":"keep","reason":"r","evidence":{},"next_stage":"deploy","exit_code":0}',),
    "respelling": ("ˈhep-ə-rən, -ˌrin; ÷ˌan-ᵊl-".encode(), "ə-ˈnal-jə-sik".encode()),
    "ipa": ("sɛˈfæzəlɪn".encode(), "ˈtʃɪld ɜːɹ".encode()),
    "ssml": (b"Give heparin & <wait> now\0x",),
    "model_config": (b"target: nemo.collections.asr.models.EncDecCTCModelBPE\nencoder: {n_layers: 2}\n",),
    "dictionary": (b'heparin\0[{"hwi":{"hw":"hep*a*rin","prs":[{"mw":"hep"}]},"uros":[{"ure":"a","prs":[]}]}]',),
    "language_model": (b'{"choices":[{"message":{"content":"Give it."}}]}',),
    "advice": (b"g2p=0.6:20,override=0.05:20", b"drug=60,lab=20"),
}
"""Something to begin with that is right, so that a fuzzer finds its way in."""
