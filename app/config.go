// Package app puts a node together: configuration, stores, relay, HTTP and
// WebSocket doors, and the order in which they start and stop. It is the only
// place where the concrete parts meet and the only package that reads the whole
// configuration.
package app

import (
	"path/filepath"
)

// Config is everything that a node can be told. Each field is a key of the
// configuration file, a flag of `agentnet serve` and a variable of the
// environment: queue.slow_after, --queue-slow-after, AGENTNET_QUEUE_SLOW_AFTER.
// The tags are the one source for all three, for the defaults and for the text
// of `agentnet config doc`. Lists of rules (channels, auth.jwt) can only be given
// in the file.
type Config struct {
	Listen    string `yaml:"listen" default:"127.0.0.1:8080" help:"Address and port to accept connections on; port 0 picks a free one. A non-loopback address without TLS sends tokens in the clear unless a proxy adds it."`
	PublicURL string `yaml:"public_url" name:"public-url" help:"Where clients reach this server, such as https://relay.example/base; told in pages and documents. Empty: not known."`
	NodeURL   string `yaml:"node_url" name:"node-url" help:"Where clients reach this node itself when there are several; told to clients that should move here. Empty: the address of listen if that is one, else public_url."`
	BasePath  string `yaml:"base_path" help:"Path that everything is under, such as /relay, for a proxy that shares the name. Empty: none."`
	Data      string `yaml:"data" help:"Data directory. Empty: $STATE_DIRECTORY, else $XDG_DATA_HOME/agentnet, else ~/.local/share/agentnet."`
	Node      string `yaml:"node" default:"n1" help:"Name of this node, unique in a cluster."`
	Region    string `yaml:"region" default:"local" help:"Name of the region that this node is in."`
	Redis     string `yaml:"redis" secret:"url" help:"External Redis or Valkey: redis://[user:password@]host:port[/db], redis+sentinel://host:port,host:port/master or redis+cluster://host:port,host:port, with rediss for TLS. Nodes with the same one are one relay. Empty: the embedded one."`

	RedisTLS RedisTLS `yaml:"redis_tls" embed:"" prefix:"redis-tls-" help:"Files for a Redis behind rediss://, in all regions."`

	RebalancePerS int         `yaml:"rebalance_per_s" name:"rebalance-per-s" default:"20" help:"Connections a second that a node gives to emptier ones of its region, until the fullest has at most 1.1 times the average. 0: none."`
	Regions       RegionRules `yaml:"regions" hidden:"" help:"Regions that are one relay together, each with its own Redis; the same list in all nodes."`

	Embedded       Embedded `yaml:"embedded" embed:"" prefix:"embedded-" help:"The Redis inside this process; not used when redis is given. With embedded.listen a few other nodes may share it."`
	TLS            TLS      `yaml:"tls" embed:"" prefix:"tls-" help:"TLS without a proxy in front."`
	TrustedProxies []string `yaml:"trusted_proxies" help:"Addresses and networks of proxies whose word on the client's address is taken."`
	ProxyHeader    string   `yaml:"proxy_header" default:"X-Forwarded-For" help:"Header in which trusted proxies tell the client's address: X-Forwarded-For or Forwarded."`
	Origins        []string `yaml:"origins" help:"Web origins (scheme://host[:port]) whose pages may connect, besides the server's own."`

	Limits   Limits       `yaml:"limits" embed:"" prefix:"limits-" help:"What one frame, agent, address and node may do. 0 for a rate or a count of connections: no limit."`
	Session  Session      `yaml:"session" embed:"" prefix:"session-" help:"Connections and how long they can be resumed."`
	Queue    Queue        `yaml:"queue" embed:"" prefix:"queue-" help:"What waits for a client that does not read fast enough."`
	Channels ChannelRules `yaml:"channels" hidden:"" help:"How channels behave; the first rule that matches counts. Channels without a rule keep 256 messages, 256 KiB and 5 minutes in memory and drop the oldest."`
	Mailbox  Mailbox      `yaml:"mailbox" embed:"" prefix:"mailbox-" help:"Messages parked on disk for agents that are away."`
	Dedup    Dedup        `yaml:"dedup" embed:"" prefix:"dedup-" help:"Repeated sends are told apart by their keys."`
	Overload Overload     `yaml:"overload" embed:"" prefix:"overload-" help:"When load is shed: thresholds of three levels. Shares are from 0 to 1; above 1 turns one off."`
	Database Database     `yaml:"database" embed:"" prefix:"database-" help:"What is kept on disk besides parked messages."`
	Drain    Drain        `yaml:"drain" embed:"" prefix:"drain-" help:"What happens at a stop."`
	Scaling  Scaling      `yaml:"scaling" embed:"" prefix:"scaling-" help:"How many instances there should be, and what becomes of it."`
	Alerts   Alerts       `yaml:"alerts" embed:"" prefix:"alerts-" help:"When somebody should know. The defaults are the warning and critical table of the scaling document."`
	Auth     Auth         `yaml:"auth" embed:"" prefix:"auth-" help:"Who may connect, besides holders of tokens made by \"agentnet token create\"."`

	Adaptive Adaptive `yaml:"adaptive" embed:"" prefix:"adaptive-" help:"How far this node moves its own bounds with memory and load."`
	Actuate  Actuate  `yaml:"actuate" embed:"" prefix:"actuate-" help:"How a scaling decision is carried out, where the mode is act."`
	Notify   Notify   `yaml:"notify" embed:"" prefix:"notify-" help:"Whom to tell when something is amiss."`

	Accounts Accounts `yaml:"accounts" embed:"" prefix:"accounts-" help:"The people who operate the relay and their sessions in browsers."`

	Compression    bool `yaml:"compression" default:"false" negatable:"" help:"Offer permessage-deflate. It costs memory and processor time for each message."`
	CompressionMin Size `yaml:"compression_min" default:"1KiB" help:"Messages from this size on are compressed."`
	PublicPage     bool `yaml:"public_page" default:"false" negatable:"" help:"Show the numbers of the first page to everybody, not only to those who are signed in."`

	Log     Log     `yaml:"log" embed:"" prefix:"log-" help:"The log, on standard error."`
	Metrics Metrics `yaml:"metrics" embed:"" prefix:"metrics-" help:"/metrics is open to this machine; these open it to others."`
}

