"""The model card and the deployment page: all that was read, told to somebody who was not there. Pure rendering.

Hugging Face's card style: YAML front matter, then Markdown. Names and reasons come from people and files, so whatever
could end a table cell or begin markup is escaped.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from clinical_asr.evidence import p_value, points, relative, span
from clinical_asr.findings import Changed
from clinical_asr.handoff import Evidence
from clinical_asr.licences import Licence
from clinical_asr.riva_commands import Plan, Step, doubts
from clinical_asr.svg import interval, percent

WORST = 15
KIND = {
    "tdt": "token-and-duration transducer",
    "rnnt": "RNN transducer",
    "ctc": "CTC",
    "hybrid": "hybrid transducer-CTC",
}


@dataclass(frozen=True)
class Card:
    """What the pages are made of."""

    evidence: Evidence
    plan: Plan
    licence: Licence
    waiver: str = ""
    """Why a model that was not promoted is handed over all the same."""


def cell(text: object) -> str:
    """Text of a person or a file as plain words in Markdown.

    >>> print(cell("a|b <img>\\n# c"))
    a\\|b &lt;img&gt; # c
    """
    words = " ".join(str(text).split()).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return "".join(f"\\{letter}" if letter in "|`[]*_\\" else letter for letter in words)


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table, its first column left, the others right."""
    lines = [header, [":--", *["--:"] * (len(header) - 1)], *([cell(one) for one in row] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def card(content: Card, files: Sequence[tuple[str, str]]) -> str:
    """The model card; ``files`` are (name, sha256) of all that lies beside it."""
    evidence, plan = content.evidence, content.plan
    judgement, story = evidence.judgement, evidence.story
    found = judgement.statistics
    test = "" if found is None else (
        f"Over {found.n_terms} terms: mean difference {points(found.mean_difference)} "
        f"({span(found.low, found.high)} at 95 %), sign-flip test p {_equals(p_value(found.p_value))}."
    )  # fmt: skip
    return _rendered("README.md.j2",
        front_matter=front_matter(content), plan=plan, judgement=judgement, story=story, waiver=content.waiver,
        problems=evidence.problems, what=_what(content), base_link=_base_link(story.base.name), facts=_facts(content),
        data=_data(story.data), recipe=_recipe(story.recipe, story.effective, story.best_epoch), ker=_ker(content),
        test=test, strata_title="By what training has seen of a row (priority categories):",
        strata=_changes(judgement.by_stratum), categories=_changes(judgement.by_category),
        absolute=_absolute(content), guard=_guard(content), weaknesses=weaknesses(evidence),
        rollback=rollback(evidence), licence=_licence(content.licence),
        files=table(("file", "sha256"), files),
    )  # fmt: skip


def _equals(value: str) -> str:
    return value if value.startswith("<") else f"= {value}"


def deployment_page(content: Card, steps: Sequence[Step]) -> str:
    """The commands in order, and what to check first."""
    block = "{" + ", ".join(f"{key}:{value}" for key, value in content.plan.route.nemo2riva.items()) + "}"
    return _rendered("DEPLOY.md.j2",
        plan=content.plan, steps=steps, doubts=doubts(content.plan), block=block, rollback=rollback(content.evidence)
    )  # fmt: skip


def _rendered(template: str, **values: Any) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("clinical_asr"), autoescape=False, undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters["cell"] = cell
    return str(environment.get_template(f"deploy/{template}").render(values))


def front_matter(content: Card) -> str:
    """Hugging Face's metadata."""
    import yaml

    base = content.evidence.story.base.name
    fields: dict[str, Any] = {
        "language": [content.plan.language.split("-")[0].lower()],
        "license": content.licence.identifier,
        "library_name": "nemo",
        "pipeline_tag": "automatic-speech-recognition",
        "tags": ["automatic-speech-recognition", "clinical", "fine-tuned", content.plan.architecture.decoder],
        "metrics": ["wer"],
    }
    if "/" in base:
        fields |= {"base_model": base, "base_model_relation": "finetune"}
    return yaml.safe_dump(fields, sort_keys=False, allow_unicode=True)


def _what(content: Card) -> str:
    found = content.plan.architecture
    kind = KIND.get(found.decoder, found.decoder)
    style = found.text_style or "unknown"
    return f"A {kind} speech recogniser, {found.sample_rate} Hz mono in; text out: {style}."


def _base_link(base: str) -> str:
    return f"[{cell(base)}](https://huggingface.co/{base})" if "/" in base else f"`{base}`"


def _facts(content: Card) -> str:
    evidence, found = content.evidence, content.plan.architecture
    encoder = f"{found.layers} layers, width {found.width}, subsampling {found.subsampling}, context {found.context}"
    rows = [
        ("class", found.target), ("decoder", found.decoder), ("loss", found.loss),
        ("durations", ", ".join(map(str, found.durations)) or "–"), ("encoder", encoder),
        ("vocabulary", f"{found.vocabulary} pieces, {found.tokenizer}"), ("sha256", evidence.digest),
        ("base", evidence.story.base.name), ("base sha256", evidence.story.base.sha256),
    ]  # fmt: skip
    return table(("", "value"), rows)


def _data(data: dict[str, Any]) -> str:
    chose = (data.get("selection") or {}).get("rows")
    names = {
        "train": "clinical rows trained on", "replay": "general speech replayed",
        "selection": "clinical rows that chose", "selection_guard": "general speech that chose",
        "validation": "held out" if chose else "held out, chose the best epoch",
    }  # fmt: skip
    rows = [
        (told, part.get("rows", "–"), f"{part.get('seconds', 0) / 3600:.2f}", part.get("manifest_digest", "–"))
        for name, told in names.items()
        if (part := data.get(name)) and (part.get("rows") or "selection" not in name)
    ]
    return table(("rows", "n", "hours", "manifest digest"), rows)


def _recipe(recipe: dict[str, Any], effective: dict[str, Any], best_epoch: int) -> str:
    told = {**recipe, **effective}
    keys = ("epochs", "batch_size", "accumulate_grad_batches", "learning_rate", "precision", "replay_ratio", "loss")
    said = ", ".join(f"{key.replace('_', ' ')} {cell(told[key])}" for key in keys if key in told)
    return f"{said}; best epoch {best_epoch}"


def _ker(content: Card) -> str:
    judgement = content.evidence.judgement
    sides = [("held out (decides)", judgement.held_out), ("terms never taught", judgement.new_terms),
             ("trained on (does not count)", judgement.trained_on)]  # fmt: skip
    return table(("rows", "n", "terms", "KER before", "KER after", "change", "WER before", "WER after"),
                 [_side(name, side) for name, side in sides])  # fmt: skip


def _side(name: str, side: Changed) -> tuple[object, ...]:
    return (name, side.rows, side.terms, percent(side.ker_before), percent(side.ker_after),
            relative(side.ker_relative_change), percent(side.wer_before), percent(side.wer_after))  # fmt: skip


def _changes(changes: Sequence[Changed]) -> str:
    rows = [
        (one.key, one.rows, one.terms, percent(one.ker_before), percent(one.ker_after), span(one.low, one.high))
        for one in changes
    ]
    return table(("", "n", "terms", "KER before", "KER after", "difference per term, 95 % (points)"), rows)


def _absolute(content: Card) -> str:
    board = content.evidence.board
    if board is None:
        return ""
    rows = [
        (one.key, one.rows, one.terms, percent(one.ker), interval(one.ker_low, one.ker_high), percent(one.wer),
         interval(one.wer_low, one.wer_high))
        for one in (board.headline, *board.by_entity_category)
    ]  # fmt: skip
    return table(("category", "n", "terms", "KER", "95 %", "WER", "95 %"), rows)


def _guard(content: Card) -> str:
    guard = content.evidence.judgement.guard
    if not guard.rows:
        return "**Not measured**: nobody knows what fine-tuning cost in general English."
    held = "within the margin" if guard.proven else "not proven either way"
    verdict = "worse beyond the margin" if guard.worse else held
    line = (guard.rows, percent(guard.wer_before), percent(guard.wer_after), points(guard.difference, 2),
            span(guard.low, guard.high, 2), points(guard.margin, 2), verdict)  # fmt: skip
    header = ("guard rows", "WER before", "WER after", "rise", "95 % (points)", "allowed", "")
    return table(header, [line])


def weaknesses(evidence: Evidence) -> str:
    """Terms it still misses, terms it invents, what it takes them for, numbers it gets wrong."""
    board, parts = evidence.board, []
    worst = [one for one in evidence.judgement.by_term if one.misses_after][:WORST]
    rows = [(one.key, f"{one.misses_after} of {one.occurrences}", percent(one.ker_before)) for one in worst]
    title = "Terms missed on held-out rows, worst first:"
    parts.append(f"{title}\n\n{table(('term', 'missed', 'KER before'), rows)}" if rows
                 else "No term was missed on held-out rows.")  # fmt: skip
    if board is None:
        parts.append("False insertions, confusions and number errors: not known, no leaderboard was handed in.")
        return "\n\n".join(parts)
    most = [one for one in board.by_term if one.misses][:WORST]
    lines = [(one.key, f"{one.misses} of {one.occurrences}", interval(one.ker_low, one.ker_high)) for one in most]
    if lines:
        title = "Terms missed most on the whole benchmark, those never taught among them:"
        parts.append(f"{title}\n\n{table(('term', 'missed', 'KER, 95 %'), lines)}")
    said = [(one.term, one.entity_category, one.count) for one in board.false_insertions[:WORST]]
    parts.append(f"Terms heard that nobody said:\n\n{table(('term', 'category', 'times'), said)}" if said
                 else "No listed term was heard where nobody said it.")  # fmt: skip
    taken = [(one.term, one.heard or "(nothing)", one.kind, one.count) for one in board.confusions[:WORST]]
    if taken:
        parts.append(f"What was heard instead:\n\n{table(('term', 'heard', 'kind', 'times'), taken)}")
    wrong = [(one.kind, one.errors, one.length, percent(one.rate)) for one in board.numbers if one.errors]
    if wrong:
        parts.append(f"Numbers and doses:\n\n{table(('kind', 'errors', 'of', 'rate'), wrong)}")
    return "\n\n".join(parts)


def rollback(evidence: Evidence) -> str:
    """Where to go back to, by digest."""
    base = evidence.story.base
    lines = [f"- the base, `{base.name}`, sha256 `{base.sha256}`"]
    if evidence.previous is not None:
        told = f"`{evidence.previous.name}`, sha256 `{evidence.previous.sha256}`"
        lines.insert(0, f"- the last model promoted before this one, {told}")
    return "If this model has to be taken out of service, serve instead:\n\n" + "\n".join(lines)


def _licence(licence: Licence) -> str:
    return f"`{licence.identifier}`." + (f" {licence.attribution}" if licence.attribution else "")
