"Metrics: every number against scikit-learn, and what happens where a class has no image."

import json
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sk
from sklearn.utils.class_weight import compute_class_weight

from dans.house import DansError
from dans.net.metrics import (
    METRICS,
    auc,
    balanced_accuracy,
    class_weights,
    confusion,
    likelihood,
    macro_f1,
    metric_named,
    precision,
    recall,
    report,
    report_line,
    report_row,
    report_table,
)


@st.composite
def answered(draw, least=2):
    "Labels and outputs with many ties, of unequal classes: int8 or float."
    classes, n, seed = draw(st.integers(least, 5)), draw(st.integers(1, 60)), draw(st.integers(0, 10**6))
    rng = np.random.default_rng(seed)
    labels = rng.choice(classes, n, p=rng.dirichlet(np.full(classes, 0.5)))
    outputs = (
        rng.integers(-128, 128, (n, classes)).astype(np.int8)
        if draw(st.booleans())
        else rng.integers(-3, 4, (n, classes)) / 2
    )
    return labels, outputs


@given(answered())
@settings(max_examples=150, deadline=None)
def test_all_numbers_are_those_of_scikit_learn(case):
    labels, outputs = case
    classes, predicted = outputs.shape[1], outputs.argmax(1)
    names = range(classes)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of classes without an image
        assert METRICS["accuracy"](labels, outputs) == pytest.approx(sk.accuracy_score(labels, predicted))
        assert balanced_accuracy(labels, outputs) == pytest.approx(sk.balanced_accuracy_score(labels, predicted))
        assert macro_f1(labels, outputs) == pytest.approx(sk.f1_score(labels, predicted, average="macro"))
        matrix = confusion(labels, predicted, classes)
        assert (matrix == sk.confusion_matrix(labels, predicted, labels=names)).all()
        for ours, theirs in ((recall, sk.recall_score), (precision, sk.precision_score)):
            expected = theirs(labels, predicted, labels=names, average=None, zero_division=np.nan)
            np.testing.assert_allclose(ours(matrix), expected)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 300), st.booleans(), st.integers(0, 10**6))
@settings(max_examples=150, deadline=None)
def test_area_under_roc_is_exact_with_ties_and_beyond_int8(ones, zeros, levels, int8, seed):
    rng = np.random.default_rng(seed)
    labels = rng.permutation([1] * ones + [0] * zeros)
    values = rng.integers(-128, -128 + min(levels, 255), len(labels))
    outputs = np.stack([-1 - values, values], 1)
    outputs = outputs.astype(np.int8) if int8 else outputs / 7
    found = auc(labels, outputs)
    assert found == pytest.approx(sk.roc_auc_score(labels, values), abs=1e-12)
    pairs = values[labels == 1][:, None] - values[labels == 0]
    assert found == pytest.approx(((pairs > 0).sum() + (pairs == 0).sum() / 2) / pairs.size, abs=1e-12)


@given(answered(), st.sampled_from([1e-3, 1, 1e3]))
@settings(max_examples=60, deadline=None)
def test_the_likelihood_is_that_of_the_best_temperature(case, scale):
    labels, outputs = case
    found = likelihood(labels, outputs * scale)
    n, classes = outputs.shape
    assert 1 / classes <= found <= 1 and found == pytest.approx(likelihood(labels, outputs), rel=1e-9)
    rivals = outputs - outputs[np.arange(n), labels][:, None].astype(float)
    at = [np.logaddexp.reduce(b * rivals, axis=1).mean() for b in [0, *np.logspace(-6, 6, 400)]]
    assert found >= np.exp(-min(at)) * (1 - 1e-12)  # no other temperature is better ...
    assert found == pytest.approx(np.exp(-min(at)), rel=0.01)  # ... and one of them is about as good


def test_the_likelihood_sees_what_accuracy_does_not():
    labels = np.repeat([0, 1], 50)
    sure, doubtful = np.eye(2)[labels] * 2.0, np.eye(2)[labels] * 2.0
    wrong = [3, 60]
    sure[wrong], doubtful[wrong] = -2 * sure[wrong], -0.1 * doubtful[wrong]  # one errs as surely as it is right
    assert METRICS["accuracy"](labels, sure) == METRICS["accuracy"](labels, doubtful) == 0.98
    assert 0.5 < likelihood(labels, sure) < likelihood(labels, doubtful) < 1


def test_the_likelihood_where_one_image_is_hardly_wrong():
    for gap in (1e-1, 1e-6, 1e-12):
        found = likelihood(np.zeros(100, int), [[1.0, 0.0]] * 99 + [[0.0, gap]])
        assert 0.98 < found < 0.5**0.01 + 1e-12  # as if that image were a tie


def test_the_differences_of_int8_outputs_do_not_wrap():
    assert auc([0, 1], np.array([[127, -128], [-128, 127]], np.int8)) == 1


