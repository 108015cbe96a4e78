"""YAML with positions: plain values, and for each of them the line and column where it stands.

YAML 1.2 (so that `NO` is a text and not false). Repeated keys are mistakes. ``${NAME}`` in a value is replaced by the
environment variable; ``$${`` stands for ``${`` itself. Replaced values are settings, not secrets: secrets are given by
reference. Even so, messages show what stands in the file, never what it was replaced by.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

_REFERENCE = re.compile(r"\$\$\{|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|\$\{")
_CORE = "tag:yaml.org,2002:"
# Anything else that YAML takes for a number stays a text: 007 and 1_000 are names of devices, not numbers.
_INTEGER = re.compile(r"-?(0|[1-9][0-9]{0,39})")
_DECIMAL = re.compile(r"-?[0-9]+\.[0-9]+")


@dataclass(frozen=True, order=True)
class Mistake:
    """A mistake in a file that a person wrote, in the form ``file:line:column path: message``. Orders by position."""

    file: str
    line: int
    column: int
    path: str
    message: str

    def __str__(self) -> str:
        """One line for people."""
        place = f" {self.path}" if self.path else ""
        return f"{self.file}:{self.line}:{self.column}{place}: {self.message}"


@dataclass
class YamlSource:
    """A YAML text read into plain values.

    Attributes:
      file: its name in messages.
      value: dictionaries, lists, texts, numbers, truth values and None.
      mistakes: repeated keys, unset environment variables, aliases that contain themselves.
    """

    file: str
    value: Any = None
    mistakes: list[Mistake] = field(default_factory=list)
    _root: Node | None = None
    _replaced: dict[int, tuple[str, str]] = field(default_factory=dict)
    _broken: set[int] = field(default_factory=set)

    def mistake(
        self, location: tuple[str | int, ...], message: str, *, at_key: bool = False, may_miss: bool = False
    ) -> Mistake | None:
        """A mistake at a location, as pydantic reports it.

        Args:
          location: keys and indices from the root. Names that are no key of the file (tags of unions) are passed over.
          message: what is wrong.
          at_key: the last name is a key that is wrong, rather than its value.
          may_miss: the last name is a key that may be missing; the place is then where it should be.

        Returns:
          the mistake, or None where the value is already reported as an unset variable.
        """
        node, place, path = self._find(location, at_key, may_miss)
        if node is None or id(node) in self._broken:
            return None
        for replaced, written in self._replacements(node, set()):
            message = message.replace(replaced, written)
        return Mistake(self.file, place.start_mark.line + 1, place.start_mark.column + 1, path, message)

    def _find(self, location: tuple[str | int, ...], at_key: bool, may_miss: bool) -> tuple[Node | None, Any, str]:
        """The node at a location, the node whose position to tell (a key, say), and the path in words."""
        node = place = self._root
        path = ""
        for depth, step in enumerate(location):
            last = depth == len(location) - 1
            if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
                node = place = node.value[step]
                path += f"[{step}]"
            elif isinstance(node, MappingNode):
                pair = next((pair for pair in node.value if pair[0].value == step), None)
                if pair is not None:
                    key, node = pair
                    place = key if last and at_key else node
                if pair is not None or (last and may_miss):
                    path += f".{step}" if path else str(step)
        return node, place, path

    def _replacements(self, node: Node, seen: set[int]) -> list[tuple[str, str]]:
        if id(node) in seen:
            return []
        seen.add(id(node))
        if isinstance(node, ScalarNode):
            return [self._replaced[id(node)]] if id(node) in self._replaced else []
        children = [value for _, value in node.value] if isinstance(node, MappingNode) else node.value
        return [pair for child in children for pair in self._replacements(child, seen)]


def read_yaml(text: str, file: str, environment: Mapping[str, str]) -> YamlSource:
    """Read a YAML text.

    Args:
      text: the text.
      file: its name in messages.
      environment: variables for ``${NAME}``.

    Returns:
      its values and the mistakes in them; a syntax error is the only mistake of its text.
    """
    source = YamlSource(file)
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        if root is not None:
            source._root = root
            source.value = _Values(text, source, environment).of(root, "", ())
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        reason = (error.problem or error.context or "not YAML").strip()
        source.mistakes = [Mistake(file, line, column, "", f"not YAML: {reason}")]
    except ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - (before.rfind("\n") + 1) + 1
        source.mistakes = [Mistake(file, line, column, "", f"not YAML: {error.reason}")]
    except RecursionError:
        source.mistakes = [Mistake(file, 1, 1, "", "nested too deeply to be read")]
    except YAMLError as error:
        source.mistakes = [Mistake(file, 1, 1, "", f"not YAML: {type(error).__name__}")]
    return source


class _Values:
    """Turns nodes into values and notes the mistakes of the text itself."""

    def __init__(self, text: str, source: YamlSource, environment: Mapping[str, str]) -> None:
        self._text = text
        self._source = source
        self._environment = environment

    def of(self, node: Node, path: str, above: tuple[int, ...]) -> Any:
        if id(node) in above:
            self._note(node.start_mark, path, "the alias contains itself: write the value out")
            return None
        inside = (*above, id(node))
        if isinstance(node, MappingNode):
            return self._mapping(node, path, inside)
        if isinstance(node, SequenceNode):
            return [self.of(child, f"{path}[{at}]", inside) for at, child in enumerate(node.value)]
        assert isinstance(node, ScalarNode)  # there are no other nodes
        return self._scalar(node, path)

    def _mapping(self, node: MappingNode, path: str, inside: tuple[int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        lines: dict[str, int] = {}
        for key, child in node.value:
            if not isinstance(key, ScalarNode):
                self._note(key.start_mark, path, "a key must be a text")
                continue
            name = key.value
            here = f"{path}.{name}" if path else name
            if name in found:
                self._note(key.start_mark, here, f"{name!r} is given twice, first in line {lines[name]}: remove one")
                continue
            lines[name] = key.start_mark.line + 1
            found[name] = self.of(child, here, inside)
        return found

    def _scalar(self, node: ScalarNode, path: str) -> Any:
        written: str = node.value
        if node.tag == f"{_CORE}null":
            return None
        if node.tag == f"{_CORE}bool":
            return written.casefold() == "true"
        if node.tag == f"{_CORE}int" and _INTEGER.fullmatch(written):
            return int(written)
        if node.tag == f"{_CORE}float" and _DECIMAL.fullmatch(written):
            return float(written)
        return self._expanded(node, path)

    def _expanded(self, node: ScalarNode, path: str) -> str:
        written: str = node.value
        unset = False
        searched = node.start_mark.index

        def replace(match: re.Match[str]) -> str:
            nonlocal unset, searched
            # A folded text spans lines: find the reference itself in the file.
            at = max(self._text.find(match.group(), searched, node.end_mark.index), searched)
            searched = at + len(match.group())
            name = match.group(1)
            if match.group() == "$${":
                return "${"
            if name is not None and name in self._environment:
                return self._environment[name]
            if match.group(2) is not None:
                return match.group(2)
            unset = True
            self._note_reference(at, path, match.group(), name)
            return match.group()

        value = _REFERENCE.sub(replace, written)
        if any("\ud800" <= character <= "\udfff" for character in value):
            self._note(node.start_mark, path, "holds half a character (a lone surrogate), which no file can store")
        if unset:
            self._source._broken.add(id(node))
        elif value != written and value:
            self._source._replaced[id(node)] = (value, written)
        return value

    def _note_reference(self, at: int, path: str, reference: str, name: str | None) -> None:
        line = self._text.count("\n", 0, at) + 1
        column = at - (self._text.rfind("\n", 0, at) + 1) + 1
        message = (
            f"the environment variable {name} of {reference} is not set: set it, or write the value here"
            if name
            else "'${' does not begin a reference: write ${NAME}, or $${ for the characters themselves"
        )
        self._source.mistakes.append(Mistake(self._source.file, line, column, path, message))

    def _note(self, mark: Any, path: str, message: str) -> None:
        self._source.mistakes.append(Mistake(self._source.file, mark.line + 1, mark.column + 1, path, message))
