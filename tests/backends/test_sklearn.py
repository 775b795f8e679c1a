"""Estimators of scikit-learn: what is served is what they say themselves, and nothing is unpickled
without trust."""

import pickle
import warnings
from pathlib import Path
from typing import Any

import catboost
import joblib
import lightgbm
import numpy as np
import pandas as pd
import pytest
import skops.io
import xgboost
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer, make_column_selector
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris
from sklearn.decomposition import PCA
from sklearn.dummy import DummyClassifier
from sklearn.ensemble import (
    GradientBoostingClassifier,
    HistGradientBoostingClassifier,
    IsolationForest,
    RandomForestClassifier,
)
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from inferd.backends.base import OpenOptions
from inferd.backends.registry import create_backend, isolated
from inferd.config.model import ModelConfig, ModelInput, ModelOutput
from inferd.config.scheduling import ModelInstanceGroup
from inferd.errors import BackendError, ConfigError, InvalidRequest, Unsupported
from inferd.types.tensor import Array


def opened(path: Path, trust: bool = False, config: ModelConfig | None = None) -> Any:
    options = OpenOptions(1, trust)
    return create_backend("sklearn").open(path, config or ModelConfig(), options)


def served(estimator: Any, folder: Path, config: ModelConfig | None = None) -> Any:
    """The estimator, saved by skops and opened without trust."""
    path = folder / "model.skops"
    skops.io.dump(estimator, path)
    return opened(path, config=config)


def answers(model: Any, *inputs: Array) -> dict[str, Array]:
    outputs = model.create_instance().run(list(inputs))
    return {s.name: a for s, a in zip(model.description.outputs, outputs, strict=True)}


def shapes(specs: Any) -> dict[str, tuple[str, tuple[int, ...]]]:
    return {spec.name: (spec.datatype.name, spec.shape) for spec in specs}


CLASSIFIERS = {
    "forest": (RandomForestClassifier(n_estimators=5, n_jobs=-1, random_state=0), load_digits),
    "tree": (DecisionTreeClassifier(random_state=0), load_breast_cancer),
    "pipeline": (make_pipeline(StandardScaler(), LogisticRegression()), load_iris),
}  # fmt: skip


@pytest.mark.parametrize("kind", CLASSIFIERS)
def test_a_classifier_gives_classes_and_probabilities(kind: str, tmp_path: Path) -> None:
    estimator, data = CLASSIFIERS[kind]
    x, y = data(return_X_y=True)
    estimator.fit(x, y)
    model = served(estimator, tmp_path)
    classes = len(estimator.classes_)
    assert shapes(model.description.inputs) == {"input": ("FP64", (-1, x.shape[1]))}
    assert shapes(model.description.outputs) == {
        "predict": ("INT64", (-1,)), "predict_proba": ("FP64", (-1, classes)),
    }  # fmt: skip
    assert model.description.outputs[1].labels == tuple(str(name) for name in estimator.classes_)
    assert model.description.max_batch_size > 0
    found = answers(model, x)
    np.testing.assert_array_equal(found["predict"], estimator.predict(x))
    np.testing.assert_allclose(found["predict_proba"], estimator.predict_proba(x), rtol=1e-12)


def test_a_regressor_of_one_number_and_of_several(tmp_path: Path) -> None:
    x, y = load_diabetes(return_X_y=True)
    for targets, shape in ((y, (-1,)), (np.stack([y, -y], 1), (-1, 2))):
        estimator = LinearRegression().fit(x, targets)
        model = served(estimator, tmp_path)
        assert shapes(model.description.outputs) == {"predict": ("FP64", shape)}
        np.testing.assert_allclose(answers(model, x)["predict"], estimator.predict(x))


def test_classes_that_are_texts_are_bytes(tmp_path: Path) -> None:
    iris = load_iris()
    estimator = DecisionTreeClassifier(random_state=0).fit(
        iris.data, iris.target_names[iris.target]
    )
    model = served(estimator, tmp_path)
    assert model.description.outputs[0].datatype.name == "BYTES"
    assert model.description.outputs[1].labels == ("setosa", "versicolor", "virginica")
    assert answers(model, iris.data[:2])["predict"].tolist() == [b"setosa", b"setosa"]


