"""A server, those who call it, and what the entities leave for each other."""
import http.server
import threading

import server

from .caller import Caller
from .transports import services


class Files(http.server.BaseHTTPRequestHandler):
    """A web server that has every file: images and kernels are only asked for by HEAD."""

    def do_HEAD(self):
        self.send_response(404 if "missing" in self.path else 200)
        self.end_headers()

    def log_message(self, *_):
        pass


class World:
    def __init__(self, urls, database, primary, agree):
        self.url, self._urls, self._database = urls[0], urls, database
        self._primary, self._agree = primary, agree
        files = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Files)
        threading.Thread(target=files.serve_forever, daemon=True).start()
        self.files = f"http://127.0.0.1:{files.server_port}"
        self.nobody = self.caller("")
        self.operator = self.caller(self.token("operator", "--admin-role", "editor"))
        self.auditor = self.caller(self.token("auditor", "--admin-role", "viewer"))
        self.agent = self.caller(self.token("agents", "--infra-role", "editor", "--machine-role", "editor"))
        for user in ["alice", "bob", "carol"]:
            self.token(user)
            setattr(self, user, self.caller(self.secret_of(user)))

    @staticmethod
    def uuid(rack, port):
        """Id of the machine at a port of a rack."""
        return f"00000000-0000-4000-{int(rack[1:]):04x}-{port:012x}"

    @staticmethod
    def place(uuid):
        """Rack and port of a machine."""
        return f"r{int(uuid[19:23], 16):02}", int(uuid[24:], 16)

    def caller(self, token):
        return Caller(self._urls, token, self._primary, self._agree)

    def token(self, user, *roles):
        return server.token(self._database, user, *roles)

    def secret_of(self, user):
        """A token with which a user may do everything that they may at the time of a call."""
        own = [f"/{s.full_name}/{m.name}" for s in services() for m in s.methods if _visible_to_self(m)]
        public = [f"/{s.full_name}/{m.name}" for s in services() for m in s.methods if _public(m)]
        wish = {"description": f"everything of {user}", "permissions": [{"self": {"methods": own}}, {"public": {"methods": public}}],
                "tenant_roles": {"*": "TENANT_ROLE_OWNER"}, "project_roles": {"*": "PROJECT_ROLE_OWNER"}}
        return self.operator.admin("TokenService/Create", user=user, token_create_request=wish).secret


def _option(method, name):
    for field, value in method.GetOptions().ListFields():
        if field.name == name:
            return field.enum_type.values_by_number[value].name
    return ""


def _visible_to_self(method):
    return _option(method, "visibility") == "VISIBILITY_SELF"


def _public(method):
    return _option(method, "visibility") == "VISIBILITY_PUBLIC"
