"""Train SynergyNet (mobilenet_v2) in PyTorch from faces that `draw_faces.py` has drawn or is still drawing.

    python train.py faces network.pth.tar

Writes a checkpoint in the official file format, for `synergy convert`; its backbone is the moving average.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from pathlib import Path

import numpy as np
import torch
from augment import augment
from face_files import FaceFiles, open_files
from network import MobileNetV2, SynergyNet, official_state
from torch import Tensor, nn

from synergy.runtime.decode import SYNERGYNET_POSE, dewhiten, euler_deg
from synergy.synergy_model.training.datasets import Validation, synthetic_arrays, synthetic_validation

WEIGHT_DECAY, BETAS, CLIP_NORM = 0.02, (0.9, 0.99), 5.0
WARMUP_STEPS, LAST_RATE = 200, 0.02  # the rate ends at this share of the highest
EMA_DECAY = 0.999
VALIDATION_SEED, VALIDATION_BATCH = 900_001, 250
COPY_CHUNK = 8192  # faces copied to the device at once


class FacePool:
    """The complete faces of `files`, copied to the device; `refill` adds those that were drawn since."""

    def __init__(self, files: FaceFiles, device: torch.device) -> None:
        self.files, self.device = files, device
        count = len(files.ready)
        self.images = torch.empty((count, *files.images.shape[1:]), dtype=torch.uint8, device=device)
        self.params = torch.empty((count, files.params.shape[1]), device=device)
        self.copied = np.zeros(count, bool)
        self.count = 0

    def refill(self) -> None:
        new = np.flatnonzero(np.array(self.files.ready, bool) & ~self.copied)
        for start in range(0, len(new), COPY_CHUNK):
            chosen = new[start : start + COPY_CHUNK]
            place = slice(self.count, self.count + len(chosen))
            self.images[place] = torch.from_numpy(self.files.images[chosen]).to(self.device)
            self.params[place] = torch.from_numpy(self.files.params[chosen]).to(self.device)
            self.count += len(chosen)
        self.copied[new] = True

    def draw(self, batch: int) -> tuple[Tensor, Tensor]:
        """A random batch: images (N,120,120,3) uint8 BGR, parameters (N,62) unwhitened."""
        chosen = torch.randint(0, self.count, (batch,), device=self.device)
        return self.images[chosen], self.params[chosen]


def rate_share(step: int, steps: int) -> float:
    """Linear warm-up, then half a cosine: share of the highest rate at `step`, counted from 0."""
    cosine = 0.5 * (1 + math.cos(math.pi * step / steps))
    return min(1.0, (step + 1) / WARMUP_STEPS) * (cosine * (1 - LAST_RATE) + LAST_RATE)


def make_optimizer(network: nn.Module, rate: float) -> torch.optim.AdamW:
    """AdamW; biases and the weights of batch normalisation do not decay."""
    params = list(network.parameters())
    groups = [
        {"params": [p for p in params if p.ndim > 1], "weight_decay": WEIGHT_DECAY},
        {"params": [p for p in params if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=BETAS, fused=params[0].is_cuda)


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, step: int) -> None:
    """Exponential moving average of weights and batch statistics; `step` counts from 1."""
    share = 1 - min(EMA_DECAY, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in network.parameters()], share)
    for old, new in zip(average.buffers(), network.buffers(), strict=True):
        old.lerp_(new, share) if old.is_floating_point() else old.copy_(new)


def normalise(images: Tensor) -> Tensor:
    """(N,3,120,120), 0 to 255 -> (pixel - 127.5) / 128, channels last, which convolutions on a GPU prefer."""
    return ((images - 127.5) / 128).contiguous(memory_format=torch.channels_last)


@torch.no_grad()
def validate(backbone: MobileNetV2, network: SynergyNet, faces: Validation) -> tuple[float, float]:
    """NME in percent over all faces, and mean absolute error of yaw, pitch and roll in degrees."""
    backbone.eval()
    device = network.morphable.param_mean.device
    whitened, landmarks = [], []
    for images in torch.from_numpy(faces.images).split(VALIDATION_BATCH):
        params, _ = backbone(normalise(images.to(device).permute(0, 3, 1, 2).float()))
        whitened.append(params.float().cpu().numpy())
        landmarks.append(network.morphable(params.float())[:, :2].cpu().numpy())
    truth = faces.landmarks[:, :2]
    size = np.sqrt((truth.max(axis=2) - truth.min(axis=2)).prod(axis=1))
    distance = np.linalg.norm(np.concatenate(landmarks) - truth, axis=1).mean(axis=1)
    mean, std = (getattr(network.morphable, name).cpu().numpy() for name in ("param_mean", "param_std"))
    angles = euler_deg(dewhiten(np.concatenate(whitened), mean, std).astype(np.float64), SYNERGYNET_POSE)
    return float((distance / size).mean() * 100), float(np.abs(angles - faces.euler_deg).mean())


def train(chosen: argparse.Namespace) -> None:
    """The training loop; prints a line for the first step, and for each validation."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(chosen.seed)
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    validation = synthetic_validation(VALIDATION_SEED, chosen.held_out)
    pool = FacePool(open_files(chosen.faces, "r"), device)
    pool.refill()
    if pool.count < chosen.batch:
        raise SystemExit(f"{chosen.faces} has {pool.count} complete faces so far: wait for at least {chosen.batch}")
    network = SynergyNet(synthetic_arrays()).to(device, memory_format=torch.channels_last)
    average = copy.deepcopy(network.backbone).requires_grad_(False)
    optimizer = make_optimizer(network, chosen.rate)
    mean, std = network.morphable.param_mean, network.morphable.param_std
    started = time.monotonic()
    for step in range(chosen.steps):
        for group in optimizer.param_groups:
            group["lr"] = chosen.rate * rate_share(step, chosen.steps)
        with torch.no_grad():
            images, params = augment(*pool.draw(chosen.batch))
        network.train()
        loss = network(normalise(images), (params - mean) / std)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), CLIP_NORM)
        optimizer.step()
        update_average(average, network.backbone, step + 1)
        if step == 0 or (step + 1) % chosen.validate_every == 0 or step + 1 == chosen.steps:
            nme, mae = validate(average, network, validation)
            pool.refill()
            rate = optimizer.param_groups[0]["lr"]
            print(
                f"{time.monotonic() - started:.0f} s, step {step + 1} of {chosen.steps}, {pool.count} faces, "
                f"loss {loss.item():.4f}, rate {rate:.5f}, NME {nme:.3f} %, MAE {mae:.3f} deg",
                flush=True,
            )
    write(chosen.checkpoint, {"epoch": chosen.steps, "state_dict": official_state(network, average)})


def write(path: Path, checkpoint: dict[str, object]) -> None:
    """A complete file or none."""
    temporary = path.with_name(path.name + ".tmp")
    torch.save(checkpoint, temporary)
    temporary.replace(path)


def main() -> None:
    """Read the arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="folder of draw_faces.py")
    parser.add_argument("checkpoint", type=Path, help="file to write, .pth.tar")
    parser.add_argument("--steps", type=int, default=2800, help="(default: %(default)s)")
    parser.add_argument("--batch", type=int, default=1024, help="(default: %(default)s)")
    parser.add_argument("--rate", type=float, default=0.003, help="highest learning rate (default: %(default)s)")
    parser.add_argument("--validate-every", type=int, default=400, help="steps, also between refills of the faces")
    parser.add_argument("--held-out", type=int, default=512, help="faces to validate on (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="(default: %(default)s)")
    train(parser.parse_args())


if __name__ == "__main__":
    main()
