"""A CSV as a classification: read, encode, train a logistic model, and hand it on as an `Objective`.

Rows are named by their number in the file, counted from 0 at the first line under the header, and keep that
name whatever is left out. Every step says in words what it did to the data (``notes``).
"""

from upweight.optional import imported

with imported("tables", "upweight.tabular"):
    from upweight.tabular.choice import Choice
    from upweight.tabular.columns import Columns, encoder, sorted_columns, source_columns
    from upweight.tabular.logistic import Logistic, train_logistic
    from upweight.tabular.read import LabelledTable, read_labelled, read_more, read_table

__all__ = [
    "Choice",
    "Columns",
    "LabelledTable",
    "Logistic",
    "encoder",
    "read_labelled",
    "read_more",
    "read_table",
    "sorted_columns",
    "source_columns",
    "train_logistic",
]
