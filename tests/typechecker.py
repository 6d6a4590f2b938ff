"""The run-time checker that conftest hands to jaxtyping's import hook; it must not import upweight."""

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # an int will do for a float
