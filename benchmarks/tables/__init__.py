"""Wrong labels and numbers planted in real tables, and who finds them: upweight beside cleanlab."""
