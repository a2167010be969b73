// Package agentnetpb is the Go form of agentnet.proto as protoc writes it. The
// relay does not use it: package wire lays the same bytes by hand, and its tests
// hold the two equal. It serves programs that want generated types.
package agentnetpb
