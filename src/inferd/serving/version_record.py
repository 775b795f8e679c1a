"""What is known of one version of a model. The model manager writes it; it refuses to know why."""

from dataclasses import dataclass

from inferd.config.model import ModelConfig
from inferd.repository.source import Fingerprint
from inferd.serving.served_llm import ServedLLM
from inferd.serving.served_model import ServedModel
from inferd.types.model import ModelReadyState, ModelStatus

Served = ServedModel | ServedLLM
Origin = tuple[Fingerprint, ModelConfig]


@dataclass(slots=True)
class VersionRecord:
    """What is known of one version: its public state, and the loaded model while there is one."""

    state: ModelReadyState
    reason: str = ""
    served: Served | None = None
    loaded_from: Origin | None = None
    failed_from: Origin | None = None
    """What a version looked like when it was loaded, and when loading it last failed."""

    def status(self, name: str, version: int, error: str) -> ModelStatus:
        """Its line in the index; `error` is what is wrong with the whole model."""
        trouble = self.served.trouble if self.served is not None else ""
        if trouble and self.state is ModelReadyState.READY:
            return ModelStatus(name, version, ModelReadyState.UNAVAILABLE, trouble)
        return ModelStatus(name, version, self.state, self.reason or error)
