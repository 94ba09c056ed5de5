/* Stands in for <stdint.h> when sandbox.h is preprocessed for cffi, which knows these types. */
