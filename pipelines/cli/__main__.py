"""Run the command line: ``python -m scalenet_gp.pipelines.cli``."""

from scalenet_gp.pipelines.cli import main

if __name__ == "__main__":
    main()
