"""How fast Scalpel is, beside a plain baseline and the hardware's floor, and where its time goes.

    python -m benchmarks.speed end-to-end --json speed.json --chart docs/speed.svg
    python -m benchmarks.speed layers | block | growth [--help]

`end-to-end`: a whole model on the CPU. `layers`: single layers of real shapes. `block`: blocks of OPT-175B's or of a 7B
Llama's shape with random weights, extrapolated to the whole model. `growth`: cost against width, depth and samples. The last
three run wherever torch, transformers, safetensors, numpy and pydantic are, without a network.
"""

import argparse
import os
from importlib import import_module
from pathlib import Path

SECTIONS = {
    "end-to-end": "benchmarks.speed.end_to_end",
    "layers": "benchmarks.speed.layers",
    "block": "benchmarks.speed.block",
    "growth": "benchmarks.speed.growth",
}


def main() -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in the product, and before torch is loaded
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("options", nargs=argparse.REMAINDER, help="of the section; --help after its name tells them")
    chosen = parser.parse_args()
    section = import_module(SECTIONS[chosen.section])  # alone: the others may need what a bare machine lacks
    args = _parser(chosen.section, section).parse_args(chosen.options)
    _run(chosen.section, section, args)


def _parser(name: str, section: object) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"benchmarks.speed {name}", description=section.__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the smallest run that measures everything")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--chart", type=Path, help="a stacked bar chart of the stages, as SVG")
    section.add_arguments(parser)  # type: ignore[attr-defined]
    return parser


def _run(name: str, section: object, args: argparse.Namespace) -> None:
    import torch

    from benchmarks.results import print_table, write_json
    from benchmarks.speed.chart import write_chart
    from compression import environment

    rows, bars = section.run(args, print_table)  # type: ignore[attr-defined]
    if args.json:
        device = environment.pick_device(getattr(args, "device", "cpu"))
        write_json(args.json, f"speed {name}", environment.describe(device, torch.float32).model_dump(), rows)
    if args.chart:
        write_chart(args.chart, f"Where the time goes: {name}", bars)


if __name__ == "__main__":
    main()
