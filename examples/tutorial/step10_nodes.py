"""Step 10: the chat on several machines, with NATS or Redis between them."""

import os

import goev
from step09_metrics import CountedChat, CountedChatter

cluster = goev.cluster.connect(os.environ.get("ENGINE", "nats://127.0.0.1:4222"))


class NodeChatter(CountedChatter):
    room = cluster.group("chat", goev.websocket.Framing())


class NodeChat(CountedChat):
    chatter = NodeChatter
