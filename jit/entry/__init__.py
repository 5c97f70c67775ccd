"""Native entries: calls of compiled functions that never pass through the Python interpreter."""