def test_several_outputs_have_probabilities_each(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    estimator = DecisionTreeClassifier(random_state=0).fit(x, np.stack([y, y > 0], 1))
    model = served(estimator, tmp_path)
    assert [spec.name for spec in model.description.outputs] == [
        "predict", "predict_proba.0", "predict_proba.1",
    ]  # fmt: skip
    assert model.description.outputs[2].labels == ("0", "1")
    found = answers(model, x)
    np.testing.assert_array_equal(found["predict_proba.1"], estimator.predict_proba(x)[1])


@pytest.mark.parametrize(
    ("estimator", "name"),
    [(PCA(2), "transform"), (KMeans(3, n_init=1, random_state=0), "predict"),
     (IsolationForest(n_estimators=5, random_state=0), "predict"), (OneHotEncoder(), "transform"),
     (FunctionTransformer(), "transform")],
)  # fmt: skip
def test_others_give_what_they_can(estimator: Any, name: str, tmp_path: Path) -> None:
    x, _ = load_iris(return_X_y=True)
    estimator.fit(x)
    found = answers(served(estimator, tmp_path), x)
    assert list(found) == [name]
    wanted = getattr(estimator, name)(x)
    wanted = wanted.toarray() if hasattr(wanted, "toarray") else wanted
    np.testing.assert_allclose(found[name], wanted)
    assert not np.shares_memory(found[name], x)


def test_texts_are_one_input(tmp_path: Path) -> None:
    texts = ["good film", "bad film", "good book", "bad book"]
    estimator = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, list("pnpn"))
    model = served(estimator, tmp_path)
    assert shapes(model.description.inputs) == {"input": ("BYTES", (-1,))}
    found = answers(model, np.array([t.encode() for t in texts], object))
    assert found["predict"].tolist() == [b"p", b"n", b"p", b"n"]
    with pytest.raises(InvalidRequest, match="input 'input' has an element that is not UTF-8"):
        answers(model, np.array([b"\xff"], object))


FRAME = pd.DataFrame(
    {
        "age": [20.0, 30.0, np.nan, 50.0],
        "city": ["Bonn", "Köln", "Bonn", "Ulm"],
        "size": ["s", "m", "l", "s"],
        "note": ["good one", "bad one", "good", "bad"],
        "rooms": [1, 2, 3, 4],
    }
)
PARTS = {
    "names": [["age", "rooms"], ["city"], "note", ["size"]],
    "positions": [[0, 4], [1], 3, [2]],
    "slices": [slice(0, 1), slice("city", "city"), "note", slice(2, 3)],
    "masks": [[True, False, False, False, True], np.array([0, 1, 0, 0, 0], bool), "note", ["size"]],
    "selectors": [make_column_selector("age"), make_column_selector("city"), "note",
                  make_column_selector("size")],
}  # fmt: skip


@pytest.mark.parametrize("how", PARTS)
def test_named_columns_of_numbers_and_texts_are_an_input_each(how: str, tmp_path: Path) -> None:
    numbers, city, note, size = PARTS[how]
    texts = make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder())
    estimator = make_pipeline(
        ColumnTransformer(
            [
                ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), numbers),
                ("city", texts, city),
                ("note", TfidfVectorizer(), note),
                ("size", OrdinalEncoder(), size),
            ],
        ),
        DecisionTreeClassifier(random_state=0),
    ).fit(FRAME, [0, 1, 0, 1])
    path = tmp_path / "model.joblib"  # skops does not know numpy's functions in a selector
    joblib.dump(estimator, path)
    model = opened(path, trust=True)
    assert shapes(model.description.inputs) == {
        "age": ("FP64", (-1,)), "city": ("BYTES", (-1,)), "size": ("BYTES", (-1,)),
        "note": ("BYTES", (-1,)), "rooms": ("FP64", (-1,)),
    }  # fmt: skip
    columns = [
        np.array([v.encode() for v in column], object) if column.dtype == object
        or str(column.dtype).startswith("str") else column.to_numpy(np.float64)
        for _, column in FRAME.items()
    ]  # fmt: skip
    found = answers(model, *columns)
    np.testing.assert_array_equal(found["predict"], estimator.predict(FRAME))
    columns[1] = np.array([b"Rom"] * 4, object)
    with pytest.raises(InvalidRequest, match=r"scikit-learn: Found unknown categories"):
        answers(model, *columns)


