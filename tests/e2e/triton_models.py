"""Models in the manner of Triton's own examples, and the repository that they lie in."""

from pathlib import Path

HEAD = (
    "import json, threading\nimport numpy as np\nimport triton_python_backend_utils as pb_utils\n"
)

ADD_SUB = """
from helper import total

class TritonPythonModel:
    def initialize(self, args):
        self.args = args
        config = json.loads(args["model_config"])
        kind = pb_utils.get_output_config_by_name(config, "OUTPUT0")["data_type"]
        self.dtype = pb_utils.triton_string_to_numpy(kind)
        self.calls = 0

    def execute(self, requests):
        self.calls += 1
        responses = []
        for request in requests:
            a = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            b = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            if np.isnan(a).any():
                raise ValueError("not a number")
            responses.append(pb_utils.InferenceResponse([
                pb_utils.Tensor("OUTPUT0", total(a, b).astype(self.dtype)),
                pb_utils.Tensor("OUTPUT1", (a - b).astype(self.dtype)),
            ]))
        return responses

    def finalize(self):
        print("add_sub says goodbye")
"""

ADD_SUB_CONFIG = """
backend: "python"
max_batch_size: 8
input [
  { name: "INPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "INPUT1" data_type: TYPE_FP32 dims: [ 4 ] }
]
output [
  { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 4 ] },
  { name: "OUTPUT1" data_type: TYPE_FP32 dims: [ 4 ] }
]
instance_group [{ kind: KIND_CPU }]
parameters: { key: "FORCE_CPU_ONLY_INPUT_TENSORS" value: { string_value: "yes" } }
"""

REPEAT = """
class TritonPythonModel:
    def initialize(self, args):
        config = json.loads(args["model_config"])
        assert pb_utils.using_decoupled_model_transaction_policy(config)

    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.answer, args=(request,)).start()

    def answer(self, request):
        sender = request.get_response_sender()
        values = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        for value in values:
            if value < 0:
                error = pb_utils.TritonError("negative", pb_utils.TritonError.INVALID_ARG)
                sender.send(pb_utils.InferenceResponse(error=error))
                continue
            out = pb_utils.Tensor("OUT", np.array([value], np.int32))
            sender.send(pb_utils.InferenceResponse([out]))
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

WAITING = """
class TritonPythonModel:
    '''Holds on to a request until it is cancelled, and counts those.'''

    def initialize(self, args):
        family = pb_utils.MetricFamily(
            name="waiting_cancelled", description="gone", kind=pb_utils.MetricFamily.COUNTER)
        self.gone = family.Metric(labels={})

    def execute(self, requests):
        for request in requests:
            threading.Thread(target=self.wait, args=(request,)).start()

    def wait(self, request):
        sender = request.get_response_sender()
        sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", np.zeros(1, np.int32))]))
        pause = threading.Event()
        while not sender.is_cancelled():
            pause.wait(0.01)
        self.gone.increment(1)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

MOODY = """
class TritonPythonModel:
    def initialize(self, args):
        self.ready = True

    def is_ready(self):
        return self.ready

    def execute(self, requests):
        self.ready = bool(requests[-1].inputs()[0].as_numpy()[0])
        out = pb_utils.Tensor("OUT", np.zeros(1, np.int32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""

ITERATIVE = """
class TritonPythonModel:
    def initialize(self, args):
        self.left = {}

    def execute(self, requests):
        for request in requests:
            sender, key = request.get_response_sender(), request.correlation_id()
            if not key:  # nobody's: a slot without a request, before one that has one
                sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
                continue
            if request.flags() & pb_utils.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START:
                self.left[key] = int(request.inputs()[0].as_numpy()[0][0])
            self.left[key] -= 1
            value = np.array([[self.left[key]]], np.int32)
            response = pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])
            if self.left[key]:
                request.set_release_flags(pb_utils.TRITONSERVER_REQUEST_RELEASE_RESCHEDULE)
                sender.send(response)
            else:
                sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
"""

WARMED = """
class TritonPythonModel:
    def initialize(self, args):
        self.rows = 0

    def execute(self, requests):
        arrays = [request.inputs()[0].as_numpy() for request in requests]
        seen = self.rows
        self.rows += sum(map(len, arrays))
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", array + seen)]) for array in arrays
        ]
