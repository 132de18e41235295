"""From a command's typed parameters to a JSON schema, and from JSON arguments back to the words of a command line."""

from __future__ import annotations

import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Annotated, Any

from clinical_asr.errors import ConfigError

JSON_TYPES: dict[type, str] = {str: "string", Path: "string", int: "integer", float: "number", bool: "boolean"}
Arguments = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a command; ``name`` is that of its flag with underscores, or the argument's own."""

    name: str
    flag: str
    """``--output``; empty for an argument that has only its place."""
    kind: type
    many: bool = False
    required: bool = False
    default: Any = None
    minimum: float | None = None
    maximum: float | None = None
    help: str = ""

    def schema(self) -> dict[str, Any]:
        """Its JSON schema.

        >>> Parameter(name="rows", flag="--rows", kind=int, minimum=0, help="Rows.").schema()
        {'type': 'integer', 'description': 'Rows.', 'minimum': 0}
        """
        text = f"{self.help} (a path in the project folder)" if self.kind is Path else self.help
        one: dict[str, Any] = {"type": JSON_TYPES[self.kind], "description": text}
        limits = {"minimum": self.minimum, "maximum": self.maximum}
        one |= {key: value for key, value in limits.items() if value is not None}
        if self.many:
            return {"type": "array", "items": {"type": one["type"]}, "description": text}
        default = str(self.default) if isinstance(self.default, Path) else self.default
        return one if default in (None, "") else {**one, "default": default}

    def words(self, value: Any) -> list[str]:
        """The value as words of a command line; a value can never be taken for a flag.

        >>> Parameter(name="output", flag="--output", kind=Path).words("-rf")
        ['--output=-rf']
        """
        values = value if self.many else [value]
        if self.kind is bool:
            return [self.flag] if value else []
        return [f"{self.flag}={one}" if self.flag else str(one) for one in values]


def parameters_of(command: Any) -> list[Parameter]:
    """The parameters of a Typer command, in its own order, without ``--help``."""
    hints = typing.get_type_hints(command.callback, include_extras=True)
    return [_parameter(one, hints[one.name]) for one in command.params if one.name in hints]


def _parameter(click: Any, hint: Any) -> Parameter:
    kind, many, info = _kind(hint)
    positional = click.param_type_name == "argument"
    flag = "" if positional else next(word for word in click.opts if word.startswith("--"))
    return Parameter(
        name=flag.removeprefix("--").replace("-", "_") or click.name, flag=flag, kind=kind, many=many,
        required=bool(click.required), default=None if callable(click.default) else click.default,
        minimum=getattr(info, "min", None), maximum=getattr(info, "max", None), help=getattr(info, "help", "") or "",
    )  # fmt: skip


def _kind(hint: Any) -> tuple[type, bool, Any]:
    """(type of one value, whether there may be several, Typer's description).

    >>> _kind(Annotated[list[Path] | None, "told"])
    (<class 'pathlib.Path'>, True, 'told')
    """
    info = None
    if typing.get_origin(hint) is Annotated:
        hint, info = typing.get_args(hint)[:2]
    parts = [part for part in typing.get_args(hint) if part is not NoneType]
    if len(parts) == 1 and typing.get_origin(hint) is not list:
        hint = parts[0]
    many = typing.get_origin(hint) is list
    kind = typing.get_args(hint)[0] if many else hint
    if kind not in JSON_TYPES:
        raise TypeError(f"no JSON type for {hint!r}")
    return kind, many, info


def object_schema(parameters: Sequence[Parameter], changed: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The schema of all of them; ``changed`` replaces single ones. Nothing that is not named is taken."""
    properties = {one.name: changed.get(one.name) or one.schema() for one in parameters}
    needed = [one.name for one in parameters if one.required]
    return {"type": "object", "properties": properties, "required": needed, "additionalProperties": False}


def check(schema: Mapping[str, Any], arguments: Arguments, where: str) -> None:
    """Raises ConfigError, in one line, for arguments that the schema does not take."""
    from jsonschema import Draft202012Validator

    unknown = sorted(set(arguments) - set(schema["properties"]))
    if unknown:
        takes = ", ".join(sorted(schema["properties"])) or "none"
        raise ConfigError(f"has no argument {', '.join(map(repr, unknown))}", where, f"it takes: {takes}")
    for error in Draft202012Validator(dict(schema)).iter_errors(dict(arguments)):
        name = ".".join(map(str, error.absolute_path))
        raise ConfigError(error.message[:300], f"{where} {name}".strip(), "see the tool's schema")


def command_words(parameters: Sequence[Parameter], arguments: Arguments) -> list[str]:
    """Options first, then what has only its place, behind ``--``.

    >>> path = Parameter(name="path", flag="", kind=Path)
    >>> command_words([path, Parameter(name="loud", flag="--loud", kind=bool)], {"path": "a b", "loud": True})
    ['--loud', '--', 'a b']
    """
    given = [(one, one.words(arguments[one.name])) for one in parameters if arguments.get(one.name) not in (None, "")]
    options = [word for one, words in given if one.flag for word in words]
    places = [word for one, words in given if not one.flag for word in words]
    return options + (["--", *places] if places else [])
