"""A model as it is written for the ml-base package: a version string, pydantic classes as schemas."""

from enum import Enum

from ml_base import MLModel
from pydantic import BaseModel, Field


class Colour(Enum):
    red = "red"
    blue = "blue"


class Flower(BaseModel):
    petal_length: float = Field(gt=0, description="in centimetres")
    petal_width: float = Field(gt=0)


class Verdict(BaseModel):
    colour: Colour
    area: float


class ColourModel(MLModel):  # type: ignore[misc]  # its package has no types
    @property
    def display_name(self) -> str:
        return "Colour Model"

    @property
    def qualified_name(self) -> str:
        return "colour_model"

    @property
    def description(self) -> str:
        return "Tells the colour of a flower by the area of its petals."

    @property
    def version(self) -> str:
        return "2.7.1"

    @property
    def input_schema(self) -> type[BaseModel]:
        return Flower

    @property
    def output_schema(self) -> type[BaseModel]:
        return Verdict

    def __init__(self) -> None:
        self._limit = 2.0

    def predict(self, data: Flower) -> Verdict:
        area = data.petal_length * data.petal_width
        return Verdict(colour=Colour.red if area > self._limit else Colour.blue, area=area)
