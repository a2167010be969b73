// Package redistest starts real redis-server processes for tests: a single one, a
// Redis Cluster of three, or a primary with replicas watched by Sentinels. All
// listen on free loopback ports, write into folders of the test, can be paused,
// killed and started again, and end with the test.
package redistest