// Embedded configures the Redis in this process.
type Embedded struct {
	Listen   string   `yaml:"listen" help:"TCP address for other nodes, such as 127.0.0.1:6380. Empty: no port is open."`
	Password string   `yaml:"password" secret:"" help:"Needed with embedded.listen."`
	Snapshot Duration `yaml:"snapshot" default:"1m" help:"How often it is written to disk, besides at a stop."`
	MaxBytes Size     `yaml:"max_bytes" default:"256MiB" help:"Memory of keys and values, estimated."`
	MaxKeys  int      `yaml:"max_keys" default:"100000" help:"Keys at most."`
}

// RedisTLS names the files for connections to Redis.
type RedisTLS struct {
	CA   string `yaml:"ca" name:"ca" help:"PEM file with the authorities that prove the Redis. Empty: those that this system trusts."`
	Cert string `yaml:"cert" help:"PEM file with this node's certificate, where the Redis asks for one (tls-auth-clients). It is read anew at each connection."`
	Key  string `yaml:"key" help:"PEM file with its private key."`
}

// TLS names the certificate of the listener.
type TLS struct {
	Cert string `yaml:"cert" help:"PEM file with the certificate chain."`
	Key  string `yaml:"key" help:"PEM file with its private key."`
	ACME ACME   `yaml:"acme" embed:"" prefix:"acme-" help:"A certificate from an authority such as Let's Encrypt, obtained and renewed by itself."`
}

// ACME asks an authority for certificates.
type ACME struct {
	Domains    []string `yaml:"domains" help:"Names that clients use, which must lead here; to give them means to accept the authority's terms. Port 443 must reach the listener, or port 80 the http_listen."`
	Email      string   `yaml:"email" help:"Whom the authority may write to."`
	Directory  string   `yaml:"directory" default:"https://acme-v02.api.letsencrypt.org/directory" help:"The authority's ACME directory."`
	HTTPListen string   `yaml:"http_listen" name:"http-listen" help:"Also answer challenges on this address, such as :80, and lead other requests there to https. Empty: only within TLS."`
	CA         string   `yaml:"ca" name:"ca" help:"PEM file that proves the authority itself, for a private one."`
}

// Database bounds the database.
type Database struct {
	MaxBytes Size `yaml:"max_bytes" default:"4GiB" help:"It grows no further: what needs more is refused."`
}

