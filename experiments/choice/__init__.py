"""Whether an automatic choice holds where nobody tuned it: eight small tasks, four looked at once, at the end."""
