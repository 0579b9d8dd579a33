"""Who calls: a token, the calls made with it, and that all protocols agree on what they answer."""
import itertools
import time

from .transports import PROTOCOLS, Refused, Transport, message, methods

# Calls that change nothing are repeated over every other protocol.
READS = {"Get", "List", "ListBaseNetworks", "ListBMC", "GetBMC", "Latest", "Usage", "Match", "Try", "Capacity", "Issues", "ConnectedMachines",
         "InviteGet", "InvitesList", "Queues", "ConsolePassword", "TokenScopedList", "ListNodes", "Boot", "SuperUserPassword"}

called = set()
streamed = set()
compared = {protocol: 0 for protocol in PROTOCOLS}
errors_compared = 0


class Caller:
    """Calls methods with one token, each time of another replica. `primary` is the protocol of the calls that count."""

    def __init__(self, urls, token, primary, agree):
        self.token, self.primary = token, primary
        self._urls = itertools.cycle(urls)
        self._replicas = itertools.cycle([Transport(url, token, primary) for url in urls])
        self._others = [Transport(url, token, p) for p, url in zip(PROTOCOLS, self._urls) if p != primary] if agree else []

    @property
    def _transport(self):
        return next(self._replicas)

    def api(self, method, **fields):
        return self.call(f"/metalstack.api.v2.{method}", fields)

    def admin(self, method, **fields):
        return self.call(f"/metalstack.admin.v2.{method}", fields)

    def infra(self, method, **fields):
        return self.call(f"/metalstack.infra.v2.{method}", fields)

    def call(self, path, fields):
        """The answer, which must not be an error. Fields are those of the request, as keywords."""
        request = self.request(path, fields)
        answer = self._transport.call(path, request)
        called.add(path)
        if path.rsplit("/", 1)[1] in READS:
            self._agree(path, request, answer)
        return answer

    def refused(self, code, path, **fields):
        """The sentence of an error that must come, with this code; `path` without the package's common part."""
        global errors_compared
        path = f"/metalstack.{path}"
        request = self.request(path, fields)
        first = self._refusal(self._transport, path, request)
        if first is None or first.code != code:
            raise SystemExit(f"FAILED {path}: {code} was expected, the answer is {first or 'no error'}; request: {fields}")
        called.add(path)
        for other in self._others:
            again = self._refusal(other, path, request)
            if again is None or (again.code, again.text, again.details) != (first.code, first.text, first.details):
                raise SystemExit(f"FAILED {path}: {self.primary} answers {first!r} {first.details}, "
                                 f"{other.protocol} answers {again!r} {again and again.details}")
            errors_compared += 1
        return first.text

    @staticmethod
    def _refusal(transport, path, request):
        try:
            answer = transport.call(path, request)
            if methods()[path].server_streaming:
                next(answer, None)
        except Refused as refused:
            return refused
        return None

    def stream(self, path, protocol=None, **fields):
        """Opens a stream, over another protocol than usual if one is named."""
        path = f"/metalstack.{path}"
        transport = Transport(next(self._urls), self.token, protocol) if protocol else self._transport
        stream = transport.call(path, self.request(path, fields))
        called.add(path)
        streamed.add((path, transport.protocol))
        return stream

    @staticmethod
    def request(path, fields):
        descriptor = methods().get(path)
        if descriptor is None:
            raise SystemExit(f"FAILED the contract has no method {path}")
        return message(descriptor.input_type)(**fields)

    def _agree(self, path, request, answer):
        for other in self._others:
            # what a background loop changed between two calls is read again
            for attempt in range(5):
                again = other.call(path, request)
                if again == answer:
                    break
                time.sleep(0.1 * attempt)
                answer = self._transport.call(path, request)
            else:
                raise SystemExit(f"FAILED {path}: {self.primary} answers\n{answer}\n{other.protocol} answers\n{again}")
            compared[other.protocol] += 1