def test_categories_that_boosting_encodes_itself_are_texts(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    city = rng.choice(["Bonn", "Ulm", "Köln"], 200)
    frame = pd.DataFrame({"city": pd.Categorical(city), "rooms": rng.random(200)})
    estimator = HistGradientBoostingClassifier(categorical_features="from_dtype", max_iter=5)
    estimator.fit(frame, (city == "Ulm").astype(int))
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(estimator))
    model = opened(path, trust=True)
    assert shapes(model.description.inputs) == {"city": ("BYTES", (-1,)), "rooms": ("FP64", (-1,))}
    texts = np.array([name.encode() for name in city], object)
    found = answers(model, texts, frame["rooms"].to_numpy())
    np.testing.assert_array_equal(found["predict_proba"], estimator.predict_proba(frame))


@pytest.mark.parametrize("kind", ["xgboost", "lightgbm", "catboost"])
def test_a_pickled_estimator_of_another_library_is_served(kind: str, tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    estimator: Any = {
        "xgboost": lambda: xgboost.XGBClassifier(n_estimators=3, n_jobs=2),
        "lightgbm": lambda: lightgbm.LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=2),
        "catboost": lambda: catboost.CatBoostClassifier(
            iterations=3, verbose=False, allow_writing_files=False
        ),
    }[kind]().fit(x, y)
    path = tmp_path / "model.joblib"
    joblib.dump(estimator, path)
    found = answers(opened(path, trust=True), x)
    np.testing.assert_array_equal(found["predict"].ravel(), np.ravel(estimator.predict(x)))


def test_a_frame_of_numbers_is_one_table(tmp_path: Path) -> None:
    frame = load_iris(as_frame=True)
    estimator = LogisticRegression(max_iter=300).fit(frame.data, frame.target)
    model = served(estimator, tmp_path)
    assert shapes(model.description.inputs) == {"input": ("FP64", (-1, 4))}
    found = answers(model, frame.data.to_numpy())
    np.testing.assert_array_equal(found["predict"], estimator.predict(frame.data))


# -- trust ----------------------------------------------------------------------------------------


class Explosive:
    def __reduce__(self) -> Any:
        return (pytest.fail, ("this pickle was read",))


