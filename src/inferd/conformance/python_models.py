"""The models that are written for Triton's Python backend, as text: they import its module, which
only a server has.
"""

IDENTITY = '''\
"""OUTPUT0 is INPUT0."""

import json

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        (described,) = json.loads(args["model_config"])["input"]
        self.has_no_numpy = described["data_type"] == "TYPE_BF16"

    def execute(self, requests):
        responses = []
        for request in requests:
            given = pb_utils.get_input_tensor_by_name(request, "INPUT0")
            if self.has_no_numpy:
                made = pb_utils.Tensor.from_dlpack("OUTPUT0", given.to_dlpack())
            else:
                made = pb_utils.Tensor("OUTPUT0", given.as_numpy())
            responses.append(pb_utils.InferenceResponse([made]))
        return responses
'''

ADD_SUB = '''\
"""OUTPUT0 is INPUT0 + INPUT1, OUTPUT1 is INPUT0 - INPUT1."""

import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        responses = []
        for request in requests:
            first = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            second = pb_utils.get_input_tensor_by_name(request, "INPUT1").as_numpy()
            made = [
                pb_utils.Tensor("OUTPUT0", first + second),
                pb_utils.Tensor("OUTPUT1", first - second),
            ]
            responses.append(pb_utils.InferenceResponse(made))
        return responses
'''

BATCHED = '''\
"""OUTPUT0 is how many rows ran together, for each row."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        given = [pb_utils.get_input_tensor_by_name(one, "INPUT0") for one in requests]
        rows = [tensor.as_numpy().shape[0] for tensor in given]
        return [
            pb_utils.InferenceResponse(
                [pb_utils.Tensor("OUTPUT0", np.full((count, 1), sum(rows), np.int32))]
            )
            for count in rows
        ]
'''

NUMBERED = '''\
"""OUTPUT0 is the number of the request in the order in which they ran: INPUT0 milliseconds each."""

import time

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        self.count = 0

    def execute(self, requests):
        responses = []
        for request in requests:
            wanted = pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy()
            time.sleep(float(wanted.max()) / 1000)
            self.count += 1
            made = pb_utils.Tensor("OUTPUT0", np.full(wanted.shape, self.count, np.int32))
            responses.append(pb_utils.InferenceResponse([made]))
        return responses
'''

ACCUMULATOR = '''\
"""OUTPUT0 is the sum of what came so far in a sequence."""

import numpy as np
import triton_python_backend_utils as pb_utils


def number(request, name):
    return int(pb_utils.get_input_tensor_by_name(request, name).as_numpy().ravel()[0])


class TritonPythonModel:
    def initialize(self, args):
        self.sums = {}

    def execute(self, requests):
        responses = []
        for request in requests:
            made = 0
            if number(request, "READY"):
                name = number(request, "ID")
                if number(request, "START"):
                    self.sums[name] = 0
                made = self.sums[name] = self.sums.get(name, 0) + number(request, "INPUT0")
                if number(request, "END"):
                    del self.sums[name]
            answer = np.full((1, 1), made, np.int32)
            responses.append(pb_utils.InferenceResponse([pb_utils.Tensor("OUTPUT0", answer)]))
        return responses
'''

REPEAT = '''\
"""A response for each element of INPUT0, with that element; none for an empty one."""

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        for request in requests:
            sender = request.get_response_sender()
            for value in pb_utils.get_input_tensor_by_name(request, "INPUT0").as_numpy():
                made = pb_utils.Tensor("OUTPUT0", np.full((1,), value, np.int32))
                sender.send(pb_utils.InferenceResponse([made]))
            sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
        return None
'''
