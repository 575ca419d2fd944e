"""Two programs read a sensor on one I2C bus, and never at the same time.

Runs anywhere: the sensor is made up. With a real one, `pip install smbus2` and use the line that is commented out.
"""

from __future__ import annotations

import sys

from resourcelock import Lock, LockTimeout


class MadeUpBus:
    """A sensor with a register to select and a value to read, like most: two transfers that belong together."""

    def __init__(self, bus: int) -> None:
        self.selected = 0

    def write_byte(self, address: int, register: int) -> None:
        self.selected = register

    def read_word_data(self, address: int, register: int) -> int:
        assert self.selected == register, "somebody else has used the sensor in between"
        return 0x1950


def temperature(bus_number: int = 1) -> float:
    """Degrees Celsius. The lock is held for both transfers, and released whatever happens."""
    with Lock(f"i2c-{bus_number}", timeout=5, message="temperature") as lock:
        bus = MadeUpBus(bus_number)
        # bus = smbus2.SMBus(bus_number)
        if lock.abandoned:
            # The last program died in the middle of a transfer: here a real device would be reset.
            lock.mark_recovered()
        bus.write_byte(0x48, 0x00)
        return (bus.read_word_data(0x48, 0x00) >> 4) / 16


if __name__ == "__main__":
    try:
        print(f"{temperature(int(sys.argv[1]) if len(sys.argv) > 1 else 1):.1f} °C")
    except LockTimeout as error:
        sys.exit(f"the bus is busy: {error}")
