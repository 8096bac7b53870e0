"""What an export may change."""

import pytest

from compression.errors import InvalidOptions
from compression.formats.catalog import check_same_values
from compression.protocol import Output


def test_an_export_may_change_the_format_and_nothing_that_was_evaluated() -> None:
    check_same_values(Output(format="gguf", embeddings="int8"), Output(format="sparse-packed", embeddings="int8"))
    with pytest.raises(InvalidOptions, match="'int8' would change values that were evaluated") as refusal:
        check_same_values(Output(), Output(format="gguf", embeddings="int8"))
    assert (refusal.value.field, refusal.value.allowed) == ("output.embeddings", "keep")
