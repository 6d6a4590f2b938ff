"""Which examples of a pool help most on a reference set?

`scored` has the methods, `diverse` the choice that avoids examples like those chosen already, `selection` the task and
its result, `comparison` what retraining says of it.
"""

from upweight.tasks.selection.comparison import SelectionComparison
from upweight.tasks.selection.diverse import Variety
from upweight.tasks.selection.selection import Selection, select

__all__ = ["Selection", "SelectionComparison", "Variety", "select"]
