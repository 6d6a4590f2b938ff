"""Where to linearise: the model handed in, an earlier one, a tempered one, or one that training gives at weight ½."""
