"""What compiled programs call at run time: threads, matrix products, BLAS, sorting, memory."""
