"""Files of PyTorch, each read into a Program: what can be called, and what the file says of its
arguments. What kind of file it is stands inside, not in its suffix.

TorchScript is read by an unpickler that makes tensors and nothing else. `torch.export.load` uses
Python's own for some of what it finds, so it takes trust.
"""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils import _pytree as pytree

from inferd.backends.python_warnings import without_warnings
from inferd.backends.torch_examples import traced_inputs
from inferd.backends.torch_tensors import datatype_of, flat
from inferd.errors import BackendError, InferdError, Unsupported
from inferd.types.tensor import TensorSpec

_UNSTEADY_NODES = ("prim::Loop", "prim::If", "aten::nonzero")
_UNSTEADY_CALLS = ("aten.nonzero", "cond", "while_loop")

PICKLED = (
    "it was written by torch.save: a pickle of weights or of a module, not TorchScript. Write it "
    "with torch.jit.trace(module, example).save(path) or torch.export.save(program, path), or "
    "serve the module from a Python model: a class with `load`, which makes the module and loads "
    "its weights, and `predict`"
)


@dataclass(frozen=True, slots=True)
class Program:
    """Something to call with named tensors.

    `inputs` are what the file says of the arguments, None where it does not. `outputs` likewise.
    `example` says that the shapes of `inputs` are those of an example, so that others may do.
    `kept` are addresses of the weights' memory. `writes` says that some of it computes in place,
    perhaps in its arguments. `max_rows` 0 is no limit.
    """

    platform: str
    call: Callable[[dict[str, torch.Tensor]], Any]
    arguments: tuple[str, ...]
    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    example: bool
    steady: bool
    kept: frozenset[int]
    writes: bool
    max_rows: int = 0


def read_program(path: Path, device: torch.device, trust: bool) -> Program:
    """Read a file onto a device; raises BackendError or Unsupported."""
    kind = _kind(path)
    if kind == "exported" and not trust:
        raise Unsupported(
            f"{path.name} is an exported program, and torch may run code while it reads one; "
            "serve it with --trust if you know where it comes from"
        )
    try:
        with without_warnings():  # torch calls TorchScript deprecated each time that it is used
            return (_exported if kind == "exported" else _script)(path, device)
    except InferdError:
        raise
    except Exception as error:
        raise BackendError(f"torch cannot load {path.name}: {words(error)}") from error


