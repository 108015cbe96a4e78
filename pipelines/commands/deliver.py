"""``data-streamer deliver``: delivers what is pending, in order."""

from __future__ import annotations

import click

from pipelines.commands.errors import COMPLETE, INCOMPLETE, mistakes
from pipelines.lock import LockedError, locked
from pipelines.screen import console_of, print_line, print_prose, print_table, table_of
from pipelines.waiting import deliver_waiting
from schemas.reasons import ReasonsError, load_reasons, reason_names
from transforms.deliver import storage
from transforms.deliver.pending import PendingResult
from transforms.route.definitions import StreamsFileError, load_streams
from warehouse.layout import WarehouseError, existing_output
from warehouse.report import write_report


@click.command()
@click.argument("directory", metavar="DIR", type=click.Path())
@click.option("--streams", required=True, metavar="FILE", help="The streams file: where each stream delivers now.")
@click.option("--reasons", metavar="FILE", help="Your own rows of the table of reasons: filters may name them.")
def command(directory: str, streams: str, reasons: str | None) -> int:
    """Deliver what is pending, stream by stream, in order.

    A stream stops at its first failure, and the others go on. Paused streams keep their records. Exit code 3 if records
    of a stream that is not paused stay pending.
    """
    with mistakes(ReasonsError):
        names = reason_names(load_reasons(reasons))
    with mistakes(StreamsFileError):
        definitions = load_streams(streams, reasons=names)
    local = not storage.is_remote(directory)
    with mistakes(WarehouseError, LockedError):
        output = str(existing_output(directory)) if local else directory.rstrip("/")
        with locked(output):
            results = deliver_waiting(output, definitions)
            if local and results:
                write_report(output)
    paused = {stream.name for stream in definitions if stream.state == "paused"}
    return _print_results(results, paused)


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
