"""Other people's parsers on untrusted files: whatever they raise becomes a refusal."""

from collections.abc import Iterator
from contextlib import contextmanager

from compression.errors import Cancelled, CompressionError, UnsupportedModel


@contextmanager
def refusing(what: str) -> Iterator[None]:
    """Turn everything but our own errors and a lack of memory into an `UnsupportedModel`.

    Args: what: goes before the parser's own words, such as "the model folder has no tokenizer that transformers can load".
    """
    try:
        yield
    except (CompressionError, Cancelled, MemoryError):
        raise
    except Exception as error:
        raise UnsupportedModel(f"{what}: {_words(error)}") from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # of Rust: the tokenizers library panics on some files
            raise
        raise UnsupportedModel(f"{what}: {_words(error)}") from error


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000].encode(errors="replace").decode()