def test_a_saturated_softmax_hides_no_order():
    logits = np.array([[0, 40], [0, 60]], np.float32)  # both 1.0 as float32 probabilities
    assert auc([0, 1], logits) == 1


def test_always_answering_the_larger_class_is_seen_through():
    labels, outputs = np.repeat([0, 1], [285, 15]), np.tile([90, -90], (300, 1)).astype(np.int8)
    found = report(labels, outputs, ("background", "person"))
    assert (found["accuracy"], found["majority"], found["balanced_accuracy"], found["auc"]) == (0.95, 0.95, 0.5, 0.5)
    assert (
        found["recall"] == [1, 0] and found["precision"] == [0.95, None] and found["confusion"] == [[285, 0], [15, 0]]
    )
    assert "no better than always answering 'background' (0.950)" in report_line(
        found
    ) and "person 0.000" in report_line(found)
    assert "| person | 15 | 0 | 0.000 |" in report_table(found)
    assert json.loads(json.dumps(found)) == found
    assert report_row(found, "int8_") == {
        "int8_accuracy": 0.95,
        "int8_balanced_accuracy": 0.5,
        "int8_macro_f1": found["macro_f1"],
        "int8_auc": 0.5,
        "int8_majority": 0.95,
        "int8_majority_class": "background",
        "int8_recall": "background 1.000, person 0.000",
    }


def test_a_class_without_an_image_has_no_recall_and_counts_nowhere():
    labels, outputs = np.array([0, 0, 1]), np.eye(3)[[0, 0, 1]]
    found = report(labels, outputs, "abc")
    assert found["recall"] == [1, 1, None] and found["precision"] == [1, 1, None] and found["auc"] is None
    assert found["balanced_accuracy"] == found["macro_f1"] == 1
    assert "none" in report_table(found) and "c none" not in report_line(found)
    assert report(np.zeros(3, int), np.eye(2)[[0, 0, 1]], "ab")["auc"] is None  # one class alone: None, not NaN


def test_many_classes_are_told_by_those_found_least():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 100, 2000)
    outputs = np.eye(100)[np.where(labels == 7, 8, labels)]
    found = report(labels, outputs, [f"c|{i}" for i in range(100)])
    table = report_table(found).splitlines()
    assert len(table) == 14 and table[2].startswith("| c\\|7 |") and f"c\\|8 ({(labels == 7).sum()})" in table[2]
    assert "recall: lowest c|7 0.000, " in report_line(found)


@pytest.mark.parametrize("name", ["macro_f1", "macro F1", "Macro-F1", " macro f1 "])
def test_a_metric_is_found_however_it_is_written(name):
    assert metric_named(name) == "macro_f1"


@pytest.mark.parametrize(
    "ask, said",
    [
        (lambda: metric_named("f2"), "metric 'f2' is unknown: use one of accuracy, balanced_accuracy, macro_f1, auc"),
        (lambda: metric_named(None), "metric None is unknown"),
        (lambda: metric_named("auc", classes=3), "for two classes, and there are 3"),
        (lambda: metric_named("AUC", labels=[1, 1]), "one class has none here"),
        (lambda: auc([0, 1], np.zeros((2, 3))), "no area under ROC"),
        (lambda: confusion([], [], 2), "give one label and one prediction"),
        (lambda: confusion([0, 1], [0], 2), "give one label and one prediction"),
        (lambda: confusion([0, 2], [0, 1], 2), "labels are not class numbers from 0 to 1"),
        (lambda: confusion([0, 1], [0, -1], 2), "predictions are not class numbers"),
        (lambda: confusion([0.0, 1.0], [0, 1], 2), "labels are not class numbers"),
        (lambda: likelihood([0, 1, 1], np.eye(2)), "give one label and one prediction"),
        (lambda: likelihood([0, 2], np.eye(2)), "labels are not class numbers from 0 to 1"),
        (lambda: report([0, 1], np.eye(2), "abc"), "outputs of shape (2, 2) for 3 classes"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(ask, said):
    with pytest.raises(DansError) as error:
        ask()
    assert said in str(error.value) and "\n" not in str(error.value)


def test_outputs_that_are_no_numbers_have_no_area_and_no_likelihood():
    for metric in (auc, likelihood):
        assert np.isnan(metric([0, 1], np.array([[0, np.nan], [0, 1]])))
    assert likelihood([0, 1], np.zeros((2, 2))) == 0.5


@given(answered())
@settings(max_examples=60, deadline=None)
def test_class_weights_are_those_of_scikit_learn(case):
    labels, outputs = case
    found, there = class_weights(labels, outputs.shape[1]), np.unique(labels)
    np.testing.assert_allclose(found[there], compute_class_weight("balanced", classes=there, y=labels), rtol=1e-6)
    assert found[labels].mean() == pytest.approx(1, rel=1e-5) and not np.delete(found, there).any()
