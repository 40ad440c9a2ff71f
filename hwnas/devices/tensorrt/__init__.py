"""NVIDIA GPUs by TensorRT: engines built, timed, profiled layer by layer, and handed over.

`device` answers what every device is asked, through TensorRT's Python package; `trtexec` does so
where there is only NVIDIA's command-line tool. Nothing here imports either before it is used.
"""
