"""Whether the steps of a configuration make an ensemble: found when it is loaded, told by the names
of step and tensor.

Pure. It refuses to know where the models of the steps come from.
"""

from collections.abc import Sequence
from dataclasses import replace

from inferd.config.model import ModelConfig
from inferd.config.scheduling import EnsembleStep
from inferd.errors import ConfigError
from inferd.serving.ensembles.graph import EnsembleGraph, Member, Scope, Step, consumers_of, fits
from inferd.types.datatype import CONFIG_DATATYPES
from inferd.types.tensor import TensorSpec

STEP = "ensemble_scheduling.step"
"""The field that messages name."""


def ensemble_graph(name: str, config: ModelConfig, members: Sequence[Member]) -> EnsembleGraph:
    """The graph of a configuration, of whose steps `members` are the models.

    Raises ConfigError that names step and tensor: where a model has no such tensor, where one that
    it needs is not given or made by nobody, made twice or never used, where data types or shapes
    differ, where steps wait for each other in a circle, and where batches are larger than a model
    takes.
    """
    scheduling = config.ensemble_scheduling
    _check_fields(config)
    assert scheduling is not None
    most = config.max_batch_size or 0
    inputs = tuple(
        TensorSpec(i.name, CONFIG_DATATYPES[i.data_type], _full(i.dims, most), i.optional)
        for i in config.input
    )
    outputs = tuple(
        TensorSpec(o.name, CONFIG_DATATYPES[o.data_type], _full(o.dims, most))
        for o in config.output
    )
    steps = [
        _step(index, said, member, most)
        for index, (said, member) in enumerate(zip(scheduling.step, members, strict=True))
    ]
    made = _makers(inputs, steps)
    _check_use(inputs, outputs, steps, made)
    ordered = _in_order(steps, {spec.name for spec in inputs})
    _check_tensors(inputs, outputs, ordered, most > 0)
    scoped, scope = _scoped(ordered, outputs)
    return EnsembleGraph(
        name, most, inputs, outputs, scoped, scheduling.max_inflight_requests, scope,
        consumers_of(scoped),
    )  # fmt: skip


def _full(dims: Sequence[int], max_batch_size: int) -> tuple[int, ...]:
    return (-1, *dims) if max_batch_size else tuple(dims)


def _check_fields(config: ModelConfig) -> None:
    if config.ensemble_scheduling is None or not config.ensemble_scheduling.step:
        raise ConfigError("an ensemble needs at least one step", field=STEP)
    for name in ("input", "output"):
        if not getattr(config, name):
            raise ConfigError(f"an ensemble has to say each {name} that it has", field=name)
    for name in ("instance_group", "dynamic_batching", "sequence_batching", "model_warmup"):
        if getattr(config, name):
            raise ConfigError(
                "is not for an ensemble, which runs nothing itself; say it of its models",
                field=name,
            )


def _step(index: int, said: EnsembleStep, member: Member, max_batch_size: int) -> Step:
    path, where = f"{STEP}[{index}]", f"step {index + 1} (model '{said.model_name}')"
    given, wanted = dict(said.input_map), dict(said.output_map)
    inputs = []
    for spec in member.inputs:
        tensor = given.pop(spec.name, None)
        if tensor is not None:
            inputs.append((spec, tensor))
        elif not spec.optional:
            raise ConfigError(
                f"{where}: input '{spec.name}' of the model is not mapped to any tensor",
                field=f"{path}.input_map",
            )
    if not inputs and not given:
        raise ConfigError(
            f"{where}: none of the model's inputs is mapped", field=f"{path}.input_map"
        )
    known = {spec.name for spec in member.outputs}
    for kind, names, there in (
        ("input", list(given), [spec.name for spec in member.inputs]),
        ("output", [name for name in wanted if name not in known], [*known]),
    ):
        for unknown in names:
            mapped = said.input_map if kind == "input" else said.output_map
            raise ConfigError(
                f"{where}: tensor '{mapped[unknown]}' is mapped to {kind} '{unknown}', which the "
                f"model does not have; it has: {', '.join(there)}",
                field=f"{path}.{kind}_map",
            )
    if not wanted:
        raise ConfigError(
            f"{where}: none of the model's outputs is mapped", field=f"{path}.output_map"
        )
    if 0 < member.max_batch_size < max_batch_size:
        raise ConfigError(
            f"is {max_batch_size}, but {where} takes batches of at most {member.max_batch_size}",
            field="max_batch_size",
        )
    names = [spec.name for spec in member.outputs if spec.name in wanted]
    version = "" if said.model_version < 0 else str(said.model_version)
    return Step(
        index, said.model_name, version, member, tuple(inputs),
        tuple((name, wanted[name]) for name in names),
        bool(member.max_batch_size) != bool(max_batch_size),
    )  # fmt: skip


def _makers(inputs: Sequence[TensorSpec], steps: Sequence[Step]) -> dict[str, str]:
    """Who makes each tensor, in words."""
    makers = {spec.name: "an input of the ensemble" for spec in inputs}
    for step in steps:
        for name, tensor in step.outputs:
            if tensor in makers:
                raise ConfigError(
                    f"{step.where}: output '{name}' is mapped to tensor '{tensor}', which is "
                    f"{makers[tensor]} already",
                    field=f"{STEP}[{step.index}].output_map",
                )
            makers[tensor] = f"made by {step.where}"
    return makers


