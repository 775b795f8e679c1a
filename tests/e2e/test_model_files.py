"""Models served from their files alone: names, scikit-learn, trust, and files that are damaged."""

import pickle
from collections.abc import Callable
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import skops.io
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from backends.test_trees import make_lightgbm, make_ubj
from e2e.harness import RunningServer
from e2e.test_bad_models import index, run_serve

Serve = Callable[..., RunningServer]


def ask(server: RunningServer, name: str, **inputs: object) -> dict[str, list[object]]:
    tensors = []
    for given in server.get(f"/v2/models/{name}").json()["inputs"]:
        data = inputs[given["name"]]
        shape = list(np.shape(data))
        tensors.append({**given, "shape": shape, "data": np.ravel(data).tolist()})
    answer = server.post(f"/v2/models/{name}/infer", {"inputs": tensors})
    assert answer.status == 200, answer
    return {output["name"]: output["data"] for output in answer.json()["outputs"]}


def test_estimators_are_served_under_names_of_ones_own(serve: Serve, tmp_path: Path) -> None:
    iris = load_iris()
    flowers = LogisticRegression(max_iter=300).fit(iris.data, iris.target_names[iris.target])
    skops.io.dump(flowers, tmp_path / "flowers.skops")
    x, y = load_breast_cancer(return_X_y=True)
    tree = DecisionTreeClassifier(random_state=0).fit(x, y)
    joblib.dump(tree, tmp_path / "tree.joblib")
    frame = pd.DataFrame({"rooms": [1, 2, 3, 4], "city": ["Bonn", "Ulm", "Bonn", "Ulm"]})
    parts = ColumnTransformer(
        [("n", StandardScaler(), ["rooms"]), ("c", OneHotEncoder(), ["city"])]
    )
    rents = make_pipeline(parts, LogisticRegression()).fit(frame, [0, 1, 0, 1])
    skops.io.dump(rents, tmp_path / "rents.skops")
    server = serve(
        f"iris={tmp_path / 'flowers.skops'}", f"cancer={tmp_path / 'tree.joblib'}",
        tmp_path / "rents.skops", "--trust",
    )  # fmt: skip
    assert set(index(server)) == {"iris", "cancer", "rents"}
    found = ask(server, "iris", input=iris.data[::30])
    assert found["predict"] == flowers.predict(iris.data[::30]).tolist()
    wanted = flowers.predict_proba(iris.data[::30])
    np.testing.assert_allclose(found["predict_proba"], wanted.ravel())
    assert ask(server, "cancer", input=x[:20])["predict"] == tree.predict(x[:20]).tolist()
    found = ask(server, "rents", rooms=[1.0, 4.0], city=["Bonn", "Ulm"])
    assert found["predict"] == [0, 1]


def test_a_pickle_needs_trust_and_the_others_are_served(serve: Serve, tmp_path: Path) -> None:
    tree = DecisionTreeClassifier().fit(np.eye(2), [0, 1])
    (tmp_path / "pickled.pkl").write_bytes(pickle.dumps(tree))
    skops.io.dump(tree, tmp_path / "safe.skops")
    server = serve(tmp_path)
    lines = index(server)
    assert lines["safe"]["state"] == "READY"
    assert "--trust" in lines["pickled"]["reason"]
    assert ask(server, "safe", input=np.eye(2))["predict"] == [0, 1]
    ended = run_serve(tmp_path / "pickled.pkl")
    assert ended.returncode == 2
    assert "--trust" in ended.stderr


def test_a_repository_cannot_trust_itself(tmp_path: Path) -> None:
    folder = tmp_path / "m" / "1"
    folder.mkdir(parents=True)
    joblib.dump(DecisionTreeClassifier().fit(np.eye(2), [0, 1]), folder / "model.joblib")
    (tmp_path / "m" / "config.yaml").write_text("trust: true")
    ended = run_serve(tmp_path)
    assert ended.returncode == 2
    assert "unknown field" in ended.stderr
    (tmp_path / "m" / "config.yaml").write_text("parameters: {trust: true}")
    ended = run_serve(tmp_path)
    assert ended.returncode == 2
    assert "--trust" in ended.stderr


def test_damaged_trees_leave_the_others_served(serve: Serve, tmp_path: Path) -> None:
    good, rows, predictions = make_ubj("number", tmp_path)
    good.rename(tmp_path / "good.ubj")
    for name in ("cut", "hole"):
        path, _, _ = make_lightgbm("several", tmp_path)
        whole = path.read_bytes()
        half = len(whole) // 2
        path.write_bytes(whole[:half] if name == "cut" else whole[:half] + whole[half + 50 :])
        path.rename(tmp_path / f"{name}.txt")
    (tmp_path / "other.cbm").write_bytes(whole)
    server = serve(tmp_path)
    lines = index(server)
    for name in ("cut", "hole"):
        assert "LightGBM cannot load" in lines[name]["reason"], name
    assert "holds trees of LightGBM" in lines["other"]["reason"]
    clean = ~np.isnan(rows).any(axis=1)
    found = ask(server, "good", input=rows[clean][:4])["predict"]
    np.testing.assert_allclose(np.array(found, np.float32), predictions[clean][:4], rtol=1e-5)
