"""What users call: each transform flattens its arguments, stages the function and rewrites it."""
