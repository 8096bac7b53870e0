import pytest

from compression import errors
from compression.errors import CompressionError, NumericalError
from jobs.failure import MAX_DETAIL, Failure, from_compression_error


def test_every_error_of_the_library_has_a_type_of_its_own() -> None:
    tree = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, CompressionError)]
    kinds = {from_compression_error(each("where", "why")).type for each in tree}
    assert len(kinds) == len(tree)


def test_the_layer_at_fault_is_named() -> None:
    assert from_compression_error(NumericalError("model.layers.3", "NaN")).layer == "model.layers.3"


@pytest.mark.parametrize("length", [MAX_DETAIL, MAX_DETAIL + 1])
def test_a_long_detail_is_cut(length: int) -> None:
    assert len(Failure(type="t", title="t", detail="x" * length).detail) == MAX_DETAIL
