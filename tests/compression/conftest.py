"""One thread: the shapes here are tiny, and threads that wait for each other on a busy machine cost minutes.

Float32 unless a test asks for another: what is compared with models in memory must not depend on the processor.
"""

from collections.abc import Iterator

import pytest
import torch

from compression import environment


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(autouse=True, scope="session")  # what a module or a session shares is made under it, too
def without_bfloat16() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(environment, "has_bfloat16", lambda device: False)
        yield