def _check_use(
    inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec], steps: Sequence[Step],
    makers: dict[str, str],
) -> None:  # fmt: skip
    used = {tensor for step in steps for _, tensor in step.inputs}
    for step in steps:
        for spec, tensor in step.inputs:
            if tensor not in makers:
                raise ConfigError(
                    f"{step.where}: input '{spec.name}' is tensor '{tensor}', which no step makes "
                    "and which is no input of the ensemble",
                    field=f"{STEP}[{step.index}].input_map",
                )
    for spec in outputs:
        if spec.name not in makers:
            raise ConfigError(f"no step makes tensor '{spec.name}'", field="output")
        used.add(spec.name)
    for spec in inputs:
        if spec.name not in used:
            raise ConfigError(f"no step uses tensor '{spec.name}'", field="input")
    for step in steps:
        for name, tensor in step.outputs:
            if tensor not in used:
                raise ConfigError(
                    f"{step.where}: nobody uses tensor '{tensor}', its output '{name}'",
                    field=f"{STEP}[{step.index}].output_map",
                )


def _in_order(steps: Sequence[Step], there: set[str]) -> list[Step]:
    """Each step behind those whose tensors it takes."""
    ordered: list[Step] = []
    left = list(steps)
    there = set(there)
    while left:
        ready = [step for step in left if all(tensor in there for _, tensor in step.inputs)]
        if not ready:
            raise ConfigError(_circle(left, there), field=f"{STEP}[{left[0].index}].input_map")
        for step in ready:
            there.update(tensor for _, tensor in step.outputs)
            left.remove(step)
        ordered += ready
    return ordered


def _circle(left: Sequence[Step], there: set[str]) -> str:
    """Which of the steps that cannot run wait for each other."""
    makers = {tensor: step for step in left for _, tensor in step.outputs}
    step, seen, lacks = left[0], [], []
    while step not in seen:
        seen.append(step)
        lacks.append(next(tensor for _, tensor in step.inputs if tensor not in there))
        step = makers[lacks[-1]]
    start = seen.index(step)
    waits = ", ".join(
        f"{one.where} waits for '{tensor}'"
        for one, tensor in zip(seen[start:], lacks[start:], strict=True)
    )
    return f"the steps go in a circle: {waits}"


def _check_tensors(
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
    steps: Sequence[Step],
    batched: bool,
) -> None:
    """Data types and shapes of a tensor, as its maker and all its takers have them."""
    makers = {spec.name: (spec, batched, "the ensemble") for spec in inputs}
    for step in steps:
        specs = {spec.name: spec for spec in step.member.outputs}
        for name, tensor in step.outputs:
            makers[tensor] = specs[name], step.member.max_batch_size > 0, step.where
    for step in steps:
        takes = f"{step.where} takes as '{{}}'"
        for spec, tensor in step.inputs:
            maker = makers[tensor]
            _check_pair(
                tensor, maker, (spec, step.member.max_batch_size > 0, takes.format(spec.name)),
                f"{STEP}[{step.index}].input_map",
            )  # fmt: skip
            if maker[0].optional and not spec.optional:
                raise ConfigError(
                    f"input '{tensor}' may be left out, but {step.where} needs it as '{spec.name}'",
                    field="input.optional",
                )
    for spec in outputs:
        _check_pair(
            spec.name, makers[spec.name], (spec, batched, "the ensemble gives as its output"),
            "output",
        )  # fmt: skip


_End = tuple[TensorSpec, bool, str]
"""A tensor at one end of its way, whether it is batched there, and who that is in words."""


def _check_pair(tensor: str, maker: _End, taker: _End, path: str) -> None:
    (made, made_batched, who), (taken, taken_batched, whom) = maker, taker
    if made.datatype is not taken.datatype:
        raise ConfigError(
            f"tensor '{tensor}' is {made.datatype.config_name} from {who}, but what {whom} is "
            f"{taken.datatype.config_name}",
            field=path,
        )
    if made.any_shape or taken.any_shape:
        return
    made_dims, taken_dims = made.shape[made_batched:], taken.shape[taken_batched:]
    if not fits(made_dims, taken_dims) and not fits(made.shape, taken.shape):
        raise ConfigError(
            f"tensor '{tensor}' has shape {list(made.shape)} from {who}, but what {whom} has "
            f"{list(taken.shape)}",
            field=path,
        )


def _scoped(
    ordered: Sequence[Step], outputs: Sequence[TensorSpec]
) -> tuple[tuple[Step, ...], Scope]:
    """The steps with their scopes, and that of the answers."""
    scopes: dict[str, Scope] = {}
    scoped: list[Step] = []
    for step in ordered:
        tensors = [tensor for _, tensor in step.inputs]
        scope = _innermost(step.where, tensors, scopes, f"{STEP}[{step.index}].input_map")
        scoped.append(replace(step, scope=scope, place=len(scoped)))
        inner = (*scope, step.index) if step.member.streams else scope
        scopes.update((tensor, inner) for _, tensor in step.outputs)
    return tuple(scoped), _innermost(
        "the answer", [spec.name for spec in outputs], scopes, "output"
    )


def _innermost(what: str, tensors: Sequence[str], scopes: dict[str, Scope], path: str) -> Scope:
    deepest = max(tensors, key=lambda tensor: len(scopes.get(tensor, ())), default="")
    scope = scopes.get(deepest, ())
    for tensor in tensors:
        other = scopes.get(tensor, ())
        if scope[: len(other)] != other:
            raise ConfigError(
                f"{what} needs tensors '{deepest}' and '{tensor}', which come from two models that "
                "stream: nobody knows which of their responses belong together",
                field=path,
            )
    return scope
