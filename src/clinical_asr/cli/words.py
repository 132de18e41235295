"""The commands of the build stages that deal in words: terms, sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from clinical_asr.cli import options as o
from clinical_asr.cli.console import counted, table, told

if TYPE_CHECKING:
    from clinical_asr.records import Term
    from clinical_asr.term_flags import Flag

terms_app = typer.Typer(help="The clinician's list of terms.", no_args_is_help=True)
TermsFile = Annotated[Path, typer.Argument(help="CSV file with the header term,entity_category.", metavar="TERMS.csv")]
Base = Annotated[str, typer.Option(help="Base that must spell the terms: mini, a .nemo file or a Hugging Face id.")]


def check_terms(
    path: TermsFile,
    base: Base = "",
    strict: Annotated[bool, typer.Option("--strict", help="Exit 2 if there is any warning.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print counts and warnings as one JSON document.")] = False,
) -> None:
    """Check a list of terms. A fault (column, category, empty, twice) is refused with exit 2; the rest is warned of.

    Warnings: quotes of a word processor, what seems to be one thing written twice, names that look and sound alike,
    and, with --base, what that base's tokenizer cannot spell.

    Example: clinical-asr terms check examples/terms.csv --base mini --strict
    """
    from clinical_asr.term_flags import flags, quoted
    from clinical_asr.terms import in_quotes, read_terms

    terms = read_terms(path)
    found = [*quoted(in_quotes(path)), *flags(terms, _vocabulary(base))]
    _show_json(path, terms, found) if as_json else _show(path, terms, found)
    if strict and found:
        raise typer.Exit(2)


def _vocabulary(base: str) -> Any:
    from clinical_asr.cli.engines import resolve
    from clinical_asr.spelling import read_vocabulary

    return read_vocabulary(resolve(base)) if base else None


def _show(path: Path, terms: Sequence[Term], found: Sequence[Flag]) -> None:
    typer.echo(f"{path}: {told(Counter(term.entity_category.value for term in terms), 'terms')}")
    for flag in found:
        typer.echo(flag.line())
    if found:
        typer.echo(told(Counter(flag.kind for flag in found), "warnings"))


def _show_json(path: Path, terms: Sequence[Term], found: Sequence[Flag]) -> None:
    import msgspec

    from clinical_asr.errors import printable

    counts = dict(sorted(Counter(term.entity_category.value for term in terms).items()))
    document = {"file": printable(str(path)), "terms": len(terms), "by_category": counts, "flags": found}
    typer.echo(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())


def list_terms(path: TermsFile) -> None:
    """Show a list of terms, category by category.

    Example: clinical-asr terms list examples/terms.csv
    """
    from clinical_asr.records import EntityCategory
    from clinical_asr.terms import read_terms

    terms = read_terms(path)
    groups = {c: [term.term for term in terms if term.entity_category is c] for c in EntityCategory}
    rows = [(c.value, len(names), ", ".join(names)) for c, names in groups.items() if names]
    table(counted(len(terms), "terms"), ("category", "terms", "which"), rows)


def add_terms(
    path: TermsFile,
    term: Annotated[list[str] | None, typer.Option(help="A term; give it again for more.")] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Its category: one for all, or one for each --term in turn. With --from: which to take."),
    ] = None,
    source: Annotated[
        str, typer.Option("--from", help="Take terms from a starter pack (its name) or another CSV file.")
    ] = "",
    limit: Annotated[int, typer.Option(help="Take at most so many from --from; 0 takes all.", min=0)] = 0,
    base: Base = "",
) -> None:
    """Add terms to a list, all or none; the file is made if it is not there. What seems doubtful is said.

    A term that is there already, in whatever case, is refused; with --from it is passed over.

    Example: clinical-asr terms add my_terms.csv --term cefazolin --category drug

    Example: clinical-asr terms add my_terms.csv --from oncology --category drug --limit 8
    """
    from clinical_asr.errors import ConfigError
    from clinical_asr.term_flags import flags
    from clinical_asr.terms import add_terms, advice

    if bool(term) == bool(source):
        raise ConfigError("takes either --term or --from", "terms add", "name terms, or where to take them from")
    new = _from_file(path, source, category or [], limit) if source else _typed(term or [], category or [])
    every = add_terms(path, new)
    names = {one.term for one in every[len(every) - len(new) :]}
    typer.echo(f"{path}: {told(Counter(one.entity_category.value for one in new), 'terms added')}; {len(every)} in all")
    for flag in flags(every, _vocabulary(base)):
        if names & set(flag.terms):
            typer.echo(flag.line())
    if advice(len(new)):
        typer.echo(advice(len(new)))


def _typed(names: Sequence[str], categories: Sequence[str]) -> list[Term]:
    """Terms of the command line. Raises ConfigError unless there is one category for all or one for each."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.records import Term
    from clinical_asr.terms import category_of

    if len(categories) not in (1, len(names)):
        mend = "give one --category for all terms, or one after each --term"
        raise ConfigError(f"{len(categories)} categories for {len(names)} terms", "--category", mend)
    chosen = categories if len(categories) > 1 else list(categories) * len(names)
    return [Term(term=name, entity_category=category_of(c)) for name, c in zip(names, chosen, strict=True)]


