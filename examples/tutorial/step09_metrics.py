"""Step 9: the chat with a figure of its own beside those of goev."""

from prometheus_client import Counter

from step05_chat import Chat, Chatter

said = Counter("chat_messages", "Messages that people have sent.")


class CountedChatter(Chatter):
    def on_message(self, message: str | bytes) -> None:
        said.inc()
        super().on_message(message)


class CountedChat(Chat):
    chatter = CountedChatter
