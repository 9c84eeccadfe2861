"""What the ffmpeg command writes to its standard error, and what it means."""

from __future__ import annotations

import errno
import os
import re
import signal

from vidprep.errors import DecodeError, TranscodeError

LOG_LEVEL = "level+repeat+warning"
"""Each line says its level, none stands for several, and damaged pictures, which are warnings, are there."""

_NO_SPACE = "No space left on device"
_NO_MEMORY = ("Cannot allocate memory", "Resource temporarily unavailable")
_REPORTS = (
    "corrupt decoded frame",
    "corrupt input packet",
    "Error submitting packet to decoder",
    "Error while decoding stream",  # the same before version 6.1
    "Error during demuxing",
    "Error retrieving a packet from demuxer",  # the same from version 6.1 on
)
_ERROR = re.compile(r"\[(error|fatal|panic)\] ")


def num_decode_errors(messages: str) -> int:
    """Count damaged pictures, damaged packets and refused packets; at least 1 if there is any error."""
    lines = messages.splitlines()
    num_reports = sum(any(report in line for report in _REPORTS) for line in lines)
    return max(num_reports, int(any(_ERROR.search(line) for line in lines)))


def error_of(name: str, status: int, messages: str) -> Exception | None:
    """Return the error for a command that failed, or that went on although the machine failed it."""
    lines = [line for line in messages.splitlines() if line.strip()]
    if _NO_SPACE in messages or status == -signal.SIGXFSZ:
        return OSError(errno.ENOSPC, _NO_SPACE, name)
    # A reader that lacks memory was asked by a damaged file for a packet of gigabytes.
    if any(words in line for words in _NO_MEMORY for line in lines if not line.startswith("[in#")):
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM), name)
    if not status:
        return None
    lines = [line for line in lines if _ERROR.search(line)] or lines
    reason = re.sub(r" @ 0x[0-9a-f]+", "", _ERROR.sub("", lines[0])) if lines else "no message"  # as in every run
    if status < 0:
        return TranscodeError(f"ffmpeg was ended by signal {-status} on {name}: {reason}; is there enough memory?")
    return DecodeError(
        f"{name}: ffmpeg gave up ({reason}); the file is damaged: get it anew, or keep it as far as it decodes "
        "(--decode-errors keep)"
    )