"""

PATIENT = """
class TritonPythonModel:
    def execute(self, requests):
        pause = threading.Event()
        while not requests[0].is_cancelled():
            pause.wait(0.01)
        pb_utils.Logger.log_info("nobody waits")
        out = pb_utils.Tensor("OUT", np.zeros(1, np.int32))
        return [pb_utils.InferenceResponse([out]) for _ in requests]
"""

NAMED = """
class TritonPythonModel:
    def initialize(self, args):
        pb_utils.Logger.log_info("instance " + args["model_instance_name"])
        assert args["model_instance_kind"] == "CPU" and args["model_version"] == "1"
        assert args["model_repository"].endswith("/named")
        assert pb_utils.get_model_dir().endswith("/named/1")

    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value = request.inputs()[0].as_numpy()
        if value[0] > 0:
            again = pb_utils.Tensor("IN", np.zeros(1, np.int32))
            inner = pb_utils.InferenceRequest(
                model_name="named", requested_output_names=["OUT"], inputs=[again]).exec()
            if inner.has_error():
                return pb_utils.InferenceResponse(error=inner.error())
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)])
"""

FORGETFUL = """
class TritonPythonModel:
    def execute(self, requests):
        return None
"""

AUTO = """
class TritonPythonModel:
    @staticmethod
    def auto_complete_config(config):
        config.add_input({"name": "IN", "data_type": "TYPE_FP32", "dims": [4]})
        config.add_output({"name": "OUT", "data_type": "TYPE_FP32", "dims": [4]})
        config.set_max_batch_size(8)
        config.set_dynamic_batching()
        return config

    async def execute(self, requests):
        return [
            pb_utils.InferenceResponse([pb_utils.Tensor("OUT", r.inputs()[0].as_numpy() * 2)])
            for r in requests
        ]
"""

BLS = """
def ask(model, value, **more):
    return pb_utils.InferenceRequest(
        model_name=model, requested_output_names=["OUT"], inputs=[value], **more)


class TritonPythonModel:
    def execute(self, requests):
        return [self.answer(request) for request in requests]

    def answer(self, request):
        value = request.inputs()[0]
        model = json.loads(request.parameters())["model"]
        if model == "repeat":
            ints = pb_utils.Tensor("IN", value.as_numpy().ravel().astype(np.int32))
            parts = ask("repeat", ints).exec(decoupled=True)
            found = [p.output_tensors()[0].as_numpy()[0] for p in parts if p.output_tensors()]
            return pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", np.array([found], np.float32))])
        passed = {"parameters": request.parameters()} if model == "bls" else {}
        response = ask(model, value, **passed).exec()
        if response.has_error():
            return pb_utils.InferenceResponse(error=response.error())
        out = pb_utils.get_output_tensor_by_name(response, "OUT")
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", out.as_numpy() + 1)])
"""

BLS_ASYNC = """
import asyncio

class TritonPythonModel:
    async def execute(self, requests):
        return await asyncio.gather(*[self.answer(request) for request in requests])

    async def answer(self, request):
        value = pb_utils.get_input_tensor_by_name(request, "IN")
        asks = [
            pb_utils.InferenceRequest(
                model_name="auto", requested_output_names=["OUT"], inputs=[value])
            for _ in range(3)
        ]
        responses = await asyncio.gather(*[ask.async_exec() for ask in asks])
        total = sum(r.output_tensors()[0].as_numpy() for r in responses)
        return pb_utils.InferenceResponse([pb_utils.Tensor("OUT", total)])
"""

STRINGS = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            texts = request.inputs()[0].as_numpy()
            assert texts.dtype == object and type(texts.ravel()[0]) is bytes
            turned = [text.decode()[::-1] for text in texts.ravel()]
            pb_utils.Logger.log_warn("turned " + turned[0])
            out = pb_utils.Tensor("OUT", np.array(turned, dtype=object).reshape(texts.shape))
            said = {"request": request.request_id(), "sequence": request.correlation_id(),
                    "flags": request.flags(), "parameters": request.parameters()}
            responses.append(pb_utils.InferenceResponse([out], parameters=said))
        return responses
"""

