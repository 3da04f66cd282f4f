"""Chat templates: a conversation as the text that a model was trained on."""

from __future__ import annotations

import difflib
import functools
import json
import re
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from activjax.data._needs import needed

_SAFE = (3, 1, 6)  # templates could leave the sandbox of earlier versions
_GLOBALS = ("range", "cycler", "joiner")


@dataclass(frozen=True)
class Chats:
    """The chat templates of a tokenizer's files.

    Attributes:
      where: the file or folder, for messages.
      templates: by name; unchecked, as the files have them.
      values: what a template may use by name, such as `bos_token`.
    """

    where: str = "this tokenizer"
    templates: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, str] = field(default_factory=dict)

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None,
        template: str | None,
        values: Mapping[str, Any],
    ) -> str:
        """See `Tokenizer.chat`."""
        name, source = self._chosen(template, tools)
        given = {
            **self.values,
            **{key: _plain(key, value) for key, value in values.items()},
            "messages": _messages(messages),
            "tools": _tools(tools),
        }
        _environment()  # says what is missing
        try:
            return _compiled(source).render(given)
        except Exception as error:  # of jinja2, and whatever the template's own steps raise
            line = _line(error)
            raise ValueError(
                f"chat: {self.where}: template {name!r}"
                + (f", line {line}" if line else "")
                + f": {error or type(error).__name__}"
            ) from None

    def _chosen(self, template: str | None, tools: Any) -> tuple[str, str]:
        """The name of a template, and its text."""
        names = sorted(self.templates)
        if not names:
            raise ValueError(
                f"chat: {self.where} has no chat template: no chat_template.jinja, and none in its "
                "tokenizer_config.json. Write the conversation as text, and encode that"
            )
        if template is None:
            template = "tool_use" if tools and "tool_use" in names else "default"
        if template not in names:
            near = difflib.get_close_matches(template, names, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(
                f"chat: {self.where} has no template {template!r}, it has {', '.join(names)}: name "
                f"one with template={hint}"
            )
        text = self.templates[template]
        if not isinstance(text, str):
            raise ValueError(
                f"chat: {self.where}: template {template!r}: expected a string, got "
                f"{type(text).__name__}"
            )
        return template, text


def _messages(messages: Any) -> list[dict[str, Any]]:
    if isinstance(messages, (str, bytes, Mapping)) or not isinstance(messages, Sequence):
        raise ValueError(
            "chat: messages: expected a list such as [{'role': 'user', 'content': 'Hello'}], got "
            f"{type(messages).__name__}"
        )
    if not messages:
        raise ValueError("chat: messages: expected at least one message, got none")
    for i, message in enumerate(messages):
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"chat: messages[{i}]: expected a dict with a 'role', got {message!r}")
    plain = _plain("messages", messages)
    # a key without a value, as some interfaces write it, is a key that is not there
    return [{key: value for key, value in m.items() if value is not None} for m in plain]


def _tools(tools: Any) -> Any:
    if tools is None:
        return None
    if isinstance(tools, (str, Mapping)) or not all(isinstance(tool, Mapping) for tool in tools):
        raise ValueError("chat: tools: expected a list of JSON schemas (dicts), one for each tool")
    return _plain("tools", list(tools))


def _plain(what: str, value: Any) -> Any:
    """A copy of plain data: a template gets no object whose methods it could call."""
    if value is None or type(value) in (str, int, float, bool):
        return value
    if isinstance(value, Mapping):
        return {str(k): _plain(f"{what}[{k!r}]", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(f"{what}[{i}]", v) for i, v in enumerate(value)]
    raise ValueError(
        f"chat: {what}: expected text, a number, a bool, None, or lists and dicts of them, got "
        f"{type(value).__name__}"
    )


def _line(error: Exception) -> int | None:
    """The line of the template at which it failed."""
    if isinstance(line := getattr(error, "lineno", None), int):
        return line
    frames = traceback.extract_tb(error.__traceback__)
    return next((f.lineno for f in reversed(frames) if f.filename == "<template>"), None)


@functools.lru_cache(maxsize=16)
def _compiled(source: str) -> Any:
    return _environment().from_string(source)


@functools.cache
def _environment() -> Any:
    """What templates run in: nothing of the process can be reached or changed from inside."""
    jinja2 = needed("jinja2", "text", "chat")
    version = tuple(map(int, re.findall(r"\d+", jinja2.__version__)[:3]))
    if version < _SAFE:
        raise ImportError(
            f"chat needs jinja2 {'.'.join(map(str, _SAFE))} or later, whose sandbox holds; this is "
            f"{jinja2.__version__}: pip install 'activjax[text]'"
        )
    sandbox = needed("jinja2.sandbox", "text", "chat")
    extensions = needed("jinja2.ext", "text", "chat")
    nodes, utils = jinja2.nodes, jinja2.utils

    class Generation(extensions.Extension):
        """`{% generation %}`: marks what the model is to say, for training; here a mere block."""

        tags = {"generation"}  # noqa: RUF012

        def parse(self, parser: Any) -> Any:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body).set_lineno(line)

    class Namespace(utils.Namespace):
        """Jinja's, without attributes that Python gives a meaning to."""

        def __init__(*args: Any, **attributes: Any) -> None:
            self, given = args[0], dict(*args[1:], **attributes)
            utils.Namespace.__init__(self, {})
            for name, value in given.items():
                self[name] = value

        def __setitem__(self, name: str, value: Any) -> None:
            if str(name).startswith("_"):
                raise jinja2.exceptions.SecurityError(f"namespace: no attribute may be {name!r}")
            super().__setitem__(name, value)

    def refuse(message: Any) -> None:
        raise jinja2.exceptions.TemplateError(str(message))

    def tojson(
        x: Any,
        ensure_ascii: bool = False,
        indent: Any = None,
        separators: Any = None,
        sort_keys: bool = False,
    ) -> str:
        return json.dumps(
            x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
        )

    environment = sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, extensions.loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals = {
        **{name: environment.globals[name] for name in _GLOBALS},
        "dict": lambda *args, **entries: dict(*args, **entries),
        "namespace": Namespace,
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
    }
    return environment
