"""Options of the job, beside those of Beam. They also make the flex template's parameters (`templates/metadata.py`)."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Callable, Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from pipelines.live.options import LiveOptions


class StreamerOptions(PipelineOptions):
    """What the Data Streamer reads, where it delivers, and where it writes."""

    @classmethod
    def _add_argparse_args(cls, parser: argparse.ArgumentParser) -> None:
        group = parser.add_argument_group("Data Streamer")
        group.add_argument(
            "--events",
            metavar="GLOB[,GLOB...]",
            help="Files of signalling events: globs on any Beam file system, comma separated. JSON (lines, arrays, "
            "pretty-printed), CSV, gzip; the rendering is recognised per record.",
        )
        group.add_argument(
            "--usage",
            metavar="GLOB[,GLOB...]",
            help="Files of usage records (CDRs): globs on any Beam file system, comma separated. At least one of "
            "--events and --usage is needed.",
        )
        group.add_argument(
            "--streams",
            metavar="FILE",
            help="YAML file of the streams to deliver (docs/streams.md). Without it only the warehouse is written.",
        )
        group.add_argument(
            "--output",
            metavar="DIR",
            help="Output directory, local or on any Beam file system: warehouse/, streams/, pending/, report.html.",
        )
        group.add_argument(
            "--buckets",
            type=int,
            metavar="N",
            help="Buckets of devices of a new warehouse, 1 to 2048: about one per half million records an hour. Fixed "
            "when the warehouse is created (default 1).",
        )
        group.add_argument(
            "--processes",
            type=int,
            metavar="N",
            help="Worker processes of a local run (default: as many as there are cores when the input is large enough "
            "to pay for their start, else 1).",
        )
        group.add_argument(
            "--no_report",
            action="store_true",
            help="Leave out the views and the report of a local run; `data-streamer report DIR` writes the report.",
        )
        group.add_argument(
            "--no_preflight",
            action="store_true",
            help="Do not ask subscriptions and destinations before the run whether they can be reached and are as they "
            "should be.",
        )
        group.add_argument(
            "--reasons",
            metavar="FILE",
            help="YAML file of your own rows of the table of reasons (docs/reasons.md); they are tried before the "
            "built-in ones.",
        )


def job_parser() -> argparse.ArgumentParser:
    """Returns a parser of every option that the job takes: ours first, then Beam's. Its help is that of the job."""
    parser = _streamer_parser("python -m pipelines.data_streamer", _EXIT_CODES)
    beam = parser.add_argument_group("Apache Beam")
    for options in _subclasses(PipelineOptions):
        if options not in (StreamerOptions, LiveOptions) and "_add_argparse_args" in vars(options):
            # Beam's options use a method of its own parser class; a value provider is an option like any other here.
            beam.add_value_provider_argument = beam.add_argument  # type: ignore[attr-defined]
            options._add_argparse_args(beam)  # type: ignore[arg-type]
    return parser


def _subclasses(base: type[PipelineOptions]) -> list[type[PipelineOptions]]:
    children: list[type[PipelineOptions]] = base.__subclasses__()
    return [found for child in children for found in (child, *_subclasses(child))]


def streamer_help(program: str) -> str:
    """Returns the help of our own options, which says where Beam's are."""
    return _streamer_parser(program, f"{_BEAM_OPTIONS} {_EXIT_CODES}").format_help()


_BEAM_OPTIONS = (
    "Every option of Apache Beam is taken as well, such as --runner=DataflowRunner --project=P --region=R "
    "--temp_location=gs://B/tmp; `python -m pipelines.data_streamer --help` lists them all."
)
_EXIT_CODES = (
    "Exit codes: 0 complete; 1 crash; 2 mistakes, all found before the run: nothing was done; 3 complete, but a "
    "running stream has pending records or an error."
)


def _streamer_parser(program: str, epilog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=program,
        usage="%(prog)s [--events=GLOB] [--usage=GLOB] [--streams=FILE]\n  --output=DIR [any Beam option]\n"
        "       %(prog)s --streaming [--events_subscription=S] [--usage_subscription=S]\n"
        "  [--streams=FILE] --output=DIR [any Beam option]",
        description="Read raw feeds, files or live subscriptions; write the warehouse, the streams and the report. At "
        "least one feed is needed.",
        epilog=epilog,
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
        conflict_handler="resolve",
    )
    StreamerOptions._add_argparse_args(parser)
    LiveOptions._add_argparse_args(parser)
    return parser


def check_options(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Reads arguments as Beam would, which stops at its first mistake, and drops what it does not know with a warning.

    Returns:
      the options by name, None where a value is wrong; and an error text for each mistake.
    """
    parser = job_parser()
    mistakes: list[str] = []
    for action in parser._actions:
        if action.type is not None or action.choices is not None:
            action.type, action.choices = _collecting(action, mistakes), None
    found, rest = _parse(parser, list(arguments), mistakes)
    known = {flag for action in parser._actions for flag in action.option_strings}
    for argument in rest:
        flag = argument.split("=", 1)[0]
        if flag.startswith("-"):
            near = difflib.get_close_matches(flag, known, n=1)
            mistakes.append(f"{flag}: no such option" + (f" (did you mean {near[0]}?)" if near else ""))
        else:
            mistakes.append(f"{argument}: belongs to no option; write --events=GLOB, and quote globs against the shell")
    return found, list(dict.fromkeys(mistakes))


def _parse(
    parser: argparse.ArgumentParser, arguments: list[str], mistakes: list[str]
) -> tuple[argparse.Namespace, list[str]]:
    """Parses; an option without its value becomes a mistake and is left out."""
    while True:
        try:
            return parser.parse_known_args(arguments)
        except argparse.ArgumentError as error:
            mistakes.append(f"{error.argument_name}: {error.message}")
            flags = (error.argument_name or "").split("/")
            kept = [argument for argument in arguments if argument.split("=", 1)[0] not in flags]
            if len(kept) == len(arguments):
                return parser.parse_known_args([])
            arguments = kept


def _collecting(action: argparse.Action, mistakes: list[str]) -> Callable[[str], Any]:
    """The action's type as a function that adds to `mistakes` what argparse would stop at."""
    kind: Callable[[str], Any] = action.type if callable(action.type) else str
    choices = action.choices

    def convert(text: str) -> Any:
        try:
            value = kind(text)
        except (argparse.ArgumentTypeError, TypeError, ValueError) as error:
            reason = str(error) if isinstance(error, argparse.ArgumentTypeError) else f"{text!r} is not valid"
            expected = "a whole number" if kind is int else "a number" if kind is float else None
            mistakes.append(f"{action.option_strings[-1]}: {reason}" + (f"; expected {expected}" if expected else ""))
            return None
        if choices is not None and value not in choices:
            mistakes.append(f"{action.option_strings[-1]}: {text!r} is none of {', '.join(map(str, choices))}")
        return value

    return convert
