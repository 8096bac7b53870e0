"""How to load an artifact with the software that reads its format: lines to copy. Torch-free."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from compression.protocol import OutputFormat

if TYPE_CHECKING:
    from compression.report import Report

FOLDER = "FOLDER"  # what a reader puts a path, or a repository's id, for


@dataclass(frozen=True)
class Snippet:
    """Args: software: as users know it, with what it needs. language: of the code, as Markdown names it."""

    software: str
    language: str
    code: str


CAUSAL = ("ForCausalLM", "LMHeadModel")
OF_ENCODERS = {"ForSequenceClassification": "AutoModelForSequenceClassification", "ForMaskedLM": "AutoModelForMaskedLM"}


def auto_class(class_name: str) -> str:
    """The class of transformers that opens a model whose config.json has this class name."""
    if not class_name or class_name.endswith(CAUSAL):
        return "AutoModelForCausalLM"
    return next((found for ending, found in OF_ENCODERS.items() if class_name.endswith(ending)), "AutoModel")


def snippets(name: OutputFormat, class_name: str) -> tuple[Snippet, ...]:
    """Args: class_name: of the model, as its config.json has it."""
    opened = auto_class(class_name)
    transformers = _transformers(opened)
    match name:
        case "dense" if opened != "AutoModelForCausalLM":
            return (Snippet("transformers", "python", transformers),)
        case "dense":
            return (Snippet("transformers", "python", transformers), _vllm())
        case "compressed-tensors":
            return (Snippet("transformers with compressed-tensors", "python", transformers), _vllm())
        case "gptq":
            return (
                Snippet("gptqmodel", "python", f'from gptqmodel import GPTQModel\n\nmodel = GPTQModel.load("{FOLDER}")'),
                Snippet("transformers with optimum and gptqmodel", "python", transformers),
                _vllm(),
            )
        case "gguf":
            return (
                Snippet("llama.cpp", "sh", f'llama-cli -m {FOLDER}/model.gguf -p "Once upon a time"'),
                Snippet("llama-cpp-python", "python", _LLAMA_CPP_PYTHON),
                Snippet("transformers", "python", _transformers("AutoModelForCausalLM", ', gguf_file="model.gguf"')),
            )
        case "spqr":
            return (Snippet("transformers with spqr-quant, on an NVIDIA GPU", "python", _SPQR),)
        case "sparse-packed":
            return (
                Snippet("Scalpel's library", "python", f'from compression.formats import load\n\nmodel = load("{FOLDER}")'),
            )


def shrunk_snippets() -> tuple[Snippet, ...]:
    """Of a model whose blocks are not all alike."""
    return (
        Snippet(
            "the file beside the weights, with transformers",
            "python",
            "import sys\n\nfrom transformers import AutoTokenizer\n\n"
            f'sys.path.insert(0, "{FOLDER}")\n'
            "from load_shrunk import load\n\n"
            f'tokenizer = AutoTokenizer.from_pretrained("{FOLDER}")\nmodel = load("{FOLDER}")',
        ),
        Snippet("Scalpel's library", "python", f'from compression.formats import load\n\nmodel = load("{FOLDER}")'),
    )


def report_snippets(report: "Report") -> tuple[Snippet, ...]:
    """Of the artifact that a report tells of."""
    if report.structure is not None and not report.structure.is_plain:
        return shrunk_snippets()
    return snippets(report.output.format, report.model.architecture)


def _transformers(opened: str, more: str = "") -> str:
    return (
        f"from transformers import AutoTokenizer, {opened}\n\n"
        f'tokenizer = AutoTokenizer.from_pretrained("{FOLDER}"{more})\n'
        f'model = {opened}.from_pretrained("{FOLDER}"{more})'
    )


def _vllm() -> Snippet:
    return Snippet("vLLM", "sh", f"vllm serve {FOLDER}")


_LLAMA_CPP_PYTHON = f"""from llama_cpp import Llama

model = Llama(model_path="{FOLDER}/model.gguf")
print(model("Once upon a time", max_tokens=32)["choices"][0]["text"])"""

_SPQR = f"""import spqr_quant
import torch
from transformers import AutoModelForCausalLM
from transformers.quantizers import quantizer_spqr
from transformers.quantizers.quantizers_utils import should_convert_module


def replace(model, modules_to_not_convert=None, quantization_config=None):
    # transformers' own (up to 5.23) calls a function that spqr-quant spells otherwise, and fails on nested modules
    found, shapes = quantization_config, quantization_config.shapes
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear) and should_convert_module(name, modules_to_not_convert):
            sizes = [shapes[f"{{name}}.{{part}}.shape"] for part in ("dense_weights", "row_offsets", "col_vals", "in_perm")]
            with torch.device("meta"):
                packed = spqr_quant.QuantizedLinear.create_placehodler(
                    module.out_features, module.in_features, found.bits, found.beta1, found.beta2, *sizes
                )
            model.set_submodule(name, packed)
    return model


quantizer_spqr.replace_with_spqr_linear = replace
model = AutoModelForCausalLM.from_pretrained("{FOLDER}", dtype=torch.float16, device_map="cuda")"""
