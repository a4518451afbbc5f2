"""One end of a transfer by NVFlare, a process with a Cell, as `npm run bench` runs it: once, from start to exit.

The argument is a job as JSON. What there is to say goes to descriptor 3, a line of JSON each: the address, by the
receiver, which the sender reads from its standard input; and the report, last.
"""

import json
import logging
import os
import socket
import sys
import threading
import time
from importlib.metadata import version

import numpy as np
from nvflare.apis.fl_constant import FLContextKey, ProcessType, ReservedKey
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReturnCode
from nvflare.apis.streaming import StreamableEngine, StreamContext
from nvflare.app_common.decomposers import numpy_decomposers
from nvflare.app_common.streamers.container_streamer import ContainerStreamer
from nvflare.fuel.f3.cellnet.cell import Cell
from nvflare.fuel.f3.cellnet.defs import MessageHeaderKey
from nvflare.fuel.f3.cellnet.defs import ReturnCode as CellReturnCode
from nvflare.fuel.f3.message import Message
from nvflare.fuel.f3.streaming.file_downloader import ObjectDownloader, add_file, download_file
from nvflare.private.aux_runner import AuxMsgTarget, AuxRunner
from nvflare.private.defs import CellChannel
from nvflare.private.stream_runner import ObjectStreamer

# Cells by their names: the one that listens is the root, and called so.
RECEIVER = "server"
SENDER = "site-1"
CHANNEL = "benchmark"
MODEL, FILE, BYE = "model", "file", "bye"
SECONDS = 600.0


def say(**words):
    os.write(3, (json.dumps(words) + "\n").encode())


def memory(field):
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith(field + ":"))


def read_tensors(path):
    """The tensors of a safetensors file of F32 in their order, each in memory of its own."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        for name, entry in sorted(header.items(), key=lambda each: each[1]["data_offsets"]):
            first, end = entry["data_offsets"]
            file.seek(8 + length + first)
            yield name, np.fromfile(file, dtype="<f4", count=(end - first) // 4).reshape(entry["shape"])


def check_tensors(tensors, path):
    names = []
    for name, expected in read_tensors(path):
        names.append(name)
        if not np.array_equal(tensors.get(name), expected):
            sys.exit(f"tensor {name} is not what was sent")
    if list(tensors) != names:
        sys.exit("the tensors that came are others than those that were sent")


def check_file(received, path):
    with open(received, "rb") as one, open(path, "rb") as other:
        if one.read() != other.read():
            sys.exit("the file that came is not the one that was sent")


class Engine(StreamableEngine):
    """What the engine of a job is to NVFlare's streamers: from a stream of objects to messages between cells."""

    def __init__(self, cell, name):
        self.cell = cell
        self.name = name
        self.aux_runner = AuxRunner(self)
        self.streamer = ObjectStreamer(self.aux_runner)
        cell.register_request_cb(channel=CellChannel.AUX_COMMUNICATION, topic="*", cb=self.dispatch)

    def get_cell(self):
        return self.cell

    def context(self):
        context = FLContext()
        context.set_prop(ReservedKey.ENGINE, self, private=True, sticky=False)
        context.set_prop(ReservedKey.IDENTITY_NAME, self.name, private=False, sticky=True)
        # Of no job: streams go to cells by the names that are given.
        context.set_prop(FLContextKey.PROCESS_TYPE, ProcessType.SERVER_PARENT, private=True, sticky=False)
        return context

    def dispatch(self, message):
        topic = message.get_header(MessageHeaderKey.TOPIC)
        return done(self.aux_runner.dispatch(topic=topic, request=message.payload, fl_ctx=self.context()))

    def stream_objects(self, channel, topic, stream_ctx, targets, producer, fl_ctx, optional=False, secure=False):
        return self.streamer.stream(
            channel=channel,
            topic=topic,
            stream_ctx=stream_ctx,
            targets=[self.target(name) for name in targets],
            producer=producer,
            fl_ctx=fl_ctx,
            secure=secure,
            optional=optional,
        )

    @staticmethod
    def target(name):
        target = AuxMsgTarget(name, name)
        # As later releases want to be told.
        target.job_scoped = False
        return target

    def register_stream_processing(self, channel, topic, factory, stream_done_cb=None, **cb_kwargs):
        self.streamer.register_stream_processing(channel, topic, factory, stream_done_cb, **cb_kwargs)

    def shutdown_streamer(self):
        self.streamer.shutdown()


def done(payload=None):
    return Message({MessageHeaderKey.RETURN_CODE: CellReturnCode.OK}, payload)


