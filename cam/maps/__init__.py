"""The mathematics of class activation maps: pure functions of arrays and tensors."""

from cam.maps.activation import AllClasses, class_activation_maps, completeness_error, image_scales
from cam.maps.boxes import boxes_of, component_boxes, half_boxes
from cam.maps.evidence import Evidence, channel_maps, margins, posteriors
from cam.maps.geometry import Frame, Grid, fit_crop, fit_whole, stretched
from cam.maps.projection import peak, project

__all__ = [
    "AllClasses",
    "Evidence",
    "Frame",
    "Grid",
    "boxes_of",
    "channel_maps",
    "class_activation_maps",
    "completeness_error",
    "component_boxes",
    "fit_crop",
    "fit_whole",
    "half_boxes",
    "image_scales",
    "margins",
    "peak",
    "posteriors",
    "project",
    "stretched",
]
