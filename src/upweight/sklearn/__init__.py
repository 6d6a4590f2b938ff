"""Tasks by scikit-learn's conventions: settings in ``__init__``, data in ``fit``, what was learned with an underscore.

scikit-learn itself is imported with this module, and with it alone.
"""

from upweight.optional import imported

with imported("tables", "upweight.sklearn"):
    from upweight.sklearn.label_errors import LabelErrors

__all__ = ["LabelErrors"]