def request(cell, topic, payload):
    reply = cell.send_request(
        channel=CHANNEL, topic=topic, target=RECEIVER, request=Message({}, payload), timeout=SECONDS
    )
    code = reply.get_header(MessageHeaderKey.RETURN_CODE)
    if code != CellReturnCode.OK:
        sys.exit(f"{topic} was answered with {code}")


class Incoming:
    """Something that a thread of NVFlare's brings, and the process waits for."""

    def __init__(self):
        self.value = None
        self.event = threading.Event()

    def put(self, value):
        self.value = value
        self.event.set()

    def wait(self):
        if not self.event.wait(SECONDS):
            sys.exit("nothing came")
        return self.value


# Each way is what a sender has to do before the clock runs, which gives what it does then; and the same of a receiver.


def send_regular(cell, model):
    tensors = dict(read_tensors(model))
    return lambda: request(cell, MODEL, tensors)


def receive_regular(cell, folder):
    incoming = Incoming()

    def take(message):
        incoming.put(message.payload)
        return done()

    cell.register_request_cb(channel=CHANNEL, topic=MODEL, cb=take)
    return incoming.wait


def send_container(cell, model):
    tensors = dict(read_tensors(model))
    engine = Engine(cell, SENDER)

    def send():
        code, _ = ContainerStreamer.stream_container(
            channel=CHANNEL,
            topic=MODEL,
            stream_ctx=StreamContext(),
            targets=[RECEIVER],
            container=tensors,
            fl_ctx=engine.context(),
            entry_timeout=SECONDS,
        )
        if code != ReturnCode.OK:
            sys.exit(f"the stream ended with {code}")

    return send


def receive_container(cell, folder):
    incoming = Incoming()

    def take(stream_ctx, fl_ctx):
        incoming.put(ContainerStreamer.get_result(stream_ctx))

    ContainerStreamer.register_stream_processing(Engine(cell, RECEIVER).context(), CHANNEL, MODEL, take)
    return incoming.wait


def send_file(cell, model):
    over = Incoming()
    downloader = ObjectDownloader(
        cell=cell, timeout=SECONDS, num_receivers=1, transaction_done_cb=lambda tx, status, objects: over.put(status)
    )
    ref = add_file(downloader, model)

    def send():
        # The receiver asks for it, piece by piece: it has to know what for.
        request(cell, FILE, ref)
        over.wait()

    return send


def receive_file(cell, folder):
    incoming = Incoming()

    def take(message):
        incoming.put(message.payload)
        return done()

    cell.register_request_cb(channel=CHANNEL, topic=FILE, cb=take)

    def receive():
        error, path = download_file(SENDER, incoming.wait(), SECONDS, cell, location=folder)
        if error:
            sys.exit(f"the download failed: {error}")
        return path

    return receive


WAYS = {
    "regular": (send_regular, receive_regular, check_tensors),
    "container": (send_container, receive_container, check_tensors),
    "file": (send_file, receive_file, check_file),
}


def send(way, model):
    cell = Cell(fqcn=SENDER, root_url=sys.stdin.read(), secure=False, credentials={})
    connected = Incoming()
    cell.core_cell.set_cell_connected_cb(connected.put)
    cell.start()
    work = WAYS[way][0](cell, model)
    connected.wait()
    base, began = memory("VmRSS"), time.monotonic()
    work()
    ended = time.monotonic()
    request(cell, BYE, None)
    return {"baseBytes": base, "beganAt": began, "endedAt": ended}


def receive(way, model, folder, check):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
    cell = Cell(fqcn=RECEIVER, root_url=url, secure=False, credentials={})
    over = Incoming()

    def bye(message):
        # The answer is still to go out.
        threading.Timer(0.05, over.put, [True]).start()
        return done()

    cell.register_request_cb(channel=CHANNEL, topic=BYE, cb=bye)
    work = WAYS[way][1](cell, folder)
    cell.start()
    base = memory("VmRSS")
    say(address=url)
    received = work()
    ended = time.monotonic()
    over.wait()
    report = {"baseBytes": base, "peakBytes": memory("VmHWM"), "endedAt": ended}
    if check:
        WAYS[way][2](received, model)
    return report


def main(role, way, model, folder, check):
    numpy_decomposers.register()
    report = send(way, model) if role == "sender" else receive(way, model, folder, check)
    versions = {"python": sys.version.split()[0], "nvflare": version("nvflare"), "numpy": np.__version__}
    say(report={"peakBytes": memory("VmHWM"), **report, "versions": versions})
    # Threads that wait for nothing would keep the process for a while.
    os._exit(0)


if __name__ == "__main__":
    logging.basicConfig(level=logging.ERROR)
    main(**json.loads(sys.argv[1]))
