"""What went wrong with a job: its data, the program, or the machine that it ran on."""
