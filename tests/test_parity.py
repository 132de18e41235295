"""Offline against served: pairing by id, verdict, and the cause of each difference; on a real tiny model too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from clinical_asr.cli import app
from clinical_asr.errors import ScoringError
from clinical_asr.jsonl import read_rows, write_rows
from clinical_asr.parity import (
    BASELINE,
    NOT_OFFLINE,
    NOT_SERVED,
    NOT_SOUGHT,
    TEXT,
    UNEXPLAINED,
    compare,
    explained,
    sought,
    verdict,
)
from clinical_asr.records import Hypothesis, Utterance


def rows(**texts: str) -> list[Hypothesis]:
    return [Hypothesis(id=key, audio_filepath=f"{key}.wav", text="r", duration=1.0, pred_text=t, model="m")
            for key, t in texts.items()]  # fmt: skip


def test_rows_are_paired_by_id_and_every_one_is_accounted_for() -> None:
    found = compare(rows(a="one", b="two", c="Three.", d="four"), rows(e="five", c="three", b="too", a="one"))
    assert (found.rows, found.identical, len(found.differences)) == (5, 1, 4)
    assert {row.id: row.cause for row in found.differences} == {
        "b": NOT_SOUGHT, "c": TEXT, "d": NOT_SERVED, "e": NOT_OFFLINE,
    }  # fmt: skip
    assert found.share == pytest.approx(3 / 5)


@pytest.mark.parametrize(("tolerance", "name", "code"), [(0.0, "differs", 5), (0.59, "differs", 5), (0.6, "equal", 0)])
def test_the_verdict_rests_on_the_share(tolerance: float, name: str, code: int) -> None:
    found = compare(rows(a="one", b="two", c="Three.", d="four"), rows(e="five", c="three", b="too", a="one"))
    decision = verdict(found, tolerance)
    assert (decision.verdict, decision.exit_code) == (name, code)
    assert decision.evidence["identical"] + decision.evidence["equal_after_normalisation"] + 3 == 5


def test_a_variant_that_gives_the_served_text_is_the_cause() -> None:
    found = compare(rows(a="x", b="x", c="x", d="x"), rows(a="y", b="z", c="w", d="v"))
    heard = {
        BASELINE: {"a": "x", "b": "x", "c": "w", "d": "x"},
        "precision: bf16": {"a": "y", "b": "Z.", "c": "w", "d": "x"},
        "audio conversion: mu-law": {"a": "y", "b": "q", "c": "q", "d": "q"},
    }
    causes = {row.id: row.cause for row in explained(found, heard).differences}
    assert causes == {
        "a": "precision: bf16 or audio conversion: mu-law", "b": "precision: bf16", "c": BASELINE, "d": UNEXPLAINED,
    }  # fmt: skip


def test_a_variant_that_heard_nothing_of_a_row_explains_nothing() -> None:
    found = explained(compare(rows(a="x"), rows(a="")), {"precision: bf16": {}})
    assert [row.cause for row in found.differences] == [UNEXPLAINED]


@pytest.mark.parametrize(
    ("left", "right", "why"),
    [
        ([], rows(a="x"), "offline file: has no rows"),
        (rows(a="x"), [], "served file: has no rows"),
        (rows(a="x"), rows(b="x"), "no row is in both"),
        (rows(a="x") * 2, rows(a="x"), "without an id of their own"),
        (
            rows(a="x"),
            [Hypothesis(id="a", audio_filepath="a", text="s", duration=1.0, pred_text="x")],
            "two references",
        ),
    ],
)
def test_files_that_cannot_be_compared_are_refused(left: Any, right: Any, why: str) -> None:
    with pytest.raises(ScoringError, match=why):
        compare(left, right)


@pytest.mark.parametrize(("served", "code"), [("give 5 mg", 0), ("Give 5 mg.", 0), ("give 50 mg", 5)])
def test_the_command_exits_as_it_says(served: str, code: int, tmp_path: Path) -> None:
    write_rows(tmp_path / "a.jsonl", rows(a="give 5 mg"))
    write_rows(tmp_path / "b.jsonl", rows(a=served))
    result = CliRunner().invoke(app, ["parity", str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")])
    assert result.exit_code == code, result.output
    assert json.loads((tmp_path / "parity.json").read_text())["exit_code"] == code


class TestTinyModel:
    """A real model offline, and the same model served."""

    pytestmark = pytest.mark.nemo

    @pytest.fixture(scope="class")
    def recogniser(self, tiny_nemo: Path) -> Any:
        from clinical_asr.cli.endpoints import recogniser

        return recogniser(tiny_nemo, "tiny")

    def test_served_is_offline_to_the_row(
        self, recogniser: Any, tiny_nemo: Path, tiny_manifest: Path, tmp_path: Path
    ) -> None:
        from served import serving

        def hypotheses(name: str, *words: str) -> list[Hypothesis]:
            command = ["hypotheses", "--manifest", str(tiny_manifest), "--output", str(tmp_path / name), *words]
            result = CliRunner().invoke(app, command)
            assert result.exit_code == 0, result.output
            return read_rows(tmp_path / name, Hypothesis)

        with serving(recogniser, max_wait=0.05, model_name="tiny") as server:
            served = hypotheses("served.jsonl", "--endpoint", f"127.0.0.1:{server.port}")
        found = compare(hypotheses("offline.jsonl", "--model", str(tiny_nemo)), served)
        assert (found.rows, found.identical) == (12, 12)
        assert len({row.pred_text for row in served}) > 1

    def test_a_stream_is_heard_as_the_whole(self, recogniser: Any, tiny_manifest: Path) -> None:
        pytest.importorskip("riva.client")
        from served import client, pieces, serving, streaming

        path = tiny_manifest.parent / read_rows(tiny_manifest, Utterance)[0].audio_filepath
        offline = recogniser.decoder.transcribe({"a": path})["a"]
        with serving(recogniser, model_no_words=recogniser.no_words) as server:
            asked = streaming(interim=True, enable_word_time_offsets=True)
            *_, last = client(server).streaming_response_generator(pieces(path.read_bytes()), asked)
        best = last.results[0].alternatives[0]
        assert best.transcript == offline and [word.word for word in best.words] == offline.split()
        times = [(word.start_time, word.end_time) for word in best.words]
        assert times == sorted(times) and times[-1][1] <= 1000 * last.results[0].audio_processed + 80
        assert all(0 < word.confidence <= 1 for word in best.words) and 0 < best.confidence <= 1

    @pytest.mark.parametrize("kind", ["tiny_ctc", "tiny_rnnt"])
    def test_other_heads_give_words_or_say_why_not(
        self, kind: str, tiny_manifest: Path, request: pytest.FixtureRequest
    ) -> None:
        from clinical_asr.cli.endpoints import recogniser
        from clinical_asr.recognition import Recognition
        from clinical_asr.speech import read_speech

        hear = recogniser(request.getfixturevalue(kind), kind)
        paths = [tiny_manifest.parent / row.audio_filepath for row in read_rows(tiny_manifest, Utterance)[:3]]
        speech = [read_speech(path) for path in paths]
        plain, again = hear(speech, False), hear(speech, False)
        timed = hear(speech, True)
        assert not hear.no_words
        assert plain == again and all(isinstance(one, Recognition) and not one.words for one in plain)
        assert [one.text for one in timed] == [one.text for one in plain]
        assert all([word.text for word in one.words] == one.text.split() for one in timed)
        assert hear(speech, False) == plain  # words that were asked for leave no trace

    def test_the_cause_is_found_on_a_model(self, recogniser: Any, tiny_manifest: Path, tmp_path: Path) -> None:
        """Served text made by a service that pads with silence, and by one of other weights."""
        from clinical_asr.engines.nemo_variants import padded, variants
        from clinical_asr.speech import read_speech

        utterances = read_rows(tiny_manifest, Utterance)
        speech = {row.id: read_speech(tiny_manifest.parent / row.audio_filepath) for row in utterances}
        offline = recogniser.decoder.recognise(list(speech.items()))
        slip = recogniser.decoder.recognise([(key, padded(samples)) for key, samples in speech.items()])
        changed = [key for key in speech if slip[key] != offline[key]]
        assert changed, "silence changes nothing: the test would prove nothing"
        served = {**offline, **{key: slip[key] for key in changed}}
        served[changed[-1]] = "quite another text"
        found = compare(rows(**offline), rows(**served))
        mine = {row.id: speech[row.id] for row in sought(found)}
        heard = {name: hear(mine) for name, hear in variants(recogniser.decoder, BASELINE).items()}
        causes = {row.id: row.cause for row in explained(found, heard).differences}
        assert causes.pop(changed[-1]) == UNEXPLAINED
        assert all("silence added" in cause for cause in causes.values())


def test_conversions_keep_the_form_of_speech() -> None:
    from clinical_asr.engines.nemo_variants import CONVERSIONS

    speech = np.random.default_rng(1).uniform(-0.5, 0.5, 16_001).astype(np.float32)
    for name, change in CONVERSIONS.items():
        changed = change(speech)
        assert changed.dtype == np.float32 and changed.ndim == 1 and np.isfinite(changed).all(), name
        assert len(changed) != len(speech) or not np.array_equal(changed, speech), name
