"""Preflight: before a run, ask each subscription and each destination whether it can be reached and is as it should
be.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from pipelines.live.options import SUBSCRIPTION
from schemas.destinations import SecretError
from schemas.records import FEEDS
from schemas.streams import Stream
from transforms.deliver.failures import Failure, FailureKind, MissingExtraError, SetupError
from transforms.deliver.registry import DESTINATIONS
from transforms.read.subscriber import MissingSubscription, look_at

SECONDS = 20.0
"""Longest time that all destinations together have to answer."""


@dataclass
class Preflight:
    """What was found.

    Attributes:
      mistakes: what an operator has to mend before a run: no such target, no permission, a missing package or secret.
      warnings: what may pass by itself, and local directories: the run starts, and what cannot be delivered waits.
    """

    mistakes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def look_ahead(streams: Sequence[Stream], output: str, here: bool) -> Preflight:
    """Asks the destinations of the running streams that are reached over a network, all at the same time.

    Local directories that streams name are looked at, too, but only warned of: a disk may be mounted, or a right given,
    while the run is under way, and the records wait until then.

    Args:
      streams: the stream definitions.
      output: the run's output directory.
      here: whether the workers run on this machine: otherwise their secrets and directories need not be here, and what
        needs them is left to the workers.
    """
    running = [stream for stream in streams if stream.state == "running"]
    local = {stream.name for stream in running if here and DESTINATIONS[stream.destination.type].is_directory(stream)}
    asked = [
        stream for stream in running if stream.name in local or DESTINATIONS[stream.destination.type].pushes(stream)
    ]
    answers: dict[str, Failure | None] = {}
    # Daemons: one that never answers must not keep the program from ending.
    threads = [threading.Thread(target=_ask, args=(stream, output, here, answers), daemon=True) for stream in asked]
    for thread in threads:
        thread.start()
    until = time.monotonic() + SECONDS
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    found = Preflight()
    silent = Failure(FailureKind.TRANSIENT, f"no answer within {SECONDS:.0f} s", "see that it is up")
    for stream in asked:
        failure = answers.get(stream.name, silent)
        if failure is not None:
            passing = failure.kind is FailureKind.TRANSIENT or stream.name in local
            text = f"stream {stream.name} ({stream.destination.type}): {failure.error}; {failure.remedy}"
            (found.warnings if passing else found.mistakes).append(text)
    return found


def look_at_subscriptions(subscriptions: Sequence[tuple[int, str]], here: bool) -> Preflight:
    """Asks whether the subscriptions of a live job are there and may be read.

    Args:
      subscriptions: kind (index into `schemas.records.FEEDS`) and full name of each.
      here: whether the workers run on this machine: otherwise they have an account, and perhaps a network, of their
        own, and only that one is missing counts.
    """
    found = Preflight()
    for kind, name in subscriptions:
        if not SUBSCRIPTION.fullmatch(name):
            continue  # the options say so
        try:
            failure = look_at(name)
        except MissingExtraError:
            continue  # the options say so
        if failure is None or not (here or isinstance(failure, MissingSubscription)):
            continue
        text = f"--{FEEDS[kind]}_subscription: {failure.error}; {failure.remedy}"
        (found.warnings if failure.kind is FailureKind.TRANSIENT else found.mistakes).append(text)
    return found


def _ask(stream: Stream, output: str, here: bool, answers: dict[str, Failure | None]) -> None:
    destination = DESTINATIONS[stream.destination.type](stream.destination)
    try:
        destination.setup()
        try:
            answers[stream.name] = destination.preflight(stream, output)
        finally:
            destination.close()
    except SecretError as error:
        remedy = "store it there, or correct the reference"
        answers[stream.name] = Failure(FailureKind.MISCONFIGURED, str(error), remedy) if here else None
    except SetupError as error:
        answers[stream.name] = error.failure
    except Exception as error:  # noqa: BLE001 - a look ahead must not end the run; the delivery will meet the same fault
        text = f"could not be looked at ({type(error).__name__})"
        answers[stream.name] = Failure(FailureKind.TRANSIENT, text, "see what delivering says")
