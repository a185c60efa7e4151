"""A real RTSP server, GStreamer's, that plays a clip in a loop; run with the system's Python.

    /usr/bin/python3 rtsp_server.py CLIP PORT LOST [WIDTH HEIGHT]

Prints `ready` when it listens. Each client gets the clip from its start; with WIDTH HEIGHT it is re-encoded
at that size. Of its RTP packets the share LOST never leaves. Ends on SIGTERM.
"""

import random
import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

Gst.init(None)


def launch_line(clip: str, size: tuple[int, int] | None) -> str:
    if size is None:
        payload = "rtph264pay name=pay0 pt=96 config-interval=1"
        return f"( filesrc location={clip} ! qtdemux ! h264parse ! {payload} )"
    width, height = size
    return (
        f"( filesrc location={clip} ! decodebin ! videoscale ! videoconvert"
        f" ! video/x-raw,width={width},height={height},format=I420"
        " ! x264enc tune=zerolatency speed-preset=ultrafast key-int-max=25 ! rtph264pay name=pay0 pt=96 )"
    )


def lose(_factory: object, media: object, lost: float) -> None:
    """Have the network lose packets of a client that comes."""
    dice = random.Random(1)
    kinds = Gst.PadProbeType.BUFFER | Gst.PadProbeType.BUFFER_LIST

    def pass_on(*_: object) -> object:
        return Gst.PadProbeReturn.DROP if dice.random() < lost else Gst.PadProbeReturn.OK

    media.get_element().get_by_name("pay0").get_static_pad("src").add_probe(kinds, pass_on)


def main() -> None:
    clip, port, lost = sys.argv[1], sys.argv[2], float(sys.argv[3])
    size = (int(sys.argv[4]), int(sys.argv[5])) if len(sys.argv) > 4 else None
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    factory = GstRtspServer.RTSPMediaFactory()
    factory.set_launch(launch_line(clip, size))
    if lost > 0:
        factory.connect("media-configure", lose, lost)
    server.get_mount_points().add_factory("/stream", factory)
    if not server.attach(None):
        sys.exit("the port is taken")
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
