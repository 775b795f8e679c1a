"""The DataPlane: everything that a protocol may ask of models without changing what is served."""

import asyncio
from collections.abc import AsyncGenerator, Callable

from inferd import __version__
from inferd.batching.queue import OnDone, OnPart, QueuedRequest
from inferd.errors import (
    InferdError,
    InvalidRequest,
    ModelNotFound,
    ModelUnavailable,
    Overloaded,
)
from inferd.serving.classification import check_classification, classify
from inferd.serving.model_manager import ModelManager
from inferd.serving.served_llm import ServedLLM
from inferd.serving.served_model import ServedModel
from inferd.serving.shared_memory import SharedMemory, SharedOutputs
from inferd.serving.text_model import TEXT_TASKS, TextModel, TextTask, text_model
from inferd.serving.visits import MountedApp
from inferd.types.inference import InferenceRequest, InferenceResponse, RequestedOutput
from inferd.types.model import ModelMetadata


class DataPlane:
    """Answers requests. All calls on the loop's thread."""

    def __init__(
        self, manager: ModelManager, strict_readiness: bool = True,
        shared_memory: SharedMemory | None = None, name: str = "inferd",
    ) -> None:  # fmt: skip
        self._manager = manager
        self._name = name
        self._strict = strict_readiness
        self.shared_memory = shared_memory or SharedMemory()
        self.started = False
        self.leaving = False
        """Whether clients are being told to go elsewhere; what they still ask is answered."""
        self.draining = False
        """Whether nothing new is taken any more."""

    def live(self) -> bool:
        """Whether the process answers and is not on its way out."""
        return not (self.leaving or self.draining)

    def ready(self) -> bool:
        """Whether requests should be sent here: started, not draining, every model ready."""
        if not self.started or not self.live():
            return False
        return self._manager.all_ready() if self._strict else True

    def model_ready(self, name: str, version: str = "") -> bool:
        """Whether a model answers; raises ModelNotFound for one that does not exist."""
        try:
            served = self._manager.resolve(name, version)
        except InferdError as error:
            if error.code == "model_not_found":
                raise
            return False
        says_ready = not isinstance(served, ServedModel) or served.says_ready
        return self.live() and not served.trouble and says_ready

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """What a ready model is; raises ModelNotFound or ModelUnavailable."""
        served = self._manager.resolve(name, version)
        if version:
            versions = [served.version]
        else:
            versions = [m.version for m in self._manager.loaded() if m.name == name]
        return ModelMetadata(
            name,
            tuple(str(number) for number in versions),
            served.description.platform,
            served.inputs,
            served.outputs,
        )

    def server_metadata(self) -> tuple[str, str]:
        """Name and version of the server."""
        return self._name, __version__

    def served(self, name: str, version: str = "") -> ServedModel:
        """The loaded model that a request of tensors would get; raises ModelNotFound,
        ModelUnavailable, and InvalidRequest for a language model."""
        return self._manager.predictive(name, version)

    def mounted(self, path: str) -> MountedApp | None:
        """The HTTP routes of a model's own to which a path belongs, if it does to any; raises
        ModelUnavailable."""
        mount, name = self._manager.mounts.find(path)
        if not mount:
            return None
        if self.draining:
            raise ModelUnavailable("the server is shutting down and takes no new requests")
        app = self._manager.predictive(name).app
        if app is None or app.mount != mount:
            raise ModelUnavailable(f"model '{name}' does not answer on '{mount}' yet")
        return app

    # -- text ----------------------------------------------------------------------------------

    def generator(self, name: str | None) -> ServedLLM:
        """The language model that a request for text would get; without a name, the only one.

        Raises ModelNotFound, ModelUnavailable, and InvalidRequest for a model of tensors.
        """
        if self.draining:
            raise ModelUnavailable("the server is shutting down and takes no new requests")
        if not name:
            names = sorted({llm.name for llm in self._manager.served_llms()})
            if len(names) != 1:
                raise InvalidRequest(
                    f"model is required; there are: {', '.join(names) or 'none yet'}"
                )
            name = names[0]
        try:
            served = self._manager.resolve(name)
        except ModelNotFound:
            raise ModelNotFound(f"The model '{name}' does not exist") from None
        if isinstance(served, ServedLLM):
            return served
        raise InvalidRequest(
            f"model '{name}' is not a language model; it is served on /v2/models/{name}/infer"
        )

    def language_model(self, name: str, version: str = "") -> ServedLLM | None:
        """The language model of that name; None for a model of tensors.

        Raises ModelNotFound, ModelUnavailable.
        """
        if self.draining:
            raise ModelUnavailable("the server is shutting down and takes no new requests")
        served = self._manager.resolve(name, version)
        return served if isinstance(served, ServedLLM) else None

    def generators(self) -> list[ServedLLM]:
        """The language models that answer, by name."""
        names = {llm.name for llm in self._manager.served_llms()}
        served = [self._manager.default.get(name) for name in sorted(names)]
        return [llm for llm in served if isinstance(llm, ServedLLM)]

    # -- texts ---------------------------------------------------------------------------------

    def text_model(self, name: str | None, *tasks: TextTask) -> TextModel:
        """The model of tensors that does the first of these tasks that it, or any, can; without a
        name, the only one.

        Raises ModelNotFound, ModelUnavailable, and InvalidRequest for a model that does none.
        """
        if self.draining:
            raise ModelUnavailable("the server is shutting down and takes no new requests")
        if not name:
            return self._only_text_model(tasks)
        try:
            served = self._manager.resolve(name)
        except ModelNotFound:
            raise ModelNotFound(f"The model '{name}' does not exist") from None
        what = " and no ".join(tasks)
        if isinstance(served, ServedLLM):
            raise InvalidRequest(
                f"model '{name}' is a language model and does no {what}; serve an encoder for it, "
                "such as a folder of sentence-transformers"
            )
        for task in tasks:
            found = text_model(served, task)
            if found is not None:
                return found
        raise InvalidRequest(
            f"model '{name}' does no {what}; it is served on /v2/models/{name}/infer"
        )

    def _only_text_model(self, tasks: tuple[TextTask, ...]) -> TextModel:
        served = self._default_models()
        for task in tasks:
            found = [model for one in served if (model := text_model(one, task)) is not None]
            if len(found) == 1:
                return found[0]
            if found:
                names = ", ".join(model.served.name for model in found)
                raise InvalidRequest(f"model is required; for {task} there are: {names}")
        raise InvalidRequest(f"no model that is ready does {' or '.join(tasks)}")

    def text_models(self) -> list[ServedModel]:
        """The models of tensors that do anything with texts, by name."""
        return [
            one for one in self._default_models()
            if any(text_model(one, task) is not None for task in TEXT_TASKS)
        ]  # fmt: skip

    def _default_models(self) -> list[ServedModel]:
        served = [one for _, one in sorted(self._manager.default.items())]
        return [one for one in served if isinstance(one, ServedModel)]

    # -- tensors -------------------------------------------------------------------------------

    def submit(self, request: InferenceRequest, on_done: OnDone) -> QueuedRequest:
        """Queue a request; `on_done` gets the response or an error, once.

        A caller that leaves calls `cancel` on what is returned, and is not called back.

        Raises at once, without calling `on_done`: InvalidRequest, ModelNotFound, ModelUnavailable,
        Overloaded, RegionNotFound, and OnlyStreams for a model that answers with a stream.
        """
        if self.draining:
            raise Overloaded("the server is shutting down and takes no new requests", 5.0)
        served = self._manager.predictive(request.model_name, request.model_version)
        special = _special(request)
        if special:
            places = self.shared_memory.outputs(special)
            if places is not None:
                on_done = _sharing(places, on_done)
            on_done = _classifying(served, special, on_done)
        return served.submit(request, on_done)

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Like `submit`, for callers that wait; leaving the wait cancels the request."""
        future: asyncio.Future[InferenceResponse] = asyncio.get_running_loop().create_future()

        def on_done(result: InferenceResponse | InferdError) -> None:
            if future.cancelled():
                return
            if isinstance(result, InferenceResponse):
                future.set_result(result)
            else:
                future.set_exception(result)

        item = self.submit(request, on_done)
        try:
            return await future
        except asyncio.CancelledError:
            item.cancel()
            raise

    async def stream(
        self, request: InferenceRequest
    ) -> AsyncGenerator[InferenceResponse | InferdError, None]:
        """What comes of a request, as it comes; one response of a model that does not stream.

        An error that comes is one of the model's answers, and more may follow; one that ends the
        stream is raised. Leaving early cancels the request. Raises as `infer` does, also between
        two responses.
        """
        if self.draining:
            raise Overloaded("the server is shutting down and takes no new requests", 5.0)
        served = self._manager.predictive(request.model_name, request.model_version)
        arrived: asyncio.Queue[InferenceResponse | InferdError] = asyncio.Queue()
        done = False
        failure: InferdError | None = None

        def end(result: InferenceResponse | InferdError) -> None:
            nonlocal done, failure
            done = True
            if isinstance(result, InferdError):
                failure = result
            if streams or failure is not None:
                arrived.put_nowait(_END)
            else:
                arrived.put_nowait(result)

        streams = served.signature.streams and request.method == "predict"
        on_done: OnDone = end
        on_part: OnPart = arrived.put_nowait
        places = None
        special = _special(request)
        if special:
            places = self.shared_memory.outputs(special)
            on_done = _classifying(served, special, on_done)
            on_part = _classifying(served, special, on_part)
        item = served.submit(request, on_done, on_part if streams else None)
        try:
            while True:
                response = await arrived.get()
                if response is _END:
                    if failure is not None:
                        raise failure
                    return
                if places is not None and isinstance(response, InferenceResponse):
                    response = await _written(places, response)
                    if isinstance(response, InferdError) and not streams:
                        raise response
                yield response
                if not streams:
                    return
                served.took(item, 1)
        finally:
            if not done:
                item.cancel()


_END = InferenceResponse("", "", [])


def _sharing(outputs: SharedOutputs, on_done: OnDone) -> OnDone:
    """Write outputs to shared memory before the answer is told."""

    def done(result: InferenceResponse | InferdError) -> None:
        if isinstance(result, InferdError):
            on_done(result)
        elif outputs.is_heavy(result):
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(None, outputs.written, result)
            writing.add_done_callback(lambda written: on_done(written.result()))
        else:
            on_done(outputs.written(result))

    return done


async def _written(
    outputs: SharedOutputs, response: InferenceResponse
) -> InferenceResponse | InferdError:
    if not outputs.is_heavy(response):
        return outputs.written(response)
    return await asyncio.get_running_loop().run_in_executor(None, outputs.written, response)


def _special(request: InferenceRequest) -> list[RequestedOutput] | None:
    """The outputs that are not wanted as they are, where they would be."""
    if not request.outputs:
        return None
    return [o for o in request.outputs if o.classification or o.shared is not None]


def _classifying(
    served: ServedModel, outputs: list[RequestedOutput], on_done: OnDone
) -> Callable[[InferenceResponse | InferdError], None]:
    counts = {o.name: o.classification for o in outputs if o.classification}
    if not counts:
        return on_done
    specs = {spec.name: spec for spec in served.outputs}
    for name, count in counts.items():
        if name in specs:
            check_classification(specs[name], count)
    batched = served.description.max_batch_size > 0

    def done(result: InferenceResponse | InferdError) -> None:
        if isinstance(result, InferenceResponse):
            try:
                result.outputs = [
                    classify(t, counts[t.name], specs[t.name].labels, batched)
                    if t.name in counts
                    else t
                    for t in result.outputs
                ]
            except InvalidRequest as error:
                result = error
        on_done(result)

    return done
