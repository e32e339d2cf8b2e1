"""The probabilistic U-Net: an ambiguous task, blocks, and training through gunpowder."""

import gunpowder as gp
import numpy as np
import pytest
import torch
from funlib.geometry import Roi

from scalenet_gp.losses import BinaryCrossEntropy, KullbackLeibler
from scalenet_gp.networks import build_probabilistic_unet
from scalenet_gp.nodes import Supervision, Train
from scalenet_gp.nodes.chains import build_chain
from scalenet_gp.training import ComputeConfig, JointLoss, Optimization, Trainer
from tests.nodes.targets.derived_arrays import Held

LATENT = ("posterior_mean", "posterior_log_variance", "prior_mean", "prior_log_variance")
SMALL = {"base_nc": 2, "latent_nc": 2, "samples": 4, "downsample_factors": [(2, 2)], "convs_per_level": 1}


def trainer(net, weight=1.0, **options):
    return Trainer(
        net,
        {"posterior_output": BinaryCrossEntropy()},
        joint_losses={"kl": JointLoss(KullbackLeibler(), LATENT, weight)},
        optimization=Optimization(learning_rate=0.02),
        compute=ComputeConfig(device="cpu"),
        seed=1,
        **options,
    )


def batch_of(net, plan, seed):
    """Noise, of which half of the annotators see an object everywhere and the others none."""
    generator = torch.Generator().manual_seed(seed)
    shapes = {name: tensor.shape for name, tensor in plan.input_tensors.items()}
    seen = (torch.arange(8) % 2).view(8, 1, 1, 1).float()
    inputs = {
        "input": torch.rand(8, 1, *shapes["input"], generator=generator),
        "annotation_input": seen.expand(8, 1, *shapes["annotation_input"]).clone(),
    }
    return inputs, {"posterior_output": seen.expand(8, 1, *plan.tensor("posterior_output").shape)}


def test_samples_of_an_ambiguous_task_differ_as_annotators_do(tmp_path):
    """And a run that is stopped and resumed comes to the same weights."""

    def new():
        torch.manual_seed(0)
        return build_probabilistic_unet((8, 8), norm_layer=None, **SMALL)

    net, twin = new(), new()
    plan = net.plan({name: Roi((0, 0), (16, 16)) for name in ("posterior_output", *LATENT)})
    learning, losses = trainer(net, 0.02), []
    for step in range(45):
        result = learning.step(*batch_of(net, plan, step), plan=plan)
        losses.append(result.losses["posterior_output"])
        if step == 3:
            early = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    assert losses[-1] < 0.4 < 0.6 < losses[0]  # the posterior knows what the annotator saw
    predicting = net.eval().plan({"output": Roi((0, 0), (32, 32)), "variance": Roi((0, 0), (32, 32))})
    raw = torch.rand(1, 1, *predicting.input_tensors["input"].shape)
    with torch.no_grad():
        made = net({"input": raw}, predicting)
    assert made["variance"].mean() > 0.05  # of at most 0.25
    for steps in (2, 2):
        with trainer(twin, 0.02, checkpoints=tmp_path) as stopped:
            for step in range(stopped.iteration, stopped.iteration + steps):
                stopped.step(*batch_of(twin, plan, step), plan=plan)
        twin, ended = new(), twin
    assert all(torch.equal(early[name], tensor) for name, tensor in ended.state_dict().items())


@pytest.mark.parametrize("shared", [True, False])
def test_a_sample_is_the_same_in_every_block_unless_the_distribution_is_global(shared):
    torch.manual_seed(0)
    net = build_probabilistic_unet((8, 8), global_latent=not shared, **SMALL).eval()
    whole = net.plan({"sample_1": Roi((0, 0), (64, 32))})
    raw = torch.rand(1, 1, *whole.input_tensors["input"].shape)
    begin = whole.inputs["input"].begin
    found = []
    with torch.no_grad():
        together = net({"input": raw}, whole)["sample_1"]
        for offset in (0, 32):
            part = net.plan({"sample_1": Roi((offset, 0), (32, 32))})
            first = [int(b) // 8 for b in part.inputs["input"].begin - begin]
            size = part.input_tensors["input"].shape
            seen = raw[:, :, first[0] : first[0] + size[0], first[1] : first[1] + size[1]]
            found.append(net({"input": seen}, part)["sample_1"])
    assert torch.allclose(torch.cat(found, dim=2), together, atol=1e-6) == shared
    assert net.tileable == shared


def test_gunpowder_feeds_the_loss_of_several_outputs():
    net = build_probabilistic_unet((8, 8), norm_layer=None, **SMALL)
    raw, seen, prediction = (gp.ArrayKey(f"PU_{name}") for name in ("RAW", "SEEN", "PREDICTION"))
    latent = {name: gp.ArrayKey(f"PU_{name}".upper()) for name in LATENT}
    data = np.random.default_rng(0).random((1, 32, 32)).astype(np.float32)
    source = Held({raw: data, seen: (data > 0.5).astype(np.float32)}, (8, 8), begin=(-128, -128), unbounded=True)
    outputs = {"posterior_output": Supervision(prediction, seen)}
    outputs |= {name: Supervision(key) for name, key in latent.items()}
    joint = {"kl": JointLoss(KullbackLeibler(), LATENT)}
    inputs = {"input": raw, "annotation_input": seen}
    node = Train(net, inputs, outputs, joint_losses=joint, compute=ComputeConfig(device="cpu"))
    request = gp.BatchRequest({key: gp.ArraySpec(Roi((0, 0), (16, 16))) for key in (prediction, *latent.values())})
    with build_chain(source + node) as chain:
        batch = chain.request_batch(request)
    made = [torch.from_numpy(batch[latent[name]].data)[None] for name in LATENT]
    target = torch.from_numpy(source.arrays[seen])[None, :, 16:18, 16:18]
    own = node.trainer.loss_of(
        "posterior_output", torch.from_numpy(batch[prediction].data)[None], target, torch.ones_like(target)
    )
    assert batch.loss == pytest.approx(own.item() + KullbackLeibler()(*made).item(), rel=1e-4)


def test_what_contradicts_is_refused():
    for wrong, message in (
        ({"heads": {"a": ["b"]}}, "leave out heads"),
        ({"output_nc": 0, "heads": {"a": ["b"]}}, "output_nc above 0"),
        ({"inputs": {"annotation": 1}}, "rename it"),
    ):
        with pytest.raises(ValueError, match=message):
            build_probabilistic_unet((8, 8), **wrong)
