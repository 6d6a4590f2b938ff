"""Write patients.csv and later.csv: python examples/later_patients.py

Seriously ill patients (SUPPORT2) and whether they died in hospital. Of 35 under 20 only 6 are in patients.csv, of whom
5 died; 29 come later, of whom 27 survived.
"""

import numpy as np

from upweight import datasets
from upweight.datasets import support2

table = datasets.load("support2")
patients = support2.predictors(table)
patients.insert(0, "died", table[support2.TARGET].map({0: "no", 1: "yes"}))
patients["age"] = (patients["age"] // 10 * 10).clip(10, 90).astype(int).astype(str) + "s"
young = patients.index[patients["age"] == "10s"]
survivors = np.random.default_rng(0).permutation(young[patients["died"][young] == "no"])
later = np.union1d(survivors[1:], young[patients["died"][young] == "yes"][:2])
patients.drop(later).to_csv("patients.csv", index=False)
patients.loc[later].to_csv("later.csv", index=False)
