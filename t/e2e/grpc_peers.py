"""gRPC with the real library, without generated code: messages are bytes.

The service demo.Echo has all four kinds of calls:
  Unary   gives its request back; "fail" as request: status NOT_FOUND with a message that has to be
          encoded; "sleep" in the metadata: so many seconds first
  Collect gives the joined requests back
  Count   gives the numbers up to its request's, as text, one message each
  Chat    gives each message back as it comes
"""
import threading
import time
from concurrent import futures

import grpc

SERVICE = "demo.Echo"
BIG = [("grpc.max_receive_message_length", 32 << 20), ("grpc.max_send_message_length", 32 << 20)]
MESSAGE = "not found: äöü 100%"


class Service:
    def __init__(self):
        self.cancelled = threading.Event()
        self.entered = threading.Event()
        self.metadata = []

    def note(self, context):
        self.metadata.append(dict(context.invocation_metadata()))
        context.add_callback(lambda: None if context.code() is not None else self.cancelled.set())
        self.entered.set()

    def unary(self, request, context):
        self.note(context)
        seconds = dict(context.invocation_metadata()).get("sleep")
        if seconds:
            end = time.monotonic() + float(seconds)
            while time.monotonic() < end and context.is_active():
                time.sleep(0.01)
            if not context.is_active():
                self.cancelled.set()
        if request == b"fail":
            context.set_trailing_metadata((("x-detail", "gone"),))
            context.abort(grpc.StatusCode.NOT_FOUND, MESSAGE)
        context.set_trailing_metadata((("x-detail", "fine"),))
        return request

    def collect(self, requests, context):
        self.note(context)
        return b"".join(requests)

    def count(self, request, context):
        self.note(context)
        for number in range(int(request)):
            yield b"%d" % number
            if not context.is_active():
                self.cancelled.set()
                return
            if dict(context.invocation_metadata()).get("slowly"):
                time.sleep(0.05)

    def chat(self, requests, context):
        self.note(context)
        try:
            for request in requests:
                yield request
        except Exception:
            self.cancelled.set()
            raise

    def handler(self):
        return grpc.method_handlers_generic_handler(SERVICE, {
            "Unary": grpc.unary_unary_rpc_method_handler(self.unary),
            "Collect": grpc.stream_unary_rpc_method_handler(self.collect),
            "Count": grpc.unary_stream_rpc_method_handler(self.count),
            "Chat": grpc.stream_stream_rpc_method_handler(self.chat)})


SERVING, NOT_SERVING = 1, 2


class Health:
    """grpc.health.v1.Health: the state of each service, as a number; {"": SERVING} at first."""

    def __init__(self):
        self.states = {"": SERVING, SERVICE: SERVING}
        self.asked = []

    def check(self, request, context):
        name = request[2:].decode()
        self.asked.append(name)
        if name not in self.states:
            context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return b"\x08" + bytes([self.states[name]])

    def handler(self):
        return grpc.method_handlers_generic_handler("grpc.health.v1.Health", {
            "Check": grpc.unary_unary_rpc_method_handler(self.check)})


class Server:
    """A gRPC server with the services demo.Echo and Health, in threads of this process."""

    def __init__(self, workers=32):
        self.service = Service()
        self.health = Health()
        self.server = grpc.server(futures.ThreadPoolExecutor(workers), options=BIG)
        self.server.add_generic_rpc_handlers([self.service.handler(), self.health.handler()])
        self.port = self.server.add_insecure_port("127.0.0.1:0")
        self.server.start()

    @property
    def target(self):
        return f"http://127.0.0.1:{self.port}"

    def close(self):
        self.server.stop(None).wait()


class Stub:
    """A channel to the gateway with the methods of demo.Echo."""

    def __init__(self, port, service=SERVICE):
        self.channel = grpc.insecure_channel(
            f"127.0.0.1:{port}",
            options=BIG + [("grpc.enable_retries", 0), ("grpc.use_local_subchannel_pool", 1)])
        self.unary = self.channel.unary_unary(f"/{service}/Unary")
        self.collect = self.channel.stream_unary(f"/{service}/Collect")
        self.count = self.channel.unary_stream(f"/{service}/Count")
        self.chat = self.channel.stream_stream(f"/{service}/Chat")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def status_of(call):
    """The status with which the call fails."""
    try:
        call()
    except grpc.RpcError as error:
        return error.code()
    return grpc.StatusCode.OK
