// gnet as an HTTP server: wildcat parses the requests, as in gnet's own example, and the answers have a date.
//
// The server skips a body by its length; a body in chunks closes the connection.
package main

import (
	"errors"
	"flag"
	"fmt"
	"log"
	"sync/atomic"
	"time"

	"github.com/evanphx/wildcat"
	"github.com/panjf2000/gnet/v2"
)

const (
	headers  = 16 // a connection has room for so many; wildcat makes more
	httpDate = "Mon, 02 Jan 2006 15:04:05 GMT"
)

var transferEncoding = []byte("Transfer-Encoding")

type server struct {
	gnet.BuiltinEventEngine
	answer atomic.Pointer[[]byte] // made anew each second
}

// connection is the context of each gnet connection.
type connection struct {
	room    *wildcat.HTTPParser // its slice of headers is used again
	answers []byte
}

func (s *server) OnBoot(gnet.Engine) gnet.Action {
	fmt.Println("ready")
	return gnet.None
}

func (s *server) OnTick() (time.Duration, gnet.Action) {
	s.date(time.Now())
	return time.Second, gnet.None
}

func (s *server) date(now time.Time) {
	answer := []byte("HTTP/1.1 200 OK\r\nServer: gnet\r\nContent-Type: text/plain\r\nDate: " +
		now.UTC().Format(httpDate) + "\r\nContent-Length: 13\r\n\r\nHello, World!")
	s.answer.Store(&answer)
}

func (*server) OnOpen(c gnet.Conn) ([]byte, gnet.Action) {
	c.SetContext(&connection{room: wildcat.NewSizedHTTPParser(headers)})
	return nil, gnet.None
}

// OnTraffic leaves the beginning of an incomplete request in gnet's own buffer.
func (s *server) OnTraffic(c gnet.Conn) gnet.Action {
	conn, answer := c.Context().(*connection), *s.answer.Load()
	data, _ := c.Peek(-1)
	used := 0
	conn.answers = conn.answers[:0]
	for used < len(data) {
		size, err := conn.parse(data[used:])
		if errors.Is(err, wildcat.ErrMissingData) || used+size > len(data) {
			break
		}
		if err != nil {
			return gnet.Close
		}
		used += size
		conn.answers = append(conn.answers, answer...)
	}
	if used == 0 {
		return gnet.None
	}
	if _, err := c.Write(conn.answers); err != nil {
		return gnet.Close
	}
	if _, err := c.Discard(used); err != nil {
		return gnet.Close
	}
	return gnet.None
}

// parse returns the size of the request at the beginning of data, the body included.
func (conn *connection) parse(data []byte) (int, error) {
	clear(conn.room.Headers) // of the previous request
	parser := wildcat.HTTPParser{Headers: conn.room.Headers, TotalHeaders: conn.room.TotalHeaders}
	size, err := parser.Parse(data)
	if err != nil {
		return 0, err
	}
	if parser.FindHeader(transferEncoding) != nil {
		return 0, wildcat.ErrUnsupported
	}
	return size + int(max(parser.ContentLength(), 0)), nil
}

func main() {
	port := flag.Int("port", 8080, "port to listen on at 127.0.0.1")
	pollers := flag.Int("pollers", 2, "event loops")
	flag.Parse()
	s := new(server)
	s.date(time.Now())
	log.Fatal(gnet.Run(
		s,
		fmt.Sprintf("tcp://127.0.0.1:%d", *port),
		gnet.WithMulticore(true),
		gnet.WithNumEventLoop(*pollers),
		gnet.WithTCPNoDelay(gnet.TCPNoDelay),
		gnet.WithTicker(true),
	))
}
