"""A phone on the virtual USB controller: a gadget with the interface of adb, on which nobody answers."""

import os
import pathlib
import signal
import struct
import subprocess

GADGET = pathlib.Path("/sys/kernel/config/usb_gadget/phone")
ENDPOINTS = pathlib.Path("/dev/phone")

# linux/usb/functionfs.h
DESCRIPTORS_V2, STRINGS = 3, 2
FULL_SPEED, HIGH_SPEED = 1, 2


def descriptors() -> bytes:
    """One interface ff/42/01 with two bulk endpoints, for both speeds."""

    def interface(packet: int) -> bytes:
        head = struct.pack("<BBBBBBBBB", 9, 4, 0, 0, 2, 0xFF, 0x42, 1, 1)
        out, into = (struct.pack("<BBBBHB", 7, 5, address, 2, packet, 0) for address in (0x01, 0x82))
        return head + out + into

    body = struct.pack("<II", 3, 3) + interface(64) + interface(512)
    return struct.pack("<III", DESCRIPTORS_V2, 12 + len(body), FULL_SPEED | HIGH_SPEED) + body


def strings() -> bytes:
    body = struct.pack("<H", 0x0409) + b"ADB Interface\0"
    return struct.pack("<IIII", STRINGS, 16 + len(body), 1, 1) + body


def write(file: str, text: str) -> None:
    (GADGET / file).write_text(text)


(GADGET / "strings/0x409").mkdir(parents=True, exist_ok=True)
(GADGET / "configs/c.1").mkdir(exist_ok=True)
(GADGET / "functions/ffs.adb").mkdir(exist_ok=True)
write("idVendor", "0x04e8")
write("idProduct", "0x6860")
write("strings/0x409/manufacturer", "SAMSUNG")
write("strings/0x409/product", "SAMSUNG_Android")
write("strings/0x409/serialnumber", "R58M123ABC")
if not (GADGET / "configs/c.1/ffs.adb").is_symlink():
    (GADGET / "configs/c.1/ffs.adb").symlink_to(GADGET / "functions/ffs.adb")

ENDPOINTS.mkdir(exist_ok=True)
subprocess.run(["mount", "-t", "functionfs", "adb", ENDPOINTS], check=True)
control = os.open(ENDPOINTS / "ep0", os.O_RDWR)
os.write(control, descriptors())
os.write(control, strings())
data = [os.open(ENDPOINTS / name, os.O_RDWR) for name in ("ep1", "ep2")]
write("UDC", "dummy_udc.0")

# The kernel takes the phone away when its endpoints are closed.
signal.pause()
