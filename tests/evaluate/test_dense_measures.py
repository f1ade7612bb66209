"""The measures of dense predictions beside torchmetrics, scikit-learn, numpy and closed forms."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, jaccard_score
from torchmetrics import JaccardIndex, MeanAbsoluteError, MeanSquaredError
from torchmetrics.classification import MulticlassAccuracy

from mmssl.evaluate.dense.measures import (
    DEPTHS,
    Angles,
    Confusion,
    class_iou,
    degrees,
    depth_errors,
    mean_accuracy,
    mean_iou,
    pixel_accuracy,
)


def classes_of(seed, present=(0, 1, 2, 3, 4), classes=5, images=6):
    """Predictions and truth of images of different numbers of known pixels."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(20, 200, images)
    return [(rng.integers(0, classes, n), rng.choice(present, n)) for n in sizes]


def filled(pairs, classes=5):
    confusion = Confusion(classes)
    for predicted, true in pairs:
        confusion.add(torch.from_numpy(predicted), torch.from_numpy(true))
    return confusion


def test_segmentation_is_what_torchmetrics_and_sklearn_say():
    pairs = classes_of(0)
    confusion = filled(pairs)
    predicted, true = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    assert (confusion.matrix.numpy() == confusion_matrix(true, predicted, labels=range(5))).all()
    p, t = torch.from_numpy(predicted), torch.from_numpy(true)
    jaccard = JaccardIndex("multiclass", num_classes=5, average="none")(p, t)
    np.testing.assert_allclose(class_iou(confusion.counts), jaccard, rtol=1e-6)
    assert float(mean_iou(confusion.counts)) == pytest.approx(jaccard_score(true, predicted, average="macro"))
    accuracy = MulticlassAccuracy(5, average="micro")(p, t)
    assert float(pixel_accuracy(confusion.counts)) == pytest.approx(float(accuracy))
    balanced = balanced_accuracy_score(true, predicted)
    assert float(mean_accuracy(confusion.counts)) == pytest.approx(balanced)
    assert torch.equal(confusion.images.sum(0), confusion.counts)


def test_one_matrix_is_not_the_mean_over_images():
    pairs = classes_of(1)
    each = [float(mean_iou(filled([pair]).counts)) for pair in pairs]
    assert float(mean_iou(filled(pairs).counts)) != pytest.approx(np.mean(each), abs=1e-4)


def test_a_class_that_is_nowhere_true_is_left_out_but_its_predictions_are_errors():
    pairs = classes_of(2, present=(0, 1, 3))
    confusion = filled(pairs)
    predicted, true = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    found = class_iou(confusion.counts)
    assert found.isnan().tolist() == [False, False, True, False, True]
    want = jaccard_score(true, predicted, labels=[0, 1, 3], average="macro")
    assert float(mean_iou(confusion.counts)) == pytest.approx(want)
    want = np.mean([(predicted[true == k] == k).mean() for k in (0, 1, 3)])
    assert float(mean_accuracy(confusion.counts)) == pytest.approx(want)


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**16), st.integers(2, 7))
def test_renaming_classes_changes_no_mean(seed, classes):
    pairs = classes_of(seed, range(classes), classes, images=2)
    names = np.random.default_rng(seed).permutation(classes)
    one = filled(pairs, classes).counts
    other = filled([(names[predicted], names[true]) for predicted, true in pairs], classes).counts
    for measure in (mean_iou, mean_accuracy, pixel_accuracy):
        assert float(measure(one)) == pytest.approx(float(measure(other)))


def test_depth_errors_beside_numpy_and_torchmetrics():
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.5, 9, 500)
    predicted = truth * np.exp(rng.normal(0.1, 0.3, 500))
    p, t = torch.from_numpy(predicted), torch.from_numpy(truth)
    found = dict(zip(DEPTHS, depth_errors(p, t).tolist(), strict=True))
    off = np.log(predicted) - np.log(truth)
    assert found["AbsRel"] == pytest.approx(np.mean(np.abs(predicted - truth) / truth))
    assert found["RMSE"] == pytest.approx(float(MeanSquaredError(squared=False)(p, t)), rel=1e-5)
    assert found["log10"] == pytest.approx(float(MeanAbsoluteError()(p.log10(), t.log10())), rel=1e-5)
    assert found["SILog"] == pytest.approx(100 * np.sqrt(np.mean(off**2) - np.mean(off) ** 2))
    ratio = np.maximum(predicted / truth, truth / predicted)
    for name, power in (("δ<1.25", 1), ("δ<1.25²", 2), ("δ<1.25³", 3)):
        assert found[name] == pytest.approx(np.mean(ratio < 1.25**power))


def test_a_wrong_scale_costs_everything_but_silog():
    truth = torch.linspace(1, 8, 50)
    found = dict(zip(DEPTHS, depth_errors(2 * truth, truth).tolist(), strict=True))
    assert found["AbsRel"] == pytest.approx(1)
    assert found["log10"] == pytest.approx(np.log10(2))
    assert found["SILog"] == pytest.approx(0, abs=1e-4)
    assert found["δ<1.25³"] == 0


def test_angles_are_those_of_the_rotations_that_made_them():
    rng = np.random.default_rng(0)
    truth = rng.normal(size=(400, 3))
    truth /= np.linalg.norm(truth, axis=1, keepdims=True)
    axis = np.cross(truth, rng.normal(size=(400, 3)))
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    angle = rng.uniform(0, 60, 400)
    angle[:2] = 0, 1e-4  # the arc cosine of a float would be off by a hundredth of a degree
    turned = Rotation.from_rotvec(axis * np.radians(angle)[:, None]).apply(truth)
    lengths = rng.uniform(0.1, 5, (400, 1))
    found = degrees(torch.from_numpy(turned * lengths), torch.from_numpy(truth)).numpy()
    np.testing.assert_allclose(found, angle, atol=1e-8)
    angles = Angles()
    for rows in (slice(0, 150), slice(150, 399)):
        angles.add(torch.from_numpy(turned[rows]), torch.from_numpy(truth[rows]))
    kept = angle[:399]
    assert angles.median == pytest.approx(np.median(kept), abs=0.006)
    total, *below, pixels = angles.images.sum(0).tolist()
    assert total / pixels == pytest.approx(kept.mean())
    assert below == [(kept < limit).sum() for limit in (11.25, 22.5, 30)]
