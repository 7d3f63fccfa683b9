"""What is drawn of a face, as options of commands and functions that may draw nothing."""

from __future__ import annotations

from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Layers:
    """What to draw of each face.

    landmarks: as contours. label: the angles, above the box. mesh: a lit surface. depth: the mesh, coloured by depth.
    """

    landmarks: bool = True
    axes: bool = True
    box: bool = True
    label: bool = True
    mesh: bool = False
    depth: bool = False

    @classmethod
    def parse(cls, text: str) -> Layers:
        """The layers named in a list such as "mesh,axes". Raises ValueError for another name."""
        valid = [field.name for field in fields(cls)]
        names = [name.strip() for name in text.split(",")]
        for name in names:
            if name not in valid:
                raise ValueError(f"unknown layer {name!r}: use {', '.join(valid)}, separated by commas")
        return cls(**{name: name in names for name in valid})

    @property
    def need_mesh(self) -> bool:
        """Whether `draw_faces` needs the surfaces of the faces."""
        return self.mesh or self.depth


DEFAULT_LAYERS = Layers()
