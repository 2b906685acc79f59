"""A gateway with its agent, for the tests of health checks, discovery and registration.

    gate = watched(gateway, config, agent="resolver = 127.0.0.1:5353")
    gate.wait_health("app/127.0.0.1:8080", "down")
    gate.agent("PUT", "/v1/upstreams/app/targets/127.0.0.1:8080", {"weight": 3})
"""
import http.client
import json
import re

from control import reloadable
from waiting import DEADLINE, eventually

LISTENING = re.compile(r"agent\] listening on (\S+):(\d+)$", re.M)


class Watched:
    """A reloadable gateway with an agent that answers HTTP. What it does not have is that one's."""

    def __init__(self, gate, lines):
        self.gate = gate
        self.lines = lines      # of [agent]

    def config_with(self, config):
        """What to reload with: the same agent, another configuration."""
        return self.lines + config

    def __getattr__(self, name):
        return getattr(self.gate, name)

    @property
    def agent_pid(self):
        return eventually(lambda: self.gate.status()["agent"]["pid"], "an agent")

    def agent_port(self):
        """Of the newest agent."""
        found = eventually(lambda: LISTENING.findall(self.gate.log()),
                           lambda: "the agent listens\n" + self.gate.log())
        return int(found[-1][1])

    def agent(self, method="GET", path="/status", body=None, token=None):
        """(status, JSON or text) of a request to the agent."""
        connection = http.client.HTTPConnection("127.0.0.1", self.agent_port(), timeout=DEADLINE)
        fields = {"Authorization": f"Bearer {token}"} if token else {}
        text = json.dumps(body) if isinstance(body, (dict, list)) else body
        connection.request(method, path, text, fields)
        answer = connection.getresponse()
        data = answer.read().decode()
        connection.close()
        try:
            return answer.status, json.loads(data)
        except ValueError:
            return answer.status, data

    def traffic(self):
        """What the agent tells about its duty."""
        return self.agent()[1]["agent"]["traffic"]

    def health(self):
        """{target: state} of the health checks."""
        return {entry["target"]: entry["state"] for entry in self.traffic()["health"]}

    def wait_health(self, target, state, seconds=DEADLINE):
        return eventually(lambda: self.health().get(target) == state,
                          lambda: f"{target} is {state}: {self.traffic()}", seconds)


def watched(make, config, *, agent="", gatehouse="", **options):
    """Starts it; `agent` are lines of [agent], `make` is the fixture."""
    lines = f"[agent]\nlisten = 127.0.0.1:0\n{agent}\n"
    if "state" not in agent:
        lines += "state = none\n"
    gate = Watched(reloadable(make, lines + config, gatehouse="agent = on\n" + gatehouse, **options), lines)
    gate.agent_port()
    eventually(lambda: gate.status()["agent"]["state"] == "ready", "the agent is ready")
    return gate
