"""The one table of all that this server offers over gRPC. A further service is one line here."""

from inferd.protocols.grpc import health, reflection
from inferd.protocols.grpc.inference import service as inference
from inferd.protocols.grpc.methods import Method
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane

SERVICES = (inference.SERVICE, health.SERVICE, *reflection.SERVICES)


def methods(data: DataPlane, control: ControlPlane) -> tuple[Method, ...]:
    """Every method of every service."""
    return (
        *inference.InferenceService(data, control).methods(),
        *health.HealthService(data, SERVICES).methods(),
        *reflection.reflection_methods(SERVICES),
    )
