"""Which runner a job is for, and what that runner needs: mistakes are found before there is a pipeline."""

from __future__ import annotations

from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator
from apache_beam.runners.runner import create_runner

from schemas.definition import did_you_mean

LOCAL_RUNNER = "FnApiRunner"
"""The runner of this machine."""

PRISM_RUNNER = "PrismRunner"
"""The runner of live jobs on this machine."""

DATAFLOW_RUNNER = "DataflowRunner"
"""The runner whose workers share no disk with the launching machine."""


def runner_of(options: PipelineOptions) -> str:
    """Returns the runner's name. DirectRunner (the default) means FnApiRunner."""
    # Beam's DirectRunner would try Prism first, whose binary it downloads: the run would depend on the network.
    runner = (options.view_as(StandardOptions).runner or "DirectRunner").rsplit(".", 1)[-1]
    return LOCAL_RUNNER if runner in ("DirectRunner", "SwitchingDirectRunner") else runner


def runner_mistakes(options: PipelineOptions) -> list[str]:
    """Returns an error text for each mistake about the runner and what it needs. No service is reached."""
    if runner_of(options) == LOCAL_RUNNER:
        if options.view_as(DirectOptions).direct_running_mode == "multi_threading":
            return ["--direct_running_mode: multi_threading loses bundles in this SDK; use --processes=N instead"]
        return []
    given = options.view_as(StandardOptions).runner
    try:
        runner = create_runner(given)
    except (ImportError, AttributeError, ValueError) as error:
        near = did_you_mean(given, StandardOptions.KNOWN_RUNNER_NAMES)
        return [f"--runner: {given!r} is no runner of Beam{near}" if near else f"--runner: {error}"]
    validator = PipelineOptionsValidator(options, runner)
    if not validator.is_service_runner():
        return []
    cloud = options.view_as(GoogleCloudOptions)
    places = [validator.validate_gcs_path(cloud, name) for name in ("temp_location", "staging_location")]
    # One of the two is enough. With neither Beam would make a bucket of its own, at a place that nobody chose.
    return validator.validate_cloud_options(cloud) + (places[0] if all(places) else [])


__all__ = ["DATAFLOW_RUNNER", "LOCAL_RUNNER", "PRISM_RUNNER", "runner_mistakes", "runner_of"]