SAYING = """
class TritonPythonModel:
    def execute(self, requests):
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUT", request.inputs()[0].as_numpy())], parameters={"said": 7})
            for request in requests
        ]
"""

ERRORS = """
class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            name = request.inputs()[0].as_numpy()[0].decode()
            if name == "fewer":
                return []
            if name == "other":
                return [3]
            if name == "type":
                out = pb_utils.Tensor("OUT", np.array([1.5], np.float32))
                responses.append(pb_utils.InferenceResponse([out]))
                continue
            if name == "none":
                responses.append(pb_utils.InferenceResponse([]))
                continue
            error = pb_utils.TritonError("is " + name, getattr(pb_utils.TritonError, name))
            responses.append(pb_utils.InferenceResponse(error=error))
        return responses
"""

METRICS = """
class TritonPythonModel:
    def initialize(self, args):
        kinds = pb_utils.MetricFamily
        self.family = kinds(name="requests_seen", description="seen", kind=kinds.COUNTER)
        self.seen = self.family.Metric(labels={"model": "metrics"})
        self.sizes = kinds(name="sizes", description="s", kind=kinds.HISTOGRAM).Metric(
            labels={}, buckets=[1.0, 4.0])

    def execute(self, requests):
        for request in requests:
            self.seen.increment(1)
            self.sizes.observe(request.inputs()[0].as_numpy().size)
        value = np.array([self.seen.value()], np.float32)
        return [pb_utils.InferenceResponse([pb_utils.Tensor("OUT", value)]) for _ in requests]
"""

LOADER = """
class TritonPythonModel:
    def execute(self, requests):
        name, model, more = requests[0].inputs()[0].as_numpy()[0].decode().split(" ", 2)
        before = pb_utils.is_model_ready("spare")
        getattr(pb_utils, name)(model, **json.loads(more))
        after = pb_utils.is_model_ready("spare")
        out = pb_utils.Tensor("OUT", np.array([f"{before} {after}"], object))
        return [pb_utils.InferenceResponse([out])]
"""


def _tensors(inputs: dict[str, str], outputs: dict[str, str], more: str = "") -> str:
    def lines(tensors: dict[str, str]) -> str:
        entries = [f"{{name: {name}, {said}}}" for name, said in tensors.items()]
        return f"[{', '.join(entries)}]"

    backend = "" if "platform" in more else "backend: python\n"
    return f"{backend}input: {lines(inputs)}\noutput: {lines(outputs)}\n{more}\n"


FLOATS = "data_type: TYPE_FP32, dims: [4]"
INTS = "data_type: TYPE_INT32, dims: [-1]"
TEXT = "data_type: TYPE_STRING, dims: [1]"
DECOUPLED = "model_transaction_policy: {decoupled: true}"

ITERATES = f"""
max_batch_size: 4
{DECOUPLED}
sequence_batching: {{iterative_sequence: true}}
"""

WARMUP = """
max_batch_size: 8
model_warmup: [{name: ones, batch_size: 2, inputs: {IN: {FLOATS, zero_data: true}}}]
""".replace("FLOATS", FLOATS)

AROUND = """
platform: ensemble
ensemble_scheduling: {step: [
  {model_name: inner, input_map: {IN: IN}, output_map: {OUT: OUT}}]}
"""

SHAPES = """
class TritonPythonModel:
    '''Says what it sees: how many requests, and the shape of this one.'''

    def execute(self, requests):
        return [self.answer(request, len(requests)) for request in requests]

    def answer(self, request, together):
        x = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
        said = np.full((len(x), 1), f"{together} {x.shape}", object)
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor("OUT", x * 2), pb_utils.Tensor("SAID", said)])
"""

STREAMED_SHAPES = """
class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            x = pb_utils.get_input_tensor_by_name(request, "IN").as_numpy()
            sender = request.get_response_sender()
            sender.send(pb_utils.InferenceResponse([pb_utils.Tensor("OUT", x + 1)]), flags=1)
"""

WAITS = """
max_batch_size: 8
dynamic_batching: {preferred_batch_size: [4], max_queue_delay_microseconds: 2000000}
"""
SAID = {"SAID": TEXT}
RESHAPED = "data_type: TYPE_FP32, dims: [4], reshape: {shape: [2, 2]}"
FREE = "data_type: TYPE_FP32, dims: [-1]"

