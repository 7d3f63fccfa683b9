"""`synergy inspect`: the contents of a model file or a bundle."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synergy.runtime.commands.options import JsonOption, write_json

if TYPE_CHECKING:
    from synergy.export.inspection.inspect import BundleInfo, Inspection, ModelInfo, TensorInfo


def inspect(
    path: Annotated[
        Path, typer.Argument(metavar="FILE|BUNDLE", help="A .mindir, .onnx or .ms file, or a bundle folder.")
    ],
    json_file: JsonOption = None,
) -> None:
    """Show what a model file or a bundle contains and which engines can run it.

    Prints inputs, outputs, operators, weights and versions. The hashes of
    a bundle are verified.
    """
    from synergy.export.inspection.inspect import inspect_path

    found = inspect_path(path)
    print_inspection(found)
    write_json(json_file, found)


def print_inspection(found: Inspection) -> None:
    """Print the facts of the bundle, if it is one, then a block per model file."""
    if found.bundle is not None:
        _print_facts(found.bundle.folder, _bundle_facts(found.bundle))
    for model in found.models:
        _print_facts(model.file, _model_facts(model))


def _print_facts(title: str, facts: Iterable[tuple[str, str]]) -> None:
    from rich.table import Table

    from synergy.runtime.terminal.console import make_console, plain

    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in facts:
        table.add_row(f"  {name}", plain(value))
    console = make_console()
    console.print(f"[bold]{plain(title)}[/]", soft_wrap=True)
    console.print(table)


def _bundle_facts(bundle: BundleInfo) -> Iterator[tuple[str, str]]:
    yield "network", f"{bundle.arch}, {bundle.convention} conventions, head {bundle.head}"
    yield "from", f"{bundle.source}, sha256 {bundle.source_sha256[:12]}"
    yield from _tensor_facts(bundle.inputs, bundle.outputs)
    yield "made with", ", ".join(f"{name} {version}" for name, version in bundle.toolchain.items())
    yield "verified", ", ".join(bundle.verified)
    reasons = "; ".join(bundle.parity_reasons)
    drift = ", with accepted drift" if bundle.parity.endswith("drift") else ""
    here = "not repeated here: run `synergy verify`" if bundle.proved else "unchecked here: no engine runs the bundle"
    passed = f"every artifact passed against the checkpoint{drift}, at export; {here}"
    yield "parity", f"{bundle.parity}: {reasons}" if reasons else passed


def _model_facts(model: ModelInfo) -> Iterator[tuple[str, str]]:
    versions = [f"{name} {version}" for name, version in model.versions.items()]
    yield "what", ", ".join([*versions, *([model.precision] if model.precision else []), _size(model.bytes)])
    yield "sha256", model.sha256
    yield from _tensor_facts(model.inputs, model.outputs)
    if model.unread:
        yield "operators", model.unread
    else:
        yield "operators", ", ".join(f"{name}:{count}" for name, count in model.operators.items())
        yield "weights", f"{model.values:,} values in {model.weights} tensors"
    if model.lowering is not None:
        yield "lowering", f"to MindIR 1 fails: {model.lowering}" if model.lowering else "to MindIR 1 works"
    for engine in model.engines:
        yield engine.name, f"{'yes' if engine.runs else 'no'}: {engine.detail}"


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e5 else f"{count:,} bytes"


def _tensor_facts(inputs: Iterable[TensorInfo], outputs: Iterable[TensorInfo]) -> Iterator[tuple[str, str]]:
    for side, tensors in (("input", inputs), ("output", outputs)):
        for tensor in tensors:
            dims = None if tensor.shape is None else ", ".join("N" if dim < 0 else str(dim) for dim in tensor.shape)
            yield side, f"{tensor.name} {tensor.dtype} {'(shape found at run time)' if dims is None else f'({dims})'}"
