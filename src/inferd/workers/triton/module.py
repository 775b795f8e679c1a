"""`triton_python_backend_utils`, put together from the nouns of this room. It exists where it is
installed: in the worker of a TritonPythonModel.
"""

import logging
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from inferd.workers.asking import Asking
from inferd.workers.triton import datatypes, model_config, request, sender
from inferd.workers.triton.error import TritonError, TritonModelException
from inferd.workers.triton.logger import Logger
from inferd.workers.triton.metric import MetricFamily
from inferd.workers.triton.model_config import ModelConfig
from inferd.workers.triton.request import InferenceRequest, MemoryType
from inferd.workers.triton.response import InferenceResponse
from inferd.workers.triton.sender import InferenceResponseSender
from inferd.workers.triton.tensor import Tensor
from inferd.workers.triton.towards import Towards

NAME = "triton_python_backend_utils"
NATIVE = "c_python_backend_utils"
"""Where Triton's own module has its classes from; some models name it."""


def get_input_tensor_by_name(inference_request: InferenceRequest, name: str) -> Tensor | None:
    """The input of that name; None where the request has none."""
    for tensor in inference_request.inputs():
        if tensor._name == name:
            return tensor
    return None


def get_output_tensor_by_name(inference_response: InferenceResponse, name: str) -> Tensor | None:
    """The output of that name; None where the response has none."""
    for tensor in inference_response.output_tensors():
        if tensor._name == name:
            return tensor
    return None


def install(name: str, folder: Path, asking: Asking, towards: Towards) -> None:
    """Have the module imported by its names from now on, for a model in `folder`."""
    Logger.log_to = logging.getLogger(f"inferd.model.{name}")
    InferenceRequest._towards = towards
    MetricFamily._asking = asking

    def get_model_dir() -> str:
        """The folder of the model's version."""
        return str(folder)

    contents: dict[str, Any] = {
        "InferenceRequest": InferenceRequest,
        "InferenceResponse": InferenceResponse,
        "InferenceResponseSender": InferenceResponseSender,
        "InferenceTrace": request.InferenceTrace,
        "PreferredMemory": request.PreferredMemory,
        "ResponseIterator": request.ResponseIterator,
        "Tensor": Tensor,
        "TritonError": TritonError,
        "TritonModelException": TritonModelException,
        "Logger": Logger,
        "MetricFamily": MetricFamily,
        "ModelConfig": ModelConfig,
        "MemoryType": MemoryType,
        "TRITONSERVER_MEMORY_CPU": MemoryType.TRITONSERVER_MEMORY_CPU,
        "TRITONSERVER_MEMORY_GPU": MemoryType.TRITONSERVER_MEMORY_GPU,
        "TRITONSERVER_REQUEST_FLAG_SEQUENCE_START": request.SEQUENCE_START,
        "TRITONSERVER_REQUEST_FLAG_SEQUENCE_END": request.SEQUENCE_END,
        "TRITONSERVER_REQUEST_RELEASE_ALL": request.RELEASE_ALL,
        "TRITONSERVER_REQUEST_RELEASE_RESCHEDULE": request.RELEASE_RESCHEDULE,
        "TRITONSERVER_RESPONSE_COMPLETE_FINAL": sender.COMPLETE_FINAL,
        "TRITON_STRING_TO_NUMPY": datatypes.TRITON_STRING_TO_NUMPY,
        "get_input_tensor_by_name": get_input_tensor_by_name,
        "get_output_tensor_by_name": get_output_tensor_by_name,
        "get_model_dir": get_model_dir,
        "load_model": towards.load_model,
        "unload_model": towards.unload_model,
        "is_model_ready": towards.is_model_ready,
        **{
            function.__name__: function
            for function in (
                datatypes.triton_to_numpy_type, datatypes.numpy_to_triton_type,
                datatypes.triton_string_to_numpy, datatypes.serialize_byte_tensor,
                datatypes.deserialize_bytes_tensor, model_config.get_input_config_by_name,
                model_config.get_output_config_by_name,
                model_config.using_decoupled_model_transaction_policy,
            )
        },
    }  # fmt: skip
    for module_name in (NAME, NATIVE):
        module = ModuleType(module_name, __doc__)
        module.__dict__.update(contents)
        sys.modules[module_name] = module
