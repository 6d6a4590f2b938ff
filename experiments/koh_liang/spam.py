"""SpamAssassin as a stand-in for Enron1: subjects and bodies as binary bags of words, split anew for each seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy import linalg, sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

import upweight as uw
from upweight import datasets

TRAIN, TEST = 4_137, 1_035
"""E-mails to train and to test on, as many as the paper has of Enron1."""
LEAST = 4
"""Training e-mails that a word must be in to belong to the vocabulary."""
TOLERANCE = 1e-6
JITTER = 1e-10
"""ε of the Gram matrix over the mean of its diagonal: some e-mails have the same words."""


@dataclass(frozen=True, eq=False)
class Split:
    """Features and labels (1 for spam) of both sides, and the training e-mails' words, ``[n, vocabulary]``."""

    train: np.ndarray
    train_labels: np.ndarray
    test: np.ndarray
    test_labels: np.ndarray
    words: sparse.csr_matrix

    def trained(self, objective: uw.Objective, l2: float) -> uw.Objective:
        """The objective at scikit-learn's logistic regression on the words and the objective's labels.

        Its weights of words are brought into the features: Lθ = Xw.
        """
        labels = objective.data.take(range(objective.n))[1].numpy()
        model = LogisticRegression(C=1 / (l2 * len(labels)), fit_intercept=False, tol=TOLERANCE, max_iter=5_000)
        weights = model.fit(self.words, labels).coef_[0]
        return objective.at(torch.from_numpy(linalg.solve_triangular(self.train, self.words @ weights, lower=True)))


@dataclass(frozen=True)
class Mail:
    """All e-mails without duplicates: which words each holds, its label, and how many hold undecodable bytes."""

    words: sparse.csr_matrix
    labels: np.ndarray
    undecodable: int
    duplicates: int


def read() -> Mail:
    """Words of two letters or more, in lower case, of subject and body; of equal texts the first."""
    emails = datasets.load("spam-assassin")
    texts = emails.texts(deduplicate=True)
    counter = CountVectorizer(binary=True, token_pattern=r"(?u)\b[^\W\d_]{2,}\b", dtype=np.float64)
    words = counter.fit_transform(texts.texts).tocsr()
    return Mail(words, texts.labels, texts.undecodable, len(emails.raw) - len(texts.texts))


def split(mail: Mail, seed: int, train: int = TRAIN, test: int = TEST) -> Split:
    """A stratified split; the vocabulary is that of the training e-mails alone."""
    inner, outer = train_test_split(
        np.arange(len(mail.labels)), train_size=train, test_size=test, stratify=mail.labels, random_state=seed
    )
    common = np.asarray(mail.words[inner].sum(0)).ravel() >= LEAST
    words, others = mail.words[inner][:, common], mail.words[outer][:, common]
    features = in_span(words, others)
    return Split(features[0], mail.labels[inner], features[1], mail.labels[outer], words)


def in_span(train: sparse.csr_matrix, test: sparse.csr_matrix) -> tuple[np.ndarray, np.ndarray]:
    """Both sides in an orthonormal basis of the training examples' span: n features in place of p > n.

    XXᵀ = LLᵀ, X = LQᵀ. With an l2 penalty θ lies in that span, so the model, its influences and its outputs are the
    same in the features L as in the words, while H is n × n (Hastie & Tibshirani 2004, section 3).
    """
    gram = (train @ train.T).toarray()
    gram[np.diag_indices_from(gram)] += JITTER * gram.diagonal().mean()
    factor = linalg.cholesky(gram, lower=True)
    others = linalg.solve_triangular(factor, (train @ test.T).toarray(), lower=True)
    return factor, np.ascontiguousarray(others.T)
