"""What describes the calls that models take, as ordinary ASGI routes: `GET /models`, and one model
with its JSON schemas."""

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from inferd.errors import InferdError
from inferd.protocols.call.schema import language_model_card, model_card, model_schemas
from inferd.protocols.http.oip.routes import error_response, json_response
from inferd.serving.control_plane import ControlPlane
from inferd.serving.data_plane import DataPlane
from inferd.serving.served_model import ServedModel


class CallRoutes:
    """The endpoints; path parameters arrive unquoted."""

    def __init__(self, data: DataPlane, control: ControlPlane) -> None:
        self._data = data
        self._control = control

    def routes(self) -> list[Route]:
        """The routes of an ASGI application."""
        return [
            Route("/models", self.models, methods=["GET"]),
            Route("/models/{model}", self.model, methods=["GET"]),
            Route("/models/{model}/versions/{version}", self.model, methods=["GET"]),
        ]

    async def models(self, request: Request) -> Response:
        """Every model that answers, with its arguments and results."""
        cards = [model_card(served) for served in called_by_name(self._data, self._control)]
        cards += [language_model_card(llm) for llm in self._data.generators()]
        return json_response({"models": sorted(cards, key=lambda card: card["name"])})

    async def model(self, request: Request) -> Response:
        """One model, with the JSON schemas of a call and its answer."""
        name, version = request.path_params["model"], request.path_params.get("version", "")
        try:
            return json_response(self._described(name, version))
        except InferdError as error:
            return error_response(error)

    def _described(self, name: str, version: str) -> dict[str, Any]:
        for llm in self._data.generators():
            if llm.name == name and version in ("", str(llm.version)):
                return language_model_card(llm)
        served = self._data.served(name, version)
        return model_card(served) | model_schemas(served)


def called_by_name(data: DataPlane, control: ControlPlane) -> list[ServedModel]:
    """The version of each model that a call without a version gets, by name."""
    found = []
    for name in sorted({model.name for model in control.models()}):
        try:
            found.append(data.served(name))
        except InferdError:
            continue  # loaded, and on its way out
    return found
