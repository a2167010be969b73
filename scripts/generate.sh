#!/bin/sh
# Writes every generated file anew: pages (*.templ) and, where protoc is
# installed, the Go form of the schema. The generators are the versions that
# go.mod pins, so that two machines write the same bytes.
set -eu
cd "$(dirname "$0")/.."

if [ -n "$(find . -name '*.templ' -not -path './.git/*' -print -quit)" ]; then
	echo "generate: pages"
	go tool templ generate
fi

if [ -f app/wire/agentnet.proto ]; then
	if command -v protoc >/dev/null 2>&1; then
		echo "generate: app/wire/agentnetpb"
		tools=$(mktemp -d)
		trap 'rm -rf "$tools"' EXIT
		go build -o "$tools/protoc-gen-go" google.golang.org/protobuf/cmd/protoc-gen-go
		PATH="$tools:$PATH" protoc --proto_path=app/wire \
			--go_out=. --go_opt=module=agentnet app/wire/agentnet.proto
	else
		echo "generate: not run: app/wire/agentnetpb (protoc is missing: apt-get install protobuf-compiler)"
	fi
fi

echo "generate: packaging/monitoring"
go run . metrics write packaging/monitoring
