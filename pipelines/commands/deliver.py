"""``data-streamer deliver``: delivers what is pending, in order."""

from __future__ import annotations

import click

from pipelines.commands.errors import COMPLETE, INCOMPLETE, mistakes
from pipelines.lock import LockedError, live_writers, locked
from pipelines.remote import checked_output, renew_report
from pipelines.screen import console_of, print_line, print_prose, print_table, table_of
from pipelines.waiting import deliver_waiting
from schemas.reasons import ReasonsError, load_reasons, reason_names
from transforms.deliver import spool
from transforms.deliver.pending import PendingResult
from transforms.route.definitions import StreamsFileError, load_streams
from warehouse.layout import WarehouseError


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--streams", required=True, metavar="FILE", help="The streams file: where each stream delivers now.")
@click.option("--reasons", metavar="FILE", help="Your own rows of the table of reasons: filters may name them.")
def command(directory: str, streams: str, reasons: str | None) -> int:
    """Deliver what is pending, stream by stream, in order.

    A stream stops at its first failure, and the others go on. Paused streams keep their records. Exit code 3 if records
    of a stream that is not paused stay pending. What a live job keeps is left to that job.
    """
    with mistakes(ReasonsError):
        names = reason_names(load_reasons(reasons))
    with mistakes(StreamsFileError):
        definitions = load_streams(streams, reasons=names)
    with mistakes(WarehouseError, LockedError):
        output = checked_output(directory)
        with locked(output):
            results = deliver_waiting(output, definitions)
            if results:
                renew_report(output)
        live = set(live_writers(output)) & {part.writer for parts in spool.waiting(output).values() for part in parts}
    paused = {stream.name for stream in definitions if stream.state == "paused"}
    code = _print_results(results, paused)
    for writer in sorted(live):
        print_line(
            console_of(), f"left alone: what the live job {writer!r} keeps; start it again, and it delivers that"
        )
    return code


def _print_results(results: list[PendingResult], paused: set[str]) -> int:
    console = console_of()
    if not results:
        print_line(console, "nothing is pending")
        return COMPLETE
    table = table_of(("stream", "delivered", "parts that wait", "state"), ("delivered", "parts that wait"))
    for result in results:
        state = "error" if result.error else "paused" if result.stream in paused else "running"
        table.add_row(result.stream, f"{result.delivered:,}", f"{result.pending:,}", state)
    print_table(console, table)
    errors = console_of(stderr=True)
    for result in results:
        if result.error:
            print_prose(errors, f"error: stream {result.stream}: {result.error}")
            if result.remedy:
                print_prose(errors, f"  {result.remedy}")
    waiting = any(result.pending or result.error for result in results if result.stream not in paused)
    return INCOMPLETE if waiting else COMPLETE
