"""What is foretold of an evaluation, by hand on the shapes of Llama-2-7B."""

from compression.evaluation_estimate import Streamed, evaluation_memory, evaluation_work
from compression.families import read_architecture
from compression.text_load import TextLoad
from tests.compression.test_estimate import LLAMA_7B, tensors_of

LOAD = TextLoad(0, 2048, 20, 2048, 0)
BLOCKS = 32 * (4 * 4096**2 + 3 * 4096 * 11008)
ENDS = 2 * 32000 * 4096


def streamed(dtype: str = "BF16") -> Streamed:
    return Streamed.of(read_architecture(LLAMA_7B), tensors_of(LLAMA_7B, dtype))


def test_shapes_are_read_from_the_headers() -> None:
    model = streamed()
    assert (model.outside, model.largest_block, model.parameters) == (ENDS, BLOCKS // 32, BLOCKS + ENDS)


def test_each_model_keeps_its_stream_and_its_ends() -> None:
    alone, both = (evaluation_memory([streamed()] * count, LOAD, on_device=False).parts for count in (1, 2))
    assert alone["streams"] == 20 * 2048 * 4096 * 4 and both["streams"] == 2 * alone["streams"]
    assert alone["embedding and head"] == 4 * ENDS and both["embedding and head"] == 2 * alone["embedding and head"]
    assert both["block"] == alone["block"], "one block is there at a time"


def test_the_sample_loads_one_model_whole() -> None:
    alone, both = (evaluation_memory([streamed()] * count, LOAD, on_device=False) for count in (1, 2))
    assert alone.host_peak_bytes > 4 * (BLOCKS + 2 * ENDS)
    assert both.host_peak_bytes - alone.host_peak_bytes == 4 * ENDS + alone.parts["streams"]


def test_mapped_model_costs_its_streams_and_its_work_alone() -> None:
    parts = evaluation_memory([streamed("F32")], LOAD, on_device=False).parts
    assert parts["embedding and head"] == parts["block"] == 0


def test_device_holds_what_the_host_need_not() -> None:
    cpu, device = (evaluation_memory([streamed()], LOAD, on_device=on_device) for on_device in (False, True))
    assert cpu.device_peak_bytes is None
    assert device.device_peak_bytes is not None and device.device_peak_bytes > 4 * BLOCKS
    assert device.host_peak_bytes < cpu.host_peak_bytes


def test_work_counts_every_token_of_every_model() -> None:
    work = evaluation_work([streamed()] * 2, LOAD)
    assert work == {"evaluating": 2 * 20 * 2048 * float(BLOCKS + 32000 * 4096)}