// Limits bound clients. FrameBytes to MaxTimeout are told to them.
type Limits struct {
	FrameBytes    Size     `yaml:"frame_bytes" default:"64KiB" help:"One frame."`
	MessageBytes  Size     `yaml:"message_bytes" default:"1MiB" help:"One WebSocket message, which may hold several frames."`
	Subscriptions int      `yaml:"subscriptions" default:"1024" help:"Channels that one session may listen to."`
	HeaderCount   int      `yaml:"header_count" default:"32" help:"Headers of one message."`
	HeaderBytes   Size     `yaml:"header_bytes" default:"4KiB" help:"Names and values of the headers of one message."`
	MaxTTL        Duration `yaml:"max_ttl" name:"max-ttl" default:"7d" help:"Longest time that a message may wait in a mailbox."`
	MaxTimeout    Duration `yaml:"max_timeout" default:"10m" help:"Longest time that a request may take."`
	MessagesPerS  float64  `yaml:"messages_per_s" name:"messages-per-s" default:"0" help:"Messages a second of one agent."`
	MessagesBurst float64  `yaml:"messages_burst" default:"0" help:"Messages of one agent at once; 0: as many as in two seconds."`
	BytesPerS     Size     `yaml:"bytes_per_s" name:"bytes-per-s" default:"0" help:"Bytes a second of one agent."`
	BytesBurst    Size     `yaml:"bytes_burst" default:"0" help:"Bytes of one agent at once; 0: as many as in two seconds."`

	Connections   int     `yaml:"connections" default:"0" help:"Open connections of this node."`
	Pending       int     `yaml:"pending" default:"5000" help:"Of these, not yet authenticated."`
	ConnectsPerS  float64 `yaml:"connects_per_s" name:"connects-per-s" default:"5000" help:"New connections a second; what comes above is told when to come back."`
	ConnectsBurst float64 `yaml:"connects_burst" default:"2000" help:"New connections at once."`

	AddressConnections   int     `yaml:"address_connections" default:"0" help:"Open connections of one client address (an IPv6 /64 counts as one)."`
	AddressConnectsPerS  float64 `yaml:"address_connects_per_s" name:"address-connects-per-s" default:"0" help:"New connections a second of one client address."`
	AddressConnectsBurst float64 `yaml:"address_connects_burst" default:"0" help:"New connections of one client address at once; 0: as many as in two seconds."`
	AuthFailuresPerS     float64 `yaml:"auth_failures_per_s" name:"auth-failures-per-s" default:"0.2" help:"Failed authentications a second of one client address."`
	AuthFailuresBurst    float64 `yaml:"auth_failures_burst" default:"20" help:"Failed authentications of one client address at once."`

	Channels int `yaml:"channels" default:"100000" help:"Channels of this node."`
}

// Session configures connections and their resumption.
type Session struct {
	Resume       Duration `yaml:"resume" default:"2m" help:"How long a session outlives its connection."`
	ReplayFrames int      `yaml:"replay_frames" default:"1024" help:"Unacknowledged direct frames kept for one session."`
	ReplayBytes  Size     `yaml:"replay_bytes" default:"1MiB" help:"And their bytes."`
	Heartbeat    Duration `yaml:"heartbeat" default:"25s" help:"First interval of a connection; it adapts to how good the connection is."`
	HeartbeatMin Duration `yaml:"heartbeat_min" default:"10s" help:"Interval of the worst connections."`
	HeartbeatMax Duration `yaml:"heartbeat_max" default:"60s" help:"Interval of the best connections."`
	AuthTimeout  Duration `yaml:"auth_timeout" default:"5s" help:"Time from the upgrade to the first frame."`
}

// Queue bounds what waits for clients.
type Queue struct {
	Frames     int      `yaml:"frames" default:"1024" help:"Frames waiting for one connection."`
	Bytes      Size     `yaml:"bytes" default:"1MiB" help:"And their bytes."`
	TotalBytes Size     `yaml:"total_bytes" default:"256MiB" help:"Bytes waiting for all connections; near it load is shed."`
	SlowAfter  Duration `yaml:"slow_after" default:"10s" help:"A connection that took nothing for so long while something waited is closed with 4002; it can resume."`
}

// ChannelRules are the rules for channels; the first one that matches counts.
type ChannelRules []ChannelRule

// UnmarshalText refuses: rules do not fit on a command line. (With a tag that kept
// the command line away from the field, kong would also lose every other field of
// this name.)
func (*ChannelRules) UnmarshalText([]byte) error { return errOnlyInFile }

