"""Reports and tables from run folders alone: no GPU, no backbone, no torch."""
