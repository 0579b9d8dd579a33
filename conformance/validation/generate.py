"""Messages on both sides of every rule, the same ones for the same seed."""
import copy
import random

import protovalidate
from google.protobuf.descriptor import FieldDescriptor as F

from official.transports import message, methods

# How deep messages within messages are filled.
DEPTH = 4
UUID = "00000000-0000-4000-8000-000000000001"
# Texts that keep one rule or another; the first that fits is taken.
FITTING = ["name1", UUID, "10.0.0.1", "10.0.0.0/24", "http://127.0.0.1:1/x", "a@example.com", "host1", "00:00:00:00:00:01", "10.0.0.1:623",
           "aGVsbG8=", "a" * 32, "x", ""]
# Texts at the edge of rules: lengths, alphabets, addresses, prefixes, URIs, white space, other scripts.
TEXTS = [
    "", "a", "ab", "*", " ", " ab", "ab ", "\tab", "ab\n", "a b", "\u00a0ab", "ab\u2003", "\u200bab", "äö", "日本", "🚀", "🚀🚀", "e\u0301", "\x00ab",
    "a" * 127, "a" * 128, "a" * 129, "ü" * 128, "ü" * 129, "🚀" * 128, "a" * 256, "a" * 257, "ü" * 256, "ü" * 257, "a" * 512, "a" * 513, "a" * 8192, "a" * 8193,
    "k" * 32768, "k" * 32769, "k" * 65536,
    UUID, UUID.upper(), UUID[:-1], UUID + "0", UUID.replace("-", ""), "{" + UUID + "}", "urn:uuid:" + UUID, UUID[:-1] + "g", UUID + "\n",
    "1.2.3.4", "1.2.3", "1.2.3.256", "01.2.3.4", "1.2.3.4 ", "1.2.3.4.5", "::", "::1", "fd00::1", "fd00::1%eth0", "fd00:::1", "1::2::3", "::ffff:1.2.3.4",
    "[::1]", "12345::", "::1.2.3.4", "1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "FD00::A", "fd00::1%",
    "1.2.3.0/24", "1.2.3.4/24", "1.2.3.0/33", "1.2.3.0/-1", "1.2.3.0/024", "1.2.3.0/", "0.0.0.0/0", "1.2.3.4/32", "fd00::/64", "fd00::1/64", "fd00::/129", "::/0",
    "fd00::%eth0/64", "1.2.3.0 /24", "1.2.3.0/ 24", "1.2.3.0/+24",
    "http://127.0.0.1:1/x", "https://127.0.0.1:1/a?b=c#d", "http://", "http:", "http:x", "//host/x", "/path", "x", "urn:a:b", "HTTP://127.0.0.1:1", "1http://x", "a+b-c.d:x",
    "http://127.0.0.1:1/ä", "http://127.0.0.1:1/%C3%A4", "http://127.0.0.1:1/%zz", "http://127.0.0.1:1/a b", "http://[::1]:1/x", "http://[::1/x", "http://[fe80::1%25eth0]:1/",
    "http://[fe80::1%eth0]:1/", "http://user@127.0.0.1:1/", "http://127.0.0.1:99999/", "http://127.0.0.1:port/", "http://127.0.0.1:1/{a}", "http://127.0.0.1:1/|", "http://127.0.0.1:1/^",
    "http://127.0.0.1:1/[", "http://127.0.0.1:1?#", "mailto:a@b", "file:///x", "http://127.0.0.1:1/\"", "http://127.0.0.1:1/#a#b", "data:,", ":x", "oci://127.0.0.1:1/a:b",
    "host", "host.example.com", "host.example.com.", "host..example", "-host", "host-", "ho_st", "a" * 63, "a" * 64, "a" * 63 + ".example", "1.2.3.4.", "123", "host.123", "HOST", "hö.st", ".",
    ".host", ".".join(["a" * 49] * 5), ".".join(["a" * 50] * 5) + "aaaa", "x.y-z.w",
    "host:80", "host:", "host:0", "host:65535", "host:65536", "host:080", "host:+80", ":80", "1.2.3.4:623", "1.2.3.4:", "[::1]:623", "[::1]", "::1:623", "[fd00::1%eth0]:1", "[1.2.3.4]:1",
    "host:80:81", "host: 80", "ho st:80",
    "00:00:00:00:00:01", "AA:bb:CC:dd:EE:ff", "00-00-00-00-00-01", "00:00:00:00:00", "00:00:00:00:00:0g", "00:00:00:00:00:01:02", "00:00:00:00:00:01\n", "\n00:00:00:00:00:01",
    "aGVsbG8=", "aGVsbG8", "aGVsbA==", "aGVsb===", "====", "=", "aGV\nbG8=", "aGVs-G8=", "aGVs_G8=", "aGVs" * 8192, "aGVs" * 8193, "ab==\n",
    "a@example.com", "a@", "@b", "a b@c", "a@b@c", "\"a b\"@c", "a@-b", "a@b.", "a@[127.0.0.1]", "Ä@b", "a@b_c", ".a@b", "a..b@c", "<a@b>",
    "abcdefgh-_ ", "comment with ä", "comment_with-words", "c" * 100, "c" * 101, "a.b", "semi;colon", "a\\b", "a/b", "/a/b", "~a", "0", "-1", ">= 1.0.0", ">=1.0.0", "~ 1.2", "^1.2.3",
    "/dev/sda", "dev", "K" * 31, "K" * 32, "K" * 33, "0123456789abcdefABCDEF-01234567", "0123456789", "012345678",
]
NUMBERS = [0, 1, -1, 2, 3, 5, 8, 22, 24, 31, 32, 33, 64, 127, 128, 129, 255, 256, 999, 1000, 1001, 4095, 4096, 65532, 65533, 65535, 65536, 100000, 131072, 16777214, 16777215,
           2**31 - 1, -2**31, 2**32 - 1, 2**63 - 1, -2**63, 2**64 - 1]