def _from_file(path: Path, source: str, categories: Sequence[str], limit: int) -> list[Term]:
    """Terms of a pack or a file that ``path`` does not hold. Raises ConfigError if there are none."""
    from clinical_asr.errors import ConfigError
    from clinical_asr.packs import resolve_pack
    from clinical_asr.terms import category_of, read_terms

    wanted = {category_of(name) for name in categories}
    held = {one.term.casefold() for one in read_terms(path)} if path.exists() and path.stat().st_size else set()
    offered = [one for one in read_terms(resolve_pack(source)) if not wanted or one.entity_category in wanted]
    new = [one for one in offered if one.term.casefold() not in held]
    if not new:
        why = "holds no term that is not in the list already" if offered else "holds no term of that category"
        raise ConfigError(why, f"--from {source}", "see: clinical-asr terms packs")
    if len(new) < len(offered):
        typer.echo(f"{len(offered) - len(new)} of {source} are in the list already")
    return new[: limit or None]


def list_packs() -> None:
    """Show the starter packs of terms by specialty that come with the package.

    Example: clinical-asr terms packs
    """
    from clinical_asr.packs import packs
    from clinical_asr.terms import read_terms

    for name, path in packs().items():
        typer.echo(f"{name}: {told(Counter(term.entity_category.value for term in read_terms(path)), 'terms')}")
    typer.echo("take some: clinical-asr terms add my_terms.csv --from PACK --category drug --limit 8")


def sentences(
    terms: o.Terms,
    output: o.Output,
    contexts_per_term: Annotated[int, typer.Option(help="Sentences for each term, each in another frame; >= 3.")] = 4,
    seed: o.Seed = 42,
    style: Annotated[
        str, typer.Option(help="lower (bare words) or written (capitals, commas, digits): the base's own.")
    ] = "lower",
    frames: Annotated[Path | None, typer.Option(help="Your own frames, YAML, instead of the package's.")] = None,
    llm: Annotated[
        str, typer.Option(help="Have a language model write them: address of an OpenAI-compatible endpoint.")
    ] = "",
    llm_model: Annotated[str, typer.Option(help="The model's name at that endpoint.")] = "",
    llm_tries: Annotated[int, typer.Option(help="How often to ask for a sentence before it counts as refused.")] = 3,
    llm_timeout: Annotated[float, typer.Option(help="Seconds of silence before a request is given up.")] = 60.0,
    allow: Annotated[
        str, typer.Option(help="Services this run may send to, with commas: llm. This machine needs no leave.")
    ] = "",
    designer: Annotated[
        bool, typer.Option("--designer", help="Ask through NeMo Data Designer, several at a time (extra `designer`).")
    ] = False,
    fall_back: Annotated[
        bool, typer.Option("--fall-back", help="Put a frame's sentence where the model's were refused.")
    ] = False,
) -> None:
    """Write sentences of 10 to 30 words around every term, in several contexts: from frames, or by a language model.

    A language model's sentences are checked (the term as whole words, length, nothing that looks like a person's data),
    asked for again with the reason, and kept beside the output: the same command again asks only for what is missing.
    Its key is read from CLINICAL_ASR_LLM_KEY.

    Example: clinical-asr sentences --terms examples/terms.csv --output sentences.jsonl

    Example: clinical-asr sentences --terms examples/terms.csv --output sentences.jsonl
    --llm http://127.0.0.1:8000/v1 --llm-model my-model
    """
    from clinical_asr.cli.llm import Wish, compose_sentences
    from clinical_asr.errors import ConfigError
    from clinical_asr.jsonl import write_rows
    from clinical_asr.sentences import build_sentences, load_frames
    from clinical_asr.terms import read_terms

    o.not_over(output, terms, frames)
    o.permitted(allow, output.with_name("egress.jsonl"))  # a service that is none is said with any writer
    if style not in ("lower", "written"):
        raise ConfigError(f"{style!r} is no style", "--style", "use lower or written")
    listed, known = read_terms(terms), load_frames(frames)
    built = build_sentences(listed, contexts_per_term, seed, frames=known, style=style)  # type: ignore[arg-type]
    if llm or llm_model or designer:
        wish = Wish(
            url=llm, model=llm_model, tries=llm_tries, timeout=llm_timeout, allow=allow, fall_back=fall_back,
            designer=designer, contexts_per_term=contexts_per_term, seed=seed, style=style,  # type: ignore[arg-type]
        )  # fmt: skip
        built = compose_sentences(listed, built, wish, output)
    write_rows(output, built)
    typer.echo(f"{output}: {told(Counter(sentence.context_type for sentence in built), 'sentences')}")


terms_app.command("add")(add_terms)
terms_app.command("check")(check_terms)
terms_app.command("list")(list_terms)
terms_app.command("packs")(list_packs)