// A ChannelRule says how the channels that match behave.
type ChannelRule struct {
	Match       []string `yaml:"match" help:"Globs of channel names; * within a part, ** across parts."`
	Policy      string   `yaml:"policy" default:"drop_oldest" help:"For a subscriber whose queue is full: drop_oldest, drop_newest or disconnect."`
	RecentCount int      `yaml:"recent_count" default:"256" help:"Messages kept in memory for those that resume."`
	RecentBytes Size     `yaml:"recent_bytes" default:"256KiB" help:"And their bytes."`
	RecentAge   Duration `yaml:"recent_age" default:"5m" help:"And their age."`
	KeepCount   int      `yaml:"keep_count" default:"0" help:"Messages kept in the store beyond that; 0: none."`
	KeepAge     Duration `yaml:"keep_age" default:"0" help:"And their age; 0: any."`
}

// Mailbox bounds parked messages.
type Mailbox struct {
	Count      int  `yaml:"count" default:"100000" help:"Parked messages in all."`
	Bytes      Size `yaml:"bytes" default:"128MiB" help:"And their bytes."`
	AgentCount int  `yaml:"agent_count" default:"1000" help:"Parked messages of one agent."`
	AgentBytes Size `yaml:"agent_bytes" default:"8MiB" help:"And their bytes."`
}

// Dedup bounds the memory of dedup keys.
type Dedup struct {
	Keys int `yaml:"keys" default:"1000000" help:"Keys remembered at most; each is kept for two minutes."`
}

// Overload says when the levels elevated, degraded and critical begin.
type Overload struct {
	LagElevated    Duration `yaml:"lag_elevated" default:"25ms" help:"Time that messages wait inside the relay."`
	LagDegraded    Duration `yaml:"lag_degraded" default:"75ms" help:"The same, second level."`
	LagCritical    Duration `yaml:"lag_critical" default:"300ms" help:"The same, third level."`
	QueueElevated  float64  `yaml:"queue_elevated" default:"0.5" help:"Share of queue.total_bytes in use."`
	QueueDegraded  float64  `yaml:"queue_degraded" default:"0.75" help:"The same, second level."`
	QueueCritical  float64  `yaml:"queue_critical" default:"0.9" help:"The same, third level."`
	MemoryElevated float64  `yaml:"memory_elevated" default:"0.75" help:"Share of the memory limit (cgroup or machine) in use."`
	MemoryDegraded float64  `yaml:"memory_degraded" default:"0.85" help:"The same, second level."`
	MemoryCritical float64  `yaml:"memory_critical" default:"0.93" help:"The same, third level."`
	UpHold         Duration `yaml:"up_hold" default:"300ms" help:"How long a threshold must be reached before a level begins."`
	DownHold       Duration `yaml:"down_hold" default:"5s" help:"How long all must be well below before it ends."`
}

// Drain says how a node stops.
type Drain struct {
	Window  Duration `yaml:"window" default:"5s" help:"Clients are asked to leave spread over this time."`
	Timeout Duration `yaml:"timeout" default:"20s" help:"After this the node stops whoever is left."`
}

// Auth lists the issuers of JWTs whose tokens are taken.
type Auth struct {
	JWT []Issuer `yaml:"jwt" kong:"-" help:"Issuers whose JWTs are taken. Keys come from exactly one of secret, public_key_file and jwks_url, else from the OpenID configuration of the issuer."`
}

// Issuer is somebody whose JWTs are taken.
type Issuer struct {
	Issuer        string   `yaml:"issuer" help:"What the iss claim must be, such as https://securetoken.google.com/PROJECT."`
	Audience      []string `yaml:"audience" help:"What the aud claim may be; needed where keys are fetched."`
	Secret        string   `yaml:"secret" secret:"" help:"HS256 key, at least 32 bytes."`
	SecretFile    string   `yaml:"secret_file" help:"File with the HS256 key."`
	PublicKeyFile string   `yaml:"public_key_file" help:"PEM file with public keys or certificates."`
	JWKSURL       string   `yaml:"jwks_url" help:"Where the issuer publishes its keys: https, or http on this machine."`
	Leeway        Duration `yaml:"leeway" default:"30s" help:"How far its clock may be off, at most 1m."`
	Claim         string   `yaml:"claim" default:"agentnet" help:"Claim with the grants: agents, send, subscribe, publish, roles."`
	Agents        []string `yaml:"agents" help:"For tokens without that claim: agents to act as; {sub} is the subject. Empty with all below: {sub} and {sub}/**, sending to anybody, channels below {sub}."`
	Send          []string `yaml:"send" help:"The same: agents to send to."`
	Subscribe     []string `yaml:"subscribe" help:"The same: channels to listen to."`
	Publish       []string `yaml:"publish" help:"The same: channels to publish to."`
	Roles         []string `yaml:"roles" help:"The same: viewer, operator, admin."`
}

