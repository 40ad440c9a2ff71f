"""Devices that another machine reaches: Android phones over adb, Linux boards over ssh.

A *runner* on the far end times a model with onnxruntime (`runner.c`, or `runner.py` where there is
Python), a *transport* brings files there and starts it, and `device.RemoteDevice` is the device on
both, whatever the transport.
"""
