"""The devices that traffic.py compiles for, and what large meshes need by the data sheets.

The figures are the vendors' own:

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

from _compilers import PLATFORMS, Platform, tpu

AXES = "data", "model"


class Size(NamedTuple):
    """Tokens on all devices, width, classes, and the dtype of inputs and kernel."""

    n: int
    d: int
    v: int
    dtype: str

    def __str__(self):
        return f"N={self.n} D={self.d} V={self.v} {self.dtype}"


class Site(NamedTuple):
    """Devices to compile for: a mesh of data x model, a size, and which programs to compile."""

    platform: Platform
    mesh: tuple[int, int]
    size: Size
    programs: str  # "all", "main", "planned"

    def axes(self) -> dict[str, int]:
        return dict(zip(AXES, self.mesh, strict=True))


def slice_of(kind: str, shape: str) -> Platform:
    topology = {"platform": "tpu", "topology_name": f"{kind}:{shape}"}
    return tpu(kind, "v5litepod-8")._replace(name=f"TPU {kind} {shape}", topology=topology)


def h100(nodes: int) -> Platform:
    platform = PLATFORMS["h100"]
    topology = platform.topology | {"topology": f"1x{nodes}x8"}
    return platform._replace(name=f"H100 x {8 * nodes}", topology=topology)


CPU = Platform(
    "CPU x 8",
    (),
    "",
    {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": "--xla_force_host_platform_device_count=8"},
    {},
)
SMALL = Size(2048, 512, 32768, "float32")
# Each device holds what compile_only.py compiles for one, well above a TPU's fast memory.
LARGE = Size(16384, 2048, 131072, "bfloat16")
TOKENS, WIDTH, CLASSES = 8192, 8192, 131072  # about those of Llama 3 70B; tokens per data shard


def planned(platform: Platform, data: int, model: int) -> Site:
    size = Size(TOKENS * data, WIDTH, CLASSES, "bfloat16")
    return Site(platform, (data, model), size, "planned")


SITES = {
    "cpu": Site(CPU, (2, 4), SMALL, "all"),
    "v5e": Site(slice_of("v5e", "2x4"), (2, 4), LARGE, "main"),
    "v5p": Site(slice_of("v5p", "2x2x2"), (2, 4), LARGE, "main"),
    "h100": Site(h100(1), (2, 4), LARGE, "main"),
    "v5e 256": planned(slice_of("v5e", "16x16"), 16, 16),
    "v5p 256": planned(slice_of("v5p", "4x8x8"), 32, 8),
    "v5p 4096": planned(slice_of("v5p", "16x16x16"), 256, 16),
    "h100 256": planned(h100(32), 32, 8),
    "h100 4096": planned(h100(512), 512, 8),
}


class Figures(NamedTuple):
    """Peak FLOP/s in bfloat16 of one device, and bytes/s that it sends along each mesh axis."""

    peak: float
    data: float
    model: float


FIGURES = {
    "v5e 256": Figures(197e12, 100e9, 100e9),  # either axis along one of the torus
    "v5p 256": Figures(459e12, 400e9, 200e9),  # data along two
    "v5p 4096": Figures(459e12, 400e9, 200e9),
    "h100 256": Figures(989.5e12, 50e9, 450e9),  # model inside a node
    "h100 4096": Figures(989.5e12, 50e9, 450e9),
}
NUMBERS = 4  # per token, in float32: its maximum, two parts of its sum, its label's logit


class Plan(NamedTuple):
    """Bytes of payload per device and step, and seconds, of the head at a site."""

    site: Site
    figures: Figures

    def loss(self) -> int:
        """The numbers of each token over model; the loss and the count of tokens over data."""
        return 4 * NUMBERS * self.tokens() + 8

    def tokens(self) -> int:
        return self.site.size.n // self.site.mesh[0]

    def dx(self) -> int:
        """The inputs' gradient, summed over model."""
        return 2 * self.tokens() * self.site.size.d

    def dw(self) -> int:
        """The gradient of a shard of the kernel, summed over data."""
        return 2 * self.site.size.d * self.site.size.v // self.site.mesh[1]

    def bytes(self, fully_sharded: bool) -> int:
        """The sum of all. A fully sharded kernel is also gathered."""
        return self.loss() + self.dx() + self.dw() * (2 if fully_sharded else 1)

    def seconds(self) -> dict[str, float]:
        """Seconds of the three products at peak, and of each sum as a ring, 2 (k - 1)/k of it."""
        data, model = self.site.mesh
        flops = 3 * 2 * self.tokens() * self.site.size.d * self.site.size.v / model
        over_model = 2 * (model - 1) / model / self.figures.model
        over_data = 2 * (data - 1) / data / self.figures.data
        return {
            "products": flops / self.figures.peak,
            "loss": self.loss() * over_model,
            "dx": self.dx() * over_model,
            "dW": self.dw() * over_data,  # gathering the kernel and scattering dW take the same
        }


PLANS = {name: Plan(SITES[name], figures) for name, figures in FIGURES.items()}
