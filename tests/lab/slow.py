"""A slow cable: a relay between a host's port and the bridge that holds every frame for a while.

tc's netem would do the same, but many kernels are built without it.
"""

import collections
import os
import select
import socket
import threading
import time

_ETH_P_ALL = 3
_PACKET_VNET_HDR = 15
_PACKET_OUTGOING = 4
_FRAME = 1 << 17


class Relay:
    """Passes frames between the interfaces `one` and `other`, each `delay` seconds late, until close().

    Must be made in the network namespace of both (support.in_netns).
    """

    def __init__(self, one, other, delay):
        self._delay = delay
        self._sockets = [self._open(name) for name in (one, other)]
        self._wake, self._stop = os.pipe()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @staticmethod
    def _open(name):
        packet = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(_ETH_P_ALL))
        # Frames between hosts of one kernel are large and without checksums; this header says how, and
        # passes it on to the other side.
        packet.setsockopt(socket.SOL_PACKET if hasattr(socket, "SOL_PACKET") else 263, _PACKET_VNET_HDR, 1)
        packet.bind((name, 0))
        packet.setblocking(False)
        return packet

    def _run(self):
        one, other = self._sockets
        towards = {one: other, other: one}
        waiting = collections.deque()
        while True:
            timeout = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
            readable, _, _ = select.select([one, other, self._wake], [], [], timeout)
            if self._wake in readable:
                return
            for source in readable:
                try:
                    while True:
                        frame, sender = source.recvfrom(_FRAME)
                        if sender[2] != _PACKET_OUTGOING:  # what we sent ourselves is seen here again
                            waiting.append((time.monotonic() + self._delay, towards[source], frame))
                except OSError:
                    pass  # nothing more for now; or the host is off, and so is its port
            while waiting and waiting[0][0] <= time.monotonic():
                _, target, frame = waiting.popleft()
                try:
                    target.send(frame)
                except OSError:
                    pass  # as a full or unplugged cable: the frame is lost

    def close(self):
        """Stops passing frames."""
        os.write(self._stop, b"x")
        self._thread.join()
        for packet in self._sockets:
            packet.close()
        os.close(self._wake)
        os.close(self._stop)
