"""What a house of a size takes: measured costs, sizes derived from them, a simulated storm."""
