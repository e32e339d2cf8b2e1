"""Jobs: train, predict, evaluate, demo."""

if __name__ != "scalenet_gp.pipelines":
    raise ImportError(f"import scalenet_gp.pipelines, not {__name__}: this folder is a subpackage of scalenet_gp")
