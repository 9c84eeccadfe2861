"""One clip of the demo dataset: how its disc moves, looks and sounds, and the scene behind it."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vidprep.errors import UsageError

FPS = 25
SAMPLE_RATE_HZ = 44100
SHARE_WITH_B_FRAMES = 0.25
SHARE_WITH_AUDIO = 0.5

Floats = NDArray[np.float64]
Motion = Callable[[np.random.Generator, int], Floats]
Texture = Callable[[Floats, Floats], Floats]


# How the disc moves through the scene: displacement since the first frame [shape=(T, 2)], (x, y), y down, in
# frame heights. No class becomes another when the video is mirrored, for training recipes mirror at random.


def _moves_up(rng: np.random.Generator, num_frames: int) -> Floats:
    return np.asarray(np.arange(num_frames)[:, np.newaxis] * (0, -rng.uniform(0.012, 0.018)))


def _moves_down(rng: np.random.Generator, num_frames: int) -> Floats:
    return -_moves_up(rng, num_frames)


def _swings_sideways(rng: np.random.Generator, num_frames: int) -> Floats:
    phase = 2 * np.pi * (np.arange(num_frames) / rng.uniform(30, 44) + rng.uniform())
    return np.asarray((np.sin(phase) - np.sin(phase[0]))[:, np.newaxis] * (rng.uniform(0.14, 0.2), 0))


def _runs_in_circles(rng: np.random.Generator, num_frames: int) -> Floats:
    phase = 2 * np.pi * (np.arange(num_frames) / rng.uniform(30, 44) * rng.choice((-1, 1)) + rng.uniform())
    circle = rng.uniform(0.14, 0.2) * np.stack((np.cos(phase), np.sin(phase)), axis=1)
    return np.asarray(circle - circle[0])


def _wanders(rng: np.random.Generator, num_frames: int) -> Floats:
    path = _drift(rng, num_frames, shortest_period=40)
    return np.asarray(0.25 * (path - path[0]))


def _drift(rng: np.random.Generator, num_frames: int, shortest_period: float) -> Floats:
    """Smooth random path inside the unit square [shape=(T, 2)]."""
    waves = shortest_period * rng.uniform(1, 2, (2, 2)), rng.uniform(0, 2 * np.pi, (2, 2))
    time = np.arange(num_frames)[:, np.newaxis, np.newaxis]
    return np.asarray(np.sin(2 * np.pi * time / waves[0] + waves[1]).mean(axis=1))


# The disc's texture: positive is light, negative dark [shape=(h, w)], about as much of one as of the other.
# x and y are measured from the disc's centre in widths of a bar.


def _speckles(x: Floats, y: Floats) -> Floats:
    angles = 2.4 * np.arange(6)  # the golden angle: no direction stands out
    return np.asarray(sum(np.sin(np.pi * (x * np.cos(a) + y * np.sin(a)) + a * a) for a in angles))


def _checker(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.sin(np.pi * x) * np.sin(np.pi * y))


def _stripes(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.sin(np.pi * x))


def _rings(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.sin(np.pi * np.hypot(x, y)))


def _spokes(x: Floats, y: Floats) -> Floats:
    return np.asarray(np.sin(8 * np.arctan2(y, x)))


@dataclass(frozen=True)
class DemoClass:
    """A class of the demo dataset; see the tables of motions and textures above."""

    name: str
    kind: Literal["temporal", "static"]
    motion: Motion
    texture: Texture


CLASSES = (
    DemoClass("MovesUp", "temporal", _moves_up, _speckles),
    DemoClass("MovesDown", "temporal", _moves_down, _speckles),
    DemoClass("SwingsSideways", "temporal", _swings_sideways, _speckles),
    DemoClass("RunsInCircles", "temporal", _runs_in_circles, _speckles),
    DemoClass("ShowsChecker", "static", _wanders, _checker),
    DemoClass("ShowsStripes", "static", _wanders, _stripes),
    DemoClass("ShowsRings", "static", _wanders, _rings),
    DemoClass("ShowsSpokes", "static", _wanders, _spokes),
)
"""All classes: those that only motion tells apart, then those that only the disc's texture tells apart."""


