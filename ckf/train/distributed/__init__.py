"""Several processes: rendezvous, worker, FSDP."""
