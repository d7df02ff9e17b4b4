"""Computes what the linear head needs on large meshes, by formulas and vendors' data sheets.

- v5e: https://cloud.google.com/tpu/docs/v5e: 197 TFLOPS in bfloat16; 400 GB/s to and from a chip
  over the four links of a 2D torus. So 50 GB/s per link and direction; a ring along one axis of
  the torus sends both ways, 100 GB/s.
- v5p: https://cloud.google.com/tpu/docs/v5p: 459 TFLOPS; 1200 GB/s over the six links of a 3D
  torus, so 200 GB/s along one axis, 400 along two.
- H100 SXM: https://www.nvidia.com/en-us/data-center/h100/: 1,979 TFLOPS in bfloat16 with sparsity,
  half of that without; NVLink 900 GB/s to and from a GPU, 450 each way. Between nodes of eight
  400 Gb/s of InfiniBand for each GPU, 50 GB/s each way:
  https://docs.nvidia.com/dgx-basepod/reference-architecture-infrastructure-foundation-enterprise-ai/latest/core-components.html
"""

from typing import NamedTuple

from benchmarks._records import Record, records

TOKENS, WIDTH, CLASSES = 8192, 8192, 131072  # about those of Llama 3 70B; tokens per data shard
NUMBERS = 3  # per token, in float32: its maximum, its sum of exponentials, its label's logit


class Plan(NamedTuple):
    """A mesh, the peak FLOP/s of a device in bfloat16, and the bytes/s along each mesh axis."""

    data: int
    model: int
    peak: float
    data_link: float
    model_link: float

    def size(self) -> tuple[int, int, int]:
        return TOKENS * self.data, WIDTH, CLASSES

    def payloads(self) -> dict[str, int]:
        """Returns bytes per device and step of each sum, the gradients' in bfloat16."""
        return {
            "loss": 4 * NUMBERS * TOKENS + 8,  # over model, and over data the loss and the count
            "dx": 2 * TOKENS * WIDTH,  # over model
            "dW": 2 * WIDTH * CLASSES // self.model,  # over data
        }

    def bytes(self, fully_sharded: bool) -> int:
        """Returns the sum of all payloads. A fully sharded kernel is also gathered."""
        return sum(self.payloads().values()) + fully_sharded * self.payloads()["dW"]

    def times(self, name: str) -> list[Record]:
        """Returns the seconds of the products at peak, and of each sum as a ring of k devices.

        In a ring, each device sends 2 (k - 1)/k of the payload.
        """
        products = 3 * 2 * TOKENS * WIDTH * CLASSES / self.model / self.peak
        over_model = 2 * (self.model - 1) / self.model / self.model_link
        over_data = 2 * (self.data - 1) / self.data / self.data_link
        # Gathering a fully sharded kernel and scattering dW take as long as summing dW.
        links = {"loss": over_model, "dx": over_model, "dW": over_data}
        sums = {part: payload * links[part] for part, payload in self.payloads().items()}
        shares = {f"{part} share": 100 * seconds / products for part, seconds in sums.items()}
        fields = {"dtype": "bfloat16", "shape": self.size()}
        found = records("Planned times", name, {"products": products} | sums, unit="s", **fields)
        return found + records("Planned times", name, shares, unit="%", **fields)


PLANS = {
    "v5e 256": Plan(16, 16, 197e12, 100e9, 100e9),  # each mesh axis lies along one torus axis
    "v5p 256": Plan(32, 8, 459e12, 400e9, 200e9),  # data lies along two torus axes
    "v5p 4096": Plan(256, 16, 459e12, 400e9, 200e9),
    "h100 256": Plan(32, 8, 989.5e12, 50e9, 450e9),  # model lies inside a node
    "h100 4096": Plan(512, 8, 989.5e12, 50e9, 450e9),
}
