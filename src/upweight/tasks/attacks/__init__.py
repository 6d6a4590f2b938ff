"""Training-set attacks (Koh & Liang 2017, section 5.2), as an audit of one's own models.

`settings` says what is asked; `box` keeps stored bytes as they are; `subject` is what is attacked; `levers` ranks
training images by what they can move; `climb` takes the steps; `together` holds the curvature of many retrained tops;
`finished` keeps what is done.
"""

from upweight.tasks.attacks.attack import attack
from upweight.tasks.attacks.box import Box, same_bytes
from upweight.tasks.attacks.climb import AttackError
from upweight.tasks.attacks.levers import Levers
from upweight.tasks.attacks.result import Attack, wilson
from upweight.tasks.attacks.settings import Aim, Climb, LeverChoice, Resources

__all__ = [
    "Aim",
    "Attack",
    "AttackError",
    "Box",
    "Climb",
    "LeverChoice",
    "Levers",
    "Resources",
    "attack",
    "same_bytes",
    "wilson",
]
