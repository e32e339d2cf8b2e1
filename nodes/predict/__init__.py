"""A network in a gunpowder pipeline, for prediction."""

from scalenet_gp.nodes.predict.gunpowder_model import GunpowderModel
from scalenet_gp.nodes.predict.predict import Predict

__all__ = ["GunpowderModel", "Predict"]
