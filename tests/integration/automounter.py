"""An automounter for one mount point, as systemd's: automounter.py DIR COMMAND [WORD]...

Lays a direct autofs trigger over DIR and says "ready"; when somebody walks into it, runs the command in its own process
group (the only one that the kernel lets pass) and says "mounted CODE". Ends, trigger removed, when standard input does.
"""

import ctypes
import fcntl
import os
import select
import struct
import subprocess
import sys

READY, FAIL, CATATONIC = 0x9360, 0x9361, 0x9362
MNT_DETACH = 2

libc = ctypes.CDLL(None, use_errno=True)


def check(result, what):
    if result != 0:
        sys.exit(f"{what}: {os.strerror(ctypes.get_errno())}")


def main():
    folder, command = sys.argv[1], sys.argv[2:]
    reading, writing = os.pipe()
    options = f"fd={writing},pgrp={os.getpgrp()},minproto=5,maxproto=5,direct"
    check(libc.mount(b"automounter", folder.encode(), b"autofs", 0, options.encode()), "mount of autofs")
    os.close(writing)
    control = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    print("ready", flush=True)
    while True:
        ready = select.select([reading, 0], [], [])[0]
        if 0 in ready:
            break
        packet = os.read(reading, 4096)
        # header: version, type; then the token that the kernel waits with
        token = struct.unpack_from("=iiI", packet)[2]
        code = subprocess.run(command, stdin=subprocess.DEVNULL, check=False).returncode
        fcntl.ioctl(control, READY if code == 0 else FAIL, token)
        print(f"mounted {code}", flush=True)
    fcntl.ioctl(control, CATATONIC, 0)
    os.close(control)
    check(libc.umount2(folder.encode(), MNT_DETACH), "umount of autofs")


main()
