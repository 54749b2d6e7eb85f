// gnet as a TCP relay: it passes all bytes to the upstream and back; both ends of a pair are on one event loop.
//
// gnet cannot pause reading of one connection until another is drained, nor close one direction alone. So bytes for a
// slow reader pile up in memory. The benchmark's reader is not slow, and closes only when all bytes have arrived.
package main

import (
	"context"
	"flag"
	"fmt"
	"log"
	"net"

	"github.com/panjf2000/gnet/v2"
)

type relay struct {
	gnet.BuiltinEventEngine
	upstream net.Addr
}

// other returns the context of c: the other connection of its pair, or nil before that opens and after it has closed.
func other(c gnet.Conn) gnet.Conn {
	o, _ := c.Context().(gnet.Conn)
	return o
}

func (*relay) OnBoot(gnet.Engine) gnet.Action {
	fmt.Println("ready")
	return gnet.None
}

func (r *relay) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	if client := other(c); client != nil { // c is an upstream
		client.SetContext(c)
		return nil, forward(client, c)
	}
	if _, err := c.EventLoop().Register(gnet.NewContext(context.Background(), c), r.upstream); err != nil {
		return nil, gnet.Close
	}
	return nil, gnet.None
}

func (*relay) OnTraffic(c gnet.Conn) gnet.Action {
	if o := other(c); o != nil {
		return forward(c, o)
	}
	return gnet.None // gnet keeps the bytes until the upstream is open
}

func (*relay) OnClose(c gnet.Conn, _ error) gnet.Action {
	if o := other(c); o != nil {
		o.SetContext(nil)
		o.Close()
	}
	return gnet.None
}

func forward(from, to gnet.Conn) gnet.Action {
	if _, err := from.WriteTo(to); err != nil {
		return gnet.Close
	}
	return gnet.None
}

func main() {
	port := flag.Int("port", 8080, "port to listen on at 127.0.0.1")
	upstream := flag.String("upstream", "127.0.0.1:8081", "where to relay to")
	pollers := flag.Int("pollers", 1, "event loops")
	readBuffer := flag.Int("read-buffer", gnet.MaxStreamBufferCap, "bytes to read at a time")
	flag.Parse()
	address, err := net.ResolveTCPAddr("tcp", *upstream)
	if err != nil {
		log.Fatal(err)
	}
	log.Fatal(gnet.Run(
		&relay{upstream: address},
		fmt.Sprintf("tcp://127.0.0.1:%d", *port),
		gnet.WithMulticore(true),
		gnet.WithNumEventLoop(*pollers),
		gnet.WithReadBufferCap(*readBuffer),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
	))
}
