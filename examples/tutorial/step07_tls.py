"""Step 7: the chat over TLS."""

import goev
from step05_chat import Chat

if __name__ == "__main__":
    tls = goev.tls.ServerContext("cert.pem", "key.pem")
    goev.serve(Chat, "127.0.0.1:8443", tls=tls)
