"""What compiled programs fail with: messages that stand for another exception than most."""

NEGATIVE_POWER = "Integers to negative integer powers are not allowed."
