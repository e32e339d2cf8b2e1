"""``python -m scalenet_gp.pipelines.cli``."""

from scalenet_gp.pipelines.cli.main import main

main()
