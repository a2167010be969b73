package app_test

import (
	"fmt"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

// mayImport says which packages of this module a package may import; the main
// package is "main". A package that is missing here fails the test, so that
// whoever adds one decides where it stands.
var mayImport = map[string][]string{
	"main": {"app/cli"},

	"app/wire":            {},
	"app/wire/agentnetpb": {},
	"app/relay/queue":     {"app/wire"},
	"app/relay/history":   {"app/wire"},
	"app/relay/mailbox":   {"app/wire"},
	"app/relay/presence":  {"app/wire"},
	"app/relay/limit":     {"app/wire"},
	"app/relay/overload":  {"app/wire"},
	"app/relay/parcel":    {"app/wire"},
	"app/relay": {"app/wire", "app/relay/parcel", "app/relay/queue", "app/relay/history", "app/relay/mailbox",
		"app/relay/presence", "app/relay/limit", "app/relay/overload"},

	"app/auth":              {"app/wire", "app/relay"},
	"app/apptest/link":      {},
	"app/cluster/redistest": {},
	"app/redis":             {},
	"app/cluster":           {"app/wire", "app/relay", "app/redis"},
	"embedded":              {},
	"embedded/journal":      {"app/wire", "app/relay"},

	"app/chain":         {},
	"app/ask":           {"app/wire"},
	"app/roster":        {"app/wire", "app/relay"},
	"app/replica":       {},
	"app/scale":         {"app/chain"},
	"app/scale/watch":   {"app/scale", "app/relay", "app/wire"},
	"app/scale/actuate": {"app/scale", "app/egress"},
	"store":             {"app/notify", "app/scale", "app/replica", "app/chain", "app/account"},
	"app/account":       {"app/chain"},
	"app/account/oidc":  {"app/account"},
	"app/runbook":       {},
	"app/incident":      {"app/scale"},
	"app/drill":         {"app/wire", "app/client"},
	"app/egress":        {},
	"app/notify":        {"app/egress"},
	"app/doctor":        {"app/redis"},
	"app/monitor":       {},
	"app/backup":        {"store", "embedded", "embedded/journal"},

	"web/static": {},
	"web/ui":     {},
	"web/ws":     {"app/wire", "app/relay"},
	"web/gate":   {"app/account"},
	"web/login":  {"app/account", "web/gate", "web/ui", "web/static"},
	"web/api":    {"app/ask", "app/roster", "app/incident", "app/wire", "app/relay", "app/scale", "app/notify", "app/doctor", "app/scale/watch", "app/account", "app/chain"},
	"web/dash":   {"app/ask", "app/roster", "app/wire", "app/relay", "app/chain", "app/runbook", "app/scale", "app/scale/watch", "app/notify", "app/doctor", "web/ui", "web/static", "app/account", "web/gate"},
	"web": {"app/wire", "app/relay", "app/doctor", "web/ws", "web/api", "web/dash", "web/ui", "web/static", "web/sdk", "web/console",
		"app/account", "web/gate", "web/login"},
	"web/sdk": {},

	"web/console":    {},
	"app/client":     {"app/wire"},
	"app/bench":      {"app/wire", "app/client"},
	"app/bridge/mcp": {"app/wire", "app/client"},
	"app/bridge/a2a": {"app/wire", "app/client"},

	"app": {"app/wire", "app/ask", "app/roster", "app/relay", "app/relay/queue", "app/relay/history", "app/relay/mailbox", "app/relay/presence",
		"app/relay/limit", "app/relay/overload", "app/auth", "app/cluster", "app/redis", "app/scale",
		"app/account", "app/account/oidc",
		"app/scale/actuate", "app/replica", "app/notify", "app/egress", "app/doctor", "app/backup", "app/monitor", "embedded", "embedded/journal", "store", "web", "web/ws", "web/api", "web/dash", "web/ui", "app/scale/watch"},
	"app/apptest": {"app", "app/wire", "app/client", "app/auth", "app/account"},
	"app/cli": {"app/ask", "app/drill", "app/incident", "app/runbook", "app", "app/wire", "app/scale", "app/client", "app/bench", "app/bridge/mcp", "app/bridge/a2a", "app/doctor", "app/backup", "app/monitor", "store", "app/auth", "app/scale/watch",
		"app/account", "app/chain"},
	"app/e2e": {},
}

// inTests says what the _test.go files of a package may import on top.
var inTests = map[string][]string{
	// The doctor is tried on the same servers as the nodes.
	"app/doctor": {"app/cluster/redistest"},
	"app/drill":  {"app/auth", "app/apptest", "app"},
	"app/wire":   {"app/wire/agentnetpb"},
	"web":        {"store"},
	// Accounts are tried on the real database.
	"app/account": {"store"},
	"app":         {"app/wire", "app/ask", "app/drill", "app/runbook", "app/apptest", "app/client", "app/auth", "app/notify", "app/relay/overload", "app/scale"},
	"app/cli":     {"app/apptest"},
	// The raw client of the protocol tests uses the generated code, so that it does not share faults with our codec.
	"app/e2e": {"app", "app/account", "app/auth", "app/scale", "app/cli", "app/apptest", "app/apptest/link", "app/cluster/redistest", "app/client", "app/doctor", "app/bench", "app/wire", "app/wire/agentnetpb", "app/relay", "web/ws", "web/api", "store"},
	// The broker is run on the embedded Redis and on a real one by the same tests.
	"app/cluster": {"app/apptest/link", "app/cluster/redistest", "embedded"},
	"app/backup":  {"app/relay", "app/wire"},
	// The engine at work is tested on the database that it works with.
	"app/scale/watch": {"store"},
	"web/api":         {"store"},
}

// home says which packages may import an outside module; "web/**" means web and
// all below it. A module that is missing here fails the test. Test files may use
// every module of this table.
var home = map[string][]string{
	"github.com/KimMachineGun/automemlimit":     {"app", "app/cli"},
	"github.com/a-h/templ":                      {"web/dash", "web/login", "web/ui"},
	"github.com/alecthomas/kong":                {"app", "app/cli"},
	"github.com/alicebob/miniredis/v2":          {"embedded"},
	"github.com/fasthttp/websocket":             {"web/ws", "app/client"},
	"github.com/goccy/go-yaml":                  {"app", "app/cli"},
	"github.com/gofiber/contrib/websocket":      {"web/ws"},
	"github.com/gofiber/fiber/v2":               {"web/**"},
	"github.com/golang-jwt/jwt/v5":              {"app/auth"},
	"github.com/klauspost/compress":             {"web/ws"},
	"github.com/mattn/go-sqlite3":               {"store"},
	"github.com/oklog/ulid/v2":                  {"app/relay"},
	"github.com/prometheus/client_golang":       {"web/api"},
	"github.com/prometheus/client_model":        {"web/api"},
	"github.com/prometheus/common":              {"web/api"},
	"github.com/redis/rueidis":                  {"app/cluster"},
	"github.com/rogpeppe/go-internal":           {}, // tests only
	"github.com/valyala/fasthttp":               {"web/**"},
	"go.uber.org/goleak":                        {}, // tests only
	"golang.org/x/net":                          {}, // tests only: the conformance tests of net.Conn
	"golang.org/x/oauth2":                       {"app/account/oidc"},
	"golang.org/x/sync":                         {"app/**", "web/**", "store", "embedded/**"},
	"golang.org/x/sys":                          {"app", "app/bench", "app/cli", "app/doctor", "web/ws", "store", "embedded/**"},
	"google.golang.org/protobuf":                {"app/wire/agentnetpb", "web/api"},
	"google.golang.org/genproto/googleapis/api": {},
	"github.com/modelcontextprotocol/go-sdk":    {"app/bridge/mcp"},
	"github.com/a2aproject/a2a-go":              {"app/bridge/a2a"},
	"github.com/coreos/go-systemd/v22":          {"app", "app/cli"},
	"github.com/shirou/gopsutil/v4":             {"app/scale"},
	"github.com/coreos/go-oidc/v3":              {"app/account/oidc"},
	"golang.org/x/crypto":                       {"app", "app/auth", "app/account", "store"},
	"rsc.io/qr":                                 {"web/login"},
	"github.com/chromedp/chromedp":              {}, // tests only
	"github.com/chromedp/cdproto":               {}, // tests only
	"github.com/failsafe-go/failsafe-go":        {"app/cluster"},
	"github.com/sony/gobreaker/v2":              {"app/cluster"},
	"github.com/mattn/go-isatty":                {"app/cli"},
	"github.com/google/go-cmp":                  {}, // tests only
	"github.com/pb33f/libopenapi":               {}, // tests only
	"github.com/coder/websocket":                {}, // tests only: a second client beside our own
	"github.com/letsencrypt/pebble":             {}, // tests only: an authority for certificates
	"github.com/letsencrypt/challtestsrv":       {}, // tests only: its name server
}

// module is the path that imports of our own packages start with.
const module = "agentnet"

// imports is what one package asks for, by import path, each with the file
// that asks first.
type imports struct {
	code, tests map[string]string
	comment     bool // some file has a package comment
}

// readImports parses the import clauses of every Go file below root. Other
// modules in the tree, hidden folders and testdata are left out.
func readImports(root fs.FS) (map[string]*imports, error) {
	packages := map[string]*imports{}
	err := fs.WalkDir(root, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return skip(root, name, entry.Name())
		}
		if !strings.HasSuffix(name, ".go") {
			return nil
		}
		return readFile(root, name, packages)
	})
	return packages, err
}

