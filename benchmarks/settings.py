"""How each peer is configured: the settings chosen and those tried to find them.

`python -m benchmarks.tune PEER` measures the candidates again. `spin` is ONNX Runtime's
busy waiting between operators.
"""

from typing import Any

Settings = dict[str, Any]

CHOSEN: dict[str, dict[str, Settings]] = {
    "inferd": {
        "python-mlp": {"max_batch_size": 64, "spin": True},
        "tensor-4mb": {"max_batch_size": 64, "spin": True},
    },
    "triton": {
        "grpc-mlp": {"max_batch_size": 64, "dynamic_batching": True, "instances": 1},
    },
    "mosec": {
        "mlp": {"workers": 2, "max_batch_size": 16, "max_wait_ms": 1, "spin": True},
        "encoder": {"workers": 1, "max_batch_size": 4, "max_wait_ms": 1, "spin": True},
    },
    "mlserver": {
        "mlp": {"workers": 0, "max_batch_size": 64, "max_batch_time": 0.0001, "spin": True},
        "encoder": {"workers": 0, "max_batch_size": 32, "max_batch_time": 0.001, "spin": True},
    },
    "mlserver-xgboost": {
        "trees": {"workers": 0, "max_batch_size": 64, "max_batch_time": 0.0001},
    },
    "litserve": {
        "mlp": {
            "workers": 1,
            "api_servers": 1,
            "max_batch_size": 64,
            "batch_timeout": 0,
            "fast_queue": True,
            "spin": True,
        },
        "encoder": {
            "workers": 1,
            "api_servers": 1,
            "max_batch_size": 32,
            "batch_timeout": 0.001,
            "fast_queue": True,
            "spin": True,
        },
    },
    "bentoml": {
        "mlp": {"workers": 1, "max_batch_size": 64, "max_latency_ms": 10000, "spin": True},
        "encoder": {"workers": 1, "max_batch_size": 32, "max_latency_ms": 60000, "spin": True},
    },
    "ray": {
        "mlp": {
            "replicas": 1,
            "max_ongoing_requests": 512,
            "max_batch_size": 64,
            "batch_wait_timeout_s": 0.001,
            "spin": True,
        },
        "encoder": {
            "replicas": 1,
            "max_ongoing_requests": 512,
            "max_batch_size": 32,
            "batch_wait_timeout_s": 0.001,
            "spin": True,
        },
    },
}

CANDIDATES: dict[str, dict[str, dict[str, list[Any]]]] = {
    "mosec": {
        "mlp": {"workers": [1, 2], "max_batch_size": [8, 16, 32, 64], "max_wait_ms": [0, 1]},
        "encoder": {"workers": [1, 2], "threads": [1, 2], "max_batch_size": [4, 8, 32]},
    },
    "mlserver": {
        "mlp": {"workers": [0, 1], "max_batch_size": [0, 64], "max_batch_time": [0.0001, 0.001]},
        "encoder": {"workers": [0, 1], "spin": [True, False]},
    },
    "mlserver-xgboost": {
        "trees": {"workers": [0, 1], "max_batch_size": [0, 64], "max_batch_time": [0.0001, 0.001]},
    },
    "triton": {
        "grpc-mlp": {
            "max_batch_size": [0, 64],
            "dynamic_batching": [True, False],
            "instances": [1, 2],
        },
    },
    "litserve": {
        "mlp": {"workers": [1, 2], "batch_timeout": [0, 0.001], "fast_queue": [True, False]},
        "encoder": {"batch_timeout": [0, 0.001, 0.01], "spin": [True, False]},
    },
    "bentoml": {
        "mlp": {"workers": [1, 2], "max_batch_size": [16, 64]},
        "encoder": {"workers": [1], "spin": [True, False]},
    },
    "ray": {
        "mlp": {
            "replicas": [1, 2],
            "batch_wait_timeout_s": [0.0, 0.001, 0.005],
            "env": [{}, {"RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}],
        },
        "encoder": {"batch_wait_timeout_s": [0.001, 0.01], "spin": [True, False]},
    },
}
