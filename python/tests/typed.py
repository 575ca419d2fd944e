"""What type checkers refuse. `.ci/run` has them read this file, which nobody runs: what they accept is an error."""

from resourcelock import Lock, resource_lock

Lock()  # type: ignore[call-arg]
Lock("i2c", timeuot=3)  # type: ignore[call-arg]
Lock("i2c", timeout="3")  # type: ignore[arg-type]
Lock("i2c").acquire("3")  # type: ignore[arg-type]
resource_lock("i2c").get_lock("3")  # type: ignore[arg-type]
resource_lock(5)  # type: ignore[arg-type]