// skip answers fs.SkipDir for folders that hold no packages of this module.
func skip(root fs.FS, name, base string) error {
	if name == "." {
		return nil
	}
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules" {
		return fs.SkipDir
	}
	if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil {
		return fs.SkipDir
	}
	return nil
}

// readFile adds the imports of one file to its package.
func readFile(root fs.FS, name string, packages map[string]*imports) error {
	source, err := fs.ReadFile(root, name)
	if err != nil {
		return err
	}
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.ImportsOnly|parser.ParseComments)
	if err != nil {
		return fmt.Errorf("parse imports: %w", err)
	}
	pkg := path.Dir(name)
	if pkg == "." {
		pkg = "main"
	}
	p := packages[pkg]
	if p == nil {
		p = &imports{code: map[string]string{}, tests: map[string]string{}}
		packages[pkg] = p
	}
	if file.Doc != nil && strings.TrimSpace(file.Doc.Text()) != "" {
		p.comment = true
	}
	into := p.code
	if strings.HasSuffix(name, "_test.go") {
		into = p.tests
	}
	for _, spec := range file.Imports {
		target, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return fmt.Errorf("%s: import path: %w", name, err)
		}
		if _, seen := into[target]; !seen {
			into[target] = name
		}
	}
	return nil
}

// breaches lists every break of the rules, sorted by package.
func breaches(packages map[string]*imports) []string {
	var found []string
	for _, pkg := range slices.Sorted(maps.Keys(packages)) {
		p := packages[pkg]
		allowed, listed := mayImport[pkg]
		if !listed {
			found = append(found, pkg+": not in the table mayImport of app/arch_test.go: enter what it may import")
			continue
		}
		if !p.comment {
			found = append(found, pkg+": no package comment: say what the package is, is not, and promises")
		}
		found = append(found, wrongImports(pkg, p.code, allowed, false)...)
		found = append(found, wrongImports(pkg, p.tests, slices.Concat(allowed, inTests[pkg], []string{pkg}), true)...)
	}
	return found
}

