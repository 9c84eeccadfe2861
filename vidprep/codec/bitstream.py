"""Reading bits: the fields of headers that the decoder does not export."""

from __future__ import annotations


class BitReader:
    """Reads unsigned fields and Exp-Golomb codes from bytes, most significant bit first."""

    def __init__(self, data: bytes) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def bits(self, count: int) -> int:
        """Read ``count`` bits; EOFError past the end."""
        if count > self._left:
            raise EOFError(f"count={count}: only {self._left} bits are left")
        self._left -= count
        return (self._value >> self._left) & ((1 << count) - 1)

    def unsigned(self) -> int:
        """Read an unsigned Exp-Golomb code, ``ue(v)`` (H.264 section 9.1)."""
        num_zeros = 0
        while not self.bits(1):
            num_zeros += 1
        return (1 << num_zeros) - 1 + self.bits(num_zeros)

    def signed(self) -> int:
        """Read a signed Exp-Golomb code, ``se(v)``."""
        code = self.unsigned()
        return (code + 1) // 2 if code % 2 else -(code // 2)
