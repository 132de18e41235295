"""terms and sentences as a person types them: bad input, warnings, packs, and a language model on this machine."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chat_server import Answer, Heard, chat_server, good, says
from commands import Run

KEY = "sk-very-secret-000111"


@pytest.fixture
def run(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Relative paths lie in ``tmp_path``."""
    monkeypatch.chdir(tmp_path)
    return run


def test_a_list_grows_from_nothing_with_awkward_terms(run: Run) -> None:
    assert run("terms", "add", "t.csv", "--term", "cefazolin", "--category", "drug")[0] == 0
    three = {"insulin, regular": "drug", 'heparin "low dose"': "drug", "ferritin": "lab"}
    words = [word for term, category in three.items() for word in ("--term", term, "--category", category)]
    code, out, _ = run("terms", "add", "t.csv", *words)
    assert code == 0 and "3 terms added: 2 drug, 1 lab; 4 in all" in out
    assert Path("t.csv").read_text().splitlines()[2:4] == ['"insulin, regular",drug', '"heparin ""low dose""",drug']
    assert run("sentences", "--terms", "t.csv", "--output", "s.jsonl")[0] == 0
    rows = [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]
    assert all("insulin regular" in row["text"] for row in rows if row["term"] == "insulin, regular")
    assert all(set(row["text"]) <= set("abcdefghijklmnopqrstuvwxyz' ") for row in rows)


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbfterm,entity_category\r\ncefazolin,drug\r\n", b"term,entity_category\ncefazolin,drug"]
)
def test_bom_crlf_and_a_missing_last_newline_are_read(run: Run, content: bytes) -> None:
    Path("t.csv").write_bytes(content)
    assert run("terms", "check", "t.csv")[1] == "t.csv: 1 term: 1 drug\n"
    assert run("terms", "add", "t.csv", "--term", "ferritin", "--category", "lab")[0] == 0
    assert Path("t.csv").read_bytes() == b"term,entity_category\ncefazolin,drug\nferritin,lab\n"


@pytest.mark.parametrize(("words", "told"), [
    (("--term", "CEFAZOLIN", "--category", "drug"), "'CEFAZOLIN' stands already in the list as term 1"),
    (("--term", "MRI", "--category", "imaging"), "write procedure for imaging; the six are closed"),
    (("--term", "MRI", "--category", "colour"), "use one of: drug, procedure, anatomy, condition, lab, role"),
    (("--term", "a", "--term", "b", "--category", "drug") + ("--category", "lab") * 2, "3 categories for 2 terms"),
    (("--term", "a"), "--category"), ((), "either --term or --from"),
    (("--term", "a", "--from", "icu", "--category", "drug"), "either --term or --from"),
    (("--from", "dentistry"), "one of cardiology, icu"), (("--from", "empty.csv"), "is empty"),
    (("--term", " ", "--category", "drug"), "is no term"),
])  # fmt: skip
def test_what_cannot_be_added_is_told_in_one_line_and_changes_nothing(
    run: Run, words: tuple[str, ...], told: str
) -> None:
    Path("t.csv").write_text("term,entity_category\ncefazolin,drug\n")
    Path("empty.csv").touch()
    code, _, err = run("terms", "add", "t.csv", *words)
    assert code == 2 and told in err and err.count("\n") == 1
    assert Path("t.csv").read_text() == "term,entity_category\ncefazolin,drug\n"


@pytest.mark.parametrize("content", ["", "\n\n", "\ufeff", "term,entity_category\n"])
def test_an_empty_list_is_a_clear_error(run: Run, content: str) -> None:
    Path("t.csv").write_text(content, encoding="utf-8")
    for words in (("terms", "check", "t.csv"), ("terms", "list", "t.csv"),
                  ("sentences", "--terms", "t.csv", "--output", "s.jsonl")):  # fmt: skip
        code, _, err = run(*words)
        assert code == 2 and ("is empty" in err or "holds no terms" in err) and "term,entity_category" in err


@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_mark_between_columns_is_named(run: Run, mark: str) -> None:
    Path("t.csv").write_text(f"term{mark}entity_category\ncefazolin{mark}drug\n")
    code, _, err = run("terms", "check", "t.csv")
    assert code == 2 and "save it with commas" in err and "term,entity_category" in err


