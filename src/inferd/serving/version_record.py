"""What is known of one version of a model, and how its state changes. The model manager says what
has happened to it; it refuses to know why.
"""

from dataclasses import dataclass

from inferd.config.model import ModelConfig
from inferd.repository.source import Fingerprint
from inferd.serving.served_llm import ServedLLM
from inferd.serving.served_model import ServedModel
from inferd.types.model import ModelReadyState, ModelStatus

Served = ServedModel | ServedLLM
Origin = tuple[Fingerprint, ModelConfig]

UNLOADED = "unloaded"


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version: its public state, and the loaded model while there is one."""

    state: ModelReadyState = ModelReadyState.UNKNOWN
    reason: str = ""
    served: Served | None = None
    loaded_from: Origin | None = None
    failed_from: Origin | None = None
    """What a version looked like when it was loaded, and when loading it last failed."""

    def loading(self) -> None:
        """It is being loaded; what was loaded before serves on."""
        self.state, self.reason = ModelReadyState.LOADING, ""

    def loaded(self, served: Served, origin: Origin) -> None:
        """It has been loaded, or looks as it did when it was."""
        self.state, self.reason = ModelReadyState.READY, ""
        self.served, self.loaded_from = served, origin

    def failed(self, origin: Origin, reason: str) -> None:
        """It could not be loaded."""
        self.failed_from = origin
        if self.served is not None:
            reason = f"reload failed, the copy loaded before serves on: {reason}"
        ready = ModelReadyState.READY if self.served is not None else ModelReadyState.UNAVAILABLE
        self.state, self.reason = ready, reason

    def unload(self) -> Served | None:
        """It takes no more requests; what was loaded, which is to be closed."""
        served, self.served, self.loaded_from = self.served, None, None
        if served is not None:
            self.state, self.reason = ModelReadyState.UNLOADING, ""
        elif self.state is not ModelReadyState.UNLOADING:
            self.state, self.reason = ModelReadyState.UNAVAILABLE, UNLOADED
        return served

    def closed(self) -> None:
        """What was loaded is closed; it may have been loaded again meanwhile."""
        if self.state is ModelReadyState.UNLOADING:
            self.state, self.reason = ModelReadyState.UNAVAILABLE, UNLOADED

    @property
    def over(self) -> bool:
        """Whether nothing of it is there any more."""
        return self.served is None and self.state is not ModelReadyState.UNLOADING

    def status(self, name: str, version: int, error: str) -> ModelStatus:
        """Its line in the index; `error` is what is wrong with the whole model."""
        trouble = self.served.trouble if self.served is not None else ""
        if trouble and self.state is ModelReadyState.READY:
            return ModelStatus(name, version, ModelReadyState.UNAVAILABLE, trouble)
        return ModelStatus(name, version, self.state, self.reason or error)
