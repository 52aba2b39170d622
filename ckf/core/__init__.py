"""What every package uses: errors, artifacts on disk, random numbers, safe unpickling."""
