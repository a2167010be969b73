package ws

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"strings"
	"sync"
)

// loadJob names the environment variable that makes the test binary a load
// generator: "ADDRESS CONNECTIONS ROUNDS".
const loadJob = "AGENTNET_WS_TEST_LOAD"

// runLoad opens connections, sends a message of 128 bytes on each and waits for its
// echo, ROUNDS times; then it says so and holds the connections until its input ends.
func runLoad(job string) {
	var addr string
	var conns, rounds int
	if _, err := fmt.Sscan(job, &addr, &conns, &rounds); err != nil {
		panic(err)
	}
	frame := text(strings.Repeat("x", 128))
	work := make(chan int, conns)
	for i := range conns {
		work <- i
	}
	close(work)
	var wg, ready sync.WaitGroup
	ready.Add(conns)
	start := make(chan struct{})
	var mu sync.Mutex
	var held []net.Conn // a connection that nobody holds is closed by the garbage collector
	for range 64 {
		wg.Go(func() {
			for range work {
				nc, err := net.Dial("tcp", addr)
				if err != nil {
					panic(err)
				}
				mu.Lock()
				held = append(held, nc)
				mu.Unlock()
				io.WriteString(nc, upgradeRequest())
				br := bufio.NewReader(nc)
				for line := ""; line != "\r\n"; {
					if line, err = br.ReadString('\n'); err != nil {
						panic(err)
					}
				}
				ready.Done()
				if rounds == 0 {
					continue
				}
				wg.Go(func() {
					<-start
					buf := make([]byte, 132)
					for range rounds {
						nc.Write(frame)
						if _, err := io.ReadFull(br, buf); err != nil {
							panic(err)
						}
					}
				})
			}
		})
	}
	ready.Wait()
	fmt.Println("open")
	bufio.NewReader(os.Stdin).ReadString('\n')
	close(start)
	wg.Wait()
	fmt.Println("done")
	io.Copy(io.Discard, os.Stdin)
	runtime.KeepAlive(held)
}
