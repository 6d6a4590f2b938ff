"""What the public face doesn't take, in whatever form it comes, is told in words with what to give instead."""

from __future__ import annotations

import pytest

from bad_calls import influences, inverses, objectives, retraining, tasks
from bad_calls.case import Form
from upweight.errors import InputError

pytestmark = pytest.mark.usefixtures("unchecked")

FORMS: dict[str, Form] = {}
for area in (objectives, influences, inverses, retraining, tasks):
    assert not FORMS.keys() & area.FORMS.keys()
    FORMS |= area.FORMS


@pytest.mark.parametrize("mistake", FORMS)
def test_examples_that_the_model_does_not_take_are_told_in_words(mistake: str) -> None:
    make, message = FORMS[mistake]
    with pytest.raises(InputError, match=message):
        make()