@pytest.mark.parametrize("suffix", [".pkl", ".pickle", ".joblib"])
def test_a_pickle_is_not_read_without_trust(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(pickle.dumps(Explosive()))
    with pytest.raises(ConfigError, match=r"can run any code.*--trust.*skops\.io\.dump"):
        opened(path)


@pytest.mark.parametrize("suffix", [".pkl", ".joblib"])
@pytest.mark.parametrize("compress", [0, 3])
def test_a_pickle_is_read_with_trust(suffix: str, compress: int, tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    path = tmp_path / f"model{suffix}"
    joblib.dump(DecisionTreeClassifier(random_state=0).fit(x, y), path, compress=compress)
    np.testing.assert_array_equal(answers(opened(path, trust=True), x)["predict"], y)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda tree: tree.children_left.__setitem__(0, 10**6), "child is not behind it"),
        (lambda tree: tree.children_right.__setitem__(0, 0), "child is not behind it"),
        (lambda tree: tree.feature.__setitem__(0, 999), "a feature that there is not"),
    ],
)
def test_a_tree_needs_no_trust_if_it_is_whole(change: Any, told: str, tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    forest = make_pipeline(StandardScaler(), RandomForestClassifier(3, random_state=0)).fit(x, y)
    np.testing.assert_array_equal(
        answers(served(forest, tmp_path), x)["predict"], forest.predict(x)
    )
    change(forest[-1].estimators_[1].tree_)
    with pytest.raises(BackendError, match=f"a tree that is damaged: .*{told}"):
        served(forest, tmp_path)


def more_columns(boosting: Any) -> None:
    boosting.estimators_ = np.concatenate([boosting.estimators_] * 2, axis=1)


def fewer_classes(boosting: Any) -> None:
    boosting.init_ = DummyClassifier(strategy="prior").fit(np.zeros((2, 4)), [0, 1])


def wider_trees(boosting: Any) -> None:
    rows = np.random.default_rng(0).random((9, 999))
    wide = GradientBoostingClassifier(n_estimators=2).fit(rows, np.arange(9) % 3)
    boosting.estimators_[1:] = wide.estimators_[1:]


@pytest.mark.parametrize("damage", [more_columns, fewer_classes, wider_trees])
def test_boosting_needs_no_trust_if_its_trees_fit_each_other(damage: Any, tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    boosting = GradientBoostingClassifier(n_estimators=2, random_state=0).fit(x, y)
    found = answers(served(boosting, tmp_path), x)
    np.testing.assert_array_equal(found["predict"], boosting.predict(x))
    damage(boosting)
    with pytest.raises(BackendError, match="damaged: boosting has trees that do not fit"):
        served(boosting, tmp_path)


def test_a_search_is_served_by_the_best_that_it_found(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    search = GridSearchCV(LogisticRegression(max_iter=500), {"C": [0.1, 1.0]}, cv=2).fit(x, y)
    path = tmp_path / "model.joblib"
    joblib.dump(search, path)
    np.testing.assert_array_equal(
        answers(opened(path, trust=True), x)["predict"], search.predict(x)
    )


def test_a_table_of_texts_is_one_input(tmp_path: Path) -> None:
    rows = np.array([["a", "x"], ["b", "y"]], object)
    model = served(OneHotEncoder().fit(rows), tmp_path)
    assert shapes(model.description.inputs) == {"input": ("BYTES", (-1, 2))}
    given = np.array([[b"b", b"x"]], object)
    assert answers(model, given)["transform"].tolist() == [[0.0, 1.0, 1.0, 0.0]]
    mixed = np.array([["a", 1.0], ["b", 2.0]], object)
    with pytest.raises(Unsupported, match="fit it on a pandas frame"):
        served(OneHotEncoder().fit(mixed), tmp_path)


def doubled(x: Array) -> Array:
    return x * 2


def test_skops_with_unknown_types_needs_trust(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    skops.io.dump(FunctionTransformer(doubled).fit(np.eye(2)), path)
    with pytest.raises(ConfigError, match=r"needs types .*doubled.*--trust"):
        opened(path)
    found = answers(opened(path, trust=True), np.eye(2))
    np.testing.assert_array_equal(found["transform"], np.eye(2) * 2)


# -- what is wrong --------------------------------------------------------------------------------


def test_a_model_of_another_release_is_a_note(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    path = tmp_path / "model.pkl"
    content = pickle.dumps(DecisionTreeClassifier(random_state=0).fit(x, y))
    import sklearn

    version = sklearn.__version__.encode()
    path.write_bytes(content.replace(version, b"0" * len(version)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model = opened(path, trust=True)
    assert "Trying to unpickle estimator DecisionTreeClassifier" in model.description.notes[0]


@pytest.mark.parametrize(
    ("held", "told"),
    [
        ({"weights": 1}, "a dict has neither predict nor transform"),
        (DBSCAN().fit(np.eye(3)), "a DBSCAN has neither predict nor transform"),
        (LinearRegression(), "a row to try it with failed in predict|not fitted"),
    ],
)
def test_what_cannot_predict_is_told(held: Any, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(held))
    with pytest.raises(BackendError, match=told):
        opened(path, trust=True)


class Doubler:
    """What scikit-learn knows nothing of."""

    def predict(self, x: Array) -> Array:
        if x.shape[1] != 3:
            raise ValueError("needs three features")
        return x[:, 0] * 2


def test_what_does_not_say_its_features_is_told_them(tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(Doubler()))
    with pytest.raises(BackendError, match=r"needs three features; name the number .* input\.dims"):
        opened(path, trust=True)
    config = ModelConfig(input=(ModelInput(name="input", data_type="TYPE_FP64", dims=(3,)),))
    found = answers(opened(path, trust=True, config=config), np.eye(3))
    assert found["predict"].tolist() == [2.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\x80\x04\x95cut off", "cannot load model.pkl"),
        (b"\x80\x04cinferd_no_such_module\nX\n.", "needs the package 'inferd_no_such_module'"),
        (b"", "cannot load model.pkl"),
    ],
)
def test_a_damaged_pickle_is_told(content: bytes, told: str, tmp_path: Path) -> None:
    path = tmp_path / "model.pkl"
    path.write_bytes(content)
    with pytest.raises(BackendError, match=told):
        opened(path, trust=True)


def test_a_damaged_skops_file_is_told(tmp_path: Path) -> None:
    path = tmp_path / "model.skops"
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(BackendError, match=r"cannot load model\.skops"):
        opened(path)


def test_values_that_it_refuses_are_the_callers(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    model = served(LogisticRegression(max_iter=300).fit(x, y), tmp_path)
    with pytest.raises(InvalidRequest, match="Input X contains NaN"):
        answers(model, np.full((1, 4), np.nan))


def test_a_dtype_that_no_protocol_has_is_refused(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    dates = np.array(["2026-01-01", "2026-01-02", "2026-01-03"], "datetime64[D]")
    path = tmp_path / "model.pkl"
    path.write_bytes(pickle.dumps(DecisionTreeClassifier().fit(x, dates[y])))
    with pytest.raises(Unsupported, match="datetime64"):
        opened(path, trust=True)


# -- configuration --------------------------------------------------------------------------------


def whole(x: Array) -> Array:
    """Integers where it can."""
    return x.astype(int) if (x == x.astype(int)).all() else x


def test_results_keep_to_the_type_that_was_described(tmp_path: Path) -> None:
    estimator = FunctionTransformer(whole).fit(np.zeros((2, 1)))
    joblib.dump(estimator, tmp_path / "model.joblib")
    model = opened(tmp_path / "model.joblib", trust=True)
    assert shapes(model.description.outputs) == {"transform": ("INT64", (-1, 1))}
    with pytest.raises(BackendError, match="returned float64 in 'transform', which was INT64"):
        answers(model, np.array([[0.5]]))


def test_only_outputs_that_are_configured_are_computed(tmp_path: Path) -> None:
    x, y = load_iris(return_X_y=True)
    estimator = LogisticRegression(max_iter=300).fit(x, y)
    config = ModelConfig(
        max_batch_size=8,
        input=(ModelInput(name="input", data_type="TYPE_FP64", dims=(4,)),),
        output=(ModelOutput(name="predict_proba", data_type="TYPE_FP64", dims=(3,)),),
    )
    model = served(estimator, tmp_path, config)
    assert model.description.max_batch_size == 8
    assert list(answers(model, x)) == ["predict_proba"]


def test_no_gpu_is_promised_and_it_runs_apart(tmp_path: Path) -> None:
    config = ModelConfig(instance_group=(ModelInstanceGroup(kind="KIND_GPU"),))
    with pytest.raises(ConfigError, match="sklearn runs on the CPU here"):
        served(LinearRegression().fit(np.eye(2), [0, 1]), tmp_path, config)
    assert isolated("sklearn", ModelConfig())
    assert not isolated("onnxruntime", ModelConfig())