def _kind(path: Path) -> str:
    """`script` or `exported`, by the names in the archive."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [name.partition("/")[2] or name for name in archive.namelist()]
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError) as error:
        head = path.read_bytes()[:2] if path.is_file() else b""
        told = PICKLED if head[:1] == b"\x80" else f"it is damaged, or not of torch: {error}"
        raise BackendError(f"torch cannot load {path.name}: {told}") from error
    if "constants.pkl" in names:
        return "script"
    if any(name.startswith("data/aotinductor/") for name in names):
        raise Unsupported(f"{path.name} holds compiled code of AOTInductor; serve the exported "
                          "program that it was made of")  # fmt: skip
    if "archive_format" in names or "serialized_exported_program.json" in names:
        return "exported"
    raise BackendError(f"torch cannot load {path.name}: "
                       + (PICKLED if "data.pkl" in names else "it is not of torch"))  # fmt: skip


def _script(path: Path, device: torch.device) -> Program:
    load: Any = torch.jit.load
    module = load(str(path), map_location=device)
    module.eval()
    arguments = module.forward.schema.arguments[1:]
    names = []
    for argument in arguments:
        if str(argument.type) in ("Tensor", "Optional[Tensor]"):
            names.append(argument.name)
        elif not argument.has_default_value():
            raise Unsupported(
                f"argument '{argument.name}' of forward is {argument.type}, not Tensor; wrap the "
                "module in one that takes tensors, or serve it from a Python model"
            )
    everything = len(names) == len(arguments)
    graph = module.inlined_graph
    return Program(
        platform="pytorch_libtorch",
        call=lambda feed: module(**feed),
        arguments=tuple(names),
        inputs=traced_inputs(path, tuple(names)) if everything else None,
        outputs=None,
        example=True,
        steady=not any(graph.findAllNodes(kind, True) for kind in _UNSTEADY_NODES),
        kept=_addresses([*module.parameters(), *module.buffers()]),
        writes=any("!" in node.schema() for node in _nodes(graph)),
    )


def _nodes(block: Any) -> Iterator[Any]:
    """The nodes of a graph of TorchScript, and of the blocks in it."""
    for node in block.nodes():
        yield node
        for inner in node.blocks():
            yield from _nodes(inner)


def _exported(path: Path, device: torch.device) -> Program:
    with path.open("rb") as file:
        program: Any = torch.export.load(file)
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    values = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    signature = program.graph_signature
    given = [s.arg for s in signature.input_specs if s.kind.name == "USER_INPUT"]
    fixed = [getattr(arg, "value", None) for arg in given]
    names = [arg.name if isinstance(values.get(arg.name), torch.Tensor) else "" for arg in given]
    module, spec = program.module(), program.call_spec.in_spec

    def call(feed: dict[str, torch.Tensor]) -> Any:
        leaves = [feed[n] if n else value for n, value in zip(names, fixed, strict=True)]
        args, kwargs = pytree.tree_unflatten(leaves, spec)
        return module(*args, **kwargs)

    inputs = tuple(_spec_of(name, values[name]) for name in names if name)
    calls = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    return Program(
        platform="pytorch_export",
        call=call,
        arguments=tuple(spec.name for spec in inputs),
        inputs=inputs,
        outputs=_outputs(program),
        example=False,
        steady=not any(call.startswith(_UNSTEADY_CALLS) for call in calls),
        kept=_addresses([*program.state_dict.values(), *program.constants.values()]),
        writes=any(
            getattr(getattr(node.target, "_schema", None), "is_mutable", False)
            for part in program.graph_module.modules()
            for node in part.graph.nodes
        ),
        max_rows=_max_rows(program, [values[name] for name in names if name]),
    )


def _outputs(program: Any) -> tuple[TensorSpec, ...] | None:
    """What the graph says of the results; None where one is not a tensor, but a number."""
    (node,) = (node for node in program.graph.nodes if node.op == "output")
    kinds = [spec.kind.name for spec in program.graph_signature.output_specs]
    results = [
        argument.meta.get("val") if hasattr(argument, "meta") else argument
        for argument, kind in zip(node.args[0], kinds, strict=True)
        if kind == "USER_OUTPUT"
    ]
    if not all(isinstance(value, torch.Tensor) for value in results):
        return None
    # flat() says which key of a dictionary, or field of a tuple, each of them is.
    shape = pytree.tree_unflatten(list(range(len(results))), program.call_spec.out_spec)
    names = [name for name, _ in flat(shape)]
    return tuple(_spec_of(name, value) for name, value in zip(names, results, strict=True))


def _spec_of(name: str, value: torch.Tensor) -> TensorSpec:
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in value.shape)
    return TensorSpec(name, datatype_of(name, value.dtype), dims)


def _max_rows(program: Any, values: list[torch.Tensor]) -> int:
    """The largest first dimension that the program was exported for; 0 where it is not bounded."""
    bounds: list[int] = []
    for value in values:
        first: Any = value.shape[0] if value.ndim else 0
        found = None if isinstance(first, int) else program.range_constraints.get(first.node.expr)
        if found is not None and found.upper.is_Integer:
            bounds.append(int(found.upper))
    return min(bounds, default=0)


def _addresses(tensors: list[Any]) -> frozenset[int]:
    return frozenset(
        tensor.untyped_storage().data_ptr()
        for tensor in tensors
        if isinstance(tensor, torch.Tensor)
    )


def words(error: Exception) -> str:
    """What an error says at last: the lines before are TorchScript's own trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    told = [line for line in lines if line.startswith("RuntimeError:")]
    return told[-1].removeprefix("RuntimeError: ") if told else (lines[0] if lines else repr(error))