// wrongImports checks what the code files or the test files of pkg import.
func wrongImports(pkg string, targets map[string]string, allowed []string, tests bool) []string {
	var found []string
	for _, target := range slices.Sorted(maps.Keys(targets)) {
		file := targets[target]
		if own, ok := ownPackage(target); ok {
			if !slices.Contains(allowed, own) {
				found = append(found, fmt.Sprintf("%s: %s may not import %s", file, pkg, own))
			}
			continue
		}
		if !strings.Contains(strings.SplitN(target, "/", 2)[0], ".") {
			continue // the standard library
		}
		owner, homes, known := homeOf(target)
		switch {
		case !known:
			found = append(found, fmt.Sprintf("%s: %s is not in the table home of app/arch_test.go: enter which package it belongs to", file, target))
		case !tests && !slices.ContainsFunc(homes, func(pattern string) bool { return within(pkg, pattern) }):
			found = append(found, fmt.Sprintf("%s: %s may not import %s, whose home is %v", file, pkg, owner, homes))
		}
	}
	return found
}

// ownPackage turns an import path of this module into a folder ("main" for its root).
func ownPackage(target string) (string, bool) {
	if target == module {
		return "main", true
	}
	return strings.CutPrefix(target, module+"/")
}

// homeOf finds the module of an import path: the longest entry of home that it
// is, or is below.
func homeOf(target string) (owner string, homes []string, known bool) {
	for mod, at := range home {
		if (target == mod || strings.HasPrefix(target, mod+"/")) && len(mod) > len(owner) {
			owner, homes, known = mod, at, true
		}
	}
	return owner, homes, known
}

// within reports whether pkg is pattern, or below it where it ends in "/**".
func within(pkg, pattern string) bool {
	if base, deep := strings.CutSuffix(pattern, "/**"); deep {
		return pkg == base || strings.HasPrefix(pkg, base+"/")
	}
	return pkg == pattern
}

