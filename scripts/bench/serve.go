package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/centrifugal/centrifuge"
	natsserver "github.com/nats-io/nats-server/v2/server"
)

// startPatience is how long a peer may take to accept connections.
const startPatience = 10 * time.Second

// serveCommand runs one peer.
type serveCommand struct {
	Peer   string `arg:"" enum:"nats,centrifuge" help:"nats or centrifuge."`
	Listen string `default:"127.0.0.1:0" help:"Address of the WebSocket door; port 0 picks one."`
	Redis  string `help:"centrifuge: address of the Redis that its nodes share."`
	Routes string `help:"nats: where this node listens for the others, and after a comma where another one does."`
	Small  bool   `help:"centrifuge: trade some latency for memory, as its makers recommend for many idle connections."`
}

// Run serves until ctx ends. It prints one line when it accepts connections.
func (c *serveCommand) Run(ctx context.Context) error {
	if c.Peer == "nats" {
		return c.nats(ctx)
	}
	return c.centrifuge(ctx)
}

// nats runs a nats-server with core publish and subscribe behind its WebSocket
// door: no TLS, no compression, no JetStream, no accounts.
func (c *serveCommand) nats(ctx context.Context) error {
	// nats-server opens the door itself and has no port 0 to tell of afterwards.
	addr, err := freeAddress(c.Listen)
	if err != nil {
		return err
	}
	options := &natsserver.Options{
		ServerName: "bench-" + strconv.Itoa(addr.Port), DontListen: true, NoSigs: true, NoLog: true, MaxConn: 1 << 20,
		Websocket: natsserver.WebsocketOpts{Host: addr.IP.String(), Port: addr.Port, NoTLS: true},
	}
	if c.Routes != "" {
		if err := natsRoutes(options, c.Routes); err != nil {
			return err
		}
	}
	s, err := natsserver.NewServer(options)
	if err != nil {
		return fmt.Errorf("make nats-server: %w", err)
	}
	go s.Start()
	if !s.ReadyForConnections(startPatience) {
		s.Shutdown()
		return fmt.Errorf("nats-server was not ready within %v", startPatience)
	}
	fmt.Printf("listening on http://%s\n", addr)
	<-ctx.Done()
	s.Shutdown()
	s.WaitForShutdown()
	return nil
}

// natsRoutes makes the server one of several.
func natsRoutes(o *natsserver.Options, text string) error {
	own, other, _ := strings.Cut(text, ",")
	addr, err := net.ResolveTCPAddr("tcp", own)
	if err != nil {
		return fmt.Errorf("--routes: %w", err)
	}
	o.DontListen, o.Host, o.Port = false, "127.0.0.1", natsserver.RANDOM_PORT // without a client port it waits for ever
	o.Cluster = natsserver.ClusterOpts{Name: "bench", Host: addr.IP.String(), Port: addr.Port}
	if other != "" {
		o.Routes = natsserver.RoutesFromStr("nats-route://" + other)
	}
	return nil
}

// freeAddress resolves the address and picks a port where it has none.
func freeAddress(listen string) (*net.TCPAddr, error) {
	ln, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("find a port: %w", err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr), nil
}

// shareRedis makes the node one of several over one Redis.
func shareRedis(node *centrifuge.Node, addr string) error {
	shard, err := centrifuge.NewRedisShard(node, centrifuge.RedisShardConfig{Address: addr})
	if err != nil {
		return fmt.Errorf("make centrifuge's redis: %w", err)
	}
	broker, err := centrifuge.NewRedisBroker(node, centrifuge.RedisBrokerConfig{Shards: []*centrifuge.RedisShard{shard}})
	if err != nil {
		return fmt.Errorf("make centrifuge's broker: %w", err)
	}
	node.SetBroker(broker)
	return nil
}

// centrifuge runs one node with the memory engine. The buffers are small and
// pooled and a frame takes all messages that wait, not 16 of them; both are what
// its documentation offers to those who need speed or memory.
func (c *serveCommand) centrifuge(ctx context.Context) error {
	node, err := centrifuge.New(centrifuge.Config{LogLevel: centrifuge.LogLevelNone})
	if err != nil {
		return fmt.Errorf("make centrifuge node: %w", err)
	}
	if c.Redis != "" {
		if err := shareRedis(node, c.Redis); err != nil {
			return err
		}
	}
	node.OnConnecting(func(_ context.Context, e centrifuge.ConnectEvent) (centrifuge.ConnectReply, error) {
		reply := centrifuge.ConnectReply{Credentials: &centrifuge.Credentials{UserID: e.Token}, MaxMessagesInFrame: -1}
		if c.Small {
			reply.WriteDelay, reply.WriteWithTimer = time.Millisecond, true
		}
		return reply, nil
	})
	node.OnConnect(func(client *centrifuge.Client) {
		client.OnSubscribe(func(_ centrifuge.SubscribeEvent, cb centrifuge.SubscribeCallback) {
			cb(centrifuge.SubscribeReply{}, nil)
		})
		client.OnPublish(func(_ centrifuge.PublishEvent, cb centrifuge.PublishCallback) {
			cb(centrifuge.PublishReply{}, nil)
		})
	})
	if err := node.Run(); err != nil {
		return fmt.Errorf("run centrifuge node: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/connection/websocket", centrifuge.NewWebsocketHandler(node, centrifuge.WebsocketConfig{
		ReadBufferSize: 512, UseWriteBufferPool: true, ProcessCommandsOffReadLoop: c.Small,
	}))
	ln, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: startPatience}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(ln) }()
	fmt.Printf("listening on http://%s\n", ln.Addr())
	select {
	case <-ctx.Done():
	case err := <-failed:
		return fmt.Errorf("serve: %w", err)
	}
	closing, cancel := context.WithTimeout(context.Background(), startPatience)
	defer cancel()
	return errors.Join(server.Shutdown(closing), node.Shutdown(closing))
}
