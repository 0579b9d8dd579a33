"""The same call over each protocol that the server speaks on its one port."""
import re

import grpc
import pyqwest
from connectrpc.codec import proto_json_codec
from connectrpc.errors import ConnectError
from connectrpc.protocol import ProtocolType
from google.protobuf import descriptor_pool, message_factory
from metalstack.client.client import Client

# How the official stubs are told to speak; plain Connect is what the official client does by itself.
OFFICIAL = {
    "connect": {},
    "connect-json": {"codec": proto_json_codec()},
    "grpc": {"protocol": ProtocolType.GRPC},
    "grpc-web": {"protocol": ProtocolType.GRPC_WEB},
    "grpc-web-json": {"protocol": ProtocolType.GRPC_WEB, "codec": proto_json_codec()},
}
# The gRPC library of Google, which shares no code with the official client.
GRPCIO = "grpcio"
PROTOCOLS = [*OFFICIAL, GRPCIO]
# A stream of the official client ends when its transport times out.
PATIENCE = 60

_SERVICE = re.compile(r"^metalstack\.(\w+)\.v2\.\w+Service$")
_POOL = descriptor_pool.Default()


def services():
    """The services of the contract, from the descriptors of the official package."""
    import sys
    files = {m.DESCRIPTOR.name for n, m in list(sys.modules.items()) if n.startswith("metalstack.") and n.endswith("_pb2")}
    found = [s for name in sorted(files) for s in _POOL.FindFileByName(name).services_by_name.values()]
    return [s for s in found if _SERVICE.match(s.full_name)]


def methods():
    """Every method of the contract: its path and its descriptor."""
    return {f"/{s.full_name}/{m.name}": m for s in services() for m in s.methods}


def message(descriptor):
    return message_factory.GetMessageClass(descriptor)


class Refused(Exception):
    """An answer that is an error, whatever the protocol."""

    def __init__(self, code, text, details=()):
        super().__init__(f"{code}: {text}")
        self.code, self.text, self.details = code, text, tuple(details)


class Transport:
    """Calls with one token over one protocol."""

    def __init__(self, url, token, protocol):
        self.url, self.token, self.protocol = url, token, protocol
        self._client = Client(baseurl=url, timeout=PATIENCE)
        self._http = pyqwest.SyncClient(transport=pyqwest.SyncHTTPTransport(
            http_version=pyqwest.HTTPVersion.HTTP2, timeout=PATIENCE))
        self._channel = grpc.insecure_channel(url.removeprefix("http://")) if protocol == GRPCIO else None

    def call(self, path, request, timeout_ms=None):
        """Sends a request, and gives the answer: a message, or an iterator of messages for a stream. Raises `Refused`."""
        descriptor = methods()[path]
        if self._channel:
            return self._grpcio(path, descriptor, request)
        stub = self._stub(descriptor.containing_service)
        # the generator of the stubs separates capitals one by one
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", descriptor.name).lower()
        # words of Python get a trailing one
        name = name if hasattr(stub, name) else name + "_"
        headers = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        try:
            answer = getattr(stub, name)(request, headers=headers, timeout_ms=timeout_ms)
        except ConnectError as error:
            raise _refused(error) from None
        return self._follow(answer) if descriptor.server_streaming else answer

    def _stub(self, service):
        group = _SERVICE.match(service.full_name)[1]
        entity = service.file.name.rsplit("/", 1)[1].removesuffix(".proto")
        stub = getattr(getattr(self._client, f"{group}v2")(), entity)()
        options = OFFICIAL[self.protocol]
        return type(stub)(address=self.url, http_client=self._http, **options) if options else stub

    def _follow(self, stream):
        try:
            yield from stream
        except ConnectError as error:
            raise _refused(error) from None

    def _grpcio(self, path, descriptor, request):
        kind = self._channel.unary_stream if descriptor.server_streaming else self._channel.unary_unary
        method = kind(path, request_serializer=lambda m: m.SerializeToString(),
                      response_deserializer=message(descriptor.output_type).FromString)
        metadata = [("authorization", f"Bearer {self.token}")] if self.token else []
        try:
            answer = method(request, metadata=metadata, timeout=PATIENCE)
        except grpc.RpcError as error:
            raise _refused_grpc(error) from None
        return self._follow_grpc(answer) if descriptor.server_streaming else answer

    def _follow_grpc(self, stream):
        try:
            yield from stream
        except grpc.RpcError as error:
            raise _refused_grpc(error) from None
        finally:
            stream.cancel()


def _refused(error):
    # details come as Any
    return Refused(error.code.value, error.message, sorted((d.type_url.rsplit("/", 1)[-1], d.value) for d in error.details))


def _refused_grpc(error):
    from connectrpc._gen.status_pb2 import Status
    details = []
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            details = [(d.type_url.rsplit("/", 1)[-1], d.value) for d in Status.FromString(value).details]
    return Refused(error.code().name.lower(), error.details(), sorted(details))
