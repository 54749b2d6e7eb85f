// The Go original as a plaintext server, set up as in its own example/techempower.go: one reactor accepts,
// another serves with a fixed number of pollers, and GOMAXPROCS is twice that number.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"log"
	"runtime"

	"github.com/shaovie/goev"
)

const (
	response = "HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!"
	prepared = 1024 // replies that are ready to be sent at once
)

var (
	endOfHead = []byte("\r\n\r\n")
	responses = bytes.Repeat([]byte(response), prepared)
	serving   *goev.Reactor
)

type plain struct {
	goev.IOHandle
	tail []byte // the beginning of an incomplete head
}

// OnOpen runs on the accepting reactor; from AddEvHandler on the connection belongs to a serving poller.
func (p *plain) OnOpen() bool {
	return serving.AddEvHandler(p, p.Fd(), goev.EvIn) == nil
}

func (p *plain) OnRead() bool {
	data, n, _ := p.Read()
	if n == 0 {
		return false
	}
	if n < 0 {
		return true
	}
	if len(p.tail) > 0 {
		data = append(p.tail, data...)
		p.tail = nil
	}
	if heads := bytes.Count(data, endOfHead); heads > 0 {
		p.Write(replies(heads)) // Write keeps bytes that do not fit, and reports that as an error; a dead peer shows later
	}
	if !bytes.HasSuffix(data, endOfHead) {
		begin := 0
		if last := bytes.LastIndex(data, endOfHead); last >= 0 {
			begin = last + len(endOfHead)
		}
		p.tail = bytes.Clone(data[begin:])
	}
	return true
}

// OnWrite sends the bytes that a full socket did not take.
func (p *plain) OnWrite() bool {
	p.AsyncOrderedFlush(p)
	return true
}

func (p *plain) OnClose() {
	p.Destroy(p)
}

// replies returns the bytes that answer so many requests; callers only read them.
func replies(heads int) []byte {
	if heads > prepared {
		return bytes.Repeat([]byte(response), heads)
	}
	return responses[:heads*len(response)]
}

func reactor(pollers int) *goev.Reactor {
	r, err := goev.NewReactor(goev.EvFdMaxSize(20480), goev.EvPollNum(pollers))
	if err != nil {
		log.Fatal(err)
	}
	return r
}

func main() {
	port := flag.Int("port", 8080, "port to listen on at 127.0.0.1")
	pollers := flag.Int("pollers", 2, "pollers that serve")
	flag.Parse()
	runtime.GOMAXPROCS(*pollers * 2)

	accepting := reactor(1)
	serving = reactor(*pollers)
	address := fmt.Sprintf("127.0.0.1:%d", *port)
	newPlain := func() goev.EvHandler { return new(plain) }
	if _, err := goev.NewAcceptor(accepting, address, newPlain, goev.ListenBacklog(1024)); err != nil {
		log.Fatal(err)
	}
	fmt.Println("ready")
	go func() { log.Fatal(accepting.Run()) }()
	log.Fatal(serving.Run())
}
