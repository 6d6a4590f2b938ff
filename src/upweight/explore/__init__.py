"""A page to look and decide in: a store's scores with examples, what was decided about them, and what came of it.

Conventions of this room:

- What is shown is a function of the store (`contents`, `view`, `session`, `map`), which knows no browser. `page`,
  `lists`, `panels` and `work` put it on a page by NiceGUI, `serve` and `guard` say who may see it.
- What comes from data becomes HTML in `markup` alone, which escapes it; everywhere else it is text.
- A decision is added to the store and never rewritten (`decisions`). Nothing else of a store is written by a page.
"""

from upweight.optional import imported

with imported("explore", "upweight.explore"):
    from upweight.explore.cleaned import Cleaned, Figure, changes, compared
    from upweight.explore.coloured import Readable
    from upweight.explore.contents import Contents
    from upweight.explore.decisions import Decision, Decisions
    from upweight.explore.display import Display, Origin
    from upweight.explore.evidence import Scored
    from upweight.explore.examples import Examples
    from upweight.explore.keeping import keep
    from upweight.explore.making import Given, made
    from upweight.explore.session import Session

__all__ = [
    "Cleaned",
    "Contents",
    "Decision",
    "Decisions",
    "Display",
    "Examples",
    "Figure",
    "Given",
    "Origin",
    "Readable",
    "Scored",
    "Session",
    "changes",
    "compared",
    "keep",
    "made",
]
