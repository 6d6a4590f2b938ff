"""What an inverse will cost, which one to choose, and a word before long work."""
