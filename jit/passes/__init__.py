"""The rewritings between a jaxpr and the loop IR: preparing equations, planning memory, writing."""
