package ws

import (
	"strings"
	"testing"

	"agentnet/app/wire"
)

func TestEcho(t *testing.T) {
	ways(t, func(t *testing.T, useTLS bool) {
		n := startNode(t, useTLS)
		c := n.dial("Sec-WebSocket-Protocol: " + wire.SubprotocolJSON)
		c.send(text("hello"))
		c.want(bitFin|opText, "hello")
		long := strings.Repeat("0123456789abcdef", 40_000)
		c.send(text(long))
		c.want(bitFin|opText, long)
		c.send(masked(bitFin|opClose, []byte("\x03\xe8bye")))
		c.wantClose(1000)
		c.wantEOF()
	})
}
