"""The commands of a SLURM cluster of one machine, as far as submitit asks for them."""
