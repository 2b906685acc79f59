"""What the tests of TLS share: files of certificates, and clients that speak TLS."""
import os
import re
import ssl
import subprocess

import certificates
from peers import Client
from waiting import DEADLINE


class Site:
    """A folder with an authority's certificates, and the configuration that names them."""

    def __init__(self, folder):
        self.folder = os.path.join(str(folder), "certificates")
        os.makedirs(self.folder, exist_ok=True)
        self.authority = certificates.Authority("gatehouse tests")
        self.ca = self.authority.write(self.folder)
        self.sections = ""

    def path(self, name):
        return os.path.join(self.folder, name)

    def add(self, name, names, kinds=("ecdsa",), more=""):
        """A [certificate] section with a leaf of each kind."""
        self.sections += f"[certificate {name}]\n"
        made = []
        for kind in kinds:
            leaf = self.authority.leaf(names, kind)
            pem, key = leaf.write(self.folder, f"{name}.{kind}")
            self.sections += f"certificate = {pem}\nkey = {key}\n"
            made.append(leaf)
        self.sections += more + "\n"
        return made if len(made) > 1 else made[0]

    def client(self, name="client", names=("client.example",), **options):
        leaf = self.authority.leaf(list(names), client=True, subject=name, **options)
        leaf.write(self.folder, name)
        return leaf

    def context(self, *, alpn=None, client=None, verify=True, newest=None, oldest=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(self.ca)
        if not verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        if alpn:
            context.set_alpn_protocols(alpn)
        if client:
            context.load_cert_chain(self.path(client + ".pem"), self.path(client + ".key"))
        if newest:
            context.maximum_version = newest
        if oldest:
            context.minimum_version = oldest
        return context


def tls_client(gateway, context, *, name="a.example", session=None, listener=None):
    """A Client whose connection speaks TLS."""
    client = gateway.connect(listener)
    try:
        client.sock = context.wrap_socket(client.sock, server_hostname=name, session=session)
    except BaseException:
        client.close()
        raise
    return client


def fingerprint(client):
    import hashlib
    return hashlib.sha256(client.sock.getpeercert(True)).hexdigest()


def s_client(gateway, *arguments, text="", listener=None):
    """Runs openssl s_client with this input; everything it says."""
    host, port = gateway.addresses[listener][0] if listener else gateway.address
    done = subprocess.run(["openssl", "s_client", "-connect", f"{host}:{port}", *arguments],
                          input=text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          timeout=DEADLINE, check=False)
    return done.stdout.decode(errors="replace")


def reused(text):
    return bool(re.search(r"^Reused, ", text, re.M))
