"""`python -m tests.drills`; workers import this file again, so everything else is behind the guard."""

if __name__ == "__main__":
    import sys

    from tests.drills.command import main

    sys.exit(main(sys.argv[1:]))
