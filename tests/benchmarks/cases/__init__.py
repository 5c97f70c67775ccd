"""The workloads, a file for each kind of work; importing a file declares its cases."""
