"""Which models are known, in which state, and which of them a request gets.

It refuses to know how models come and go (`model_manager.py`, which writes it). Everything runs on
the loop's thread.
"""

from inferd.errors import InvalidRequest, ModelNotFound, ModelUnavailable
from inferd.serving.mounts import Mounts
from inferd.serving.served_llm import ServedLLM
from inferd.serving.served_model import ServedModel
from inferd.serving.version_record import Served, VersionRecord
from inferd.types.model import ModelReadyState, ModelStatus

State = ModelReadyState


class ModelTable:
    """Every model, by name and version."""

    def __init__(self) -> None:
        self.default: dict[str, Served] = {}
        """Highest ready version of each model: what a request without a version gets."""
        self.records: dict[str, dict[int, VersionRecord]] = {}
        self.errors: dict[str, str] = {}
        """Models that cannot be served at all, and why."""
        self.wanted: set[str] = set()
        """Models that are to be served: they count for readiness..."""
        self._optional: set[str] = set()
        """...but for these."""
        self.mounts = Mounts()

    # -- on the path of every request ----------------------------------------------------------

    def predictive(self, name: str, version: str = "") -> ServedModel:
        """The loaded model for a request of tensors; raises as `resolve`, and InvalidRequest for a
        language model."""
        served = self.resolve(name, version)
        if isinstance(served, ServedModel):
            return served
        raise InvalidRequest(
            f"model '{name}' is a language model and takes no tensors; it is served on "
            "/v1/chat/completions and /v1/completions"
        )

    def resolve(self, name: str, version: str = "") -> Served:
        """The loaded model for a request; raises ModelNotFound or ModelUnavailable."""
        if not version:
            served = self.default.get(name)
            if served is not None:
                return served
            if name not in self.records and name not in self.errors:
                raise ModelNotFound(f"Request for unknown model: '{name}' is not found")
            raise ModelUnavailable(
                f"Request for unknown model: '{name}' has no available versions"
                + (f": {self._why(name)}" if self._why(name) else "")
            )
        if name not in self.records and name not in self.errors:
            raise ModelNotFound(f"Request for unknown model: '{name}' is not found")
        record = self.records.get(name, {}).get(int(version)) if _is_version(version) else None
        if record is None:
            raise ModelNotFound(
                f"Request for unknown model: '{name}' version {version} is not found"
            )
        if record.served is None or record.state not in (State.READY, State.LOADING):
            raise ModelUnavailable(
                f"Request for unknown model: '{name}' version {version} is not at ready state: "
                f"{record.state.value} {record.reason}".rstrip()
            )
        return record.served

    def _why(self, name: str) -> str:
        if name in self.errors:
            return self.errors[name]
        reasons = [record.reason for record in self.records.get(name, {}).values()]
        return reasons[-1] if reasons else ""

    # -- of all ----------------------------------------------------------------------------------

    def index(self) -> list[ModelStatus]:
        """Every known version with its state, by name and version."""
        statuses = [
            record.status(name, version, self.errors.get(name, ""))
            for name, versions in self.records.items()
            for version, record in versions.items()
        ]
        statuses += [
            ModelStatus(name, 0, State.UNAVAILABLE, reason)
            for name, reason in self.errors.items()
            if not self.records.get(name)
        ]
        return sorted(statuses, key=lambda s: (s.name, s.version))

    def served_models(self) -> list[ServedModel]:
        """Every loaded version that takes tensors, by name and version."""
        return [served for served in self.loaded() if isinstance(served, ServedModel)]

    def served_llms(self) -> list[ServedLLM]:
        """Every loaded version of a language model, by name and version."""
        return [served for served in self.loaded() if isinstance(served, ServedLLM)]

    def loaded(self) -> list[Served]:
        """Every loaded version, by name and version."""
        return [
            record.served
            for _, versions in sorted(self.records.items())
            for _, record in sorted(versions.items())
            if record.served is not None
        ]

    def all_ready(self) -> bool:
        """Whether every model that should be served is, apart from those marked not required."""
        served = [self.default.get(name) for name in self.wanted - self._optional]
        return all(model is not None and not model.trouble for model in served)

    # -- for whoever changes it ------------------------------------------------------------------

    def _set_default(self, name: str) -> None:
        ready = [r.served for _, r in sorted(self.records[name].items()) if r.served is not None]
        if ready:
            self.default[name] = ready[-1]
        else:
            self.default.pop(name, None)
        app = ready[-1].app if ready and isinstance(ready[-1], ServedModel) else None
        self.mounts.settle(name, app.mount if app is not None else "")


def _is_version(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 19
