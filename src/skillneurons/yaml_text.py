"""YAML as its writers mean it: numbers and booleans of YAML 1.2's core schema, and no key twice.

PyYAML follows YAML 1.1, to which 1e-05 is text, yes a boolean, 010 eight, 1:30 ninety and 2026-01-31 a date.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from skillneurons.errors import InputError

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
