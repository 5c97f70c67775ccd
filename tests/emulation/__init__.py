"""AVX-512 where the processor has none: the instructions it refuses run in an emulated one.

An instruction that this machine does not know raises SIGILL. The handler gives the registers to an
emulator that works on the memory of this process, and lets it run until compiled code is left.
Nothing but compiled code is emulated, so tests keep most of their pace.
"""
