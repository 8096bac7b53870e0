import threading

import pytest

from worker.interruptible import interruptible


def test_the_result_is_handed_over() -> None:
    assert interruptible(lambda: 7, lambda: None) == 7


@pytest.mark.parametrize("error", [ValueError("no"), TimeoutError("slow")], ids=["any", "timeout"])
def test_an_error_is_handed_over(error: Exception) -> None:
    def work() -> None:
        raise error

    with pytest.raises(type(error)):
        interruptible(work, lambda: None)


def test_a_silent_work_is_left_behind() -> None:
    class Stop(Exception):
        pass

    def check() -> None:
        raise Stop

    never = threading.Event()
    with pytest.raises(Stop):
        interruptible(never.wait, check)
    never.set()
