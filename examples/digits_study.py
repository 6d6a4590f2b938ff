"""A study file: upweight explain examples/digits_study.py --query 3

It trains a softmax regression on the digits that come with scikit-learn and asks about the test images.
"""

import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import upweight as uw
from upweight import retraining
from upweight.study import Study


def study() -> Study:
    """The trained objective, the test images as queries, and pictures of both for the report."""
    images, labels = load_digits(return_X_y=True)
    train, test, train_labels, test_labels = train_test_split(
        images / 16, labels, test_size=0.3, stratify=labels, random_state=0
    )
    model = torch.nn.Linear(64, 10, dtype=torch.float64)
    objective = uw.Objective(model, uw.losses.CrossEntropy(), (train, train_labels), l2=0.003)
    return Study(
        retraining.fit(objective),
        (test, test_labels),
        class_names=[str(digit) for digit in range(10)],
        images=train.reshape(-1, 8, 8),
        query_images=test.reshape(-1, 8, 8),
    )