// Accounts configures who operates the relay.
type Accounts struct {
	SessionIdle     Duration `yaml:"session_idle" default:"12h" help:"A browser that was not used for so long is signed out."`
	SessionLifetime Duration `yaml:"session_lifetime" default:"30d" help:"After this it is signed out however much it is used."`
	AuditAge        Duration `yaml:"audit_age" default:"400d" help:"How long entries of the audit log are kept."`
	AuditCount      int      `yaml:"audit_count" default:"200000" help:"And how many at most."`

	OIDC    OIDC    `yaml:"oidc" embed:"" prefix:"oidc-" help:"Sign-in at an OpenID provider. Its redirect address is {public_url}/login/outside/back."`
	Forward Forward `yaml:"forward" embed:"" prefix:"forward-" help:"Sign-in by a trusted proxy (forward-auth)."`

	AdminGroups    []string `yaml:"admin_groups" help:"Groups of the provider or the proxy whose members are admins."`
	OperatorGroups []string `yaml:"operator_groups" help:"The same for operators."`
	ViewerGroups   []string `yaml:"viewer_groups" help:"The same for viewers."`
	OtherRole      string   `yaml:"other_role" help:"Role of people in none of these groups: viewer, operator or admin. Empty: they are kept out."`
}

// OIDC names an OpenID provider.
type OIDC struct {
	Issuer           string   `yaml:"issuer" help:"Such as https://id.example; https, or http on this machine. Empty: none."`
	ClientID         string   `yaml:"client_id" name:"client-id" help:"Id of this relay at the provider."`
	ClientSecret     string   `yaml:"client_secret" secret:"" help:"Its secret; empty for a public client."`
	ClientSecretFile string   `yaml:"client_secret_file" help:"File with the secret."`
	Name             string   `yaml:"name" help:"What the button says. Empty: the issuer's host."`
	Scopes           []string `yaml:"scopes" help:"What to ask for besides openid, such as profile or groups."`
	NameClaim        string   `yaml:"name_claim" default:"preferred_username" help:"Claim with the person's name."`
	GroupsClaim      string   `yaml:"groups_claim" default:"groups" help:"Claim with the person's groups."`
}

// Forward lets a proxy say who is there.
type Forward struct {
	Enabled      bool   `yaml:"enabled" default:"false" negatable:"" help:"Take the word of trusted_proxies for who somebody is. The proxy must remove these headers from what clients send."`
	UserHeader   string `yaml:"user_header" default:"Remote-User" help:"Header with the person's name."`
	GroupsHeader string `yaml:"groups_header" default:"Remote-Groups" help:"Header with the person's groups, with commas between."`
}

// Log configures the log.
type Log struct {
	Level  string `yaml:"level" default:"info" help:"debug, info, warn or error."`
	Format string `yaml:"format" default:"auto" help:"text, json, or auto: text on a terminal, else json."`
}

// Metrics says who may read /metrics.
type Metrics struct {
	Token  string `yaml:"token" secret:"" help:"Bearer token that opens it."`
	Public bool   `yaml:"public" default:"false" negatable:"" help:"Open to everybody."`
}

// DefaultConfig returns what a node is without any configuration. Data is empty;
// see DataDir.
func DefaultConfig() Config {
	var c Config
	c.setDefaults()
	return c
}

// DataDir is where data is kept when nothing was said, from the environment.
func DataDir(getenv func(string) string) string {
	for _, name := range []string{"AGENTNET_DATA", "STATE_DIRECTORY"} {
		if dir := getenv(name); dir != "" {
			return dir
		}
	}
	if dir := getenv("XDG_DATA_HOME"); dir != "" {
		return filepath.Join(dir, "agentnet")
	}
	if home := getenv("HOME"); home != "" {
		return filepath.Join(home, ".local", "share", "agentnet")
	}
	if dir := getenv("LocalAppData"); dir != "" { // Windows
		return filepath.Join(dir, "agentnet")
	}
	return "agentnet-data"
}
