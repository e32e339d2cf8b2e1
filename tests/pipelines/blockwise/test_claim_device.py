"""Workers of a machine share out its devices."""

from contextlib import ExitStack

from scalenet_gp.pipelines.blockwise.worker import claim_device


def test_everybody_gets_another_device_until_all_are_taken(tmp_path):
    devices = ("cuda:0", "cuda:1", "cuda:3")
    with ExitStack() as stack:
        taken = [stack.enter_context(claim_device(devices, tmp_path / "locks")) for _ in range(7)]
    assert taken == [*devices, *devices, "cuda:0"]
    with claim_device(devices, tmp_path / "locks") as again:
        assert again == "cuda:0"
