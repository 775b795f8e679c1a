import sys
from pathlib import Path

# The benchmarks are no part of the package; `python -m pytest` in the repository finds them anyway.
sys.path.append(str(Path(__file__).parents[2]))