DURATIONS = [(0, 0), (0, 1), (-1, 0), (1, 0), (4, 999999999), (5, 0), (59, 0), (60, 0), (599, 999999999), (600, 0), (3600, 0), (3600, 1), (3601, 0), (604799, 999999999), (604800, 0),
             (31536000, 0), (31536000, 999999999), (31536001, 0), (315576000000, 0), (0, -1)]
TIMES = [(0, 0), (1, 0), (-1, 0), (1700000000, 999999999), (253402300799, 0)]

_RANGES = {F.TYPE_INT32: (-2**31, 2**31 - 1), F.TYPE_UINT32: (0, 2**32 - 1), F.TYPE_INT64: (-2**63, 2**63 - 1), F.TYPE_UINT64: (0, 2**64 - 1)}
_VALIDATOR = protovalidate.Validator()


def violations(request):
    """What breaks rules: path of the field and id of the rule, sorted."""
    return sorted(f"{path(v.proto.field)} {v.proto.rule_id}" + (" (key)" if v.proto.for_key else "") for v in _VALIDATOR.collect_violations(request))


def path(field):
    """`a.b[3].c` of a field path, of either library's kind. Keys of maps are left out: the server does not repeat them."""
    from buf.validate import validate_pb2
    if not isinstance(field, validate_pb2.FieldPath):
        field = validate_pb2.FieldPath.FromString(field.to_binary()) if field else validate_pb2.FieldPath()
    text = ""
    for element in field.elements:
        text += "." * bool(text) + element.field_name
        subscript = element.WhichOneof("subscript")
        if subscript == "index":
            text += f"[{element.index}]"
    return text


def valid(descriptor):
    """A message with every field filled that keeps all rules."""
    request = _fill(message(descriptor)(), DEPTH)
    # values are exchanged for others until no rule is broken
    for _ in range(200):
        broken = _VALIDATOR.collect_violations(request)
        if not broken:
            return request
        _repair(request, broken[0].proto)
    raise SystemExit(f"no valid {descriptor.full_name} found: {violations(request)}")


def _fill(request, depth):
    for field in request.DESCRIPTOR.fields:
        if field.containing_oneof and request.WhichOneof(field.containing_oneof.name):
            continue
        kind = field.message_type
        if kind and kind.GetOptions().map_entry:
            value = kind.fields_by_name["value"]
            entries = getattr(request, field.name)
            if value.message_type:
                if depth:
                    _fill(entries[UUID], depth - 1)
            else:
                entries[UUID] = _scalar(value)
        elif kind and kind.full_name in ("google.protobuf.Duration", "google.protobuf.Timestamp"):
            getattr(request, field.name).seconds = 3600
        elif kind and depth:
            target = getattr(request, field.name)
            _fill(target.add() if field.is_repeated else target, depth - 1)
            if not field.is_repeated:
                target.SetInParent()
        elif not kind and field.is_repeated:
            getattr(request, field.name).append(_scalar(field))
        elif not kind:
            setattr(request, field.name, _scalar(field))
    return request


def _scalar(field):
    if field.type == F.TYPE_STRING:
        return FITTING[0]
    if field.type == F.TYPE_BYTES:
        return b"x"
    if field.type in (F.TYPE_FLOAT, F.TYPE_DOUBLE):
        return 1.5
    if field.type == F.TYPE_ENUM:
        return field.enum_type.values[min(1, len(field.enum_type.values) - 1)].number
    return True if field.type == F.TYPE_BOOL else 1


def _repair(request, violation):
    """Exchanges the value of a field that breaks a rule for the first one that does not."""
    *outer, last = _elements(violation.field)
    holder = request
    for element in outer:
        holder = getattr(holder, element.field_name)
        subscript = element.WhichOneof("subscript")
        if subscript:
            holder = holder[getattr(element, subscript)]
    field = holder.DESCRIPTOR.fields_by_name[last.field_name]
    before = path(violation.field)
    for candidate in _candidates(field):
        _assign(holder, field, candidate)
        if not any(path(v.proto.field).startswith(before.split("[")[0] if field.is_repeated else before) for v in _VALIDATOR.collect_violations(request)):
            return
    # a field that cannot be made right is left out
    holder.ClearField(field.name)


