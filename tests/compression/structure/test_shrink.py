"""A shrunk model gives what the full-size one gives with the same units zeroed; nothing is left over of what was cut."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from compression.families import Architecture
from compression.families.structure import Half
from compression.structure.shrink import Cut, Cuts, kept_of, shrunk_block
from compression.structure.units import kept_shapes, parameters, structure_of
from tests import tiny_models
from tests.compression.structure.models import FAMILIES, architecture_of, blocks_of, ids, output_of, shapes_of

families = pytest.mark.parametrize("family", FAMILIES)


def cuts_for(half: Half, kept: Sequence[int] | None, rows: int, *, seed: int = 0) -> Cut:
    """New weights for the units kept; None: all of them, as they are."""
    if kept is None:
        return Cut(tuple(range(half.units)))
    generator = torch.Generator().manual_seed(seed)
    return Cut(tuple(kept), torch.randn(rows, len(kept) * half.width, generator=generator) if kept else None)


def mixed_cuts(architecture: Architecture) -> list[Cuts]:
    """Of three blocks: fewer units of both halves; no attention; no feed-forward and the attention as it is."""
    attention, ffn = structure_of(architecture)
    rows = architecture.matrices[-1].shape[0]
    return [
        (cuts_for(attention, range(1, attention.units), rows), cuts_for(ffn, range(0, ffn.units, 3), rows)),
        (cuts_for(attention, (), rows), cuts_for(ffn, (1, 2, 40), rows)),
        (cuts_for(attention, None, rows), cuts_for(ffn, (), rows)),
    ]


def shrink(model: PreTrainedModel, architecture: Architecture, cuts: Sequence[Cuts]) -> None:
    blocks = blocks_of(model, architecture)
    for number, block in enumerate(list(blocks)):
        blocks[number] = shrunk_block(block, number, architecture, cuts[number])


def mask(model: PreTrainedModel, architecture: Architecture, cuts: Sequence[Cuts]) -> None:
    """Put the new weights into the full-size output matrices, and zeros for what is cut, its bias where a half goes whole."""
    transposed = {matrix.name for matrix in architecture.matrices if matrix.is_transposed}
    for block, block_cuts in zip(blocks_of(model, architecture), cuts, strict=True):
        for half, cut in zip(structure_of(architecture), block_cuts, strict=True):
            module = block.get_submodule(half.output)
            weight = module.get_parameter("weight").detach()
            weight_RC = weight.T if half.output in transposed else weight
            columns = [unit * half.width + column for unit in cut.kept for column in range(half.width)]
            old_RK = weight_RC[:, columns].clone()
            weight_RC.zero_()
            weight_RC[:, columns] = old_RK if cut.weights_RK is None else cut.weights_RK
            if not cut.kept and module._parameters.get("bias") is not None:
                module.get_parameter("bias").detach().zero_()


def built(family: str) -> tuple[PreTrainedModel, Architecture]:
    return tiny_models.build(family).eval(), architecture_of(family)


@families
def test_shrunk_is_masked(family: str) -> None:
    model, architecture = built(family)
    dense = output_of(model, ids())
    other, _ = built(family)
    cuts = mixed_cuts(architecture)
    mask(other, architecture, cuts)
    shrink(model, architecture, cuts)
    masked = output_of(other, ids())
    torch.testing.assert_close(output_of(model, ids()), masked, atol=1e-5, rtol=1e-5)
    assert float((masked - dense).abs().max()) > 1e-3  # something was cut


@families
def test_parameters_left_are_those_that_the_profile_says(family: str) -> None:
    model, architecture = built(family)
    dense = shapes_of(blocks_of(model, architecture)[0])
    shrink(model, architecture, cuts := mixed_cuts(architecture))
    for block, block_cuts in zip(blocks_of(model, architecture), cuts, strict=True):
        foretold = kept_shapes(dense, architecture, kept_of(block_cuts))
        assert shapes_of(block) == foretold
        assert sum(parameter.numel() for parameter in block.parameters()) == parameters(foretold) < parameters(dense)


def test_parameters_of_a_smollm_like_block_in_closed_form() -> None:
    _, architecture = built("llama")
    dense = shapes_of(blocks_of(tiny_models.build("llama"), architecture)[0])
    d, head = 32, 8
    for groups, columns in ((2, 64), (1, 48), (1, 1)):
        cuts = Cut(tuple(range(groups))), Cut(tuple(range(columns)))
        attention, ffn = groups * (2 * 2 * head * d + 2 * head * d), 3 * columns * d  # queries and output; key and value
        assert parameters(kept_shapes(dense, architecture, kept_of(cuts))) == attention + ffn + 2 * d


@families
def test_a_model_without_halves_hands_the_residual_stream_on(family: str) -> None:
    model, architecture = built(family)
    shrink(model, architecture, [(Cut(()), Cut(()))] * 3)
    block: nn.Module = blocks_of(model, architecture)[0]
    seen: list[Tensor] = []
    block.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    block.register_forward_hook(lambda _, __, output: seen.append(output))
    output_of(model, ids())
    expected = seen[0]
    with torch.inference_mode():
        for module in block.modules():
            if isinstance(module, nn.LayerNorm):  # those after the halves are of the stream itself, and stay
                expected = module.forward(expected)
    torch.testing.assert_close(seen[1], expected)


@families
def test_a_dense_cut_changes_nothing_and_a_cut_leaves_the_block_that_it_was_made_from(family: str) -> None:
    model, architecture = built(family)
    before = output_of(model, ids())
    halves = structure_of(architecture)
    blocks = blocks_of(model, architecture)
    for number, block in enumerate(blocks):
        shrunk_block(block, number, architecture, mixed_cuts(architecture)[number])
    assert torch.equal(output_of(model, ids()), before)
    all_of_it = Cut(tuple(range(halves[0].units))), Cut(tuple(range(halves[1].units)))
    shrink(model, architecture, [all_of_it] * 3)
    assert torch.equal(output_of(model, ids()), before)


@pytest.mark.parametrize("family", ["llama", "qwen2", "opt", "gpt2"])
def test_a_cache_stays_in_step_where_the_first_attention_is_gone(family: str) -> None:
    model: Any
    model, architecture = built(family)
    cuts = mixed_cuts(architecture)
    shrink(model, architecture, [(Cut(()), cuts[0][1]), cuts[0], cuts[2]])
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    prompt = ids(1)
    cached, plain = (model.generate(prompt, use_cache=use, **options) for use in (True, False))
    assert cached.tolist() == plain.tolist()
    with torch.inference_mode():
        first = model(input_ids=prompt[:, :-1], use_cache=True)
        last = model(input_ids=prompt[:, -1:], past_key_values=first.past_key_values).logits
    torch.testing.assert_close(last[:, -1], output_of(model, prompt)[:, -1], atol=1e-5, rtol=1e-5)


def test_a_shrunk_linear_module_says_its_size() -> None:
    model, architecture = built("llama")
    shrink(model, architecture, mixed_cuts(architecture))
    attention = blocks_of(model, architecture)[0].get_submodule("self_attn")
    q, o = attention.get_submodule("q_proj"), attention.get_submodule("o_proj")
    assert isinstance(q, nn.Linear)
    assert isinstance(o, nn.Linear)
    assert (q.out_features, q.in_features, o.in_features) == (16, 32, 16)
