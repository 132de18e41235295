"""What a base can spell, read from its file, agrees with what its own tokenizer does."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from clinical_asr.bases import mini_base
from clinical_asr.errors import ModelError
from clinical_asr.spelling import Vocabulary, read_vocabulary, vocabulary_of
from tiny_model import SENTENCES

SAMPLES = ["cefazolin", "hba1c", "ménière", "beta-blocker", "½ dose", "vitamin b twelve", "Ab", " a  b", "2.5%", "it's",
           "α", "crohn’s", "co-trimoxazole", "x ray", "5-ht", "zoledronic acid", "naïve", "q w e r t y"]  # fmt: skip


@pytest.fixture(scope="module")
def mini() -> Vocabulary:
    return read_vocabulary(mini_base())


@pytest.mark.parametrize("text", SAMPLES)
def test_what_the_mini_base_cannot_spell_is_what_its_tokenizer_makes_unknown(mini: Vocabulary, text: str) -> None:
    sentencepiece = pytest.importorskip("sentencepiece")
    with tarfile.open(mini_base()) as archive:
        member = next(entry for entry in archive if entry.name.endswith("tokenizer.model"))
        model = archive.extractfile(member)
        assert model is not None
        tokenizer = sentencepiece.SentencePieceProcessor(model_proto=model.read())
    assert bool(mini.cannot_spell(text)) == (tokenizer.unk_id() in tokenizer.encode(text))


def test_the_characters_are_named_each_once_in_their_order(mini: Vocabulary) -> None:
    assert mini.cannot_spell("hba1c b12 11 é") == "12é"
    assert mini.style == "lower"


def test_a_base_with_capitals_writes() -> None:
    known = vocabulary_of(["<unk>", "▁", "▁The", "t", "h", "e", "T", "."])
    assert known.style == "written"
    assert known.cannot_spell("The hat.") == "a"


def test_a_character_inside_a_longer_piece_is_spelled_only_there() -> None:
    known = vocabulary_of(["▁", "▁mg", "a"])
    assert known.cannot_spell("mg a") == ""
    assert known.cannot_spell("gm") == "gm"


def test_byte_pieces_spell_everything_and_special_pieces_nothing() -> None:
    assert vocabulary_of(["▁", *(f"<0x{byte:02X}>" for byte in range(256))]).cannot_spell("½ α") == ""
    assert vocabulary_of(["<unk>", "▁", "<s>"]).cannot_spell("s") == "s"


def test_a_list_of_single_characters_has_no_word_start() -> None:
    assert vocabulary_of([" ", "a", "b"]).cannot_spell("a b-c") == "-c"


@pytest.mark.nemo
def test_a_model_that_nemo_wrote_lists_its_vocabulary(tiny_nemo: Path) -> None:
    known = read_vocabulary(tiny_nemo)
    assert [known.cannot_spell(sentence) for sentence in SENTENCES] == [""] * len(SENTENCES)
    assert known.cannot_spell("½") == "½"


def test_what_is_no_model_is_a_typed_error(tmp_path: Path) -> None:
    (tmp_path / "model_config.yaml").write_text("target: nemo.collections.asr.models.EncDecCTCModel\n")
    bare = tmp_path / "bare.nemo"
    with tarfile.open(bare, "w") as archive:
        archive.add(tmp_path / "model_config.yaml", "model_config.yaml")
    for path in (bare, tmp_path / "none.nemo", tmp_path / "model_config.yaml"):
        with pytest.raises(ModelError):
            read_vocabulary(path)
