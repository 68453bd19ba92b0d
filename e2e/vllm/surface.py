"""Prints as JSON what `vllm serve` takes: its flags as argparse knows them, and the values that it checks later.

usage: surface.py
"""

import argparse
import json
import sys

from vllm.entrypoints.launchers.cli_args import make_arg_parser
from vllm.model_executor.layers.quantization import QUANTIZATION_METHODS
from vllm.reasoning import ReasoningParserManager
from vllm.tool_parsers import ToolParserManager
from vllm.utils.argparse_utils import FlexibleArgumentParser


def flag(action: argparse.Action) -> dict:
    return {
        "names": action.option_strings,
        "choices": [str(c) for c in action.choices] if action.choices else None,
        "values": 0 if action.nargs == 0 else 2 if action.nargs in ("+", "*") else 1,
    }


parser = make_arg_parser(FlexibleArgumentParser())
later = {
    "quantization": sorted(QUANTIZATION_METHODS),
    "reasoning-parser": sorted(ReasoningParserManager.list_registered()),
    "tool-call-parser": sorted(ToolParserManager.list_registered()),
}
json.dump({"flags": [flag(a) for a in parser._actions if a.option_strings], "later": later}, sys.stdout)
