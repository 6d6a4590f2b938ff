"""What an objective is made of must be: each argument, the form of examples, losses and their values."""