func TestImportOrder(t *testing.T) {
	packages, err := readImports(os.DirFS(".."))
	if err != nil {
		t.Fatal(err)
	}
	if packages["app/wire"] == nil || packages["app/relay"] == nil {
		t.Fatalf("got packages %v, want app/wire and app/relay among them", slices.Sorted(maps.Keys(packages)))
	}
	for _, breach := range breaches(packages) {
		t.Error(breach)
	}
}

// TestImportTable checks that the table itself goes one way only.
func TestImportTable(t *testing.T) {
	var visit func(pkg string, trail []string)
	visit = func(pkg string, trail []string) {
		if slices.Contains(trail, pkg) {
			t.Fatalf("the table mayImport has a cycle: %v", append(trail, pkg))
		}
		for _, next := range mayImport[pkg] {
			if _, listed := mayImport[next]; !listed {
				t.Errorf("mayImport[%q] names %q, which has no entry", pkg, next)
			}
			visit(next, append(slices.Clone(trail), pkg))
		}
	}
	for pkg := range mayImport {
		visit(pkg, nil)
	}
	for pkg := range inTests {
		if _, listed := mayImport[pkg]; !listed {
			t.Errorf("inTests names %q, which mayImport does not", pkg)
		}
	}
}

// TestImportOrderFindsBreaks plants every kind of break in a tree of its own.
func TestImportOrderFindsBreaks(t *testing.T) {
	const documented = "// Package p is documented.\n"
	tests := []struct {
		name, file, source string
		want               string // part of the only breach; "" means none
	}{
		{"allowed", "app/relay/hub.go", documented + "package relay\nimport _ \"agentnet/app/wire\"\n", ""},
		{"upwards", "app/wire/frame.go", documented + "package wire\nimport _ \"agentnet/app/relay\"\n", "app/wire may not import app/relay"},
		{"sibling", "app/auth/a.go", documented + "package auth\nimport _ \"agentnet/app/cluster\"\n", "app/auth may not import app/cluster"},
		{"main", "app/cli/x.go", documented + "package cli\nimport _ \"agentnet\"\n", "app/cli may not import main"},
		{"test file upwards", "app/wire/x_test.go", documented + "package wire\nimport _ \"agentnet/store\"\n", "app/wire may not import store"},
		{"schema in tests", "app/wire/x_test.go", documented + "package wire\nimport _ \"agentnet/app/wire/agentnetpb\"\n", ""},
		{"schema in code", "app/wire/x.go", documented + "package wire\nimport _ \"agentnet/app/wire/agentnetpb\"\n", "app/wire may not import app/wire/agentnetpb"},
		{"own package in tests", "store/x_test.go", documented + "package store_test\nimport _ \"agentnet/store\"\n", ""},
		{"module at home", "store/x.go", documented + "package store\nimport _ \"github.com/mattn/go-sqlite3\"\n", ""},
		{"module below home", "web/ui/x.go", documented + "package ui\nimport _ \"github.com/gofiber/fiber/v2/utils\"\n", ""},
		{"module not at home", "app/relay/x.go", documented + "package relay\nimport _ \"github.com/mattn/go-sqlite3\"\n", "app/relay may not import github.com/mattn/go-sqlite3"},
		{"module with a known one as prefix", "store/x.go", documented + "package store\nimport _ \"github.com/mattn/go-sqlite3x\"\n", "is not in the table home"},
		{"unknown module", "store/x.go", documented + "package store\nimport _ \"example.com/new\"\n", "is not in the table home"},
		{"unlisted package", "app/utils/x.go", documented + "package utils\n", "not in the table mayImport"},
		{"no comment", "app/relay/x.go", "package relay\n", "no package comment"},
		{"testdata", "app/wire/testdata/x.go", "package broken\nimport _ \"agentnet/store\"\n", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			packages, err := readImports(fstest.MapFS{tt.file: {Data: []byte(tt.source)}})
			if err != nil {
				t.Fatal(err)
			}
			got := breaches(packages)
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want no breach", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one breach with %q", got, tt.want)
			}
		})
	}
}

func TestImportsOfAnotherModuleAreLeftOut(t *testing.T) {
	tree := fstest.MapFS{
		"scripts/bench/go.mod":  {Data: []byte("module other\n")},
		"scripts/bench/main.go": {Data: []byte("package main\nimport _ \"example.com/peer\"\n")},
	}
	packages, err := readImports(tree)
	if err != nil {
		t.Fatal(err)
	}
	if len(packages) != 0 {
		t.Errorf("got packages %v, want none", slices.Sorted(maps.Keys(packages)))
	}
}
