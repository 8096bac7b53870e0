"""What is known of the demo models without having them: config and tensor shapes, as their de-quantised checkpoints will show.

A test compares these facts with the real checkpoint.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from compression.models.headers import DTYPE_BYTES, SINGLE_FILE, TensorInfo


@dataclass(frozen=True)
class DemoFacts:
    """Enough of a checkpoint to plan a compression and to foretell its size.

    Args:
        config: the entries of config.json that an architecture is read from.
        dtype: of every tensor but those in `other_dtypes`.
        outside, in_each_block: shapes by tensor name; a block's names go on from `block_path.K.`.
    """

    config: Mapping[str, Any]
    dtype: str
    blocks: int
    block_path: str
    outside: Mapping[str, tuple[int, ...]]
    in_each_block: Mapping[str, tuple[int, ...]]
    other_dtypes: Mapping[str, str] = field(default_factory=dict)

    def tensors(self) -> dict[str, TensorInfo]:
        """As `headers.read_folder` gives them of the real checkpoint."""
        shapes = dict(self.outside)
        for block in range(self.blocks):
            shapes |= {f"{self.block_path}.{block}.{name}": shape for name, shape in self.in_each_block.items()}
        return {name: self._tensor(name, shape) for name, shape in shapes.items()}

    def _tensor(self, name: str, shape: tuple[int, ...]) -> TensorInfo:
        dtype = self.other_dtypes.get(name, self.dtype)
        return TensorInfo(name, Path(SINGLE_FILE), dtype, shape, math.prod(shape) * DTYPE_BYTES[dtype])


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

MINILM_L6 = DemoFacts(
    config={
        "architectures": ["BertModel"],
        "model_type": "bert",
        "hidden_size": 384,
        "intermediate_size": 1536,
        "num_hidden_layers": 6,
        "num_attention_heads": 12,
        "max_position_embeddings": 512,
        "vocab_size": 30522,
    },
    dtype="F32",
    blocks=6,
    block_path="encoder.layer",
    outside={
        "embeddings.LayerNorm.bias": (384,),
        "embeddings.LayerNorm.weight": (384,),
        "embeddings.position_embeddings.weight": (512, 384),
        "embeddings.position_ids": (1, 512),
        "embeddings.token_type_embeddings.weight": (2, 384),
        "embeddings.word_embeddings.weight": (30522, 384),
        "pooler.dense.bias": (384,),
        "pooler.dense.weight": (384, 384),
    },
    in_each_block={
        **{f"attention.self.{name}.weight": (384, 384) for name in ("query", "key", "value")},
        **{f"attention.self.{name}.bias": (384,) for name in ("query", "key", "value")},
        "attention.output.dense.weight": (384, 384),
        "attention.output.dense.bias": (384,),
        "attention.output.LayerNorm.weight": (384,),
        "attention.output.LayerNorm.bias": (384,),
        "intermediate.dense.weight": (1536, 384),
        "intermediate.dense.bias": (1536,),
        "output.dense.weight": (384, 1536),
        "output.dense.bias": (384,),
        "output.LayerNorm.weight": (384,),
        "output.LayerNorm.bias": (384,),
    },
    other_dtypes={"embeddings.position_ids": "I64"},
)
