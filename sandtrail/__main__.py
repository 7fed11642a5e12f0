"""`python -m sandtrail`."""

from sandtrail.cli import main

if __name__ == "__main__":
    main()
