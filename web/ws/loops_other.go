//go:build !linux

package ws

import (
	"context"
	"net"
)

// loops do not exist on this system: all connections are streams.
type loops struct{}

func startLoops(*Server, int) (*loops, error) { return nil, nil }

func (*loops) take(net.Conn, *ticket, []byte) (taken, ok bool) { return false, false }

func (*loops) close(context.Context) {}

func (*loops) wake() {}

func (*loops) traffic() []*traffic { return nil }
