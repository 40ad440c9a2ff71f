"""Latency prediction: kernels to seconds, with an interval; fitted from measurements."""
