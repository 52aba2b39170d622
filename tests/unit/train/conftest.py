"""A small world that the tests of training batches share."""

from __future__ import annotations

import pytest

from ckf.data.example_table import ExampleTable
from tests.conftest import TASKS
from tests.worlds import small_source, write_world


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    dataset, examples = write_world(tmp_path_factory.mktemp("world"), small_source())
    return dataset, ExampleTable(examples / "examples.parquet", "train", TASKS)
