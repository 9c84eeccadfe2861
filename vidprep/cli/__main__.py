"""``python -m vidprep.cli``."""

from vidprep.cli import main

if __name__ == "__main__":  # worker processes import this file too
    main()
