"""TLS for the scripted upstreams of peers.py.

    party = TlsParty(folder)                       # an authority, and a certificate for 127.0.0.1
    server = upstream(party.secure(answering(b"hello")))
    gateway = proxy(https(server), upstream=f"tls_ca = {party.ca}")

party.facts has one entry for each handshake: version, alpn, name asked for, resumed, peer.
"""
import ssl

from certificates import Authority
from peers import Gone


def https(server):
    return server.target.replace("http://", "https://", 1)


class TlsParty:
    def __init__(self, folder, names=("127.0.0.1", "a.test"), **leaf):
        self.folder = folder
        self.authority = Authority()
        self.ca = self.authority.write(folder)
        self.leaf = self.authority.leaf(list(names), **leaf)
        self.files = self.leaf.write(folder, "server")
        self.facts = []
        self.failures = []

    def context(self, alpn=("h2", "http/1.1"), versions=None, client_ca=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.files)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if versions:
            context.minimum_version, context.maximum_version = versions
        if client_ca:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(client_ca)
        context.sni_callback = self.note_name
        return context

    def note_name(self, sock, name, context):
        sock.asked_for = name

    def secure(self, script, h2=None, **options):
        """The script behind TLS; `h2`: the one where the client takes HTTP/2."""
        context = self.context(**options)

        def secured(connection):
            try:
                sock = context.wrap_socket(connection.sock, server_side=True,
                                           suppress_ragged_eofs=False)
            except (ssl.SSLError, OSError) as problem:
                self.failures.append(problem)
                return
            connection.sock = sock
            self.facts.append({
                "version": sock.version(), "alpn": sock.selected_alpn_protocol(),
                "name": getattr(sock, "asked_for", None), "resumed": sock.session_reused,
                "peer": sock.getpeercert()})
            chosen = h2 if h2 and sock.selected_alpn_protocol() == "h2" else script
            try:
                chosen(connection)
            except ssl.SSLEOFError:
                raise Gone(True) from None    # an end that TLS did not announce
            finally:
                try:
                    sock.unwrap()
                except (OSError, ValueError):
                    pass
        return secured
