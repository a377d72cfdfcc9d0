"""`python -m reelseek`: the command line, as the program `reelseek`."""

from reelseek.cli import main

if __name__ == "__main__":
    main()
