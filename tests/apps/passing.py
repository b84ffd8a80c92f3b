# SPDX-License-Identifier: MIT
# What a program holds for a moment only, until the file `pass` is there: a file in /proc of another process, a connection that
# nobody has accepted with bytes in it, a descriptor on its way. Goes on until the file `end` is there.
import array
import os
import socket
import sys
import time


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


what = sys.argv[1]
if what == "proc":
    held = open("/proc/%d/stat" % os.getppid())
elif what == "backlog":
    listener = socket.create_server(("127.0.0.1", 0))
    client = socket.create_connection(listener.getsockname())
    client.sendall(b"early")
elif what == "rights":
    one, other = socket.socketpair()
    one.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [0]))])
open(os.environ["GUEST_READY"], "w").close()
wait_for("pass")
if what == "proc":
    held.close()
elif what == "backlog":
    connection, _ = listener.accept()
elif what == "rights":
    one.close()
    message, ancillary, _, _ = other.recvmsg(1, 64)
    os.close(array.array("i", ancillary[0][2])[0])
wait_for("end")
if what == "backlog":
    print(connection.recv(5))
print(what, "has passed")
