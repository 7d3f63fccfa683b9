"""The augmentations of `synergy.synergy_model.training.augmentation`, for whole batches on the device.

The ranges are those of `AugmentOptions`; the random numbers differ.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from synergy.synergy_model.training.augmentation import WIDE

SIDE = 120
CENTRE = (SIDE - 1) / 2  # pixel centres are at whole numbers
Y_FROM = 121.0
BLUE_GREEN_RED_TO_GREY = (0.114, 0.587, 0.299)
LIGHT_GRID, LIGHT_RANGE = 3, (0.2, 3.0)
HIDDEN_SIDE_PX, HIDDEN_RECTANGLES = (8.0, 60.0), 2
DARKEST = 1e-4


def augment(images: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """(N,120,120,3) uint8 BGR and unwhitened parameters (N,62) -> (N,3,120,120) float32, 0 to 255, and (N,62)."""
    images = images.permute(0, 3, 1, 2).float()
    angle, scale, shift = draw_similarity(len(images), images.device)
    images = warp(images, angle, scale, shift)
    images = hide(noise(resolution(light(colour(images)))))
    return images.clamp(0, 255), transform_camera(params, angle, scale, shift)


def draw_similarity(count: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Rotation in radians (N,), scale (N,) and shift in pixels (N,2), about the image centre."""
    largest = math.radians(WIDE.rotation_deg)
    angle = uniform(count, -largest, largest, device) * chance(count, WIDE.rotated, device)
    scale = uniform(count, -WIDE.scale, WIDE.scale, device).exp()
    shift = torch.stack([uniform(count, -WIDE.shift_px, WIDE.shift_px, device) for _ in range(2)], 1)
    return angle, scale, shift


def warp(images: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Move the content at p to scale R(angle) (p - centre) + centre + shift."""
    cosine, sine = angle.cos() / scale, angle.sin() / scale  # of the inverse, which grid_sample needs
    inverse = torch.stack((cosine, sine, -sine, cosine), 1).view(-1, 2, 2)
    offset = -(inverse @ shift[:, :, None]) / CENTRE  # grid_sample counts from -1 to 1
    grid = F.affine_grid(torch.cat((inverse, offset), 2), list(images.shape), align_corners=True)
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=True)


def transform_camera(params: Tensor, angle: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Unwhitened parameters (N,62) whose landmarks have moved as the image in `warp`."""
    count, zero = len(params), torch.zeros_like(angle)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    move_x = CENTRE - cosine * CENTRE + sine * CENTRE + shift[:, 0]
    move_y = CENTRE - sine * CENTRE - cosine * CENTRE + shift[:, 1]
    # y = 121 - Y, where Y is the model's axis, which points up
    linear = torch.stack((cosine, sine, zero, -sine, cosine, zero, zero, zero, scale), 1).view(count, 3, 3)
    offset = torch.stack((move_x - sine * Y_FROM, Y_FROM - cosine * Y_FROM - move_y, zero), 1)
    camera = linear @ params[:, :12].view(count, 3, 4)
    camera = torch.cat((camera[:, :, :3], camera[:, :, 3:] + offset[:, :, None]), 2)
    return torch.cat((camera.reshape(count, 12), params[:, 12:]), 1)


def colour(x: Tensor) -> Tensor:
    """Saturation, colour cast, contrast, brightness and gamma."""
    count, device = len(x), x.device
    weights = torch.tensor(BLUE_GREEN_RED_TO_GREY, device=device).view(1, 3, 1, 1)
    grey = (x * weights).sum(1, keepdim=True)
    saturation = uniform(count, *WIDE.saturation, device) * ~chance(count, WIDE.grey, device)
    x = grey + (x - grey) * per_picture(saturation)
    x = x * (1 + WIDE.colour_cast * (2 * torch.rand(count, 3, 1, 1, device=device) - 1))
    mean = x.mean((1, 2, 3), keepdim=True)
    x = mean + (x - mean) * per_picture(log_uniform(count, WIDE.contrast, device))
    x = x * per_picture(log_uniform(count, WIDE.brightness, device))
    return 255 * (x.clamp(0, 255) / 255 + DARKEST) ** per_picture(log_uniform(count, WIDE.gamma, device))


def light(x: Tensor) -> Tensor:
    """Brightness that varies smoothly over the image."""
    grid = (torch.randn(len(x), 1, LIGHT_GRID, LIGHT_GRID, device=x.device) * WIDE.light_std).exp()
    factors = F.interpolate(grid, size=SIDE, mode="bicubic", align_corners=True).clamp(*LIGHT_RANGE)
    return torch.where(per_picture(chance(len(x), WIDE.uneven_light, x.device)), x * factors, x)


def resolution(x: Tensor) -> Tensor:
    """Reduce and enlarge the first share of the batch, all to one size drawn for this step; blur the next."""
    reduced, blurred = round(len(x) * WIDE.low_resolution), round(len(x) * WIDE.blurred)
    low, high = WIDE.resolution
    size = round(SIDE * (low + (high - low) * torch.rand(1).item()))
    first, second, rest = x.split((reduced, blurred, len(x) - reduced - blurred))
    first = F.interpolate(first, size=size, mode="bilinear", antialias=True, align_corners=False)
    first = F.interpolate(first, size=SIDE, mode="bilinear", align_corners=False)
    second = F.avg_pool2d(F.pad(second, (1, 1, 1, 1), mode="replicate"), 3, 1)
    return torch.cat((first, second, rest))


def noise(x: Tensor) -> Tensor:
    """Gaussian noise, mostly weak."""
    deviation = WIDE.noise * torch.rand(len(x), device=x.device) ** 3
    return x + torch.randn_like(x) * per_picture(deviation)


def hide(x: Tensor) -> Tensor:
    """Cover up to two rectangles by one colour or by the same part of another image."""
    count, device = len(x), x.device
    rows, columns = torch.arange(SIDE, device=device).view(1, SIDE, 1), torch.arange(SIDE, device=device).view(1, 1, -1)
    for _ in range(HIDDEN_RECTANGLES):
        half_width, half_height = (uniform(count, *HIDDEN_SIDE_PX, device).view(-1, 1, 1) / 2 for _ in range(2))
        middle_x, middle_y = (uniform(count, 0, SIDE, device).view(-1, 1, 1) for _ in range(2))
        inside = ((columns - middle_x).abs() < half_width) & ((rows - middle_y).abs() < half_height)
        inside = inside & chance(count, WIDE.hidden, device).view(-1, 1, 1)
        one_colour = (torch.rand(count, 3, 1, 1, device=device) * 255).expand_as(x)
        cover = torch.where(per_picture(chance(count, 0.5, device)), one_colour, x.roll(1, 0))
        x = torch.where(inside[:, None], cover, x)
    return x


def uniform(count: int, low: float, high: float, device: torch.device) -> Tensor:
    """(count,) float32."""
    return torch.rand(count, device=device) * (high - low) + low


def log_uniform(count: int, limits: tuple[float, float], device: torch.device) -> Tensor:
    """(count,) float32, uniform in the logarithm."""
    return uniform(count, math.log(limits[0]), math.log(limits[1]), device).exp()


def chance(count: int, share: float, device: torch.device) -> Tensor:
    """(count,) bool."""
    return torch.rand(count, device=device) < share


def per_picture(values: Tensor) -> Tensor:
    """(N,) -> (N,1,1,1)."""
    return values.view(-1, 1, 1, 1)
