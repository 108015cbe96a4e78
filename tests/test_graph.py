"""The graph: labelled throughout, the same for any number of streams, and free of pickles where it shuffles.

A running job is updated by the labels of its steps, and a step that changes its name loses its state. So they are
pinned in ``golden/labels.txt``; after a change that is meant, write it again with ``python -m tests.test_graph``.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import apache_beam as beam
import pytest
from apache_beam.pipeline import AppliedPTransform, PipelineVisitor

from tests.graphs import labels_of, local_job, pickled_shuffles, pipeline_of

GOLDEN = Path(__file__).with_name("golden") / "labels.txt"
OURS = ("pipelines.", "transforms.")


class UnlabelledSteps(PipelineVisitor):
    """Collects the steps that our code applies without giving them a label."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def visit_transform(self, transform_node: AppliedPTransform) -> None:
        self._look_at(transform_node)

    def enter_composite_transform(self, transform_node: AppliedPTransform) -> None:
        self._look_at(transform_node)

    def _look_at(self, node: AppliedPTransform) -> None:
        parent = node.parent
        if parent is None or node.transform is None:
            return
        own = node.full_label.rsplit("/", 1)[-1]
        of_beam = type(node.transform).__module__.startswith("apache_beam.")
        # Beam calls an unlabelled step by its class, or Map(function); the class of a composite of ours is a good name.
        unnamed = (of_beam and own == node.transform.default_label()) or own.endswith(")")
        if unnamed and (parent.transform is None or type(parent.transform).__module__.startswith(OURS)):
            self.found.append(node.full_label)


def protos(tmp_path: Path, streams: int) -> Any:
    return pipeline_of(local_job(tmp_path, streams)).to_runner_api()


def test_labels_are_the_pinned_ones(tmp_path: Path) -> None:
    assert labels_of(protos(tmp_path, 3)) == GOLDEN.read_text("utf-8").splitlines()


def test_labels_are_unique(tmp_path: Path) -> None:
    labels = labels_of(protos(tmp_path, 3))
    assert len(labels) == len(set(labels))


def test_every_step_is_labelled(tmp_path: Path) -> None:
    visitor = UnlabelledSteps()
    pipeline_of(local_job(tmp_path, 3)).visit(visitor)
    assert visitor.found == []


def test_the_look_for_unlabelled_steps_finds_one() -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | "Named" >> beam.Create([1]) | beam.Map(abs)
    visitor = UnlabelledSteps()
    pipeline.visit(visitor)
    assert visitor.found == ["Map(abs)"]


@pytest.mark.parametrize("streams", [0, 50])
def test_streams_are_data_not_graph(tmp_path: Path, streams: int) -> None:
    proto = protos(tmp_path, streams)
    assert labels_of(proto) == GOLDEN.read_text("utf-8").splitlines()
    other = protos(tmp_path, 3)
    assert {key: coder.spec.urn for key, coder in proto.components.coders.items()} == {
        key: coder.spec.urn for key, coder in other.components.coders.items()
    }


def test_no_pickle_crosses_a_shuffle(tmp_path: Path) -> None:
    proto = protos(tmp_path, 3)
    shuffles = [step for step in proto.components.transforms.values() if "group_by_key" in step.spec.urn]
    assert len(shuffles) >= 5
    assert pickled_shuffles(proto) == []


def test_the_look_for_pickles_finds_one() -> None:
    pipeline = beam.Pipeline(runner="FnApiRunner")
    _ = pipeline | "Make" >> beam.Create([(1, UnlabelledSteps())]) | "Group" >> beam.GroupByKey()
    assert pickled_shuffles(pipeline.to_runner_api()) == ["Group: beam:coder:pickled_python:v1"]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as directory:
        GOLDEN.write_text("\n".join(labels_of(protos(Path(directory), 3))) + "\n", "utf-8")
