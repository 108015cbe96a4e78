"""How commands tell what went wrong: mistakes of the caller (exit code 2) and crashes (exit code 1)."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import click

COMPLETE, CRASHED, MISTAKES, INCOMPLETE = 0, 1, 2, 3

_DEEPEST = 5
"""Causes of a crash that are told, one below the other."""


class Mistakes(click.ClickException):
    """Mistakes of the caller, found before anything was done.

    Attributes:
      texts: one text each.
    """

    exit_code = MISTAKES

    def __init__(self, texts: Sequence[str]) -> None:
        super().__init__("\n".join(texts))
        self.texts = texts


@contextmanager
def mistakes(*kinds: type[Exception], between: str | None = "\n") -> Iterator[None]:
    """Turns errors of the given kinds, whose texts are written for the caller, into `Mistakes`.

    Args:
      kinds: the errors.
      between: what stands between the mistakes that an error's text lists; None: the text is one mistake.
    """
    try:
        yield
    except kinds as error:
        raise Mistakes([str(error)] if between is None else str(error).split(between)) from error


def print_mistakes(error: click.ClickException) -> None:
    """Prints each mistake on a line of its own, and where help is."""
    for text in error.texts if isinstance(error, Mistakes) else [error.format_message()]:
        click.echo(f"{click.style('error:', fg='red')} {text}", err=True)
    context = getattr(error, "ctx", None)
    if context is not None:
        click.echo(f"see: {context.command_path} --help", err=True)


def print_crash(error: BaseException, arguments: Sequence[str]) -> None:
    """Prints what a crash was and its causes, or the whole traceback where ``--debug`` asks for it."""
    if "--debug" in arguments[:1]:
        traceback.print_exception(error, file=sys.stderr)
        return
    red = click.style("crashed:", fg="red")
    for depth, text in enumerate(_causes(error)):
        click.echo(f"{red} {text}" if depth == 0 else f"  because of {text}", err=True)
    place = _place(error)
    if place:
        click.echo(f"  at {place}", err=True)
    command = " ".join(["data-streamer --debug", *arguments[:1], "…"])
    click.echo(f"For the whole traceback: {command}", err=True)


def _causes(error: BaseException) -> list[str]:
    """The error and what caused it, without repetitions: Beam raises again with the same text and more around it."""
    texts: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(texts) < _DEEPEST:
        text = _in_short(cause)
        if not any(text in told for told in texts):
            texts.append(text)
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)
    return texts


def _in_short(error: BaseException) -> str:
    """Class and message. Of a worker's traceback, which Beam passes on as a message, the last line is the message."""
    message = str(error).strip()
    if "Traceback (most recent call last)" in message:
        lines = [line for line in message.splitlines() if re.match(r"[A-Za-z_][\w.]*(Error|Exception|Exit)\b", line)]
        return lines[-1] if lines else message.splitlines()[-1]
    return f"{type(error).__name__}: {message}" if message else type(error).__name__


_OURS = r"[^\"]*/(?:pipelines|schemas|simulator|transforms|warehouse)/[^\"]+"
_FRAME = re.compile(rf'File "({_OURS})", line (\d+), in (\w+)')
"""A line of a traceback that is in our code; what a worker process raised comes as such a text."""


def _place(error: BaseException) -> str | None:
    """File, line and function of ours where the first cause was raised."""
    while error.__cause__ is not None:
        error = error.__cause__
    frames = _FRAME.findall(str(error)) or _FRAME.findall("".join(traceback.format_tb(error.__traceback__)))
    if not frames:
        return None
    file, line, function = frames[-1]
    return f"{file}:{line}, {function}"
