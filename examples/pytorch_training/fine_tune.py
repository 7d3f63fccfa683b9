"""Fine-tune a network on other faces of `draw_faces.py`, on a processor.

    python fine_tune.py faces network.pth.tar better.pth.tar --minutes 90

The backbone is trained without its first layers; the two training networks stay as they are. Both files have the
official checkpoint format.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import math
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from augment import augment
from face_files import open_files
from network import MobileNetV2, Morphable, SynergyNet, official_state, param_loss, wing_loss
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from train import normalise, validate, write

from synergy.synergy_model.training.datasets import synthetic_arrays, synthetic_validation

FROZEN = 4  # of the 19 blocks: they have few weights and take half of the time of a step
BETAS, CLIP_NORM = (0.9, 0.99), 5.0
WARMUP_STEPS, LAST_RATE = 40, 0.02  # the rate ends at this share of the highest
HEAD_RATE = 0.5  # rate of the last layers, whose outputs are sums of 1280 terms, relative to the others
EMA_DECAY = 0.99
VALIDATION_SEED = 900_001
OFFICIAL_NAMES = {"I2P.backbone.": "backbone.", "forwardDirection.": "refiner.", "reverseDirection.": "regressor."}


def load(path: Path) -> SynergyNet:
    """The network of an official checkpoint. Raises KeyError or RuntimeError unless every weight is there."""
    stored = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    weights = {name.removeprefix("module."): value for name, value in stored.items()}
    for official, ours in OFFICIAL_NAMES.items():
        weights = {name.replace(official, ours, 1): value for name, value in weights.items()}
    weights = {"morphable." + name if name in Morphable.NAMES else name: value for name, value in weights.items()}
    network = SynergyNet(synthetic_arrays())
    network.load_state_dict(weights, strict=True)
    return network


def normalised_layers(backbone: MobileNetV2) -> Iterator[tuple[nn.Sequential, str, str]]:
    """Each convolution that a batch normalisation follows: the module that has both, and their names in it."""
    for module in backbone.features.modules():
        if isinstance(module, nn.Sequential):
            names = list(module._modules)
            for name, following in itertools.pairwise(names):
                if isinstance(module._modules[following], nn.BatchNorm2d):
                    yield module, name, following


def folded(backbone: MobileNetV2) -> MobileNetV2:
    """A copy with the batch normalisations inside the convolutions: small batches would spoil their statistics.

    A step takes two thirds of the time. Dropout is off.
    """
    copied = copy.deepcopy(backbone).eval()
    for module, convolution, normalisation in list(normalised_layers(copied)):
        module._modules[convolution] = fuse_conv_bn_eval(module._modules[convolution], module._modules[normalisation])
        module._modules[normalisation] = nn.Identity()
    for module in copied.modules():
        if isinstance(module, nn.ReLU6):
            module.inplace = True
        elif isinstance(module, nn.Dropout):
            module.p = 0.0
    return copied.to(memory_format=torch.channels_last)


@torch.no_grad()
def unfolded(copied: MobileNetV2, backbone: MobileNetV2) -> MobileNetV2:
    """A backbone with the layers of `backbone` and the function of `copied`, which `folded` made of it."""
    result = copy.deepcopy(backbone).eval()
    trained = dict(copied.named_modules())
    names = {module: name for name, module in result.named_modules()}
    for module, convolution, normalisation in normalised_layers(result):
        weights = trained[names[module] + "." + convolution]
        norm = module._modules[normalisation]
        module._modules[convolution].weight.copy_(weights.weight)
        norm.weight.copy_((norm.running_var + norm.eps).sqrt())
        norm.bias.copy_(weights.bias + norm.running_mean)
    for head in ("classifier_ori", "classifier_shape", "classifier_exp"):
        getattr(result, head).load_state_dict(trained[head].state_dict())
    return result


class Faces:
    """The complete faces of a folder, mapped into memory; those that are drawn meanwhile are found every 20 batches."""

    def __init__(self, folder: Path, network: SynergyNet, batch: int, seed: int) -> None:
        self.files, self.batch, self.rng = open_files(folder, "r"), batch, np.random.default_rng(seed)
        self.mean, self.std = network.morphable.param_mean, network.morphable.param_std
        self.drawn = 0
        self.ready = np.array([], np.int64)

    @torch.no_grad()
    def next(self) -> tuple[Tensor, Tensor]:
        """Augmented images (N,3,120,120) normalised, and whitened parameters (N,62)."""
        if self.drawn % 20 == 0:
            self.ready = np.flatnonzero(np.array(self.files.ready))
        if len(self.ready) < self.batch:
            raise SystemExit(f"the folder has {len(self.ready)} complete faces so far: wait for at least {self.batch}")
        self.drawn += 1
        chosen = self.rng.permutation(self.rng.choice(self.ready, self.batch, replace=False))
        images, params = (torch.from_numpy(array[chosen]) for array in (self.files.images, self.files.params))
        images, params = augment(images, params)
        return normalise(images), (params - self.mean) / self.std


def rate_share(step: int, done: float) -> float:
    """Linear warm-up, then half a cosine over `done`, 0 to 1: share of the highest rate."""
    cosine = 0.5 * (1 + math.cos(math.pi * done))
    return min(1.0, (step + 1) / WARMUP_STEPS) * (cosine * (1 - LAST_RATE) + LAST_RATE)


def steps_until(optimizer: torch.optim.Optimizer, seconds: float) -> Iterator[int]:
    """Count steps until the time is over, and set the rates: groups of the optimizer state their highest in "top"."""
    start, step = time.monotonic(), 0
    while (done := (time.monotonic() - start) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["top"] * rate_share(step, done)
        yield step
        step += 1


def train_backbone(network: SynergyNet, faces: Faces, seconds: float, rate: float) -> MobileNetV2:
    """The moving average of the fine-tuned backbone. The losses are those of the parameters and their landmarks."""
    backbone = folded(network.backbone)
    front, back = backbone.features[:FROZEN], backbone.features[FROZEN:]
    front.requires_grad_(False)
    heads = nn.ModuleList([backbone.classifier_ori, backbone.classifier_shape, backbone.classifier_exp])
    average = copy.deepcopy(backbone).requires_grad_(False)
    groups = [
        {"params": back.parameters(), "top": rate},
        {"params": heads.parameters(), "top": rate * HEAD_RATE},
    ]
    optimizer = torch.optim.AdamW(groups, lr=rate, betas=BETAS, weight_decay=0.0)
    for step in steps_until(optimizer, seconds):
        images, target = faces.next()
        with torch.no_grad():
            features = front(images)
        pooled = back(features).mean((2, 3))
        params = torch.cat([head(pooled) for head in heads], 1)
        landmarks, true_landmarks = network.morphable(params), network.morphable(target)
        update(optimizer, 0.05 * wing_loss(landmarks, true_landmarks) + 0.02 * param_loss(params, target))
        share = 1 - min(EMA_DECAY, (2 + step) / (11 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in backbone.parameters()], share)
    return unfolded(average, network.backbone)


def update(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One step of the optimizer, with clipped gradients."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], CLIP_NORM)
    optimizer.step()


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder of draw_faces.py")
    parser.add_argument("start", type=Path, help="checkpoint to start from, .pth.tar")
    parser.add_argument("checkpoint", type=Path, help="file to write, .pth.tar")
    parser.add_argument("--minutes", type=float, default=90, help="training time (default: %(default)s)")
    parser.add_argument("--batch", type=int, default=32, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.0002, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="processor threads (default: %(default)s)")
    parser.add_argument("--held-out", type=int, default=512, help="faces to validate on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    validation = synthetic_validation(VALIDATION_SEED, chosen.held_out)
    network = load(chosen.start)
    faces = Faces(chosen.faces, network, chosen.batch, chosen.seed)
    print_validation("before", network, validation)
    network.backbone = train_backbone(network, faces, 60 * chosen.minutes, chosen.rate)
    print_validation(f"after {faces.drawn} steps", network, validation)
    write(chosen.checkpoint, {"epoch": faces.drawn, "state_dict": official_state(network, network.backbone)})


def print_validation(when: str, network: SynergyNet, validation: object) -> None:
    nme, mae = validate(network.backbone, network, validation)
    print(f"{when}: NME {nme:.3f} %, MAE {mae:.3f} deg on synthetic faces that are not trained on", flush=True)


if __name__ == "__main__":
    main()
