// gnet as a plaintext server: a fixed number of event loops, its default load balancing.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"

	"github.com/panjf2000/gnet/v2"
)

const (
	response = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
	prepared = 1024 // replies that are ready to be sent at once
)

var (
	endOfHead = []byte("\r\n\r\n")
	responses = bytes.Repeat([]byte(response), prepared)
)

type plain struct {
	gnet.BuiltinEventEngine
}

func (*plain) OnBoot(gnet.Engine) gnet.Action {
	fmt.Println("ready")
	return gnet.None
}

// OnTraffic leaves the beginning of an incomplete head in gnet's own buffer.
func (*plain) OnTraffic(c gnet.Conn) gnet.Action {
	data, _ := c.Peek(-1)
	heads := bytes.Count(data, endOfHead)
	if heads == 0 {
		return gnet.None
	}
	used := bytes.LastIndex(data, endOfHead) + len(endOfHead)
	if _, err := c.Write(replies(heads)); err != nil {
		return gnet.Close
	}
	if _, err := c.Discard(used); err != nil {
		return gnet.Close
	}
	return gnet.None
}

// replies returns the bytes that answer so many requests; callers only read them.
func replies(heads int) []byte {
	if heads > prepared {
		return bytes.Repeat([]byte(response), heads)
	}
	return responses[:heads*len(response)]
}

func main() {
	port := flag.Int("port", 8080, "port to listen on at 127.0.0.1")
	pollers := flag.Int("pollers", 2, "event loops")
	flag.Parse()
	log.Fatal(gnet.Run(
		new(plain),
		fmt.Sprintf("tcp://127.0.0.1:%d", *port),
		gnet.WithMulticore(true),
		gnet.WithNumEventLoop(*pollers),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
	))
}
