"""Attribution for language models on real text."""
