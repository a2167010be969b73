package redis

import "strings"

// KeyPattern and ChannelPattern cover all keys and all channels that are used.
const (
	KeyPattern     = "agn:*"
	ChannelPattern = "agentnet:*"
)

// commands are all that a node and its doctor send to one server, and clusterOnly
// what they send besides to a Redis Cluster.
var (
	commands = strings.Fields(`hello auth ping select info time get set incrby del exists pexpire pttl hset hmget sadd srem sismember
		zadd zrange zremrangebyscore xadd xread xrevrange xtrim publish subscribe unsubscribe`)
	clusterOnly  = strings.Fields(`cluster|slots cluster|shards spublish ssubscribe sunsubscribe asking`)
	sentinelOnly = []string{"role"}
)

// Rights is what a user of the Redis must be allowed, in the words of ACL SETUSER,
// and no more.
func Rights(k Kind) string {
	all := commands
	switch k {
	case Cluster:
		all = append(all[:len(all):len(all)], clusterOnly...)
	case Sentinel:
		all = append(all[:len(all):len(all)], sentinelOnly...)
	}
	return "~" + KeyPattern + " &" + ChannelPattern + " -@all +" + strings.Join(all, " +")
}
