"""Models of TensorFlow: SavedModel folders by one of their signatures, Keras (`.keras`), and TFLite
(`.tflite`).

All instances of a SavedModel or of Keras share one function, which TensorFlow runs for several
threads at once; a TFLite interpreter is of one instance. The parameter `signature` chooses.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from inferd.backends.base import ModelDescription, ModelInstance, OpenOptions
from inferd.backends.completion import complete, observed_shapes, probe_batching
from inferd.backends.tensorflow_files import Function, read_keras, read_saved_model, words
from inferd.backends.tensorflow_runtime import tensorflow
from inferd.backends.tflite import TFLiteFunction
from inferd.config.model import ModelConfig
from inferd.errors import BackendError, ConfigError, InferdError
from inferd.types.tensor import Array, TensorSpec


class TensorFlowInstance:
    """Runs a function, of its own or shared."""

    def __init__(self, function: Function, inputs: list[str], outputs: list[str]) -> None:
        self._function: Function | None = function
        self._inputs = inputs
        self._outputs = outputs

    def run(self, inputs: list[Array]) -> list[Array]:
        """Run one batch; see ModelInstance."""
        assert self._function is not None
        try:
            found = self._function.call(dict(zip(self._inputs, inputs, strict=True)))
        except InferdError:
            raise
        except Exception as error:
            raise BackendError(f"TensorFlow: {words(error)}") from error
        return [found[name] for name in self._outputs]

    def close(self) -> None:
        """Let go of the function."""
        self._function = None


class TensorFlowModel:
    """A file or folder; `read` gives a function for one more instance."""

    def __init__(
        self, read: Callable[[], Function], config: ModelConfig, platform: str, note: str
    ) -> None:
        self._read: Callable[[], Function] | None = read
        self._first: Function | None = read()
        inputs, outputs = self._first.inputs, self._first.outputs
        runner = self._runner(self._first, inputs, outputs)
        outputs = _with_shapes(runner, inputs, outputs)
        if config.max_batch_size != 0 and self._first.resizable:
            inputs, outputs = _freed(config, runner, inputs, outputs)
        notes, max_batch_size = [note], config.max_batch_size
        if max_batch_size is None:
            max_batch_size, told = probe_batching(runner.run, inputs, outputs)
            notes.append(told)
        self.description: ModelDescription = complete(
            config, platform, TensorFlowBackend.name, inputs, outputs, max_batch_size, notes,
            self._first.steady,
        )  # fmt: skip

    def _runner(
        self, function: Function, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
    ) -> TensorFlowInstance:
        names = [spec.name for spec in inputs], [spec.name for spec in outputs]
        return TensorFlowInstance(function, *names)

    def create_instance(self) -> TensorFlowInstance:
        """The first takes the function that was described."""
        assert self._read is not None
        function, self._first = self._first or self._read(), None
        return self._runner(function, self.description.inputs, self.description.outputs)

    def create_lanes(self) -> list[ModelInstance]:
        """None: TensorFlow's threads are one pool, which lanes would only share."""
        return []

    def close(self) -> None:
        """Let go of what was read, and of what all instances share."""
        self._first = self._read = None


class TensorFlowBackend:
    """Opens SavedModel folders, `.keras` and `.tflite` files."""

    name = "tensorflow"
    platform = "tensorflow_savedmodel"

    def open(self, path: Path, config: ModelConfig, options: OpenOptions) -> TensorFlowModel:
        """Open a folder or file; see Backend."""
        wanted = sorted({one.device for one in config.instances if one.on_gpu})
        gpu = wanted[0].partition(":")[2] or "0" if wanted else ""
        signature = config.parameter("signature")
        if path.suffix == ".tflite":
            if gpu:
                raise ConfigError("TFLite runs on the CPU here", field="instance_group.kind")
            return TensorFlowModel(
                lambda: TFLiteFunction(path, signature, options.threads), config,
                "tensorflow_lite", f"{options.threads} threads an instance",
            )  # fmt: skip
        tf = tensorflow(options.threads * config.instance_count)
        there = len(tf.config.list_physical_devices("GPU")) if gpu else 0
        if gpu and not there:
            raise ConfigError(
                "KIND_GPU needs a GPU that TensorFlow can use, and it finds none here: pip "
                "install 'tensorflow[and-cuda]', or use KIND_CPU",
                field="instance_group.kind",
            )
        if len(wanted) > 1:
            raise ConfigError("a model runs on one GPU here; name one", field="instance_group.gpus")
        if gpu and int(gpu) >= there:
            raise ConfigError(
                f"there is no GPU {gpu}: TensorFlow finds {there}, counted from 0",
                field="instance_group.gpus",
            )
        device = f"/GPU:{gpu}" if gpu else "/CPU:0"
        if path.suffix == ".keras":
            shared: Function = read_keras(tf, path, device, options.trust)
            platform = "tensorflow_keras"
        else:
            shared = read_saved_model(tf, path, device, signature)
            platform = self.platform
        threads = tf.config.threading.get_intra_op_parallelism_threads()
        note = f"{threads} threads for all models of TensorFlow, on {device[1:4]}"
        return TensorFlowModel(lambda: shared, config, platform, note)


def _with_shapes(
    runner: TensorFlowInstance, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    """Outputs; where the graph does not even say how many dimensions one has, by a run."""
    if all(spec.shape is not None for spec in outputs):
        return list(outputs)
    try:
        shapes = observed_shapes(lambda rows: [a.shape for a in runner.run(rows)], inputs)
    except InferdError as error:
        names = ", ".join(spec.name for spec in outputs if spec.shape is None)
        raise BackendError(f"the shape of {names} is not said, and a run with made-up rows "
                           f"failed: {error}") from error  # fmt: skip
    return [replace(spec, shape=shape) for spec, shape in zip(outputs, shapes, strict=True)]


def _freed(
    config: ModelConfig, runner: TensorFlowInstance, inputs: list[TensorSpec],
    outputs: list[TensorSpec],
) -> tuple[list[TensorSpec], list[TensorSpec]]:  # fmt: skip
    """TFLite models are mostly written for one row and take more: then the first dimension is
    free. Where the configuration does not say that they do, it is tried out."""
    if not all(spec.shape and spec.shape[0] in (1, -1) for spec in (*inputs, *outputs)):
        return inputs, outputs
    freed = [[replace(s, shape=(-1, *s.shape[1:])) for s in specs] for specs in (inputs, outputs)]
    if config.max_batch_size is None and not probe_batching(runner.run, *freed)[0]:
        return inputs, outputs
    return freed[0], freed[1]
