"""What this project costs, beside other designs, in one run: `python -m benchmarks`."""
