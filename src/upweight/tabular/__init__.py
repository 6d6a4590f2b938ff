"""A table as people have it, read, encoded and given a model, which is handed on as an `Objective`.

Rows are named by their number in the file, counted from 0 at the first line under the header, and keep that
name whatever is left out. Every step says in words what it did to the data (``notes``).
"""

from upweight.optional import imported

with imported("tables", "upweight.tabular"):
    from upweight.tabular.aside import Aside
    from upweight.tabular.choice import Choice
    from upweight.tabular.columns import Columns, encoder, sorted_columns, source_columns
    from upweight.tabular.folds import held_out
    from upweight.tabular.linear import train_logistic
    from upweight.tabular.own_model import of_model
    from upweight.tabular.read import LabelledTable, read_labelled, read_more, read_table
    from upweight.tabular.rewritten import Rewritten, rewritten
    from upweight.tabular.trained import RegressionValidation, Seen, Trained, Validation
    from upweight.tabular.training import train

__all__ = [
    "Aside",
    "Choice",
    "Columns",
    "LabelledTable",
    "RegressionValidation",
    "Rewritten",
    "Seen",
    "Trained",
    "Validation",
    "encoder",
    "held_out",
    "of_model",
    "read_labelled",
    "read_more",
    "read_table",
    "rewritten",
    "sorted_columns",
    "source_columns",
    "train",
    "train_logistic",
]
