"""What must hold, in one line each."""
import time

passed = 0
# update_meta of somebody who overwrites whatever is there
FRESH = {"locking_strategy": "OPTIMISTIC_LOCKING_STRATEGY_SERVER"}


def equal(name, seen, wanted):
    """Ends the suite when something is not as it must be."""
    global passed
    if seen != wanted:
        raise SystemExit(f"FAILED {name}:\n  seen   {seen!r}\n  wanted {wanted!r}")
    passed += 1
    print(f"ok {name}", flush=True)


def true(name, condition, seen=""):
    global passed
    if not condition:
        raise SystemExit(f"FAILED {name}: {seen}")
    passed += 1
    print(f"ok {name}", flush=True)


def eventually(name, condition, patience=120):
    """Waits for something that happens in the background."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            raise SystemExit(f"FAILED {name}: not within {patience} s")
        time.sleep(0.05)
    true(name, True)


def named(message, field):
    """The name of an enum's value without the common beginning: `CHILD` of `NETWORK_TYPE_CHILD`."""
    kind = message.DESCRIPTOR.fields_by_name[field].enum_type
    beginning = kind.values_by_number[0].name.removesuffix("UNSPECIFIED")
    return kind.values_by_number[getattr(message, field)].name.removeprefix(beginning)