@dataclass(frozen=True)
class DemoSettings:
    """What to generate. Equal settings give equal bytes (for one version of FFmpeg and one processor family).

    Raises
    ------
    UsageError
        A value is out of its range.
    """

    num_classes: int = 8  # the first half are temporal, the other half static
    num_groups: int = 25  # groups a class; UCF101's rule for its splits wants 25
    clips_per_group: int = 1  # clips of one group in one class
    num_frames: int = 48  # frames a clip: two seconds, enough for a whole swing or circle
    size: tuple[int, int] = (320, 240)  # width and height in pixels; UCF101's
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_classes % 2:
            raise UsageError(f"num_classes={self.num_classes}: half are temporal; take 2, 4, 6 or 8")
        for name, value, least, most in (
            ("num_classes", self.num_classes, 2, len(CLASSES)),
            ("num_groups", self.num_groups, 1, 99),
            ("clips_per_group", self.clips_per_group, 1, 99),
            ("num_frames", self.num_frames, 1, 100_000),
            ("width", self.size[0], 64, 4096),
            ("height", self.size[1], 64, 4096),
            ("seed", self.seed, 0, 2**63),
        ):
            if not least <= value <= most:
                raise UsageError(f"{name}={value}: it must lie in {least} to {most}; change it")

    @property
    def classes(self) -> tuple[DemoClass, ...]:
        """The classes to generate."""
        half = self.num_classes // 2
        temporal = [item for item in CLASSES if item.kind == "temporal"]
        static = [item for item in CLASSES if item.kind == "static"]
        return (*temporal[:half], *static[:half])

    @property
    def num_clips(self) -> int:
        """How many clips there will be."""
        return self.num_classes * self.num_groups * self.clips_per_group


@dataclass(frozen=True)
class DemoClip:
    """All that is random in a clip. Points are (x, y) in pixels."""

    demo_class: DemoClass
    camera: Floats  # the frame's upper left corner in the scene [shape=(T, 2)]
    position: Floats  # the disc's centre in the frame [shape=(T, 2)], in [0, width) and [0, height)
    radius: float
    bar_width: float  # of the texture
    angle: float  # how far the texture is turned, radians
    colours: Floats  # where the texture is negative and where positive [shape=(2, 3)], RGB in [0, 255]
    has_b_frames: bool
    has_audio: bool


def draw_clip(settings: DemoSettings, demo_class: DemoClass, group: int, number: int) -> DemoClip:
    """Draw a clip; it depends on the seed, the class, the group and the number, and on no other clip."""
    rng = np.random.default_rng((settings.seed, 1 + CLASSES.index(demo_class), group, number))
    height = settings.size[1]
    light = rng.uniform(110, 255, 3)
    light[rng.integers(3)] = 255
    colours = rng.permutation(np.stack((light, rng.uniform(0, 80, 3))))
    camera = _margin(height) * (1 + _drift(rng, settings.num_frames, shortest_period=120))
    camera += rng.uniform(0, 0.8, camera.shape)  # an unsteady hand
    motion = height * demo_class.motion(rng, settings.num_frames)
    position = (rng.uniform(0, settings.size) + motion - (camera - camera[0])) % settings.size
    radius = 0.1 * height * rng.uniform(0.9, 1.1)  # about a fifth of the frame's height across
    return DemoClip(
        demo_class=demo_class,
        camera=camera,
        position=position,
        radius=radius,
        bar_width=radius * rng.uniform(0.2, 0.25),
        angle=rng.uniform(0, 2 * np.pi),
        colours=colours,
        has_b_frames=bool(rng.uniform() < SHARE_WITH_B_FRAMES),
        has_audio=bool(rng.uniform() < SHARE_WITH_AUDIO),
    )


def _margin(height: int) -> int:
    """Pixels that the camera may move to each side."""
    return height // 4


