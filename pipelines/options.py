"""Options of the job, beside those of Beam. They also make the flex template's parameters (`templates/metadata.py`)."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from apache_beam.options.pipeline_options import PipelineOptions


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
            help="Buckets of devices of a new warehouse, 1 to 2048: about one per half million records an hour. Fixed when "
            "the warehouse is created (default 1).",
        )
        group.add_argument(
            "--processes",
            type=int,
            metavar="N",
            help="Worker processes of a local run (default: as many as there are cores when the input is large enough "
            "to pay for their start, else 1).",
        )


def known_options() -> set[str]:
    """Returns every option that the job takes, ours and Beam's, with its dashes."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, conflict_handler="resolve")
    for options in (PipelineOptions, *_subclasses(PipelineOptions)):
        if "_add_argparse_args" in vars(options):
            options._add_argparse_args(parser)
    return {flag for action in parser._actions for flag in action.option_strings}


def _subclasses(base: type) -> list[type]:
    return [found for child in base.__subclasses__() for found in (child, *_subclasses(child))]


def unknown_options(arguments: Sequence[str]) -> list[str]:
    """Returns an error text for each argument that is no known option (Beam itself would drop it with a warning)."""
    known = known_options()
    errors = []
    for argument in arguments:
        flag = argument.split("=", 1)[0]
        if flag.startswith("--") and flag not in known:
            near = difflib.get_close_matches(flag, known, n=1)
            errors.append(f"{flag}: no such option" + (f" (did you mean {near[0]}?)" if near else ""))
    return errors