PAIRS = """
class TritonPythonModel:
    '''Answers two requests at a time, of which the second comes by an `execute` of its own.'''

    def initialize(self, args):
        self.held = []

    def execute(self, requests):
        for request in requests:
            self.held.append((request.get_response_sender(), request.inputs()[0].as_numpy()))
        if len(self.held) > 1:
            total = pb_utils.Tensor("OUT", sum(value for _, value in self.held))
            for sender, _ in self.held:
                sender.send(pb_utils.InferenceResponse([total]), flags=1)
            self.held.clear()
"""

MODELS = {
    "add_sub": (ADD_SUB, ""),
    "repeat": (REPEAT, _tensors({"IN": INTS}, {"OUT": INTS}, DECOUPLED)),
    "waiting": (WAITING, _tensors({"IN": INTS}, {"OUT": INTS}, DECOUPLED)),
    "forgetful": (FORGETFUL, _tensors({"IN": INTS}, {"OUT": INTS})),
    "moody": (MOODY, _tensors({"IN": INTS}, {"OUT": INTS})),
    "iterative": (ITERATIVE, _tensors({"IN": "data_type: TYPE_INT32, dims: [1]"},
                                      {"OUT": "data_type: TYPE_INT32, dims: [1]"}, ITERATES)),
    "patient": (PATIENT, _tensors({"IN": INTS}, {"OUT": INTS})),
    "named": (NAMED, _tensors({"IN": INTS}, {"OUT": INTS}, "instance_group: [{count: 2}]")),
    "auto": (AUTO, ""),
    "bls": (BLS, _tensors({"IN": "data_type: TYPE_FP32, dims: [-1, -1]"},
                          {"OUT": "data_type: TYPE_FP32, dims: [-1, -1]"})),
    "bls_async": (BLS_ASYNC, _tensors({"IN": FLOATS}, {"OUT": FLOATS}, "max_batch_size: 8")),
    "warmed": (WARMED, _tensors({"IN": FLOATS}, {"OUT": FLOATS}, WARMUP)),
    "strings": (STRINGS, _tensors({"IN": TEXT}, {"OUT": TEXT}, "max_batch_size: 4")),
    "saying": (SAYING, _tensors({"IN": FLOATS}, {"OUT": FLOATS}, "max_batch_size: 64")),
    "errors": (ERRORS, _tensors({"IN": TEXT}, {"OUT": "data_type: TYPE_INT32, dims: [1]"})),
    "metrics": (METRICS, _tensors({"IN": INTS}, {"OUT": "data_type: TYPE_FP32, dims: [1]"})),
    "loader": (LOADER, _tensors({"IN": TEXT}, {"OUT": TEXT})),
    "spare": (FORGETFUL, _tensors({"IN": INTS}, {"OUT": INTS})),
    "ragged": (SHAPES, _tensors({"IN": f"{FREE}, allow_ragged_batch: true"},
                                {"OUT": FREE, **SAID}, WAITS)),
    "reshaped": (SHAPES, _tensors({"IN": RESHAPED}, {"OUT": RESHAPED, **SAID}, WAITS)),
    "reshaped_stream": (STREAMED_SHAPES, _tensors({"IN": RESHAPED}, {"OUT": RESHAPED},
                                                  f"max_batch_size: 8\n{DECOUPLED}")),
    "pairs": (PAIRS, _tensors({"IN": INTS}, {"OUT": INTS})),
    "inner": (FORGETFUL, _tensors({"IN": INTS}, {"OUT": INTS})),
    "around": (FORGETFUL, _tensors({"IN": INTS}, {"OUT": INTS}, AROUND)),
}  # fmt: skip


def write_triton_models(repository: Path) -> None:
    """All of them, as Triton's repositories have them."""
    for name, (source, config) in MODELS.items():
        version = repository / name / "1"
        version.mkdir(parents=True)
        (version / "model.py").write_text(HEAD + source)
        if config:
            (repository / name / "config.yaml").write_text(config)
    (repository / "add_sub" / "config.pbtxt").write_text(ADD_SUB_CONFIG)
    helper = repository / "add_sub" / "1" / "helper.py"
    helper.write_text("def total(a, b):\n    return a + b\n")
