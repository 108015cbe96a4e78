"""Ill-treats a live job for some minutes, and proves that nothing was lost and nothing doubled.

    python -m tests.chaos --minutes=10 [--seed=N] [--rate=300] [--kills=5] [--directory=DIR]

Needs Prism. Pub/Sub is Google's emulator where that is installed, else a server in this process. Exit code 1 if
something was lost or doubled; the directory then stays.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.story import ChaosError, Story
from tests.chaos.traffic import Traffic
from tests.chaos.verdict import Verdict, judge
from tests.servers.http import receiver
from tests.servers.proxy import tcp_proxy
from tests.servers.pubsub import pubsub_emulator, pubsub_servicer, runs_emulator


def chaos(directory: Path, minutes: float, seed: int, rate: float, kills: int) -> tuple[Story, Verdict]:
    """Runs everything once.

    Raises:
      ChaosError: the job did what it should not do, while it ran.
    """
    with ExitStack() as stack:
        server = stack.enter_context(pubsub_emulator() if runs_emulator() else pubsub_servicer())
        proxy = stack.enter_context(tcp_proxy(int(server.address.rpartition(":")[2])))
        hook = stack.enter_context(receiver())
        traffic = Traffic(server, rate, seed)
        story = Story(directory, server, proxy, hook, traffic, seed, minutes * 60, kills)
        story.run()
        return story, judge(story)


def main() -> int:
    """Runs it as the command line says, prints what happened and what was found; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos")
    parser.add_argument("--minutes", type=float, default=10, help="how long traffic lasts (default 10)")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of chance (default: the time)")
    parser.add_argument("--rate", type=float, default=300, help="messages a second (default 300)")
    parser.add_argument("--kills", type=int, default=5, help="of worker and Prism, in turn (default 5)")
    parser.add_argument("--directory", type=Path, help="where to work; must be empty (default: a temporary directory)")
    options = parser.parse_args()
    directory = options.directory or Path(tempfile.mkdtemp(prefix="chaos-"))
    directory.mkdir(parents=True, exist_ok=True)
    print(f"seed {options.seed}, in {directory}")
    try:
        story, verdict = chaos(directory, options.minutes, options.seed, options.rate, options.kills)
    except ChaosError as error:
        print(f"seed {options.seed}: {error}\n{directory} stays")
        return 1
    console = Console()
    happened = Table("second", "what happened", title=f"seed {options.seed}")
    for second, what in story.happened:
        happened.add_row(f"{second:.0f}", what)
    figures = Table("what", "found")
    for what, figure in verdict.figures:
        figures.add_row(what, figure)
    console.print(happened, figures)
    for fault in verdict.faults:
        print(f"FAULT {fault}")
    if verdict.faults:
        print(f"{directory} stays")
        return 1
    print("Nothing was lost, nothing was doubled, and the ledger balances.")
    shutil.rmtree(directory)
    return 0


if __name__ == "__main__":
    sys.exit(main())
