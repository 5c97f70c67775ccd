"""The misuses, a file for each kind; importing a file declares its programs."""