def test_a_real_process_says_it_the_same_way(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("term,entity_category\ncefazolin,drug\nCefazolin,drug\n")
    command = [sys.executable, "-m", "clinical_asr", "terms", "check", "t.csv"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 2 and "line 3, term: 'Cefazolin' stands already in line 2" in done.stderr


def test_warnings_are_told_and_strict_makes_them_an_exit(run: Run) -> None:
    Path("t.csv").write_text(
        "term,entity_category\nhaemoglobin,lab\nhemoglobin,lab\nvinblastine,drug\nvincristine,drug\nHbA1c,lab\nferritin,lab\n"
    )
    code, out, _ = run("terms", "check", "t.csv", "--base", "mini")
    assert code == 0
    assert "near-duplicate: haemoglobin / hemoglobin: British and American spelling" in out
    assert "look-alike: vinblastine / vincristine" in out
    assert "cannot-spell: HbA1c: the base has no piece for 1" in out and "ferritin /" not in out
    assert run("terms", "check", "t.csv", "--strict")[0] == 2
    code, out, _ = run("terms", "check", "t.csv", "--strict", "--json", "--base", "mini")
    document = json.loads(out)
    assert code == 2 and document["terms"] == 6 and document["by_category"] == {"drug": 2, "lab": 4}
    assert [flag["kind"] for flag in document["flags"]] == ["near-duplicate", "look-alike", "cannot-spell"]
    Path("clean.csv").write_text("term,entity_category\nferritin,lab\n")
    assert run("terms", "check", "clean.csv", "--strict", "--base", "mini")[0] == 0


def test_packs_are_listed_and_taken_from_a_sitting_at_a_time(run: Run) -> None:
    code, out, _ = run("terms", "packs")
    assert code == 0 and out.count("terms:") == 6 and "oncology: " in out
    code, out, _ = run("terms", "add", "t.csv", "--from", "oncology", "--category", "drug", "--limit", "8")
    assert code == 0 and "8 terms added: 8 drug" in out and "more than one sitting" not in out
    _, out, _ = run("terms", "add", "t.csv", "--from", "oncology")
    assert "8 of oncology are in the list already" in out and "4 to 10 a session" in out
    assert "holds no term that is not in the list" in run("terms", "add", "t.csv", "--from", "oncology")[2]


def test_adding_a_doubtful_term_warns_of_it_alone(run: Run) -> None:
    run("terms", "add", "t.csv", "--term", "vinblastine", "--term", "vincristine", "--category", "drug")
    _, out, _ = run("terms", "add", "t.csv", "--term", "prednisone", "--category", "drug")
    assert "look-alike" not in out
    _, out, _ = run("terms", "add", "t.csv", "--term", "prednisolone", "--category", "drug")
    assert "prednisone / prednisolone" in out and "vinblastine" not in out


@pytest.fixture
def listed(run: Run) -> Run:
    run("terms", "add", "t.csv", "--term", "cefazolin", "--term", "enoxaparin", "--category", "drug")
    return run


def ask(run: Run, url: str, *more: object) -> tuple[int, str, str]:
    return run("sentences", "--terms", "t.csv", "--output", "s.jsonl", "--llm", url, "--llm-model", "tiny", *more)


def rows() -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path("s.jsonl").read_text().splitlines()]


def test_a_model_on_this_machine_needs_no_leave_and_a_rerun_asks_nothing(
    listed: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLINICAL_ASR_LLM_KEY", KEY)
    with chat_server(good) as server:
        assert ask(listed, server.url)[:2] == (
            0,
            "s.jsonl: 8 sentences: 2 chart_note, 2 dictation, 2 handoff, 2 history\n",
        )
        first = Path("s.jsonl").read_bytes()
        assert ask(listed, server.url)[0] == 0 and len(server.heard) == 8
    assert Path("s.jsonl").read_bytes() == first
    assert {request.key for request in server.heard} == {f"Bearer {KEY}"}
    assert {row["source"].split("#")[0] for row in rows()} == {"tiny"}
    assert [row["term"] for row in rows()] == ["cefazolin"] * 4 + ["enoxaparin"] * 4
    assert not Path("egress.jsonl").exists()
    assert not [path for path in Path().iterdir() if KEY in path.read_text()]


def test_refused_sentences_are_listed_and_a_rerun_asks_for_them_alone(listed: Run) -> None:
    def indiscreet(heard: Heard, n: int) -> Answer:
        return (
            says("Mr. Smith had enoxaparin before his dinner this evening as ordered.")
            if heard.term == "enoxaparin"
            else good(heard, n)
        )

    with chat_server(indiscreet) as server:
        code, _, err = ask(listed, server.url, "--llm-tries", 2)
    assert code == 2 and err.count("refused: enoxaparin") == 4 and "a name with a title" in err
    assert "4 of 8 sentences were refused" in err and not Path("s.jsonl").exists()
    assert len(server.heard) == 4 + 8
    with chat_server(good) as server:
        assert ask(listed, server.url)[0] == 0 and len(server.heard) == 4
    assert len(rows()) == 8 and "Smith" not in Path("s.jsonl").read_text()


def test_frames_fill_the_gaps_if_that_is_asked(listed: Run) -> None:
    with chat_server(lambda heard, n: says("No.") if heard.term == "cefazolin" else good(heard, n)) as server:
        code, out, _ = ask(listed, server.url, "--llm-tries", 1, "--fall-back")
    assert code == 0 and "2 dictation" in out
    assert [row["source"] for row in rows()][:4] == ["template"] * 4
    assert [row["term"] for row in rows()] == ["cefazolin"] * 4 + ["enoxaparin"] * 4


def test_nothing_leaves_without_leave_and_leave_is_told_first(listed: Run) -> None:
    code, out, err = ask(listed, "https://llm.invalid/v1")
    assert code == 2 and "add --allow llm" in err and not out
    code, out, err = ask(listed, "https://llm.invalid/v1", "--allow", "everything")
    assert code == 2 and "'everything' is no service" in err
    assert ask(listed, "http://10.1.2.3:8000/v1", "--allow", "llm")[0] == 2
    assert ask(listed, "")[0] == 2


def test_a_process_killed_in_the_middle_continues(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("term,entity_category\ncefazolin,drug\nenoxaparin,drug\n")

    def slow_after_three(heard: Heard, n: int) -> Answer:
        answer = good(heard, n)
        answer.wait = 30 if n == 3 else 0
        return answer

    with chat_server(slow_after_three) as server:
        command = [sys.executable, "-m", "clinical_asr", "sentences", "--terms", "t.csv", "--output", "s.jsonl",
                   "--llm", server.url, "--llm-model", "tiny"]  # fmt: skip
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=4)
        assert len(server.heard) == 4 and not (tmp_path / "s.jsonl").exists()
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0 and "8 sentences" in done.stdout
        assert len(server.heard) == 4 + 5
