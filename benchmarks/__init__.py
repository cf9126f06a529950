"How fast scoring and training are: `python -m benchmarks --help`. Not part of the installed package."
