"""`python -m sommelier`: the same as the `sommelier` command, for launchers that take a module."""

from sommelier.app import main

if __name__ == "__main__":
    main()
