from jobs.needs import CPU_QUEUE, GPU_QUEUE
from jobs.watching.devices import Slot
from worker.slots import Slots

CPU = Slot(device="cpu", name="", memory_bytes=None, needs=("any", "cpu"))
GPU = Slot(device="cuda:0", name="", memory_bytes=None, needs=("any", "gpu"))


def test_ring_takes_a_free_slot_of_its_kind_then_any_then_none() -> None:
    slots = Slots([CPU, GPU])
    with slots.free(GPU_QUEUE) as first, slots.free(GPU_QUEUE) as second, slots.free(CPU_QUEUE) as third:
        assert (first, second, third) == (1, 0, None)
    with slots.free(CPU_QUEUE) as number:
        assert number == 0


def test_slot_is_free_again_after_an_error() -> None:
    slots = Slots([CPU])
    try:
        with slots.free(CPU_QUEUE):
            raise ZeroDivisionError
    except ZeroDivisionError:
        pass
    with slots.free(CPU_QUEUE) as number:
        assert number == 0