def _elements(field):
    from buf.validate import validate_pb2
    return validate_pb2.FieldPath.FromString(field.to_binary()).elements


def _candidates(field):
    kind = field.message_type
    if kind and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        return [{key: _scalar(value)} for key in FITTING] if not value.message_type else []
    if kind and kind.name == "Duration":
        return [{"seconds": s, "nanos": n} for s, n in DURATIONS]
    if kind:
        return []
    if field.type == F.TYPE_STRING:
        values = FITTING
    elif field.type == F.TYPE_ENUM:
        values = [v.number for v in field.enum_type.values]
    else:
        values = [n for n in NUMBERS if _RANGES.get(field.type, (0, 1))[0] <= n <= _RANGES.get(field.type, (0, 1))[1]]
    return [[v] for v in values] if field.is_repeated else values


def _assign(holder, field, value):
    holder.ClearField(field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        getattr(holder, field.name).update(value)
    elif field.message_type:
        getattr(holder, field.name).CopyFrom(message(field.message_type)(**value))
    elif field.is_repeated:
        getattr(holder, field.name).extend(value)
    else:
        setattr(holder, field.name, value)


def _places(holder, place=()):
    for field, value in holder.ListFields():
        yield place, field
        kind = field.message_type
        if not kind or kind.full_name.startswith("google.protobuf."):
            continue
        if kind.GetOptions().map_entry:
            if kind.fields_by_name["value"].message_type:
                for key in value:
                    yield from _places(value[key], (*place, field.name, key))
        elif field.is_repeated:
            for at, item in enumerate(value):
                yield from _places(item, (*place, field.name, at))
        else:
            yield from _places(value, (*place, field.name))


def _edges(field):
    kind = field.message_type
    yield None
    if kind and kind.GetOptions().map_entry:
        value = kind.fields_by_name["value"]
        if value.message_type:
            return
        if value.type == F.TYPE_STRING:
            yield from ({"k": t} for t in TEXTS)
        elif value.enum_type:
            yield from ({UUID: n} for n in [0, 1, 2, 3, 4, 5, 77, -1])
        yield from ({t: _scalar(value)} for t in TEXTS)
        yield {f"key-{n}": _scalar(value) for n in range(101)}
    elif kind and kind.name == "Duration":
        yield from ({"seconds": s, "nanos": n} for s, n in DURATIONS)
    elif kind and kind.name == "Timestamp":
        yield from ({"seconds": s, "nanos": n} for s, n in TIMES)
    elif kind:
        if field.is_repeated:
            return
        yield {}
    elif field.is_repeated:
        one = list(_single(field))
        yield from ([v] for v in one)
        # a second one, the same twice, and many
        yield from ([one[1], v] for v in one[:20])
        yield from ([one[1]] * n for n in (2, 3, 4, 10, 11, 100, 101, 500, 501, 2048, 2049))
        if field.type == F.TYPE_STRING:
            yield [f"10.0.{n // 250}.{n % 250}" for n in range(40)]
    else:
        yield from _single(field)


def _single(field):
    if field.type == F.TYPE_STRING:
        yield from TEXTS
    elif field.type == F.TYPE_ENUM:
        yield from sorted({*(v.number for v in field.enum_type.values), 77, -1, 2**31 - 1})
    elif field.type in _RANGES:
        least, most = _RANGES[field.type]
        yield from (n for n in NUMBERS if least <= n <= most)
    elif field.type == F.TYPE_BOOL:
        yield from (False, True)
    elif field.type == F.TYPE_BYTES:
        yield from (b"", b"\xff")
    else:
        yield from (0.0, -1.5, float("inf"))


def messages(seed, count):
    """So many pairs of a method's path and a request, chosen so that every method and every field is there."""
    chance = random.Random(seed)
    chosen = []
    pool = []
    for name, method in sorted(methods().items()):
        base = valid(method.input_type)
        chosen += [(name, base), (name, message(method.input_type)())]
        # per field some, however many there are
        by_field = {}
        for place, field in _places(base):
            by_field[place, field.name] = field
        pool += [(name, base, place, field) for (place, _), field in by_field.items()]
    while len(chosen) < count:
        name, base, place, field = chance.choice(pool)
        value = chance.choice(list(_edges(field)))
        mutant = copy.deepcopy(base)
        holder = mutant
        for step in place:
            holder = getattr(holder, step) if hasattr(holder, "DESCRIPTOR") else holder[step]
        if value is None:
            holder.ClearField(field.name)
        else:
            _assign(holder, field, value)
        chosen.append((name, mutant))
    return chosen
