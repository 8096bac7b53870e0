"""What is known of the demo models without having them: config and tensor shapes, as their de-quantised checkpoints will show.

A test compares these facts with the real checkpoint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compression.models.headers import DTYPE_BYTES, SINGLE_FILE, TensorInfo


@dataclass(frozen=True)
class DemoFacts:
    """Enough of a checkpoint to plan a compression and to foretell its size.

    Args:
        config: the entries of config.json that an architecture is read from.
        dtype: of every tensor.
        outside, in_each_block: shapes by tensor name; a block's names go on from `block_path.K.`.
    """

    config: Mapping[str, Any]
    dtype: str
    blocks: int
    block_path: str
    outside: Mapping[str, tuple[int, ...]]
    in_each_block: Mapping[str, tuple[int, ...]]

    def tensors(self) -> dict[str, TensorInfo]:
        """As `headers.read_folder` gives them of the real checkpoint."""
        shapes = dict(self.outside)
        for block in range(self.blocks):
            shapes |= {f"{self.block_path}.{block}.{name}": shape for name, shape in self.in_each_block.items()}
        size = DTYPE_BYTES[self.dtype]
        return {
            name: TensorInfo(name, Path(SINGLE_FILE), self.dtype, shape, math.prod(shape) * size)
            for name, shape in shapes.items()
        }


SMOLLM2_135M = DemoFacts(
    config={
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "max_position_embeddings": 8192,
        "vocab_size": 49152,
        "tie_word_embeddings": True,
    },
    dtype="F32",
    blocks=30,
    block_path="model.layers",
    outside={"model.embed_tokens.weight": (49152, 576), "model.norm.weight": (576,)},
    in_each_block={
        "input_layernorm.weight": (576,),
        "mlp.down_proj.weight": (576, 1536),
        "mlp.gate_proj.weight": (1536, 576),
        "mlp.up_proj.weight": (1536, 576),
        "post_attention_layernorm.weight": (576,),
        "self_attn.k_proj.weight": (192, 576),
        "self_attn.o_proj.weight": (576, 576),
        "self_attn.q_proj.weight": (576, 576),
        "self_attn.v_proj.weight": (192, 576),
    },
)
