"""Everything that vidprep raises on purpose.

::

    VidprepError
    ├── UsageError        an option or an argument that can't be meant (exit status 2)
    ├── ManifestError     a manifest, or a row of it, that can't be read
    ├── DecodeError       a video that can't be read
    │   └── UnsupportedError   one that can be read, but not exactly, or not this way
    ├── TranscodeError    ffmpeg is missing or gave up on a video
    ├── ShardError        a shard, an index or an output folder that can't be trusted
    │   └── FeatureError       a store of features that can't be read, or was made in another way
    ├── RemoteError       a server of shards that can't be reached, or falls silent
    ├── EngineError       a task that ended without an answer: crash, time limit, memory
    └── TrainError        a training that can't go on: a loss that is no number, memory

A message gives the value, the rule that it breaks and the cure, in this order.
"""


class VidprepError(Exception):
    """Base of all errors that vidprep raises on purpose."""


class UsageError(VidprepError):
    """An option or an argument that can't be meant."""


class ManifestError(VidprepError):
    """A manifest, or a row of it, that can't be read."""


class DecodeError(VidprepError):
    """A video that can't be read."""


class UnsupportedError(DecodeError):
    """A video that can be read, but not exactly, or not in this way."""


class TranscodeError(VidprepError):
    """The ffmpeg command is missing, or it gave up on a video."""


class ShardError(VidprepError):
    """A shard, an index or an output folder that can't be trusted."""


class RemoteError(VidprepError):
    """A server of shards that can't be reached, or that falls silent."""


class FeatureError(ShardError):
    """A store of features that can't be read, or that was made in another way than it is wanted."""


class EngineError(VidprepError):
    """A task that ended without an answer: a crash, the time limit, the memory limit."""


class TrainError(VidprepError):
    """A training that can't go on: a loss that is no number, the memory of a GPU."""
