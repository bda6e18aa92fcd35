"""Tasks, models, recipes and spaces: where their YAML files are, and what they hold.

YAML as its writers mean it: numbers and booleans of YAML 1.2's core schema, and no key twice.

PyYAML follows YAML 1.1, to which 1e-05 is text, yes a boolean, 010 eight, 1:30 ninety and 2026-01-31 a date.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from skillneurons.about import PACKAGE
from skillneurons.errors import InputError, listed, meant

M = TypeVar("M", bound=BaseModel)

_TAG = "tag:yaml.org,2002:"
# tag -> pattern and the characters it starts with: YAML 1.2.2, section 10.3.2; `<<` is kept from YAML 1.1
_CORE = {
    "null": (r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    "bool": (r"true|True|TRUE|false|False|FALSE", list("tTfF")),
    "int": (r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", list("-+0123456789")),
    "float": (
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        list("-+.0123456789"),
    ),
    "merge": (r"<<", ["<"]),
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers = {}  # noqa: RUF012

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuses a key that is there twice; merged keys are not there yet, so they may be overridden."""
        node = super().compose_mapping_node(anchor)
        seen: set[object] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and not key.tag.endswith(":merge"):
                name = self.construct_object(key)
                if name in seen:
                    told = f"found the key {name!r} twice"
                    raise yaml.constructor.ConstructorError(None, None, told, key.start_mark)
                seen.add(name)
        return node


class _Dumper(yaml.SafeDumper):
    """Quotes what either version of YAML would read as something else than text."""


def _whole(loader: yaml.SafeLoader, node: yaml.ScalarNode) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


for _name, (_pattern, _first) in _CORE.items():
    for _kind in (_Loader, _Dumper):
        _kind.add_implicit_resolver(_TAG + _name, re.compile(f"^(?:{_pattern})$"), _first)
_Loader.add_constructor(f"{_TAG}int", _whole)


def parse(text: str) -> Any:
    """What a YAML text holds.

    Raises:
        yaml.YAMLError: it is no YAML, or a mapping has a key twice.
    """
    return yaml.load(text, _Loader)


def written(value: Mapping[str, Any]) -> str:
    """A mapping as YAML that `parse` reads as the same mapping."""
    return yaml.dump(dict(value), Dumper=_Dumper, allow_unicode=True)


def read_mapping(file: Path, what: str, example: str) -> dict[str, Any]:
    """The keys and values of a YAML file.

    Args:
        file: the file.
        what: what it is to the user, for the error: `recipe`.
        example: a file of that kind, for the error.

    Raises:
        InputError: it cannot be read, is no YAML, has a key twice, or holds something else than a mapping.
    """
    try:
        entry = parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        got = f"{type(error).__name__}: {error}"
        raise InputError(f"{what} {file} must be a YAML file", got, f"Mend it; see {example}.") from error
    if not isinstance(entry, dict) or any(not isinstance(key, str) for key in entry):
        odd = [key for key in entry if not isinstance(key, str)] if isinstance(entry, dict) else type(entry).__name__
        raise InputError(f"{what} {file} must map names to values", f"{odd}", f"Mend it; see {example}.")
    return entry


def folders(kind: str) -> tuple[Path, Path]:
    """Where declarations of a kind are: `experiments/<kind>` here, then those that came with the package."""
    # in the wheel they lie in the package; a checkout has them at its top
    shipped = PACKAGE / "experiments" if (PACKAGE / "experiments").is_dir() else PACKAGE.parents[1] / "experiments"
    return Path("experiments") / kind, shipped / kind


def names(places: Sequence[Path]) -> list[str]:
    """The names of the declarations in some folders."""
    return sorted({file.stem for place in places for file in place.glob("*.yaml")})


def find(name: str, what: str, places: Sequence[Path]) -> Path:
    """The YAML file of a declaration: a name in the first folder that has it, or a path ending in .yaml or .yml.

    Raises:
        InputError: there is none; `what` is what it is to the user: `task`.
    """
    if name.endswith((".yaml", ".yml")):
        if not (path := Path(name).expanduser()).is_file():
            raise InputError(f"A {what}'s path must be a YAML file", name, "Check the path.")
        return path
    for place in places:
        if (place / f"{name}.yaml").is_file():
            return place / f"{name}.yaml"
    must = f"A {what} must be one of {listed(names(places), 30)}"
    here = next((f"{name}{end}" for end in (".yaml", ".yml") if Path(f"{name}{end}").expanduser().is_file()), None)
    near = f"Did you mean {here}? " if here else meant(name, names(places))
    do = f"{near}Correct it, or give a path to a YAML."
    raise InputError(must, repr(name), do)


def read(kind: type[M], file: Path, what: str, example: str) -> M:
    """A declaration checked against its model; arguments as of `read_mapping`.

    Raises:
        InputError: as of `read_mapping`, or a rule is broken; one line, the first of them.
    """
    entry = read_mapping(file, what, example)
    try:
        return kind.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or what
        rule = first["msg"].removeprefix("Value error, ")
        raise InputError(f"{where} in {file}: {rule}", repr(first["input"])[:120], "Mend the file.") from None
