"""BERT and its kin: encoders with learned positions and norms after each half of a block."""

from compression.errors import UnsupportedModel
from compression.families.base import Architecture, Config, Matrix, Task
from compression.families.structure import Feed, Half, Structure

LEGACY_NORMS = (("LayerNorm.weight", "LayerNorm.gamma"), ("LayerNorm.bias", "LayerNorm.beta"))  # as first published
TASKS: dict[str, Task] = {
    "Model": "hidden-states",
    "ForMaskedLM": "masked-lm",
    "ForSequenceClassification": "classification",
}


def width(config: Config, *names: str, heads: tuple[str, ...]) -> int:
    """Hidden size. Raises: UnsupportedModel: its heads do not divide it."""
    size, count = config.positive(*names), config.positive(*heads)
    if size % count:
        raise UnsupportedModel(f"config.json: {names[0]} is {size}, which {count} heads do not divide")
    return size


def task_of(config: Config, kind: str) -> Task:
    """Args: kind: how the names of the family's classes begin, such as `Bert`.

    Raises: UnsupportedModel: config.json names no class, or one that is no encoder with a head of a known kind.
    """
    tasks = {f"{kind}{rest}": task for rest, task in TASKS.items()}
    if config.class_name not in tasks:
        given = config.class_name or "no class (architectures)"
        raise UnsupportedModel(f"config.json names {given}; of this family {', '.join(tasks)} can be compressed")
    if config.data.get("is_decoder") or config.data.get("add_cross_attention"):
        raise UnsupportedModel(f"config.json: a {config.class_name} with is_decoder or add_cross_attention is no encoder")
    return tasks[config.class_name]


def bert(config: Config) -> Architecture:
    return _bert(config, "bert", "Bert", "bert", config.positive("max_position_embeddings"))


def roberta(config: Config) -> Architecture:
    return _roberta(config, "Roberta")


def xlm_roberta(config: Config) -> Architecture:
    return _roberta(config, "XLMRoberta")


def distilbert(config: Config) -> Architecture:
    task = task_of(config, "DistilBert")
    d, ffn = width(config, "dim", "hidden_size", heads=("n_heads", "num_attention_heads")), config.positive("hidden_dim")
    base_prefix = "" if task == "hidden-states" else "distilbert"
    return Architecture(
        family="distilbert",
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=config.positive("n_layers", "num_hidden_layers"),
        block_path=f"{base_prefix}.transformer.layer".removeprefix("."),
        base_prefix=base_prefix,
        matrices=(
            Matrix("attention.q_lin", (d, d), reads="attention", stage=0),
            Matrix("attention.k_lin", (d, d), reads="attention", stage=0),
            Matrix("attention.v_lin", (d, d), reads="attention", stage=0),
            Matrix("attention.out_lin", (d, d), reads="attention_output", stage=1),
            Matrix("ffn.lin1", (ffn, d), reads="mlp", stage=2),
            Matrix("ffn.lin2", (d, ffn), reads="mlp_output", stage=3),
        ),
        max_positions=config.positive("max_position_embeddings"),
        vocab_size=config.positive("vocab_size"),
        renames=LEGACY_NORMS,
        task=task,
    )


def _roberta(config: Config, kind: str) -> Architecture:
    """Positions count on from the id of the padding token, so that so many rows of their table are never used."""
    rows, padding = config.positive("max_position_embeddings"), config.data.get("pad_token_id", 1)
    if isinstance(padding, bool) or not isinstance(padding, int) or not 0 <= padding < rows - 1:
        raise UnsupportedModel(f"config.json: pad_token_id is {padding!r}, and positions start after it")
    return _bert(config, "roberta", kind, "roberta", rows - padding - 1)


def _bert(config: Config, family: str, kind: str, prefix: str, max_positions: int) -> Architecture:
    task = task_of(config, kind)
    d, ffn = width(config, "hidden_size", heads=("num_attention_heads",)), config.positive("intermediate_size")
    base_prefix = "" if task == "hidden-states" else prefix
    return Architecture(
        family=family,
        class_name=config.class_name,
        model_type=config.model_type,
        blocks=config.positive("num_hidden_layers"),
        block_path=f"{base_prefix}.encoder.layer".removeprefix("."),
        base_prefix=base_prefix,
        matrices=(
            Matrix("attention.self.query", (d, d), reads="attention", stage=0),
            Matrix("attention.self.key", (d, d), reads="attention", stage=0),
            Matrix("attention.self.value", (d, d), reads="attention", stage=0),
            Matrix("attention.output.dense", (d, d), reads="attention_output", stage=1),
            Matrix("intermediate.dense", (ffn, d), reads="mlp", stage=2),
            Matrix("output.dense", (d, ffn), reads="mlp_output", stage=3),
        ),
        max_positions=max_positions,
        vocab_size=config.positive("vocab_size"),
        renames=LEGACY_NORMS,
        task=task,
        structure=_structure(config, d, ffn),
    )


def _structure(config: Config, d: int, ffn: int) -> Structure:
    """The norms stand after the halves, on the residual stream: they stay where a half goes."""
    heads = config.positive("num_attention_heads")
    size = d // heads
    attention = Half(
        name="attention",
        output="attention.output.dense",
        units=heads,
        width=size,
        feeds=tuple(Feed(f"attention.self.{part}", size) for part in ("query", "key", "value")),
        stand_ins=(("attention.self", "attention"), ("attention.output.dense", "zero")),
        counts=(("attention.self", "num_attention_heads", 1), ("attention.self", "all_head_size", size)),
    )
    feed_forward = Half(
        name="ffn",
        output="output.dense",
        units=ffn,
        width=1,
        feeds=(Feed("intermediate.dense", 1),),
        stand_ins=(("intermediate", "identity"), ("output.dense", "zero")),
        config=(("intermediate_size", 1),),
    )
    return attention, feed_forward


ENCODERS = {"bert": bert, "distilbert": distilbert, "roberta": roberta, "xlm-roberta": xlm_roberta}
