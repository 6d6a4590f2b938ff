"""Long jobs at their full size: seconds, memory, disk, workers, opening, and kills at random moments."""
