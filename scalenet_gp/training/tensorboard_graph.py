"""A network as the graph that TensorBoard shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scalenet_gp.geometry import format_size
from scalenet_gp.graph import Plan, PlannedTensor
from scalenet_gp.leibnet import LeibNet

if TYPE_CHECKING:  # TensorBoard is slow to import
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.node_def_pb2 import NodeDef

__all__ = ["graph_def"]


def graph_def(net: LeibNet, plan: Plan) -> GraphDef:
    """Return the nodes that run for ``plan``, with their names, kinds and output shapes.

    A trace of tensor operations would not show the nodes of the network.
    """
    from tensorboard.compat.proto.graph_pb2 import GraphDef
    from tensorboard.compat.proto.versions_pb2 import VersionDef

    planned = {tensor.name: tensor for tensor in plan.tensors}
    maker = {name: name for name in plan.inputs}
    nodes = [_node(name, "Input", [], [planned[name]], net) for name in plan.inputs]
    for step in plan.steps:
        made = [name for name, crop in step.keeps if crop is not None]
        sources = list(dict.fromkeys(maker[read.tensor] for read in step.reads))
        nodes.append(_node(step.node, type(net.nodes[step.node]).__name__, sources, [planned[n] for n in made], net))
        maker |= dict.fromkeys(made, step.node)
    return GraphDef(node=nodes, versions=VersionDef(producer=22))


def _node(name: str, kind: str, sources: list[str], made: list[PlannedTensor], net: LeibNet) -> NodeDef:
    from tensorboard.compat.proto.attr_value_pb2 import AttrValue
    from tensorboard.compat.proto.node_def_pb2 import NodeDef
    from tensorboard.compat.proto.tensor_shape_pb2 import TensorShapeProto

    shapes = [
        TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in (-1, tensor.channels, *tensor.shape)])
        for tensor in made
    ]
    sizes = ", ".join(dict.fromkeys(f"{format_size(net.specs[tensor.name].voxel_size)} nm" for tensor in made))
    attributes = {
        "_output_shapes": AttrValue(list=AttrValue.ListValue(shape=shapes)),  # TensorBoard looks for this name
        "voxel_size": AttrValue(s=sizes.encode()),
    }
    return NodeDef(name=name, op=kind, input=sources, attr=attributes)
