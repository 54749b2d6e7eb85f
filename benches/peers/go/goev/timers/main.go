// The timer heap of the Go original: sets and cancels as many timers as asked for, and prints a line of JSON.
//
// Every timer needs a handler of its own. The handlers are made beforehand, since the peers share one callback.
package main

import (
	"encoding/json"
	"flag"
	"log"
	"math/rand"
	"os"
	"runtime"
	"time"

	"github.com/shaovie/goev"
)

type handler struct {
	goev.IOHandle
}

func heapBytes() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc
}

// anchor returns a registered handler; timers can be set through it.
func anchor() *handler {
	reactor, err := goev.NewReactor()
	if err != nil {
		log.Fatal(err)
	}
	reader, _, err := os.Pipe()
	if err != nil {
		log.Fatal(err)
	}
	registered := new(handler)
	if err := reactor.AddEvHandler(registered, int(reader.Fd()), goev.EvIn); err != nil {
		log.Fatal(err)
	}
	return registered
}

func main() {
	count := flag.Int("timers", 1_000_000, "how many")
	flag.Parse()

	random := rand.New(rand.NewSource(1))
	delays := make([]int64, *count)
	for i := range delays {
		delays[i] = 10_000 + random.Int63n(50_000) // milliseconds
	}
	handlers := make([]handler, *count)
	registered := anchor()
	before := heapBytes()

	begin := time.Now()
	for i := range handlers {
		if err := registered.ScheduleTimer(&handlers[i], delays[i], 0); err != nil {
			log.Fatal(err)
		}
	}
	set := time.Since(begin).Seconds()
	bytes := heapBytes() - before

	begin = time.Now()
	for i := range handlers {
		registered.CancelTimer(&handlers[i])
	}
	cancel := time.Since(begin).Seconds()

	json.NewEncoder(os.Stdout).Encode(map[string]float64{
		"set": set, "cancel": cancel, "bytes": float64(bytes) / float64(*count),
	})
	runtime.KeepAlive(registered)
}