def scene(settings: DemoSettings, group: int) -> NDArray[np.uint8]:
    """Paint what the camera of a group looks at: soft clouds, shapes over them, fine grain on all."""
    rng = np.random.default_rng((settings.seed, 0, group, 0))
    width, height = (side + 2 * _margin(settings.size[1]) + 2 for side in settings.size)
    clouds = Image.fromarray(rng.integers(50, 190, (5, 6, 3), dtype=np.uint8))
    image = clouds.resize((2 * width, 2 * height), Image.Resampling.BICUBIC)  # twice as large, for smooth edges
    draw = ImageDraw.Draw(image, "RGBA")
    for _ in range(70):
        centre, extent = rng.uniform(0, image.size), rng.uniform(0.02, 0.12, 2) * image.size[1]
        colour = (*rng.integers(40, 200, 3).tolist(), int(rng.integers(90, 256)))
        shape = draw.ellipse if rng.uniform() < 0.4 else draw.rectangle
        shape([*(centre - extent), *(centre + extent)], fill=colour)
    image = image.resize((width, height), Image.Resampling.BOX)
    grain = Image.fromarray(rng.integers(0, 50, (height // 3, width // 3), dtype=np.uint8))
    grain = grain.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(np.asarray(image) // 5 * 4 + np.asarray(grain)[..., np.newaxis], dtype=np.uint8)


def render(clip: DemoClip, scene: NDArray[np.uint8], size: tuple[int, int]) -> Iterator[NDArray[np.uint8]]:
    """Render a clip's frames [shape=(H, W, 3)], one by one."""
    for camera, position in zip(clip.camera, clip.position, strict=True):
        frame = _crop(scene, camera, size)
        _draw_disc(frame, clip, position)
        yield frame


def _crop(scene: NDArray[np.uint8], corner: Floats, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Cut out a frame at a place between the pixels, bilinearly, in integers for speed."""
    (x, y), (shift_x, shift_y) = np.divmod(np.rint(corner * 256).astype(int), 256)
    window = scene[y : y + size[1] + 1, x : x + size[0] + 1].astype(np.uint16)
    rows = (window[:-1] * np.uint16(256 - shift_y) + window[1:] * np.uint16(shift_y)) >> 8
    pixels = (rows[:, :-1] * np.uint16(256 - shift_x) + rows[:, 1:] * np.uint16(shift_x)) >> 8
    return np.asarray(pixels, dtype=np.uint8)


def _draw_disc(frame: NDArray[np.uint8], clip: DemoClip, position: Floats) -> None:
    """Draw the disc with soft edges; what leaves the frame on one side enters on the other."""
    reach = int(clip.radius) + 3
    columns, rows = np.floor(position).astype(int)[:, np.newaxis] + np.arange(-reach, reach + 1)
    x, y = columns[np.newaxis] - position[0], rows[:, np.newaxis] - position[1]
    along, across = (
        x * np.cos(clip.angle) + y * np.sin(clip.angle),
        y * np.cos(clip.angle) - x * np.sin(clip.angle),
    )
    texture = clip.demo_class.texture(along / clip.bar_width, across / clip.bar_width)
    light = np.clip(0.5 + 2 * texture, 0, 1)[..., np.newaxis]
    colour = clip.colours[0] * (1 - light) + clip.colours[1] * light
    opacity = np.clip(clip.radius + 0.5 - np.hypot(x, y), 0, 1)[..., np.newaxis]
    place = np.ix_(rows % frame.shape[0], columns % frame.shape[1])
    frame[place] = np.rint(frame[place] * (1 - opacity) + colour * opacity)


def sound(clip: DemoClip, size: tuple[int, int]) -> NDArray[np.float32]:
    """Let the disc be heard: the higher it is, the higher its hum; the further right, the higher its whistle."""
    num_frames = len(clip.position)
    time = np.arange(num_frames * SAMPLE_RATE_HZ // FPS) * FPS / SAMPLE_RATE_HZ
    right, up = clip.position[:, 0] / size[0], 1 - clip.position[:, 1] / size[1]
    voice_hz, whistle_hz = (np.interp(time, np.arange(num_frames), pitch) for pitch in (220 * 4**up, 2000 * 2**right))
    voice, whistle = (2 * np.pi * np.cumsum(hz) / SAMPLE_RATE_HZ for hz in (voice_hz, whistle_hz))
    hum = sum(np.sin(overtone * voice) / overtone for overtone in (1, 2, 3))
    return np.asarray(0.25 * hum + 0.1 * np.sin(whistle), dtype=np.float32)
