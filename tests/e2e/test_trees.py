"""Trees served from their files alone, asked over HTTP: the framework's own predictions."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from backends.test_trees import MAKERS
from e2e.harness import RunningServer

Serve = Callable[..., RunningServer]


def test_files_of_every_framework_are_served_at_once(serve: Serve, tmp_path: Path) -> None:
    wanted = {}
    paths = []
    for maker, make in MAKERS.items():
        (tmp_path / maker).mkdir()
        path, rows, predictions = make("several", tmp_path / maker)
        paths.append(path.rename(tmp_path / f"{maker}{path.suffix}"))
        wanted[maker] = (rows[:5], predictions[:5])
    server = serve(*paths)
    for name, (rows, predictions) in wanted.items():
        metadata = server.get(f"/v2/models/{name}").json()
        (given,) = metadata["inputs"]
        data = [None if np.isnan(x) else float(x) for x in rows.ravel()]
        filled = [0.0 if x is None else x for x in data]
        body = {
            "inputs": [given | {"shape": list(rows.shape), "data": filled}],
            "outputs": [{"name": "predict"}],
        }
        answer = server.post(f"/v2/models/{name}/infer", body)
        assert answer.status == 200, answer
        (output,) = answer.json()["outputs"]
        assert output["shape"] == list(predictions.shape)
        clean = ~np.isnan(rows).any(axis=1)
        found = np.reshape(output["data"], predictions.shape)
        np.testing.assert_allclose(found[clean], predictions[clean], rtol=1e-5)
